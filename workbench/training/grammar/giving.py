"""Two people of whom one gives: who receives is the other, whose name came once.

The frames of the benchmark's `ioi` task (`When A and B went to ...` and three more) and those of
the published set are not among these; `tests/test_grammar.py` holds them out.
"""

import random

from workbench.training.grammar import words
from workbench.training.grammar.expand import capital, expand

NAMES = words.WOMEN + words.MEN
INVENTED = 0.15
"""The share of names made of syllables: without end, and of several tokens each."""

SCENES = (
    "As {a} and {b} walked (to|through|past) the {place}, ",
    "When {a} and {b} (reached|left|were at|came to|sat at|drove to) the {place}, ",
    "When {a} met {b} (at|near) the {place}, ",
    "While {a} and {b} (waited|sat|stood|rested|played|talked|had lunch) (at|near) the {place}, ",
    "While {a} was (talking to|sitting with|helping|walking with) {b} at the {place}, ",
    "Before {a} and {b} (left|reached|closed|saw) the {place}, ",
    "After {a} and {b} (left|reached|closed|had seen|cleaned) the {place}, ",
    "After {a} (had met|met|saw|joined) {b} at the {place}, ",
    "Once {a} and {b} (were at|had found|were back at|came out of) the {place}, ",
    "Because {a} and {b} were (old friends|tired|neighbours|late), ",
    "On {day}, when {a} and {b} were (free|at home|in town|at the {place}), ",
    "(On {day}|One day|Last week|Yesterday|In {month}) {a} and {b} (drove|came|walked|hurried|ran) "
    "to the {place}(.|, and|, where) ",
    "(On {day}|One morning|Last night|At noon) {a} (met|saw|found|visited|joined) {b} at the "
    "{place}. ",
    "{a} and {b} (met|were|sat|worked|stayed|had a meal|spent the day) at the {place}. ",
    "{a} and {b} (walked|drove|hurried|travelled) to the {place}. ",
    "{a} came to the {place} with {b}. ",
    "{a} (saw|met|knew|found|called|liked) {b}. ",
    "{a} lives (near|next to|with|not far from) {b}. ",
    "{a} sat (next to|opposite|behind) {b} at the {place}. ",
    "{a} is (a friend|a cousin|the neighbour|a pupil) of {b}. ",
    "At the {place} there were (two people|two friends|only two guests), {a} and {b}. ",
    "At the {place}, {a} and {b} (sat down|met again|talked for an hour|had a quarrel). ",
    "Both {a} and {b} (liked|knew|visited|loved) the {place}. ",
    "{a} and {b} are (friends|cousins|neighbours|at school together|married). ",
    "Nobody but {a} and {b} was at the {place}. ",
    "{a} asked {b} to come to the {place}. ",
    "The {place} was (empty|dark|quiet|full) when {a} and {b} came. ",
    "It was {day}, and {a} and {b} (had nothing to do|were at the {place}|had (a|no) plan). ",
)
"""How two people come together; each leads on to a giving."""
LATER = ("",) * 6 + (
    "(Soon|Later|Then|In the evening|At last|There|After some time|Before long|At noon) ",
    "(Soon|Later|Then|In the evening|At last|There|After some time|Before long|At noon) ",
    "(It was a {adj} day.|The sun was low.|It began to rain.|They talked for a while.|Time "
    "went by.) ",
    "(They were {mood}.|Both were {mood}.|The two of them were {mood}.) ",
)
GIVING = (
    "{g} (gave|gave|gave|gave|handed|passed|showed|offered|brought|sold|lent|sent|threw|returned) "
    "(a|a|a|the|the old|a new|a {colour}) {gift} to {r}",
    "{g} (gave|handed|passed|showed|offered|brought|sold|lent) (a|the) {gift} to {r}",
    "{g} (had|took|found|bought) a {gift} and (gave|handed|passed|showed|offered) it to {r}",
    "{g} (liked|hoped|tried|promised|agreed|was glad|was ready|began) to "
    "(give|hand|show|sell|lend|send|"
    "bring|pass) (a|the) {gift} to {r}",
    "{g} (told a story|made a promise|wrote a note|read a poem|sang a "
    "song|spoke|waved|listened|came up|"
    "turned|bowed|lied|whispered|explained everything|said a word|said nothing|talked|nodded) "
    "to {r}",
    "{g} (bought|made|got|found|kept|opened|cooked|brought|chose) (a|the) {gift} for {r}",
    "{g} (waited|worked|sang|looked|asked|called|cooked) for {r}",
    "{g} (looked|smiled|laughed|shouted|pointed|waved) at {r}",
    "{g} (walked|went|came|sat down|danced|played|argued|had tea|shared a {gift}) with {r}",
    "{g} took the {gift} from {r}",
    "{g} (asked|thanked|helped|followed|called|told|liked|left|saw|kissed|taught|heard|"
    "believed) {r}",
    "{g} (gave|handed|showed|offered|lent|sent) {r} (a|the) {gift}",
    "the {gift} was a present from {g} to {r}",
)
"""What one of them does to the other; the first frames, which end in `to`, come more often."""
WEIGHTS = (10, 6, 4, 5, 5, 3, 1, 1, 2, 1, 2, 2, 1)
ENDS = (
    ".",
    ".",
    ". {r} thanked {g}.",
    ". {r} was (glad|pleased|surprised|happy).",
    ". {r} (smiled|laughed|said nothing|went home).",
    '. "Thank you, {g}," said {r}.',
    '. "(Thank you|You are kind|How nice)!" (said|cried) {r}.',
    ", and {r} (smiled|was glad|thanked {g}|said thank you).",
    ". Then {g} (went home|said goodbye|left) and {r} stayed.",
    ". {r} (had always wanted it|did not expect it|was kind to {g}).",
    ". They were both {mood}.",
)
THIRD = (
    "{c} had gone home. ",
    "{c} was not there. ",
    "{c} (stood by the door|slept|looked on|was away|was ill|sat in the corner). ",
    "They talked about {c}. ",
)


