"""The sections of a report on what changed: behaviour, predictions, layers, heads, weights."""

from typing import Any

import pandas as pd

from workbench.comparison.compare import Comparison
from workbench.comparison.layers import MEASURES
from workbench.comparison.report import words as words
from workbench.comparison.report.words import paragraphs
from workbench.comparison.text import LONGEST_WRITTEN, TokenShift, agreement, parting_table
from workbench.figures import change as draw
from workbench.figures import scores as draw_scores
from workbench.figures.export import Section, Table
from workbench.statistics.words import bracketed

SHOWN = 96
"""Tokens of a text that are drawn."""
PER_HEAD = ("name", "distance", "distance_low", "distance_high", "weights")
"""Columns of the table of heads."""


def changes(comparison: Comparison) -> list[Section]:
    """A section for every part of the comparison that was measured."""
    sections = [
        _behaviour(comparison),
        _predictions(comparison),
        _layers(comparison),
        _heads(comparison),
        _weights(comparison),
    ]
    return [section for section in sections if section is not None]


def _behaviour(comparison: Comparison) -> Section | None:
    results = comparison.base_results
    if results is None:
        return None
    table = comparison.table
    better = {row.task: row.higher_is_better for row in results.rows if row.headline}
    drawn = table.assign(higher_is_better=[better.get(task, True) for task in table["task"]])
    caption = "Tuned minus base on the same items; 95 % paired intervals; p corrected over tasks"
    return Section(
        "Does it behave differently?",
        [
            draw_scores.differences(drawn, base=comparison.base, tuned=comparison.tuned),
            Table(table, caption),
            Table(comparison.outcomes(), "Items by who got them right"),
        ],
    )


def _predictions(comparison: Comparison) -> Section | None:
    text = comparison.text
    if text is None:
        return None
    caption = (
        "Means over texts, nats a token, 95 % intervals; "
        "difference is tuned - base, kl is KL(tuned || base)"
    )
    parts: list[Any] = [Table(text.summary(), caption)]
    parts += _one_text(max(text.texts, key=lambda shift: float(shift.kl.mean())))
    if comparison.partings:
        mean = agreement(comparison.partings)
        interval = bracketed(mean["low"], mean["high"], ".1f")
        caption = "The first tokens that differ, each with its own model's probability"
        parts += [
            f"Greedy continuations of the same {mean['n']} prompts agree on the first "
            f"{mean['agreed']:.1f} tokens {interval} of at most {LONGEST_WRITTEN}; "
            f"{mean['never_parted']} never differ.",
            Table(parting_table(comparison.partings), caption),
        ]
    return Section("Does it predict other words?", parts)


def _one_text(text: TokenShift) -> list[Any]:
    """The text on which the predictions differ most, token by token."""
    frame = text.to_frame().head(SHOWN)
    change = (frame["loss_tuned"] - frame["loss_base"]).to_numpy(float)
    return [
        f"The first {len(frame)} tokens of the text on which the predictions differ most; "
        "a single text has no interval.",
        draw.token_grid(
            frame["token"].tolist(),
            change,
            name="nats",
            title="Loss, tuned − base (red: the tuned model finds the token more likely)",
        ),
        draw.token_grid(
            frame["token"].tolist(),
            frame["kl"].to_numpy(float),
            name="nats",
            title="KL(tuned ‖ base)",
        ),
    ]


def _layers(comparison: Comparison) -> Section | None:
    layers = comparison.layers
    if layers is None:
        return None
    frame = layers.to_frame()
    frame["what"] = [MEASURES[measure] for measure in frame["measure"]]
    is_difference = frame["measure"] == "difference"
    parts: list[Any] = [
        *paragraphs(words.LAYERS, tokens=layers.tokens, n=layers.n),
        draw.stage_lines(
            frame.loc[~is_difference],
            line="what",
            value="value",
            title="similarity",
            limits=(-0.02, 1.02),
        ),
        draw.stage_lines(
            frame.loc[is_difference], line="what", value="value", title="|tuned − base| / |base|"
        ),
    ]
    lenses = comparison.lenses
    if lenses is not None:
        title = "KL to the model's output, nats"
        parts += [
            *paragraphs(words.LENS, n=len(lenses.lenses)),
            draw.stage_lines(lenses.lines(), line="model", value="value", title=title),
        ]
    for transfer in comparison.transfer:
        parts += [
            f"Linear probes of {transfer.question}, trained on {transfer.trained} texts and tested "
            "on others (exact intervals): does a linear probe of the base still work on the tuned "
            "model?",
            draw.stage_lines(
                transfer.to_frame(),
                line="pair",
                value="accuracy",
                title="accuracy",
                limits=(-0.02, 1.02),
                mark=(transfer.chance, "the most common label"),
            ),
        ]
    return Section("Which layers hold something else?", parts)


def _heads(comparison: Comparison) -> Section | None:
    heads = comparison.heads
    if heads is None:
        return None
    frame = comparison.head_table()
    scores = comparison.scores
    over = ""
    if scores is not None:
        over = f"95 % intervals over {scores.n} sequences; copying has none"
    shown = [name for name in PER_HEAD if name in frame]
    return Section(
        "Which heads look elsewhere?",
        [
            *paragraphs(words.HEADS, n=heads.n),
            draw.head_map(heads.mean, heads.low, heads.high, n=heads.n),
            Table(
                frame.loc[:, shown].head(12),
                "The twelve heads whose attention moved most: distance, 95 % interval over "
                f"{heads.n} texts, relative change of the head's weights",
            ),
            Table(
                _largest_changes(frame),
                f"The largest change of each head score, tuned − base, {over}",
            ),
        ],
    )


def _largest_changes(frame: pd.DataFrame) -> pd.DataFrame:
    """For each score, the head on which it changed most."""
    rows = []
    for score in frame:
        if score in PER_HEAD or f"{score}_low" not in frame:
            continue
        sizes = frame[score].abs().fillna(-1.0).to_numpy(float)
        most = frame.iloc[int(sizes.argmax())]
        low = most[f"{score}_low"]
        high = most[f"{score}_high"]
        if low == high:  # computed from weights alone
            low = high = float("nan")
        rows.append(
            {"score": score, "head": most["name"], "change": most[score], "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def _weights(comparison: Comparison) -> Section | None:
    weights = comparison.weights
    if weights is None:
        return None
    parts: list[Any] = [*paragraphs(words.WEIGHTS)]
    for column, title, spelt in (
        ("relative", "|update| / |base|", ".4f"),
        ("effective_rank", "effective rank", ".1f"),
    ):
        values, names = weights.grid(column)
        parts.append(draw.matrix_map(values, names, name=title, spelt=spelt))
    if adapter := weights.lora():
        parts.append(adapter)
    table = weights.to_frame().head(12)
    table["layer"] = [str(layer) if layer >= 0 else "–" for layer in table["layer"]]
    table = table.rename(
        columns={
            "relative": "|update| / |base|",
            "norm": "|update|",
            "size": "|base|",
            "most": "full",
        }
    )
    parts.append(Table(table, "The twelve parameters that changed most"))
    return Section("Which weights moved?", parts)
