"""Made-up letters with personal data at known places: what a scan should find in them.

All values are drawn by a seed and have right check digits; none is taken from a person.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

NAMES = ("Ada", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Hugo", "Ida", "Jonas")
PLAIN = (
    "The garden was dry in 2019, so we had 12 baskets of apples less than the year before.",
    "Chapter 4.2 of the report is on page 117; version 1.10.3 has the older figures.",
    "On 12.03.2021 the bus left at 10:45 and reached the sea at 12:30.",
    "Order 4711 has not come yet; the parcel should weigh 3.250 kg.",
    "She thinks that the room for 24 people is enough for the meeting.",
)
"""Sentences without personal data; their numbers, dates and versions must not be reported."""


class Letters(NamedTuple):
    """Letters, and how many data of each kind stand in them."""

    texts: list[str]
    planted: Counter[str]


def _digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(n))


def _email(rng: random.Random) -> str:
    name = rng.choice(NAMES).lower()
    return f"Write to {name}.{_digits(rng, 3)}@post.example.org when you are back."


def _phone(rng: random.Random) -> str:
    return f"You can call me on +44 20 7946 0{_digits(rng, 3)} in the evening."


def _card(rng: random.Random) -> str:
    from stdnum import luhn

    body = "4" + _digits(rng, 14)
    number = body + luhn.calc_check_digit(body)
    groups = [number[start : start + 4] for start in range(0, 16, 4)]
    return f"The hotel was paid with the card {' '.join(groups)} last week."


def _iban(rng: random.Random) -> str:
    from stdnum import iban

    account = _digits(rng, 18)
    number = f"DE{iban.calc_check_digits('DE00' + account)}{account}"
    return f"Please send the rent to {number} before Friday."


def _ip(rng: random.Random) -> str:
    return f"The printer is at 203.0.113.{rng.randrange(1, 255)} in the new network."


def _mac(rng: random.Random) -> str:
    return f"Its label says 00:00:5e:00:53:{rng.randrange(256):02x} on the back."


def _api_key(rng: random.Random) -> str:
    key = "".join(rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))
    return f"For the upload use AKIA{key[:15]}7 until May."


def _secret(rng: random.Random) -> str:
    value = "".join(rng.sample("abcdefghijkmnpqrstuvwxyz", 8))
    return f"The shared folder has password: {value}-{_digits(rng, 4)} for now."


SENTENCES: dict[str, Callable[[random.Random], str]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "mac": _mac,
    "api_key": _api_key,
    "secret": _secret,
}
"""For each kind that is planted, a sentence with one datum of it."""


def letters(n: int = 400, *, share: float = 0.25, seed: int = 0) -> Letters:
    """Letters of three or four sentences, some of which hold one datum.

    Args:
        n: How many letters.
        share: Of the letters that hold a datum, from 0 to 1.
        seed: Of the draw.
    """
    rng = random.Random(f"letters {seed}")
    planted: Counter[str] = Counter()
    texts = []
    for _ in range(n):
        sentences: list[str] = rng.sample(PLAIN, 3)
        if rng.random() < share:
            kind = rng.choice(list(SENTENCES))
            planted[kind] += 1
            sentences.insert(rng.randrange(4), SENTENCES[kind](rng))
        texts.append(f"Dear {rng.choice(NAMES)},\n{' '.join(sentences)}\n{rng.choice(NAMES)}")
    return Letters(texts, planted)
