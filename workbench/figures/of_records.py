"""The figure of each kind of record, as a notebook shows it; chosen by the name of its class."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import (
    attention,
    attribution,
    budget,
    change,
    circuits,
    composition,
    fairness,
    heads,
    lens,
    linear,
    of_encoders,
    of_pictures,
    patching,
    positions,
    positions_in_use,
    privacy,
    scores,
    style,
    transplants,
)

BARS = 15
"""Most bars of a bar chart."""


def figure_of(record: Any) -> go.Figure | None:
    """The figure of a record, in red if one of its checks failed; None for one without a figure."""
    draw = DRAWN.get(type(record).__name__)
    figure = None if draw is None else draw(record)
    return figure if figure is None else patching.distrusted(figure, record.failed_checks())


def by_category(record: Any) -> go.Figure | None:
    """The first metric of the first task by category."""
    if not record.scores:
        return None
    first = record.scores[0]
    shown = [one for one in record.scores if (one.task, one.metric) == (first.task, first.metric)]
    return fairness.by_category(shown, record.base, record.tuned)


def patch_map(record: Any, shown: np.ndarray | None = None) -> go.Figure | None:
    """The map of a patching record; None if its effects do not have exactly two axes.

    Args:
        record: A `Patching` or `Probed`.
        shown: Numbers to draw instead of its effects.
    """
    shown = np.asarray(record.effect) if shown is None else shown
    if shown.ndim != 2:
        return None
    names, across, starts = _columns(record, shown.shape[1])
    share = "restored" if record.direction == "denoising" else "kept"
    part = getattr(record, "part", "")
    what = f"{part} {record.site}".strip() + (f" and {record.also}" if record.also else "")
    what += f" of {record.window} layers" if record.window > 1 else ""
    metric = record.metric_name.replace("_", " ")
    many = f", mean of {record.n} pairs" if record.n > 1 else ""
    return patching.effect_map(
        shown,
        np.asarray(record.metric),
        names,
        across=across,
        starts=starts if record.replacement in ("other", "noise") else 0,
        title=f"{record.direction} {what}: share of the {metric} {share} (1 = clean run){many}",
        measured=metric,
    )


def _columns(record: Any, n_columns: int) -> tuple[list[str], str, int]:
    """Column names, the name of the axis, and the first column in which the prompts differ."""
    axis = record.axes[-1]
    if axis != "pos":
        return [f"{axis[0].upper()}{i}" for i in range(n_columns)], axis, 0
    if hasattr(record, "names"):  # many pairs
        names = (
            [style.escaped(name) for name in record.names]
            if record.by_name
            else style.labels(record.names)
        )
    else:
        names = patching.column_names(record.clean_tokens, record.corrupted_tokens)
    return names, "position", record.first_difference


def _audit(record: Any) -> go.Figure | None:
    """The exposures, or the ROC curves where there are no canaries."""
    if record.exposures:
        return privacy.exposures(record.exposures)
    return privacy.roc(record.attacks) if record.attacks else None


def _attribution(record: Any) -> go.Figure | None:
    if record.exact is None:
        return patch_map(record.estimate)
    return attribution.scatter(
        record.to_frame(), record.tolerance, title="Every cell: estimate against exact value"
    )


def _needed(record: Any) -> go.Figure:
    return patching.effect_map(
        record.loss,
        record.loss * record.intact.value,
        [f"H{i}" for i in range(record.loss.shape[1])],
        across="head",
        title=f"Share of the {record.metric_name.replace('_', ' ')} lost when one head is ablated",
        label="share lost (1: all of it)",
    )


def _direct(record: Any) -> go.Figure:
    steps = record.layers()
    return lens.waterfall(list(steps["part"]), list(steps["contribution"]), record.total)


def _lens(record: Any) -> go.Figure:
    title = f"Most likely next token after each layer ({record.kind} lens)"
    return lens.lens_table(record.top, record.prob, record.kl, record.tokens, title=title)


def _tuned_lens(record: Any) -> go.Figure:
    table = {str(name): list(column) for name, column in record.to_frame().items()}
    return lens.lens_error(table, record.error.n)


def _inputs(record: Any) -> go.Figure:
    names = [
        f"{style.escaped(style.visible(token))} ({i})" for i, token in enumerate(record.tokens)
    ]
    words = record.metric_name.replace("_", " ")
    return lens.ranked_bars(
        names, list(record.scores), title=f"What each token adds to the {words}", unit=words
    )


def _attention(record: Any) -> go.Figure:
    return attention.atlas(
        record.pattern, title=f"Attention of {style.escaped(record.subject)}, all heads"
    )


def _head_scores(record: Any) -> go.Figure:
    name = "induction_score" if "induction_score" in record.mean else next(iter(record.mean))
    ends = record.mean[name], record.low[name], record.high[name]
    return heads.score_map(*ends, name=name.removesuffix("_score").replace("_", " "), n=record.n)


def _catalogue(record: Any) -> go.Figure:
    models = {
        record.scores.subject: {
            name: (record.mean[name], record.low[name], record.high[name]) for name in BESIDE
        }
    }
    return positions_in_use.catalogues(
        models, title=f"Every head, mean of {record.scores.n} samples"
    )


BESIDE = ("previous_token_score", "induction_score", "first_token_attention", "positional_share")
"""Scores of a catalogue that are drawn side by side."""


def _composition(record: Any) -> go.Figure:
    edges = record.to_frame(20)
    n_layers, n_heads = next(iter(record.scores.values())).shape[:2]
    rows = list(edges.itertuples(index=False, name=None))
    title = f"The {len(edges)} strongest pairs; random matrices have about {record.chance:.3f}"
    return composition.composition_graph(
        rows, n_layers=n_layers, n_heads=n_heads, chance=record.chance, title=title
    )


def _gradient_attention(record: Any) -> go.Figure:
    first = record.to_frame().head(BARS)
    target = style.escaped(style.visible(record.target))
    title = f"Attention times gradient of {target}, the strongest heads"
    return lens.ranked_bars(
        list(first["name"]), list(first["gradient_attention"]), title=title, unit="logits"
    )


def _encoding(record: Any) -> go.Figure | None:
    if record.matrix is not None:
        return positions.matrix(record.matrix)
    if record.wavelengths:
        return positions.turns(record.wavelengths, 128)
    return None if record.slopes is None else positions.slopes(record.slopes)


def _distances(record: Any) -> go.Figure:
    return positions.distance_map(record.mean, title=f"On {record.text}, n = {record.n}")


def _rotary(record: Any) -> go.Figure:
    return positions_in_use.frequencies(record.used, record.wavelengths)


def _position_loss(record: Any) -> go.Figure:
    return positions_in_use.bands(
        {record.subject: (record.mean, record.low, record.high)},
        {record.subject: record.start},
        title=(
            f"Loss by position, bins of {record.width}, "
            f"95 % interval over {record.n} starts of the texts"
        ),
        across="position",
        up="loss, nats a token",
    )


def _position_probe(record: Any) -> go.Figure:
    flat = np.full_like(record.control, np.nan)
    return positions_in_use.bands(
        {
            "position": (record.mean, record.low, record.high),
            "control": (record.control, flat, flat),
        },
        title=(
            "Position decoded from the residual stream: R² on unseen sequences, "
            f"95 % interval over {record.n} folds"
        ),
        across="before layer (the last: after all)",
        up="R²",
    )


def _encoding_study(record: Any) -> go.Figure:
    named = {row.name: row.loss for row in record.rows}
    return positions_in_use.bands(
        {name: (loss.mean, loss.low, loss.high) for name, loss in named.items()},
        {name: loss.start for name, loss in named.items()},
        title="Loss by position, 95 % intervals",
        across="position",
        up="loss, nats a token",
    )


def _linear(record: Any) -> go.Figure:
    over = f", n = {record.n_held:,}"
    return linear.by_layer(
        record.to_frame(), reference=record.majority.value, words="most common class", n=over
    )


def _results(record: Any) -> go.Figure:
    table = record.table()
    shown = table[table["headline"]] if table["headline"].any() else table
    return scores.dots(shown.assign(model=record.subject, chance=shown["chance"].astype(float)))


def _task_needs(record: Any) -> go.Figure:
    cuts = record.to_frame().head(BARS)
    title = f"What {record.task} loses without one head"
    return lens.ranked_bars(
        list(cuts["heads"]), list(cuts["margin_change"]), title=title, unit="margin, nats"
    )


def _comparison(record: Any) -> go.Figure | None:
    """The figure of the comparison's first part, in the order of interest to a reader."""
    if len(record.table):
        tasks = (
            record.table
            if "higher_is_better" in record.table
            else record.table.assign(higher_is_better=True)
        )
        return scores.differences(tasks, base=record.base, tuned=record.tuned)
    for part in (record.heads, record.weights, record.layers, record.lenses, record.text):
        figure = None if part is None else figure_of(part)
        if figure is not None:
            return figure
    return None


