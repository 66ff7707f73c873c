"""The sections of a report that say what changed: behaviour, predictions, representation, heads,
weights.
"""

import pandas as pd

from workbench.comparison.compare import Comparison
from workbench.comparison.layers import MEASURES
from workbench.comparison.report import words as words
from workbench.comparison.report.words import paragraphs
from workbench.comparison.text import LONGEST_WRITTEN, TokenShift, agreement, parting_table
from workbench.figures import change as draw
from workbench.figures import change as draw_heads
from workbench.figures import scores as draw_scores
from workbench.figures.export import Section, Table
from workbench.statistics.words import bracketed

SHOWN = 96
"""Tokens of a text that are drawn."""


def changes(found: Comparison) -> list[Section]:
    """A section for every part that the two models share."""
    made = [
        _behaviour(found),
        _predictions(found),
        _representation(found),
        _heads(found),
        _weights(found),
    ]
    return [section for section in made if section is not None]


def _behaviour(found: Comparison) -> Section | None:
    if found.base_results is None:
        return None
    better = {row.task: row.higher_is_better for row in found.base_results.rows if row.headline}
    drawn = found.table.assign(
        higher_is_better=[better.get(task, True) for task in found.table["task"]]
    )
    return Section(
        "Does it behave differently?",
        [
            draw_scores.differences(drawn, base=found.base, tuned=found.tuned),
            Table(
                found.table,
                "Tuned minus base on the same items; 95 % paired intervals; p corrected over tasks",
            ),
            Table(found.outcomes(), "Items by who got them right"),
        ],
    )


def _predictions(found: Comparison) -> Section | None:
    if found.text is None:
        return None
    caption = "Means over texts, nats a token, 95 % intervals; difference is tuned - base, kl is KL(tuned || base)"
    parts: list = [Table(found.text.summary(), caption)]
    parts += _one_text(max(found.text.texts, key=lambda text: float(text.kl.mean())))
    if found.partings:
        mean = agreement(found.partings)
        parts += [
            f"Writing greedily from the same {mean['n']} prompts, both write {mean['agreed']:.1f} tokens alike before "
            f"they part {bracketed(mean['low'], mean['high'], '.1f')}, up to {LONGEST_WRITTEN}; "
            f"{mean['never_parted']} never part.",
            Table(
                parting_table(found.partings),
                "The first tokens that differ, each with its own model's probability",
            ),
        ]
    return Section("Does it predict other words?", parts)


def _one_text(text: TokenShift) -> list:
    """The text on which the predictions are farthest apart, token by token."""
    frame = text.to_frame().head(SHOWN)
    change = (frame["loss_tuned"] - frame["loss_base"]).to_numpy(float)
    return [
        f"The text whose predictions are farthest apart, its first {len(frame)} tokens; one text has no interval.",
        draw.token_grid(
            frame["token"].tolist(),
            change,
            name="nats",
            title="Loss, tuned − base (red: the tuned model finds the token likelier)",
        ),
        draw.token_grid(
            frame["token"].tolist(),
            frame["kl"].to_numpy(float),
            name="nats",
            title="KL(tuned ‖ base)",
        ),
    ]


def _representation(found: Comparison) -> Section | None:
    if found.layers is None:
        return None
    frame = found.layers.to_frame()
    frame["what"] = frame["measure"].map(MEASURES)
    moved = frame["measure"] == "difference"
    parts: list = [
        *paragraphs(words.LAYERS, tokens=found.layers.tokens, n=found.layers.n),
        draw.stage_lines(
            frame[~moved], line="what", value="value", title="likeness", limits=(-0.02, 1.02)
        ),
        draw.stage_lines(frame[moved], line="what", value="value", title="|tuned − base| / |base|"),
    ]
    if found.lenses is not None:
        parts += [
            *paragraphs(words.LENS, n=len(found.lenses.lenses)),
            draw.stage_lines(
                found.lenses.lines(),
                line="model",
                value="value",
                title="KL to the model's own last word, nats",
            ),
        ]
    for carried in found.transfer:
        parts += [
            f"Linear probes of {carried.question}, trained on {carried.trained} texts and tested on others "
            "(exact intervals): does a probe of the base still read the tuned model?",
            draw.stage_lines(
                carried.to_frame(),
                line="pair",
                value="accuracy",
                title="accuracy",
                limits=(-0.02, 1.02),
                mark=(carried.chance, "the commonest label"),
            ),
        ]
    return Section("Which layers hold something else?", parts)


def _heads(found: Comparison) -> Section | None:
    if (heads := found.heads) is None:
        return None
    frame, rows = found.head_table(), []
    over = (
        ""
        if found.scores is None
        else f"95 % intervals over {found.scores.n} sequences; copying has none"
    )
    shown = [
        name
        for name in ("name", "distance", "distance_low", "distance_high", "weights")
        if name in frame
    ]
    for score in (name for name in frame if name not in shown and f"{name}_low" in frame):
        most = max(frame.to_dict("records"), key=lambda row, score=score: abs(row[score]))
        ends = {"low": most[f"{score}_low"], "high": most[f"{score}_high"]}
        if ends["low"] == ends["high"]:  # read off the weights
            ends = dict.fromkeys(ends, float("nan"))
        rows.append({"score": score, "head": most["name"], "change": most[score], **ends})
    return Section(
        "Which heads look elsewhere?",
        [
            *paragraphs(words.HEADS, n=heads.n),
            draw_heads.head_map(heads.mean, heads.low, heads.high, n=heads.n),
            Table(
                frame[shown].head(12),
                f"The twelve heads whose attention moved most: distance, 95 % interval over {heads.n} texts, relative "
                "change of the head's weights",
            ),
            Table(
                pd.DataFrame(rows), f"The greatest change of each head score, tuned − base, {over}"
            ),
        ],
    )


def _weights(found: Comparison) -> Section | None:
    if found.weights is None:
        return None
    parts: list = [*paragraphs(words.WEIGHTS)]
    for name, said, spelt in (
        ("relative", "|update| / |base|", ".4f"),
        ("effective_rank", "effective rank", ".1f"),
    ):
        values, names = found.weights.grid(name)
        parts.append(draw.matrix_map(values, names, name=said, spelt=spelt))
    if said := found.weights.lora():
        parts.append(said)
    table = found.weights.to_frame().head(12)
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
