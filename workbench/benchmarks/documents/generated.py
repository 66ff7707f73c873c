"""Generated documents of the `core` suite; a fixed seed makes them the same on every machine."""

from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

FOLDER = Path(__file__).parent.parent / "tasks"
COUNT = 200

WORDS = """apple river stone window garden letter candle bridge winter table silver forest bottle
morning paper mountain castle dinner button island pocket market engine flower guitar hammer jacket
kitchen ladder mirror needle orange pencil rabbit saddle teacher village wagon yellow basket camera
doctor feather harbor""".split()
NAMES = """Anna Peter Laura David Emma Robert Helen Frank Sarah Henry Alice George Julia Martin
Susan Paul Rachel Simon Nancy Philip""".split()

# Singular and plural of nouns that do things, and of verbs.
PEOPLE = [
    ("teacher", "teachers"),
    ("farmer", "farmers"),
    ("student", "students"),
    ("pilot", "pilots"),
]
PEOPLE += [
    ("neighbor", "neighbors"),
    ("painter", "painters"),
    ("driver", "drivers"),
    ("nurse", "nurses"),
]
THINGS = [
    ("house", "houses"),
    ("tree", "trees"),
    ("boat", "boats"),
    ("road", "roads"),
    ("garden", "gardens"),
]
VERBS = [
    ("is", "are"),
    ("was", "were"),
    ("has", "have"),
    ("seems", "seem"),
    ("wants", "want"),
    ("knows", "know"),
]
FRAMES = [
    "The {noun}",
    "Every morning the {noun}",
    "The {noun} near the {thing}",
    "The {noun} behind the {thing}",
    "The {noun} who painted the {thing}",
    "After the long winter the {noun} beside the {thing}",
]

PLACES = ["store", "park", "station", "library", "office", "school", "market", "beach"]
GIFTS = ["a book", "a ring", "a drink", "a letter", "a ticket", "a basket", "a flower", "a key"]
SCENES = [
    "When {one} and {other} went to the {place}, {giver} gave {gift} to",
    "After {one} and {other} arrived at the {place}, {giver} handed {gift} to",
    "Then {one} and {other} had a long talk at the {place}. Afterwards {giver} passed {gift} to",
    "While {one} and {other} were working at the {place}, {giver} showed {gift} to",
]


def repeat() -> list[dict[str, Any]]:
    """Random words, then the same words again up to the one to predict.

    All four choices occurred in the first copy, so knowing the words alone does not help.
    """
    rng = Random("repeat")
    docs = []
    for _ in range(COUNT):
        row = rng.sample(WORDS, rng.randint(8, 12))
        target = rng.randrange(2, len(row))
        wrong = rng.sample([word for word in row if word != row[target]], 3)
        docs.append(_doc(" ".join(row + row[:target]), row[target], wrong, rng))
    return docs


def agreement() -> list[dict[str, Any]]:
    """Subject-verb agreement: a subject, often with a distractor noun after it, then the verb.

    The two choices are the verb's singular and plural forms.
    """
    rng = Random("agreement")
    docs: dict[str, dict[str, Any]] = {}
    while len(docs) < COUNT:
        number = len(docs) % 2
        frame = rng.choice(FRAMES)
        verb = rng.choice(VERBS)
        noun = rng.choice(PEOPLE)[number]
        thing = rng.choice(rng.choice(THINGS))
        query = frame.format(noun=noun, thing=thing)
        docs.setdefault(f"{query} {verb}", _doc(query, verb[number], [verb[1 - number]], rng))
    return list(docs.values())


def ioi() -> list[dict[str, Any]]:
    """Indirect object identification: of two people one gives, so the other receives.

    Reference:
        Wang et al. 2022, "Interpretability in the Wild".
    """
    rng = Random("ioi")
    docs = []
    for _ in range(COUNT):
        one, other = rng.sample(NAMES, 2)
        giver, receiver = rng.sample([one, other], 2)
        scene = rng.choice(SCENES).format(
            one=one, other=other, giver=giver, place=rng.choice(PLACES), gift=rng.choice(GIFTS)
        )
        docs.append(_doc(scene, receiver, [giver], rng))
    return docs


def intents() -> list[dict[str, Any]]:
    """Short requests, each with its intent among four choices."""
    rng = Random("intents")
    lines = (FOLDER / "intents.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [line.split("\t") for line in lines]
    names = sorted({intent for intent, _ in pairs})
    return [
        _doc(
            f"Request: {text}\nIntent:",
            intent,
            rng.sample([n for n in names if n != intent], 3),
            rng,
        )
        for intent, text in pairs
    ]


def reverse() -> list[dict[str, Any]]:
    """Strings of 6 to 14 random letters, to be written backwards.

    Shorter ones are left out: a model trained on random strings may have seen them.
    """
    rng = Random("reverse")
    texts = ["".join(rng.choices(ascii_lowercase, k=rng.randint(6, 14))) for _ in range(COUNT)]
    return [{"query": text, "answer": text[::-1]} for text in texts]


def passage() -> list[dict[str, Any]]:
    """Ten paragraphs of plain narrative prose, written for this suite."""
    return [
        {"text": text}
        for text in (FOLDER / "passage.txt").read_text(encoding="utf-8").strip().split("\n\n")
    ]


def _doc(query: str, right: str, wrong: list[str], rng: Random) -> dict[str, Any]:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return {"query": query, "choices": choices, "gold": choices.index(right)}
