"""Patching of two inputs on the Pictures page: one pair, and for digits many pairs."""

import numpy as np
import streamlit as st

from workbench.data.digits import digits
from workbench.encoders.patching import ENCODER_SITES, EncoderPatching, encoder_patching
from workbench.encoders.signals import Signal
from workbench.errors import WorkbenchError
from workbench.figures import patches as draw
from workbench.figures.of_encoders import effects
from workbench.figures.patching import distrusted
from workbench.interp.engine.settings import DIRECTIONS
from workbench.subjects.encoder import Encoder
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone
from workbench.ui.parts.notices import fault
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.views.pictures_inputs import Shown, pick_input, pick_other

MANY = "many pairs of these two digits"
ONE = "this pair"
MOST_PAIRS = 40
SITES = [site for site in ENCODER_SITES if site != "z_by_pos"]


def patch_view(encoder: Encoder) -> str:
    """What one activation of the first input does in a run of the other one."""
    shown = pick_input(encoder)
    other = pick_other(encoder)
    if shown is None or other is None:
        return ""
    of_site, of_direction, of_pairs = st.columns(3)
    with of_site:
        site = str(st.selectbox("Site", SITES, key="site", bind="query-params"))
    with of_direction:
        direction = str(
            st.selectbox("Direction", list(DIRECTIONS), key="direction", bind="query-params")
        )
    pairs = ONE
    both = encoder.reads_digits and None not in (shown.label, other.label)
    if both and shown.label != other.label:
        with of_pairs:
            pairs = str(st.selectbox("Pairs", [ONE, MANY], key="pairs", bind="query-params"))
    try:
        result = _swept(encoder, shown, other, site, direction, many=pairs == MANY)
    except WorkbenchError as error:
        fault(error)
        return ""
    if result is None:
        return ""
    _show(encoder, shown, other, result)
    return (
        f"{shown.code}{other.code.replace('source = ', 'other = ')}"
        f"result = wb.encoder_patching(model, source, other, site={site!r}, "
        f"direction={direction!r})\n"
        "print(result.effect.round(2))\n"
    )


def _swept(
    encoder: Encoder, shown: Shown, other: Shown, site: str, direction: str, *, many: bool
) -> EncoderPatching | None:
    """The map of the pair, or of many; None where it waits for a button."""
    if not many:
        keys = shown.signal.key, other.signal.key
        return _pair(encoder.hash, *keys, site, direction, encoder, (shown.signal, other.signal))
    key = ("digits patched", encoder.hash, shown.label, other.label, site, direction)
    cost = f"Patches up to {MOST_PAIRS} pairs of held-out digits: a few seconds."
    if not wanted(key, cost, quick=encoder.card.n_layers <= 6):
        return None
    return with_progress(
        key,
        lambda report: _digit_pairs(
            encoder, str(shown.label), str(other.label), site, direction, report
        ),
    )


def _digit_pairs(
    encoder: Encoder, answer: str, wrong: str, site: str, direction: str, report
) -> EncoderPatching:
    known = digits("test")
    clean, corrupted = (known.images[known.labels == int(each)] for each in (answer, wrong))
    n = min(len(clean), len(corrupted), MOST_PAIRS)
    with alone(encoder.hash):
        return encoder_patching(
            encoder,
            clean[:n],
            corrupted[:n],
            answer=answer,
            wrong=wrong,
            site=site,
            direction=direction,
            progress=report,
        )


def _show(encoder: Encoder, shown: Shown, other: Shown, result: EncoderPatching) -> None:
    """The two inputs, the map, and for sites by position its layers as small pictures."""
    names = f"{result.answers[0]} (clean)", f"{result.wrongs[0]} (corrupted)"
    for column, each, name in zip(st.columns(2), (shown, other), names, strict=True):
        with column:
            figure = draw.bare(each.signal.canvas, title=name)
            figure.update_layout(height=240)
            chart(figure, key=name, name="input", alt=name)
    figures = []
    whole = effects(result)
    if result.axes == ("layer", "pos"):
        n_layers = len(result.effect)
        maps = np.stack([result.on_patches(layer) for layer in range(n_layers)])
        small = draw.small_maps(
            maps[None],
            rows=["patches"],
            columns=[_column(result, layer) for layer in range(n_layers)],
            signed=True,
            rising=shown.signal.canvas.rising,
            label="effect",
            title="Each layer's patches",
        )
        figures.append(distrusted(small, result.failed_checks()))
        chart(small, key="patched_patches", name="patching", alt="Effects on patches by layer")
    if whole is not None:
        whole = distrusted(whole, result.failed_checks())
        figures.append(whole)
        chart(whole, key="patched", name="patching-map", alt="Effects by layer")
    clean = result.clean_metric.value
    corrupted = result.corrupted_metric.value
    st.caption(
        f"Logit of {result.answers[0]} minus that of {result.wrongs[0]}: {clean:+.3f} clean, "
        f"{corrupted:+.3f} corrupted{_of(result)}. Every cell is a run with one activation "
        f"replaced, exactly: 0 is the corrupted run, 1 the clean one. {_certain(result)}"
    )
    downloads(
        lambda: figures,
        result.to_frame,
        name=f"patching-{encoder.name}-{result.site}",
        title=f"Patching of {encoder.name}",
    )


def _column(result: EncoderPatching, layer: int) -> str:
    """A layer's name, with the effect of its special token where there is one."""
    if result.special != 1:
        return f"L{layer}"
    return f"L{layer}, {result.tokens[0]} {result.effect[layer, 0]:.2f}"


def _of(result: EncoderPatching) -> str:
    return f", mean of {result.n} pairs" if result.n > 1 else ""


def _certain(result: EncoderPatching) -> str:
    """The largest cell with its interval, where there are pairs enough for one."""
    frame = result.to_frame()
    row = frame.iloc[int(np.abs(frame["effect"]).argmax())]
    where = ", ".join(f"{axis} {int(row[axis])}" for axis in result.axes)
    if np.isnan(row["low"]):
        return f"Largest: {row['effect']:+.2f} ({where})."
    return f"Largest: {row['effect']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] ({where})."


@kept("readings of encoders", 32, "Patching")
def _pair(
    sha256: str,
    key: str,
    other: str,
    site: str,
    direction: str,
    _encoder: Encoder,
    _signals: tuple[Signal, Signal],
) -> EncoderPatching:
    with alone(sha256):
        return encoder_patching(_encoder, *_signals, site=site, direction=direction)
