"""Sentences whose verb agrees with a subject, often across a noun of the other number."""

import random

from workbench.training.grammar import words
from workbench.training.grammar.expand import capital, expand, one, pair

PLURAL = 1
"""Where the plural stands in a pair of forms; the singular is at 0."""
KINDS = {
    "person": words.PEOPLE,
    "animal": words.ANIMALS,
    "thing": words.THINGS,
    "handy": words.HANDY,
}
BE = (("is", "are"), ("was", "were"))
WILL = ["wants/want", "likes/like", "needs/need"]
ARTICLES = (
    ["the"] * 5 + ["this", "that", "my", "our", "her", "his", "one", "a"],
    ["the"] * 5 + ["these", "those", "my", "our", "her", "some", "two", "many"],
)


def agreement(draw: random.Random) -> str:
    """A paragraph of four to ten sentences with subjects of every kind."""
    return " ".join(sentence(draw) for _ in range(draw.randint(4, 10))) + "\n"


def sentence(draw: random.Random) -> str:
    """One sentence: a statement, sometimes after an adverb; a question; `there is`; a pair."""
    other_kinds = (_question, _there, _both, _own)
    if draw.random() < 0.28:
        return draw.choice(other_kinds)(draw)
    text = _statement(draw)
    if draw.random() < 0.25:
        return f"{one(words.WHEN, draw)} {text}."
    if draw.random() < 0.12:
        text += (
            f"{draw.choice((', and', ', but', ' because', ' when', ' while'))} {_statement(draw)}"
        )
    return capital(text) + "."


def _statement(draw: random.Random) -> str:
    kind = draw.choices(("person", "animal", "thing"), (6, 1.5, 2.5))[0]
    number = draw.randrange(2)
    return f"{_subject(draw, kind, number)} {_predicate(draw, kind, number)}"


def _noun(draw: random.Random, kind: str, number: int) -> str:
    return pair(KINDS[kind], draw)[number]


def _plain(draw: random.Random, kind: str, number: int, *, bare: bool = False) -> str:
    """An article, perhaps an adjective, and a noun.

    A reserved noun that nothing follows (`bare`) has an adjective after `the`.
    """
    noun = _noun(draw, kind, number)
    article = draw.choice(ARTICLES[number])
    described = bare and noun in words.RESERVED and article == "the"
    look = _look(draw, kind) + " " if described or draw.random() < 0.25 else ""
    return expand(f"{article} {look}{noun}", draw, {})


def _look(draw: random.Random, kind: str) -> str:
    return one(words.LOOK if kind == "thing" else words.KIND, draw)


def _subject(draw: random.Random, kind: str, number: int) -> str:
    """A subject: bare, or with a phrase or clause that ends in a noun of either number."""
    form = draw.random()
    if form < 0.3:
        return _plain(draw, kind, number, bare=True)
    if form > 0.92:
        few = (("each of", "one of", "every one of"), ("all of", "most of"))[number]
        return f"{draw.choice(few)} {_the(draw, kind, PLURAL)}"
    head = _plain(draw, kind, number)
    other = draw.randrange(2)
    if form < 0.62:
        beside = "person" if draw.random() < 0.25 else "thing"
        return f"{head} {one(words.INSIDE_SUBJECT, draw)} {_plain(draw, beside, other)}"
    if form < 0.8:
        return f"{head} {_clause(draw, kind, number, other)}"
    joint = ("that ", "that ", "which ", "") if kind == "thing" else ("that ", "that ", "who ", "")
    middle = _plain(draw, "person", other, bare=True)
    likes = pair(words.DOES, draw)
    do_not = f"{('does', 'do')[other]} not {likes[PLURAL]}"
    verb = draw.choice((likes[other], draw.choice(words.PAST), do_not))
    return f"{head} {draw.choice(joint)}{middle} {verb}"


def _the(draw: random.Random, kind: str, number: int) -> str:
    """`the`, an adjective and a noun."""
    return f"the {_look(draw, kind)} {_noun(draw, kind, number)}"


def _clause(draw: random.Random, kind: str, number: int, other: int) -> str:
    """A relative clause about the subject, which ends with a noun of the number `other`."""
    thing = _plain(draw, "thing", other)
    be = draw.choice(BE)[number]
    where = draw.choice(("by", "on", "under"))
    if kind == "thing":
        stands = draw.choice((("stands", "stand")[number], "stood", be, "fell"))
        return f"{draw.choice(('that', 'which'))} {stands} {where} {thing}"
    if kind == "animal":
        sits = draw.choice((("sits", "sit")[number], ("sleeps", "sleep")[number], "sat", be))
        return f"that {sits} {where} {thing}"
    verb = pair(words.DOES, draw)[number]
    verb = draw.choice((verb, draw.choice(words.PAST), f"{be} looking at", f"{be} talking about"))
    return f"{draw.choice(('who', 'who', 'that'))} {verb} {thing}"


def _predicate(draw: random.Random, kind: str, number: int) -> str:
    if kind == "thing":
        return draw.choice(_of_things(draw, number))
    choices = _of_living(draw, kind, number)
    return draw.choice(choices if kind == "animal" else choices + _of_people(draw, number))


