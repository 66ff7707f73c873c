"""Short plain stories with a beginning, a trouble, a help and an end, told with pronouns."""

import random

from workbench.training.grammar import words
from workbench.training.grammar.expand import capital, expand, pair

BEGIN = (
    "(Once upon a time|Long ago|One day|One {season} morning) there was a {adj} {person} "
    "(named|called) {A}. "
    "{A} lived in a {look} house (by the {place}|near a {look2} {spot}|with a {beast}). ",
    "{A} was a {adj} {person}. (Every day|Every {day}|In {season}) {he} (went|walked|ran) to "
    "the {place}. ",
    "It was a (cold|warm|bright|rainy|windy) day in {month}. {A} (sat|stood|was) at the "
    "{place} and "
    "(looked at the sky|thought about {his} {beast}|waited for {his} friend {B}). ",
    "{A} had a {beast}. The {beast} was {colour}, and {A} loved it very much. ",
    "My friend {A} (is|was) a {person}. {He} (has|had) a {look} {thing} and a {beast}. ",
    "There (is|was) a {look} {thing} at the {place}. Nobody knew where it came from, not even "
    "{A}. ",
)
TROUBLE = (
    "One day {he} lost {his} {thing}. {He} looked in the {place2} and near the {other}, but it "
    "was not there. ",
    "Then the {beast} ran away. {A} called and called, but it did not come back. ",
    "{He} wanted to (buy|find|build|see) a {thing}, but {he} had no (money|time|help). ",
    "On the way {he} met a {adj2} {person2}, who was (crying|lost|hungry|looking for a {thing}). ",
    "In the night there was a storm, and the {thing} fell into the water. ",
    "{He} was (afraid of the dark|very hungry|alone|ill), and {he} did not know what to do. ",
    "One morning the door of the {place2} was open, and the {thing} was gone. ",
)
HELP = (
    'So {he} asked {B}. "Have you seen my {thing}?" "(No|Yes), (but I will help you|it is in '
    'the {place2})," said {B}. ',
    '"Do not cry," said {B}. "We will (look for it|go together|ask the {person2})." ',
    "{B}, {who} lived next door, heard {him} and came to help. They looked for it (all "
    "day|until evening). ",
    "But {he} did not give up. {He} (worked|walked|waited) for {n} days. ",
    "The {person2} said that {he} should go to the {place2}. {He} went there at once. ",
    "After a while a {beast2} came along the road. It (had|carried) something (in its mouth|on "
    "its back). ",
    "{He} took a {thing2} and a {thing3} and made a {look} {thing} out of them. ",
)
END = (
    "In the end they found it (near|under|behind) the {other}. {A} was very (happy|glad), and "
    "so was {B}. ",
    "From that day on {A} and {B} were (friends|good friends), and they (often|always) played "
    "together. ",
    "{A} (laughed|smiled) and went home. {His} (mother|father|sister) had (made soup|waited "
    "for {him}). ",
    '"Thank you," said {A}. "You are a good friend." And {he} never forgot it. ',
    "The {beast} came back the next day. It was (tired|wet|hungry) but well. ",
    "After that {he} was (never afraid again|never alone|always careful). ",
    "That night {he} slept well. (The moon was bright.|It was very quiet.|The {beast} slept too.) ",
)
LOOK = (
    "The {place} is {look}. It has {n} {windows} and a {colour} door. In front of it "
    "(stands|is) a {thing}. "
    "The walls are {colour2}, and the floor is {colour3}. ",
    "My (room|house|garden) is {look}. There (are {n} chairs and a table|is a bed and a lamp) "
    "in it. "
    "On the wall (hangs a picture|is a clock). I like to (read|sit|sleep) there. ",
    "In {season} the days are (long|short|warm|cold). The trees are {colour}, and the birds "
    "(sing|fly away). "
    "Children (play|run) (outside|at the {place}), and the old people (sit|rest) (in the "
    "sun|by the fire). ",
    "The {beast} is {colour}. It has four legs, two ears and a (long|short) tail. It eats "
    "(bread|grass|fish) "
    "and sleeps (under|near) the {thing}. ",
    "{A} gets up at {n} o'clock. First {he} washes {his} face, then {he} eats (bread|an egg|an "
    "apple). "
    "After that {he} goes to (work|school|the {place}). In the evening {he} "
    "(reads|plays|cooks|sleeps). ",
)


def story(draw: random.Random) -> str:
    """A story of four parts, or a description."""
    slots = _slots(draw)
    if draw.random() < 0.25:
        text = "".join(expand(draw.choice(LOOK), draw, slots) for _ in range(draw.randint(1, 3)))
    else:
        parts = (BEGIN, TROUBLE, HELP, END)
        text = "".join(capital(expand(draw.choice(part), draw, slots)) for part in parts)
    return text.strip() + "\n"


def _slots(draw: random.Random) -> dict[str, str]:
    man = draw.random() < 0.5
    a = draw.sample(words.MEN if man else words.WOMEN, 1)[0]
    b = draw.choice(words.WOMEN)
    he, his, him = ("he", "his", "him") if man else ("she", "her", "her")
    b = b if b != a else "Otto"
    person = draw.choice(
        (
            "man boy king farmer sailor miller prince" if man else "woman girl queen nurse dancer"
        ).split()
    )
    slots = {
        "A": a,
        "B": b,
        "he": he,
        "his": his,
        "him": him,
        "He": capital(he),
        "His": capital(his),
    }
    things = [pair(words.HANDY, draw)[0] for _ in range(3)]
    things += [pair(words.LARGE, draw)[0]]
    c1, c2, c3 = draw.sample(words.COLOURS, 3)
    return slots | {
        **dict(zip(("thing", "thing2", "thing3", "other"), things, strict=True)),
        **{"colour": c1, "colour2": c2, "colour3": c3, "person": person, "who": "who"},
        **{"person2": pair(words.PEOPLE, draw)[0], "adj": draw.choice(words.KIND)},
        **{"adj2": draw.choice(words.KIND), "look": draw.choice(words.LOOK)},
        **{"look2": draw.choice(words.LOOK), "spot": draw.choice(("hill", "lake", "wood", "road"))},
        **{"place": draw.choice(words.PLACES), "place2": draw.choice(words.PLACES)},
        **{"beast": pair(words.ANIMALS, draw)[0], "beast2": pair(words.ANIMALS, draw)[0]},
        **{"season": draw.choice(("spring", "summer", "autumn", "winter")), "windows": "windows"},
        **{"day": draw.choice(words.DAYS), "month": draw.choice(words.MONTHS)},
        **{"n": draw.choice(words.NUMBERS[1:9])},
    }
