"""A corpus that needs no file: short stories from a small grammar written for this project."""

import random

NAMES = (
    "Anna Ben Clara David Emma Frank Grace Henry Iris Jack Kate Leo Mary Noah Olive Paul Rose Sam "
    "Tom Vera"
).split()
PLACES = (
    "garden harbour kitchen library market meadow mill river school station tower village".split()
)
THINGS = (
    "apple basket bell book candle coin drum feather key lamp letter map rope shell stone umbrella"
).split()
FEELINGS = "angry calm curious glad proud quiet sleepy surprised tired worried".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def stories(n: int = 1500, seed: int = 0) -> list[str]:
    """`n` stories of about 300 characters; names and things recur, so induction heads can form."""
    draw = random.Random(seed)
    return [_story(draw) for _ in range(n)]


def _story(draw: random.Random) -> str:
    giver, taker = draw.sample(NAMES, 2)
    thing, other = draw.sample(THINGS, 2)
    place = draw.choice(PLACES)
    feeling = draw.choice(FEELINGS)
    day = draw.choice(DAYS)
    return (
        f"On {day} {giver} went to the {place} with a {thing}. "
        f"There {giver} met {taker}, who had lost a {other} and was {feeling}. "
        f"{giver} and {taker} looked for the {other} until evening. "
        f"They found the {other} near the {place}. "
        f"{taker} was no longer {feeling} and {giver} gave the {thing} to {taker}. "
        f"After that {day}, {taker} always kept the {thing} and the {other}.\n"
    )