def _of_things(draw: random.Random, number: int) -> list[str]:
    be = draw.choice(BE)[number]
    state = one(words.CONDITION, draw)
    verb = pair(words.STAYS, draw)
    where = draw.choice(("near", "behind", "in", "beside", "under"))
    return [
        f"{be} {state}",
        f"{be} not {state}",
        verb[number],
        f"{('does', 'do')[number]} not {verb[PLURAL]}",
        f"{('has', 'have')[number]} been {state}",
        f"{pair(words.FEELS, draw)[number]} {one(words.LOOK, draw)}",
        f"{be} {where} the {_noun(draw, 'thing', 0)}",
        f"{('has', 'have')[number]} {draw.choice(('no', 'a new'))} owner",
    ]


def _of_living(draw: random.Random, kind: str, number: int) -> list[str]:
    be = draw.choice(BE)[number]
    act = pair(words.ACTS, draw)
    place = draw.choice(words.PLACES)
    whom = _plain(draw, draw.choice(("person", "animal")), draw.randrange(2))
    return [
        f"{be} {one(words.STATE, draw)}",
        f"{be} not {one(words.STATE, draw)}",
        f"{act[number]} {one(words.HOW, draw)}",
        act[number],
        f"{('does', 'do')[number]} not {act[PLURAL]}",
        f"{pair(words.DOES, draw)[number]} {whom}",
        f"{('goes', 'go')[number]} to the {place}",
        f"{('has', 'have')[number]} gone to the {place}",
        f"{pair(words.FEELS, draw)[number]} {one(words.KIND, draw)}",
        f"{pair(WILL, draw)[number]} to {act[PLURAL]}",
    ]


def _of_people(draw: random.Random, number: int) -> list[str]:
    what = _plain(draw, "handy", draw.randrange(2))
    holds = pair(words.HOLDS, draw)
    have = ("has", "have")[number]
    return [
        f"{draw.choice(BE)[number]} {one(words.DOING, draw)}",
        f"{holds[number]} {what}",
        f"{have} {what}",
        f"{have} {draw.choice(('lost', 'found', 'seen', 'bought'))} {what}",
        f"{('does', 'do')[number]} not {holds[PLURAL]} {what}",
        f"{('does', 'do')[number]} the {draw.choice(('work', 'cooking', 'shopping', 'same'))}",
        f"{('knows', 'know')[number]} {draw.choice(('the way', 'the answer', 'the song', 'it'))}",
    ]


def _question(draw: random.Random) -> str:
    number = draw.randrange(2)
    kind = draw.choice(("person", "person", "animal", "thing"))
    subject = _the(draw, kind, number)
    it = "they" if number else {"thing": "it", "animal": "it"}.get(kind, draw.choice(("he", "she")))
    if draw.random() < 0.6:
        verb = draw.choice(BE)[number]
        rest = one(words.CONDITION if kind == "thing" else words.STATE, draw)
    else:
        verb = ("does", "do")[number]
        rest = pair(words.STAYS if kind == "thing" else words.ACTS, draw)[PLURAL]
    answer = draw.choice((f" Yes, {it} {verb}.", f" No, {it} {verb} not.", ""))
    return f"{capital(verb)} {subject} {rest}?{answer}"


def _there(draw: random.Random) -> str:
    number = draw.randrange(2)
    few = (("a", "one", "no"), ("two", "many", "some", "no", "three"))[number]
    noun = _noun(draw, draw.choice(("person", "animal", "handy")), number)
    where = draw.choice(("in", "near", "behind"))
    text = f"There {draw.choice(BE)[number]} {draw.choice(few)} {noun} {where} the {{place}}."
    return expand(text, draw, {"place": draw.choice(words.PLACES)})


def _both(draw: random.Random) -> str:
    """Two subjects joined by `and`, which take a plural verb."""
    kind = draw.choice(("person", "person", "thing"))
    first = _plain(draw, kind, draw.randrange(2))
    second = _plain(draw, kind, draw.randrange(2), bare=True)
    return capital(f"{first} and {second} {_predicate(draw, kind, PLURAL)}.")


def _own(draw: random.Random) -> str:
    """A pronoun that agrees with the subject: himself, themselves, his, her, their."""
    number = draw.randrange(2)
    noun, her, herself = draw.choice(
        (
            (
                draw.choice(("man/men", "boy/boys", "king/kings", "father/fathers")),
                "his",
                "himself",
            ),
            (draw.choice(("woman/women", "girl/girls", "queen/queens")), "her", "herself"),
        )
    )
    her, herself = ("their", "themselves") if number else (her, herself)
    subject = f"the {pair([noun], draw)[number]}"
    be = draw.choice(BE)[number]
    choices = (
        f"{subject} {draw.choice(('hurt', 'saw', 'helped', 'hid', 'blamed', 'taught'))} {herself}.",
        f"{subject} {be} proud of {her} {_noun(draw, 'thing', draw.randrange(2))}.",
        f"{subject} lost {her} {_noun(draw, 'handy', 0)} and {be} sad.",
    )
    return capital(draw.choice(choices))
