"""The Positions page's further views, each measured when it is opened."""

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone, cached_load, choices
from workbench.ui.parts.notices import note

if TYPE_CHECKING:
    from workbench.interp.patterns.position_split import PositionSplit
    from workbench.interp.position.loss import PositionLoss
    from workbench.interp.position.probe import PositionProbe
    from workbench.interp.position.rotary import RotaryUse
    from workbench.interp.position.study import EncodingStudy
    from workbench.subjects import Subject

MOST_MODELS = 5
WHOLE = 13
"""Number of stages up to which each has its own tick."""
BESIDE = (
    "previous_token_score",
    "induction_score",
    "duplicate_token_score",
    "first_token_attention",
    "positional_share",
)
"""The head scores by which models are compared."""


@kept("use of positions", 8, "Computing queries and keys on eight texts")
def _rotary(sha256: str, _subject: "Subject") -> "RotaryUse":
    from workbench.data.passages import TEXTS
    from workbench.interp.position.rotary import rotary_use

    with alone(sha256):
        return rotary_use(_subject, TEXTS)


@kept("use of positions", 8, "Running the same tokens in many orders")
def _split(sha256: str, _subject: "Subject") -> "PositionSplit":
    from workbench.interp.patterns.position_split import position_split

    with alone(sha256):
        return position_split(_subject)


@kept("use of positions", 8, "Fitting a linear probe before every layer")
def _probe(sha256: str, _subject: "Subject") -> "PositionProbe":
    from workbench.interp.position.probe import position_probe

    with alone(sha256):
        return position_probe(_subject)


@kept("use of positions", 8, "Running texts of up to twice the context")
def _loss(sha256: str, _subject: "Subject") -> "PositionLoss":
    from workbench.data.passages import TEXTS
    from workbench.interp.position.loss import loss_by_position

    with alone(sha256):
        return loss_by_position(_subject, TEXTS)


@kept("use of positions", 2 * MOST_MODELS)
def _study(sha256: str, _subject: "Subject") -> "EncodingStudy":
    from workbench.data.passages import TEXTS
    from workbench.interp.position.study import encoding_study

    with alone(sha256):
        return encoding_study([_subject], TEXTS)


def real_queries(subject: "Subject") -> None:
    """Rotary encodings: the frequencies in use, and the decay of scores with distance."""
    from workbench.figures import positions_in_use as draw
    from workbench.figures.style import head_name

    if subject.card.positions != "rotary":
        note(
            f"{subject.name} has the position encoding {subject.card.positions}; this view is for "
            "rotary encodings, which rotate queries and keys."
        )
        return
    use = _rotary(subject.hash, subject)
    n_layers, n_heads, _ = use.used.shape
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    drop = (use.decay[..., 1] - use.decay[..., -1]).ravel()
    chosen = st.multiselect(
        "Heads ", names, [names[int(drop.argmax())], names[int(drop.argmin())]], max_selections=4
    )
    picked = {name: divmod(names.index(name), n_heads) for name in chosen}
    lines = draw.bands(
        {n: (use.decay[at], use.decay_low[at], use.decay_high[at]) for n, at in picked.items()},
        title=f"Score of the mean query and the mean key, 95 % intervals over {use.n} texts",
        across="distance back, tokens",
        up="score",
    )
    heat = draw.frequencies(use.used, use.wavelengths)
    for column, figure, name in zip(
        st.columns(2, gap="medium"), (lines, heat), ("decay", "used"), strict=True
    ):
        with column:
            chart(figure, key=name, name=f"{subject.name}-rotary-{name}", alt=f"Rotary: {name}")
    downloads(
        lambda: [lines, heat],
        use.to_frame,
        name=f"rotary-{subject.name}",
        title=f"Rotary frequencies of {subject.name} in use",
        text=f"Means over {use.n} texts.",
    )


def position_or_content(subject: "Subject") -> None:
    """The variance of each head's scores, split into position, content and interaction."""
    from workbench.figures import positions_in_use as draw
    from workbench.interp.patterns.position_split import PARTS

    split = _split(subject.hash, subject)
    st.caption(
        f"{split.n} sets of {split.tokens} random tokens, each in {split.orders} orders. "
        + "; ".join(f"**{part}**: {words}" for part, words in PARTS.items())
        + ". The first token is left out as a key."
    )
    figure = draw.split_maps(split.mean, n=split.n)
    chart(figure, key="split", name=f"{subject.name}-split", alt="Shares of variance by head")
    downloads(
        lambda: [figure],
        split.to_frame,
        name=f"position-split-{subject.name}",
        title=f"Position and content in the heads of {subject.name}",
    )


def in_the_stream(subject: "Subject") -> None:
    """How well a linear probe decodes the position before each layer, beside a control."""
    from workbench.figures import positions_in_use as draw

    fit = _probe(subject.hash, subject)
    flat = np.full_like(fit.control, np.nan)
    figure = draw.bands(
        {"position": (fit.mean, fit.low, fit.high), "control": (fit.control, flat, flat)},
        title="Position decoded from the residual stream: R² on held-out sequences, 95 % "
        f"intervals over {fit.n} folds",
        across="before layer (last: after all layers)",
        up="R²",
    )
    if len(fit.mean) <= WHOLE:
        figure.update_xaxes(dtick=1)  # there is no half layer
    chart(figure, key="probe", name=f"{subject.name}-position-probe", alt="R² by layer")
    st.caption(
        f"Linear probe: ridge regression on {fit.sequences} sequences of {fit.length} random "
        f"tokens, {fit.n}-fold cross-validation over sequences. The control is trained on shuffled "
        "positions."
    )
    downloads(
        lambda: [figure],
        fit.to_frame,
        name=f"position-probe-{subject.name}",
        title=f"Position in the stream of {subject.name}",
    )


