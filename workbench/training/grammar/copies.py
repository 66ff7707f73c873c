"""Texts in which a span of several words comes again: lists, sentences, letters and numbers.

Never a bare row of words said twice, which is the benchmark's task `repeat`.
"""

import random

from workbench.training.grammar import words
from workbench.training.grammar.agreement import sentence
from workbench.training.grammar.expand import expand, one, pair
from workbench.training.grammar.giving import NAMES, people

FRAMES = (
    "List: {x}\nAgain: {x}\n",
    "{who} said: {x} And {other} said: {x}\n",
    "{who} wrote {x} on the wall. Under it {other} wrote {x} as well.\n",
    "Copy this: {x}\n{x}\n{x}\n",
    "{x}\n{x}\n",
    "{x} / {x} / {x}\n",
    "First {x} Then {x} And once more {x}\n",
    '"{x}" "{x}" "{x}"\n',
    "The words are: {x} Now say them: {x}\n",
    "- {x}\n- {x}\n- {x}\n",
)


def copies(draw: random.Random) -> str:
    """One to three short texts, each with a span that is said twice or more."""
    parts = []
    for _ in range(draw.randint(1, 3)):
        who, other = people(draw, 2)
        parts.append(draw.choice(FRAMES).format(x=_span(draw), who=who, other=other))
    return "".join(parts)


def _span(draw: random.Random) -> str:
    kind = draw.random()
    n = draw.randint(4, 14)
    if kind < 0.3:
        return " ".join(sentence(draw) for _ in range(draw.randint(1, 2)))
    rows = {
        "things": [pair(words.THINGS + words.ANIMALS + words.PEOPLE, draw)[0] for _ in range(n)],
        "mixed": [
            one(words.GIFTS + words.PLACES + words.COLOURS + words.KIND + words.LOOK, draw)
            for _ in range(n)
        ],
        "names": draw.sample(NAMES, n),
        "numbers": [str(draw.randrange(100)) for _ in range(n)],
        "letters": [draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(n)],
    }
    row = rows[draw.choices(list(rows), (3, 5, 2, 1, 1))[0]]
    return draw.choice((", ", ", ", "; ", " - ", " and ")).join(row) + "."


def counting(draw: random.Random) -> str:
    """Counting, the days of the week, the months: orders that go on."""
    rows = (words.NUMBERS, words.DAYS, words.MONTHS, [str(n) for n in range(1, 40)])
    lines = []
    for _ in range(draw.randint(1, 4)):
        row = draw.choice(rows)
        first = draw.randrange(max(1, len(row) - 4))
        part = row[first : first + draw.randint(4, 12)]
        lines.append(draw.choice((", ", " ", ", then ")).join(part))
    name = draw.choice(NAMES)
    return expand("(|{n} counts: |{n} says: )", draw, {"n": name}) + ".\n".join(lines) + ".\n"
