"""Dates as people write them, each with its normal form: `3rd of March 1984` -> `1984-03-03`.

Generated here, so no licence applies and the right answer is known. A tenth of all days, chosen by
their hash, is never trained on.
"""

import hashlib
from datetime import date, timedelta
from random import Random

FIRST = date(1900, 1, 1)
N_DAYS = 73_049
"""Days from `FIRST` to the end of 2099."""
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FORMS = (
    "{th} of {month} {year}",
    "{day} {month} {year}",
    "{month} {day}, {year}",
    "{month} {th}, {year}",
    "{day} {short} {year}",
    "{short} {day}, {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday}, {short} {th}, {year}",
    "{day}.{number}.{year}",
    "the {th} of {month}, {year}",
)
"""None of them is ambiguous: only the day comes before a month in digits."""
COUNTS = {"train": 12_000, "test": 1_000}
"""Records of each split."""
TESTED = 0.1
"""Share of the days that no model may train on."""


def records(split: str) -> list[dict[str, str]]:
    """Dates as {source, target}, in no order; the same on every machine.

    Args:
        split: "train" or "test", whose days have nothing in common.
    """
    draw = Random(f"dates {split}")
    rows: list[dict[str, str]] = []
    while len(rows) < COUNTS[split]:
        day = FIRST + timedelta(draw.randrange(N_DAYS))
        if tested(day) == (split == "test"):
            rows.append({"source": written(day, draw.choice(FORMS)), "target": day.isoformat()})
    return rows


def tested(day: date) -> bool:
    """Whether a day is held out; its own hash decides."""
    place = int.from_bytes(hashlib.sha256(day.isoformat().encode()).digest()[:4], "big")
    return place < TESTED * 2**32


def written(day: date, form: str) -> str:
    """A day in one of `FORMS`."""
    month = MONTHS[day.month - 1]
    return form.format(
        day=day.day,
        th=ordinal(day.day),
        month=month,
        short=month[:3],
        number=day.month,
        year=day.year,
        weekday=WEEKDAYS[day.weekday()],
    )


def ordinal(number: int) -> str:
    """A number of a day with its ending, such as 22nd."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number in (11, 12, 13) else ending}"