def giving(draw: random.Random) -> str:
    """A paragraph of one to four little stories, each with two people of its own, in which one
    gives something to the other, or both do in turn.
    """
    return " ".join(_story(draw) for _ in range(draw.randint(1, 4))) + "\n"


def people(draw: random.Random, n: int) -> list[str]:
    """`n` different names: known ones, and some that are made of syllables."""
    names: list[str] = [*draw.sample(NAMES, n)]
    for i in range(n):
        if draw.random() < INVENTED:
            parts = [draw.choice(words.SYLLABLES) for _ in range(draw.randint(1, 2))]
            names[i] = capital("".join(parts) + draw.choice(words.ENDINGS))
    return names if len(set(names)) == n else people(draw, n)


def _story(draw: random.Random) -> str:
    a, b, c = people(draw, 3)
    slots = {"a": a, "b": b, "c": c} | _setting(draw)
    text = expand(draw.choice(SCENES), draw, slots)
    if text.endswith(". ") and draw.random() < 0.12:
        text += expand(draw.choice(THIRD), draw, slots)
    for turn in range(1 + (draw.random() < 0.15)):
        giver, receiver = (a, b) if draw.random() < 0.5 else (b, a)
        slots |= _setting(draw) | {"g": giver, "r": receiver}
        if turn:
            text += " "
        if text.endswith(". ") or turn:
            text += expand(draw.choice(LATER), draw, slots)
        text += _begun(expand(draw.choices(GIVING, WEIGHTS)[0], draw, slots), text)
        text += expand(draw.choice(ENDS), draw, slots)
    return text


def _begun(clause: str, before: str) -> str:
    """The clause with a capital where it begins a sentence."""
    return clause[:1].upper() + clause[1:] if before.endswith(". ") or not before else clause


def _setting(draw: random.Random) -> dict[str, str]:
    return {
        "place": draw.choice(words.PLACES),
        "gift": draw.choice(words.GIFTS),
        "colour": draw.choice(words.COLOURS),
        "day": draw.choice(words.DAYS),
        "month": draw.choice(words.MONTHS),
        "mood": draw.choice(words.KIND[:8]),
        "adj": draw.choice(("warm", "cold", "long", "fine", "quiet", "busy")),
    }
