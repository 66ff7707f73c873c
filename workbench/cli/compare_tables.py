"""A comparison as short tables for the terminal: the rows that say most of each part."""

from typing import Any

from workbench.comparison.compare import Comparison
from workbench.comparison.text import agreement

PAIRED = ("task", "metric", "base", "tuned", "difference", "low", "high", "p_adjusted", "n")
Table = tuple[str, list[dict[str, Any]]]


def tables(part: str, found: Comparison) -> list[Table]:
    """(title, rows) of each table of a part; none where the part could not be made."""
    made = {
        "behaviour": _behaviour,
        "text": _text,
        "layers": _layers,
        "heads": _heads,
        "weights": _weights,
    }
    return made[part](found)


def _behaviour(found: Comparison) -> list[Table]:
    if found.tuned_results is None:
        return []
    rows = found.table[list(PAIRED)].to_dict("records")
    return [
        (f"{found.tuned} against {found.base}, same items", rows),
        ("Items by who got them right", found.outcomes().to_dict("records")),
    ]


def _text(found: Comparison) -> list[Table]:
    if found.text is None:
        return []
    rows = found.text.summary().to_dict("records")
    shown = [
        ("Next token, nats: loss of each, tuned - base, KL(tuned || base); mean over texts", rows)
    ]
    return [
        *shown,
        ("Tokens written alike before greedy writing parts", [agreement(found.partings)]),
    ]


def _layers(found: Comparison) -> list[Table]:
    if found.layers is None:
        return []
    frame = found.layers.to_frame()
    wide = frame.pivot(index="stage", columns="measure", values="value").reset_index()
    shown = [
        (
            f"Residual stream after so many layers, n = {found.layers.n} texts",
            wide.to_dict("records"),
        )
    ]
    for t in found.transfer:
        accuracy = (
            t.to_frame().pivot(index="stage", columns="pair", values="accuracy").reset_index()
        )
        n = len(next(iter(t.right.values()))[0])
        shown.append(
            (
                f"Linear probe, {t.question}: accuracy, n = {n}, guessing {t.chance:.2f}",
                accuracy.to_dict("records"),
            )
        )
    return shown


def _heads(found: Comparison) -> list[Table]:
    table = found.head_table().head(10)
    keep = [c for c in table if c in ("name", "weights") or str(c).startswith("distance")]
    keep += [
        c
        for c in ("induction_score", "previous_token_score", "first_token_attention")
        if c in table
    ]
    title = (
        "Heads whose attention moved most (Jensen-Shannon distance), and the change of their scores"
    )
    return [(title, table[keep].to_dict("records"))]


def _weights(found: Comparison) -> list[Table]:
    if found.weights is None:
        return []
    columns = ["layer", "matrix", "relative", "norm", "rank", "effective_rank", "most", "lora_rank"]
    return [
        (
            "Matrices that changed most",
            found.weights.to_frame()[columns].head(10).to_dict("records"),
        )
    ]
