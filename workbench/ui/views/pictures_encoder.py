"""What the Pictures page shows of an encoder: attention on patches, classes, lens, attribution."""

import numpy as np
import streamlit as st

from workbench.data.digits import digits
from workbench.encoders.accuracy import EncoderAccuracy, encoder_accuracy
from workbench.encoders.attribution import EncoderAttribution, encoder_attribution
from workbench.encoders.classes import EncoderClasses, encoder_classes
from workbench.encoders.lens import EncoderLens, encoder_lens
from workbench.encoders.looking import EncoderAttention, encoder_attention
from workbench.encoders.signals import Signal, position_names
from workbench.figures import patches as draw
from workbench.figures import pictures as draw_pixels
from workbench.figures.style import head_name
from workbench.subjects.encoder import Encoder
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.history import first_index
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.views.pictures_held_out import baselines_table
from workbench.ui.views.pictures_inputs import Shown, pick_input

ROLLOUT = "rollout"
MOST_CLASSES = 12
"""Classes that are drawn, the likeliest ones."""


def look_view(encoder: Encoder) -> str:
    """Attention drawn on the patches: one head (or the rollout) in full, and all heads."""
    shown = pick_input(encoder)
    if shown is None:
        return ""
    seen = _attention(encoder.hash, shown.signal.key, encoder, shown.signal)
    n_layers, n_heads = seen.pattern.shape[:2]
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    of_head, of_position = st.columns(2)
    with of_head:
        options = [*names, ROLLOUT]
        start = first_index("head", (n_layers, n_heads), options, names[-1])
        name = str(st.selectbox("Head", options, start, key="head", bind="query-params"))
    with of_position:
        position = _pick_position(seen)
    layer, head = divmod(names.index(name), n_heads) if name in names else (None, None)
    rolled = seen.rolled_out(position)
    row = rolled if layer is None or head is None else seen.pattern[layer, head, position]
    patches = row[seen.special :].reshape(seen.grid)
    figure = draw.over_canvas(
        shown.signal.canvas,
        patches,
        names=seen.tokens[seen.special :],
        first=seen.special,
        chosen=position,
        title=f"{name} from {seen.tokens[position]}",
    )
    maps = seen.pattern[:, :, position, seen.special :].reshape(n_layers, n_heads, *seen.grid)
    every = draw.small_maps(
        maps,
        rows=[f"L{i}" for i in range(n_layers)],
        columns=[f"H{i}" for i in range(n_heads)],
        chosen=None if layer is None or head is None else (layer, head),
        rising=shown.signal.canvas.rising,
        title=f"Every head, from {seen.tokens[position]}",
    )
    _side_by_side(shown.signal, figure, every)
    shares = " and ".join(
        f"**{value:.3f}** to the {token} token"
        for token, value in zip(seen.tokens[: seen.special], row, strict=False)
    )
    st.caption(
        (f"Attention of {shares}; with the patches that makes 1. " if shares else "")
        + "Every position sees every other. Click a patch to look from there; rollout multiplies "
        "all layers, half of each the residual stream."
    )
    downloads(
        lambda: [figure, every],
        seen.to_frame,
        name=f"attention-on-patches-{encoder.name}",
        title=f"Attention of {encoder.name} on patches",
    )
    call = (
        f"seen.rolled_out({position})"
        if layer is None
        else f"seen.on_patches({layer}, {head}, {position})"
    )
    return f"{shown.code}seen = wb.encoder_attention(model, source)\nprint({call}.round(2))\n"