def by_position(subject: "Subject") -> None:
    """The loss by position, with the end of the training context marked."""
    from workbench.figures import positions_in_use as draw

    loss = _loss(subject.hash, subject)
    figure = draw.bands(
        {subject.name: (loss.mean, loss.low, loss.high)},
        {subject.name: loss.start},
        title=f"Loss by position (bins of {loss.width}), 95 % intervals over {loss.n} starts in "
        "the texts",
        across="position",
        up="loss, nats per token",
    )
    if loss.start[-1] >= loss.n_ctx:
        draw.mark(figure, loss.n_ctx, "end of the training context")
    elif loss.start[-1] + loss.width >= loss.n_ctx - loss.width:
        st.caption(f"The model has no positions beyond {loss.n_ctx:,}.")
    else:
        st.caption(
            f"Measured up to position {int(loss.start[-1]) + loss.width:,} of a context of "
            f"{loss.n_ctx:,}."
        )
    chart(figure, key="loss", name=f"{subject.name}-loss-by-position", alt="Loss by position")
    downloads(
        lambda: [figure],
        loss.to_frame,
        name=f"loss-by-position-{subject.name}",
        title=f"Loss by position of {subject.name}",
    )


def side_by_side(subject: "Subject") -> None:
    """Up to five models side by side: loss by position, attention by distance, and head scores."""
    from workbench.figures import positions_in_use as draw
    from workbench.interp.position.study import EncodingStudy

    st.caption(
        "Models of one recipe with different encodings show what the encoding does, but any "
        "models can be compared. Losses are comparable only between models with the same "
        "tokenizer."
    )
    options = choices()
    start = [n for n in st.query_params.get_all("models") if n in options] or [
        n for n in options if n.startswith("shelf-positions/")
    ]
    if len(start) == MOST_MODELS and all(n.startswith("shelf-positions/") for n in start):
        st.caption(
            "By default: the five bundled models that differ only in their position encoding."
        )
    chosen = st.multiselect(
        "Models", options, start, key="models", bind="query-params", max_selections=MOST_MODELS
    )
    if not chosen or not st.toggle("Measure", value=True, key="measure", bind="query-params"):
        return
    bar = st.progress(0.0, "Loading")
    rows = []
    for i, name in enumerate(chosen):
        bar.progress(i / len(chosen), f"Measuring {name}")
        other = cached_load(name)
        rows += _study(other.hash, other).rows
    study = EncodingStudy(rows)
    bar.empty()
    st.dataframe(study.to_frame().round(3), hide_index=True)
    kinds = {row.positions for row in study.rows}
    names = [row.positions if len(kinds) == len(study.rows) else row.name for row in study.rows]
    named = dict(zip(names, study.rows, strict=True))
    losses = draw.bands(
        {name: (row.loss.mean, row.loss.low, row.loss.high) for name, row in named.items()},
        {name: row.loss.start for name, row in named.items()},
        title="Loss by position, 95 % intervals",
        across="position",
        up="loss, nats per token",
    )
    if len({row.n_ctx for row in study.rows}) == 1:
        draw.mark(losses, study.rows[0].n_ctx, "end of the training context")
    kernels = draw.mean_kernels([(name, row.distances.mean) for name, row in named.items()])
    for column, figure, name in zip(
        st.columns(2, gap="medium"), (losses, kernels), ("losses", "kernels"), strict=True
    ):
        with column:
            chart(figure, key=f"study_{name}", name=f"encodings-{name}", alt=name)
    heads = draw.catalogues(
        {
            name: {s: (row.heads.mean[s], row.heads.low[s], row.heads.high[s]) for s in BESIDE}
            for name, row in named.items()
        },
        title=f"Every head of every model, mean of {study.rows[0].heads.scores.n} samples",
    )
    chart(
        heads, key="study_heads", name="encodings-heads", alt="Scores of every head, a row a model"
    )
    downloads(
        lambda: [losses, kernels, heads],
        study.to_frame,
        name="encodings",
        title="Position encodings side by side",
    )


VIEWS = {
    "Loss by position": by_position,
    "Position or content": position_or_content,
    "Position in the stream": in_the_stream,
    "Real queries and keys": real_queries,
    "Models side by side": side_by_side,
}
"""The views by name, each with the function that draws it."""
FIRST = "Models side by side"
"""The view of a first visit."""

_CODE = {
    "Loss by position": "print(wb.loss_by_position(subject, TEXTS).to_frame())",
    "Position or content": "print(wb.position_split(subject).to_frame())",
    "Position in the stream": "print(wb.position_probe(subject).to_frame())",
    "Real queries and keys": "use = wb.rotary_use(subject, TEXTS)\n"
    "print(use.used.shape, use.decay.shape, use.n)",
    "Models side by side": "models = [wb.load(name) for name in {models!r}]\n"
    "print(wb.encoding_study(models, TEXTS).to_frame())",
}


def in_python(view: str, subject: "Subject") -> str:
    """The Python that measures what a view shows; "" where it shows nothing."""
    models = st.session_state.get("models", [])
    shows_nothing = {
        "Real queries and keys": subject.card.positions != "rotary",
        "Models side by side": not models,
    }
    return "" if shows_nothing.get(view) else _CODE.get(view, "").format(models=models)
