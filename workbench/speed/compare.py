"""What got slower or faster since an older benchmark document, beyond the noise of both."""

import json
import math
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

UNKNOWN = 0.25
"""Share by which a ratio may differ where it was measured once, so that its noise is not known."""
MOST = 32 << 20
"""Bytes of the largest document that is read."""


def read(path: Path) -> dict[str, Any]:
    """A document that `workbench bench NAME --json` printed.

    Args:
        path: The file.

    Raises:
        WorkbenchError: It is no such document.
    """
    try:
        if path.stat().st_size > MOST:
            raise WorkbenchError(f"{path} is larger than {MOST >> 20} MiB, so it is no benchmark.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise WorkbenchError(
            f"{path} is not JSON; give what `bench NAME --json` printed."
        ) from error
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WorkbenchError(
            f"{path} has no benchmark rows; give what `bench NAME --json` printed."
        )
    return document


def compared(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a case of either document: both ratios, the change, its noise, and a verdict.

    Ratios to a reference measured in the same process are compared, not seconds, so the two
    documents may come from different machines. The verdict is `slower` or `faster` where the ratio
    changed by more than the spread of both documents' runs together, else `same`; `new` and `gone`
    for cases that only one document has. Benches that the newer one does not have are left out.

    Args:
        old: The older document.
        new: The newer one.
    """
    after = _by_case(new)
    benches = {_bench(row, new) for row in new["rows"]}
    before = _by_case({**old, "rows": [r for r in old["rows"] if _bench(r, old) in benches]})
    rows = []
    for case in [*after, *(case for case in before if case not in after)]:
        was = before.get(case)
        now = after.get(case)
        row = {"case": case, "old_ratio": _ratio(was), "new_ratio": _ratio(now)}
        if was is None or now is None:
            rows.append({**row, "change": None, "noise": None, "verdict": "new" if now else "gone"})
            continue
        change = row["new_ratio"] / row["old_ratio"] - 1
        noise = math.hypot(_noise(was), _noise(now))
        verdict = "same"
        if not abs(change) <= noise:
            verdict = "faster" if change > 0 else "slower"
        rows.append({**row, "change": change, "noise": noise, "verdict": verdict})
    return rows


def _by_case(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that have a ratio, by bench, model and case."""
    rows = {}
    for row in document["rows"]:
        words = [_bench(row, document), row.get("model"), row.get("case")]
        if math.isfinite(_ratio(row)):
            rows[": ".join(str(word) for word in words if word)] = row
    return rows


def _bench(row: dict[str, Any], document: dict[str, Any]) -> str:
    return str(row.get("bench", document.get("bench")))


def _ratio(row: dict[str, Any] | None) -> float:
    value = (row or {}).get("ratio")
    return float(value) if isinstance(value, int | float) and value > 0 else math.nan


def _noise(row: dict[str, Any]) -> float:
    value = row.get("spread")
    return float(value) if isinstance(value, int | float) else UNKNOWN
