"""How pages spell times, numbers and names."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from workbench.statistics.words import bracketed


def duration(seconds: float) -> str:
    """A time span as people say it: 8 s, 3 min 20 s, 2 h 5 min, 3 days."""
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


def ago(then: float) -> str:
    """How long ago a moment (unix seconds) was."""
    passed = time.time() - then
    return "just now" if passed < 5 else f"{duration(passed)} ago"


def interval_text(value: float, low: float, high: float) -> str:
    """`0.620 [0.482, 0.741]`: a value and its 95 % interval, if any; large values have fewer digits.

    Args:
        value: The value.
        low: Lower end of the interval, NaN where there is none.
        high: Upper end.
    """
    digits = ".3f" if abs(value) < 10 else ".1f"
    interval = "" if math.isnan(low) else f" {bracketed(low, high, digits)}"
    return f"{value:{digits}}{interval}"


def signed(value: float) -> str:
    """A difference with its sign, as print sets it."""
    return f"{value:+.3f}".replace("-", "−")


def percent(value: float) -> str:
    """A share in whole per cent; what rounds to nothing has no sign."""
    if math.isnan(value):
        return "–"
    return f"{round(100 * value) + 0:.0f}%".replace("-", "−")


def p_text(p: float) -> str:
    """A p-value as papers print it."""
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else "p = " + f"{p:.3f}".rstrip("0").rstrip(".")


def plain_name(name: str) -> str:
    """A model's name as part of a file's name."""
    return re.sub(r"[^\w.@-]+", "_", name).strip("_.") or "model"


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>$#:~|" else c for c in text)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """What tables and figures call models: of a path its last part, unless that names two of them."""
    names = list(names)
    last = {name: Path(name).name if name.startswith(("/", ".", "~")) else name for name in names}
    twice = {short for short, count in Counter(last.values()).items() if count > 1}
    return {name: name if short in twice else short for name, short in last.items()}
