"""A comparison as short tables for the terminal: the most telling rows of each part."""

from typing import Any

from workbench.comparison.compare import Comparison
from workbench.comparison.text import agreement

PAIRED = ("task", "metric", "base", "tuned", "difference", "low", "high", "p_adjusted", "n")
Table = tuple[str, list[dict[str, Any]]]


def tables(part: str, comparison: Comparison) -> list[Table]:
    """(title, rows) of each table of a part; [] if the part was not measured.

    Args:
        part: behaviour, text, layers, heads or weights.
        comparison: The comparison so far.
    """
    makers = {
        "behaviour": _behaviour,
        "text": _text,
        "layers": _layers,
        "heads": _heads,
        "weights": _weights,
    }
    return makers[part](comparison)


def _behaviour(comparison: Comparison) -> list[Table]:
    if comparison.tuned_results is None:
        return []
    rows = _records(comparison.table[list(PAIRED)])
    return [
        (f"{comparison.tuned} against {comparison.base}, same items", rows),
        ("Items by who got them right", comparison.outcomes().to_dict("records")),
    ]


def _text(comparison: Comparison) -> list[Table]:
    if comparison.text is None:
        return []
    rows = comparison.text.summary().to_dict("records")
    shown = [
        ("Next token, nats: loss of each, tuned - base, KL(tuned || base); mean over texts", rows)
    ]
    return [
        *shown,
        ("Tokens written alike before greedy writing parts", [agreement(comparison.partings)]),
    ]


def _layers(comparison: Comparison) -> list[Table]:
    if comparison.layers is None:
        return []
    frame = comparison.layers.to_frame()
    wide = frame.pivot(index="stage", columns="measure", values="value").reset_index()
    shown = [
        (
            f"Residual stream after so many layers, n = {comparison.layers.n} texts",
            wide.to_dict("records"),
        )
    ]
    for t in comparison.transfer:
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


def _heads(comparison: Comparison) -> list[Table]:
    table = comparison.head_table().head(10)
    keep = [c for c in table if c in ("name", "weights") or str(c).startswith("distance")]
    keep += [
        c
        for c in ("induction_score", "previous_token_score", "first_token_attention")
        if c in table
    ]
    title = (
        "Heads whose attention moved most (Jensen-Shannon distance), and the change of their scores"
    )
    return [(title, _records(table[keep]))]


def _weights(comparison: Comparison) -> list[Table]:
    if comparison.weights is None:
        return []
    columns = ["layer", "matrix", "relative", "norm", "rank", "effective_rank", "most", "lora_rank"]
    return [
        (
            "Matrices that changed most",
            _records(comparison.weights.to_frame()[columns].head(10)),
        )
    ]


def _records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame; pandas' own types do not tell a choice of columns from a single one."""
    return frame.to_dict("records")