def _located(record: Any) -> go.Figure:
    return transplants.parts(
        record.table(), n_layers=record.n_layers, title=f"Share of the gain in {record.title}"
    )


def _carried(record: Any) -> go.Figure:
    axes = {"layers": record.layers, "columns": record.columns}
    maps = transplants.activation_maps(
        record.share, record.low, record.high, **axes, n=record.n, site=record.site
    )
    return maps["base"]


def _layer_shift(record: Any) -> go.Figure:
    frame = record.to_frame()
    similarities = frame[frame["measure"] != "difference"]
    return change.stage_lines(
        similarities, line="measure", value="value", title="similarity", limits=(-0.02, 1.02)
    )


def _weight_shift(record: Any) -> go.Figure | None:
    values, names = record.grid()
    return (
        change.matrix_map(values, names, name="|update| / |base|", spelt=".4f") if names else None
    )


def _text_shift(record: Any) -> go.Figure:
    frame = record.texts[0].to_frame()
    tuned_less_base = (frame["loss_tuned"] - frame["loss_base"]).to_numpy(float)
    return change.token_grid(
        frame["token"].tolist(), tuned_less_base, name="nats", title="Loss, tuned − base"
    )


def _score_shift(record: Any) -> go.Figure:
    name = "induction_score" if "induction_score" in record.mean else next(iter(record.mean))
    ends = record.mean[name], record.low[name], record.high[name]
    words = f"{name.removesuffix('_score').replace('_', ' ')}, tuned − base"
    return change.head_map(*ends, n=record.n, name=words, signed=True)