def classify_view(encoder: Encoder) -> str:
    """The likeliest classes, and for digits the accuracy on all held-out ones, by layer too."""
    shown = pick_input(encoder)
    if shown is None:
        return ""
    result = _classes(encoder.hash, shown.signal.key, encoder, shown.signal)
    if encoder.reads_digits:
        label = None if shown.label is None else int(shown.label)
        bars = draw_pixels.class_bars(
            result.probability, label=label, title="Probability of each class"
        )
    else:
        bars = draw.ranked_classes(result.labels, result.probability, most=MOST_CLASSES)
    _side_by_side(shown.signal, draw.bare(shown.signal.canvas, title=shown.signal.name), bars)
    downloads(
        lambda: [bars],
        result.to_frame,
        name=f"classes-{encoder.name}",
        title=f"Classes by {encoder.name}",
    )
    if encoder.reads_digits:
        _held_out(encoder)
    return f"{shown.code}print(wb.encoder_classes(model, source).to_frame())\n"


def lens_view(encoder: Encoder) -> str:
    """The classifier put after every layer, on the class token and on each patch."""
    shown = pick_input(encoder)
    if shown is None:
        return ""
    read = _lens(encoder.hash, shown.signal.key, encoder, shown.signal)
    order = np.argsort(-read.probability[-1])[:MOST_CLASSES]
    order = np.sort(order) if len(read.labels) <= MOST_CLASSES else order
    figure = draw.reading(
        read.probability[:, order],
        [read.labels[i] for i in order],
        title="What the classifier reads after each layer",
    )
    label = _pick_class(encoder, "class", shown, read.probability[-1], "Class read at each patch")
    maps = np.stack([read.on_patches(row, label) for row in range(len(read.probability))])
    rows = ["embedding", *(f"L{i}" for i in range(len(maps) - 1))]
    every = draw.small_maps(
        maps[None],
        rows=[""],
        columns=rows,
        rising=shown.signal.canvas.rising,
        label="probability",
        title=f"Class {read.labels[label]} read at each patch alone",
    )
    chart(figure, key="reading", name="lens", alt="Classes read after each layer")
    chart(every, key="patch_reading", name="lens-on-patches", alt="The class read at each patch")
    st.caption(
        "The final norm and the classifier are put after every layer. The last row is the model's "
        f"own prediction (off by {read.checks['lens']:.1e}). A patch is never read by the model "
        "itself: its map says what its stream holds, not what is used of it."
    )
    downloads(
        lambda: [figure, every],
        read.to_frame,
        name=f"lens-{encoder.name}",
        title=f"Lens of {encoder.name}",
    )
    return f"{shown.code}print(wb.encoder_lens(model, source).probability.round(3))\n"


def attribute_view(encoder: Encoder) -> str:
    """Integrated gradients of a logit difference, by patch."""
    shown = pick_input(encoder)
    if shown is None:
        return ""
    result = _classes(encoder.hash, shown.signal.key, encoder, shown.signal)
    left, right = st.columns(2)
    with left:
        one = _pick_class(encoder, "answer", shown, result.probability, "Class")
    rest = result.probability.copy()
    rest[one] = -1
    with right:
        two = _pick_class(encoder, "wrong", shown, rest, "Minus class", mine=False)
    if one == two:
        st.info("Choose two classes that differ.", icon=":material/info:")
        return ""
    record = _attributed(encoder.hash, shown.signal.key, one, two, encoder, shown.signal)
    words = f"{record.answer} minus {record.wrong}"
    names = position_names(encoder, shown.signal.grid)[len(encoder.family.special) :]
    figure = draw.over_canvas(
        shown.signal.canvas,
        record.scores,
        names=names,
        signed=True,
        label="logits",
        title=f"What each patch adds to {words}",
    )
    chart(figure, key="attributed", name="attribution", alt="What each patch adds")
    edge = f", {record.outside:+.3f} of them outside all patches" if record.outside else ""
    blank = "silence" if encoder.modality == "sound" else "an empty picture"
    st.caption(
        f"From {record.start:+.3f} ({blank}) to {record.value:+.3f}: the "
        f"patches add up to {record.scores.sum() + record.outside:+.3f}{edge}, which misses the "
        f"difference by {record.checks['completeness']:.1e} (integrated gradients, "
        f"{record.gradients} gradients). Blue speaks for {record.answer}, red for {record.wrong}."
    )
    downloads(
        lambda: [figure],
        record.to_frame,
        name=f"attribution-{encoder.name}",
        title=f"Attribution, {encoder.name}",
    )
    return (
        f"{shown.code}"
        f"result = wb.encoder_attribution(model, source, answer={one}, wrong={two})\n"
        "print(result.scores.round(2))\n"
    )


