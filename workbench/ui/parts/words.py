"""How pages write times, numbers and names."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from workbench.statistics.words import bracketed
from workbench.ui.parts.titles import titled


def duration(seconds: float) -> str:
    """A time span in words: 8 s, 3 min 20 s, 2 h 5 min, 3 days."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min" + (
            f" {seconds % 60} s" if seconds < 600 and seconds % 60 else ""
        )
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h" + (
            f" {seconds % 3600 // 60} min" if seconds % 3600 >= 60 else ""
        )
    return f"{seconds // 86400} days"


def roughly(seconds: float) -> str:
    """An estimated time span, to one or two figures: 8 s, 45 s, 3 min, 2 h."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{round(seconds / 3600)} h"


def ago(then: float) -> str:
    """How long ago a moment (in Unix seconds) was, in words."""
    passed = time.time() - then
    return "just now" if passed < 5 else f"{duration(passed)} ago"


def interval_text(value: float, low: float, high: float) -> str:
    """A value with its 95 % interval, if any: `0.620 [0.482, 0.741]`; from 10 on with one digit.

    Args:
        value: The value.
        low: Lower end of the interval, NaN where there is none.
        high: Upper end.
    """
    digits = ".3f" if abs(value) < 10 else ".1f"
    interval = "" if math.isnan(low) else f" {bracketed(low, high, digits)}"
    return f"{value:{digits}}{interval}"


def signed(value: float) -> str:
    """A difference with its sign, as `+0.120` or `−0.120`."""
    return f"{value:+.3f}".replace("-", "−")


def percent(value: float) -> str:
    """A share in whole per cent; what rounds to 0 has no sign."""
    if math.isnan(value):
        return "–"
    return f"{round(100 * value) + 0:.0f}%".replace("-", "−")


def p_text(p: float) -> str:
    """A p-value as in papers: `p = 0.03`, `p < 0.001`."""
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else "p = " + f"{p:.3f}".rstrip("0").rstrip(".")


def plain_name(name: str) -> str:
    """A model's name, fit for a file name."""
    return re.sub(r"[^\w.@-]+", "_", name).strip("_.") or "model"


def escaped(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>$#:~|" else c for c in text)


def called(name: str) -> str:
    """What a model is called in a sentence, as Markdown."""
    return escaped(titled(name))


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Short names for models in tables and figures, where unambiguous.

    They are the title of a run, and the last part of a path.
    """
    names = list(names)
    last = {
        name: Path(name).name if name.startswith(("/", ".", "~")) else titled(name)
        for name in names
    }
    twice = {short for short, count in Counter(last.values()).items() if count > 1}
    return {name: name if short in twice else short for name, short in last.items()}