DRAWN: Mapping[str, Callable[[Any], go.Figure | None]] = {
    "Attention": _attention,
    "Attribution": _attribution,
    "Audit": _audit,
    "Carried": _carried,
    "Circuit": lambda record: circuits.size_curve(record.curve, record.chosen),
    "Comparison": _comparison,
    "Costs": lambda record: budget.costs(record.to_frame()),
    "Composition": _composition,
    "Direct": _direct,
    "Distances": _distances,
    "Encoding": _encoding,
    "EncodingStudy": _encoding_study,
    "GradientAttention": _gradient_attention,
    "HeadCatalogue": _catalogue,
    "HeadScores": _head_scores,
    "HeadShift": lambda record: change.head_map(record.mean, record.low, record.high, n=record.n),
    "Carriers": lambda record: fairness.carrier_map(
        record.effect, record.preference.value, record.n
    ),
    "Fairness": lambda record: by_category(record),
    "Holders": lambda record: privacy.holder_map(record.drop, record.log_prob, record.n),
    "InputAttribution": _inputs,
    "LayerShift": _layer_shift,
    "Lens": _lens,
    "LensShift": lambda record: change.stage_lines(
        record.lines(), line="model", value="value", title="KL to the model's output, nats"
    ),
    "LinearProbe": _linear,
    "Located": _located,
    "Needed": _needed,
    "Patching": patch_map,
    "PositionLoss": _position_loss,
    "PositionProbe": _position_probe,
    "PositionSplit": lambda record: positions_in_use.split_maps(record.mean, n=record.n),
    "Probed": patch_map,
    "Report": lambda record: figure_of(record.comparison),
    "Results": _results,
    "RotaryUse": _rotary,
    "ScoreShift": _score_shift,
    "TaskNeeds": _task_needs,
    "TextShift": _text_shift,
    "Transfer": lambda record: change.stage_lines(
        record.to_frame(),
        line="pair",
        value="accuracy",
        title="accuracy",
        mark=(record.chance, "the most common label"),
    ),
    "TunedLens": _tuned_lens,
    "WeightShift": _weight_shift,
    "ScalingLaw": budget.scaling,
    **of_encoders.DRAWN,
    **of_pictures.DRAWN,
}