def _side_by_side(signal: Signal, figure, every) -> None:
    """Two figures beside each other; of a sound below each other."""
    columns = [st.container(), st.container()]
    if not signal.canvas.rising:
        columns = st.columns(2, gap="medium")
    with columns[0]:
        chart(figure, key="on_patches", name="patches", on_click=_choose, alt="The input")
    with columns[1]:
        chart(every, key="every", name="every", alt="All of them")


def _choose(position: int | list[int] | None) -> None:
    """Look from the clicked patch."""
    if position is not None:
        chosen = position[0] if isinstance(position, list) else position
        st.session_state["position"] = chosen


def _pick_position(seen: EncoderAttention) -> int:
    options = list(range(len(seen.tokens)))
    start = first_index("position", (seen.subject, tuple(seen.grid)), options, 0)
    return int(
        st.selectbox(
            "Looking from",
            options,
            start,
            key="position",
            bind="query-params",
            format_func=lambda i: seen.tokens[i],
        )
    )


def _pick_class(
    encoder: Encoder,
    key: str,
    shown: Shown,
    probability: np.ndarray,
    words: str,
    *,
    mine: bool = True,
) -> int:
    """The number of a class; at first the true one (where `mine` and known), or the likeliest."""
    labels = encoder.labels
    options = list(range(len(labels)))
    first = int(probability.argmax())
    if mine and shown.label in labels:
        first = labels.index(shown.label)
    start = first_index(key, (encoder.hash, shown.signal.key, first), options, first)
    return int(
        st.selectbox(
            words,
            options,
            start,
            key=key,
            bind="query-params",
            format_func=lambda i: labels[i],
        )
    )


def _held_out(encoder: Encoder) -> None:
    """Accuracy on the held-out digits, by layer, beside other classifiers."""
    st.subheader("All held-out digits")
    key = ("encoder accuracy", encoder.hash)
    if not wanted(key, "Reads each of the held-out digits.", quick=True):
        return
    result = with_progress(key, lambda report: _all(encoder, report))
    baselines_table("this model", result.accuracy, result.predicted == result.true)
    record = result.to_frame()
    figure = draw.by_layer(
        record["accuracy"].tolist(),
        record["low"].tolist(),
        record["high"].tolist(),
        chance=1 / len(result.labels),
    )
    chart(figure, key="by_layer", name="accuracy-by-layer", alt="Accuracy after each layer")
    st.caption(
        f"{result.n} digits that no model here trained on, by writers who wrote training digits "
        "too. Bars are 95 % intervals."
    )


def _all(encoder: Encoder, report) -> EncoderAccuracy:
    known = digits("test")
    with alone(encoder.hash):
        return encoder_accuracy(encoder, known.images, known.labels, progress=report)


@kept("readings of encoders", 32, "Reading")
def _attention(sha256: str, key: str, _encoder: Encoder, _signal: Signal) -> EncoderAttention:
    with alone(sha256):
        return encoder_attention(_encoder, _signal)


@kept("readings of encoders", 64, "Reading")
def _classes(sha256: str, key: str, _encoder: Encoder, _signal: Signal) -> EncoderClasses:
    with alone(sha256):
        return encoder_classes(_encoder, _signal)


@kept("readings of encoders", 32, "Reading")
def _lens(sha256: str, key: str, _encoder: Encoder, _signal: Signal) -> EncoderLens:
    with alone(sha256):
        return encoder_lens(_encoder, _signal)


@kept("readings of encoders", 32, "Taking gradients")
def _attributed(
    sha256: str, key: str, one: int, two: int, _encoder: Encoder, _signal: Signal
) -> EncoderAttribution:
    with alone(sha256):
        return encoder_attribution(_encoder, _signal, answer=one, wrong=two)
