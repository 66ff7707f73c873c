"""Patching maps on a page: the figure, the details of a clicked cell, and the numbers above."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from workbench.figures import patching as draw
from workbench.figures.of_records import patch_map
from workbench.figures.style import visible
from workbench.interp.engine.metrics import METRICS
from workbench.interp.patching.checks import failed
from workbench.interp.patching.pair_maps import Patching
from workbench.interp.patching.probe_maps import Probed
from workbench.statistics.words import bracketed
from workbench.ui.parts.cell_panel import Cells, cell_panel, cell_texts, head_link
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.words import p_text

SMALL = 0.5
"""Logits; below this difference, normalised effects are unreliable."""


def numbers(patching: Patching) -> None:
    """Show the two unpatched runs of one pair, with a note where they hardly differ."""
    cells = sum(map(len, patching.effect))
    columns = st.columns(4)
    name = patching.metric_name.replace("_", " ")
    words = (
        f"{name.capitalize()}: {METRICS[patching.metric_name]}; answer {visible(patching.answer)}, "
        f"wrong answer {visible(patching.wrong)}."
    )
    columns[0].metric("Clean run", f"{patching.clean_metric:+.3g}", help=words)
    columns[1].metric("Corrupted run", f"{patching.corrupted_metric:+.3g}", help=words)
    columns[2].metric(
        "Patched runs", f"{cells:,}", help="One exact patched run per cell of the map."
    )
    columns[3].metric("Time", f"{patching.seconds:.2f} s", help=f"Engine: {patching.engine}.")
    if patching.spelt:
        sides = "; ".join(
            " + ".join(f"`{visible(token)}`" for token in tokens) for tokens in patching.spelt
        )
        st.caption(
            f"Answers of several tokens: {sides}. Their score is the log-probability of the whole "
            "answer. Columns are positions of the prompt; a head is patched at the answer's "
            "positions, too."
        )
    if patching.metric_name != "logit_difference":
        return
    gap = abs(patching.clean_metric - patching.corrupted_metric)
    if gap < SMALL:
        st.info(
            f"The two runs differ by only {gap:.2g} logits. Effects are shares of this difference, "
            "so large ones mean little.",
            icon=":material/info:",
        )
    elif patching.clean_metric * patching.corrupted_metric > 0:
        preferred = patching.answer if patching.clean_metric > 0 else patching.wrong
        st.info(
            f"Both runs prefer {visible(preferred)}: the model does not distinguish the prompts as "
            "intended, so read the map with care.",
            icon=":material/info:",
        )


def probed_numbers(probed: Probed) -> None:
    """Show the unpatched runs of many pairs, with intervals."""
    columns = st.columns(4)
    for column, name, value in (
        (0, "Clean runs", probed.clean_metric),
        (1, "Corrupted runs", probed.corrupted_metric),
    ):
        columns[column].metric(
            name, f"{value.value:+.2f}", help=f"Mean {probed.metric_name.replace('_', ' ')}."
        )
        columns[column].caption(f"{bracketed(value.low, value.high, '+.2f')}, n = {value.n}")
    columns[2].metric(
        "Answered correctly",
        f"{probed.right.value:.0%}",
        help="Pairs whose clean run has a higher metric than the corrupted run.",
    )
    columns[2].caption(
        f"{bracketed(probed.right.low, probed.right.high, '.0%')}, n = {probed.right.n}"
    )
    columns[3].metric("Time", f"{probed.seconds:.1f} s", help=f"Engine: {probed.engine}.")
    dropped = ", ".join(f"{count} {why}" for why, count in probed.dropped.items())
    columns[3].caption(
        f"{probed.effect.size * probed.n:,} patched runs"
        + (f"; dropped: {dropped}" if dropped else "")
    )


def picture(patching: Patching | Probed, shown: np.ndarray) -> go.Figure:
    """The map; crossed out in red if one of its checks failed.

    Args:
        patching: The result.
        shown: The values to draw, `[layer, position or head]`.
    """
    drawn = patch_map(patching, shown)
    assert drawn is not None  # the page offers flat maps only
    return draw.distrusted(drawn, failed(patching.checks))


@fragment
def explore(model: str, patching: Patching | Probed) -> None:
    """Show the map with clickable cells, and the numbers of the chosen one beside it."""
    shown = np.asarray(patching.effect)
    if isinstance(patching, Probed):
        hide = st.toggle(
            "Hide cells that are not significant",
            key="hide",
            bind="query-params",
            help="Sign-flip test over the pairs for each cell, at a false discovery rate of 5 % "
            "over the map (Benjamini-Hochberg).",
        )
        if hide:
            shown = np.where(
                patching.significant, shown, 0.0 if patching.direction == "denoising" else 1.0
            )
    figure = picture(patching, shown)
    left, right = st.columns([5, 2], gap="medium")
    with left:
        chart(
            figure,
            key="effects",
            name=f"patching-{patching.site}",
            alt="Effect of every patch",
        )
        if (
            patching.axes[-1] == "pos"
            and patching.first_difference
            and patching.replacement == "other"
        ):
            nothing = 0 if patching.direction == "denoising" else 1
            st.caption(
                "Left of the dotted line the two prompts are identical, and so are the "
                f"activations of a causal model: those cells are exactly {nothing}."
            )
    with right:
        _panel(model, patching)
        _strongest(patching)
    downloads(
        lambda: [figure],
        patching.to_frame,
        name=f"patching-{patching.subject}-{patching.site}",
        title=f"Patching {patching.site} of {patching.subject} ({patching.direction})",
        text=_description(patching),
    )


def _description(patching: Patching | Probed) -> str:
    """The text of the downloaded page: the probe, or the prompt pair."""
    if isinstance(patching, Probed):
        return f"{patching.title}, n = {patching.n}"
    return (
        f"clean: {patching.clean}\ncorrupted: {patching.corrupted}\n"
        f"answer: {patching.answer!r}, wrong: {patching.wrong!r}"
    )


def _panel(model: str, patching: Patching | Probed) -> None:
    """The numbers of the cell under the mouse, or of the clicked one."""
    one = isinstance(patching, Patching)
    n_layers, n_columns = np.asarray(patching.effect).shape
    by_position = patching.axes[-1] == "pos"
    numbers = {"effect": cell_texts(np.asarray(patching.effect), write="{:.3f}".format)}
    words: list[str] = []
    if one:
        name = patching.metric_name.replace("_", " ")
        numbers[name] = cell_texts(np.asarray(patching.metric), write="{:+.3f}".format)
    else:
        numbers["95 % interval"] = cell_texts(patching.low, patching.high, write=bracketed)
        numbers["p, uncorrected"] = cell_texts(patching.p, write=p_text)
        numbers["pairs"] = [[str(patching.n)] * n_columns] * n_layers
    if by_position and one:
        pairs = zip(patching.clean_tokens, patching.corrupted_tokens, strict=False)
        words = [_tokens_at(a, b) for a, b in pairs]
    elif by_position and isinstance(patching, Probed):
        words = [visible(name) for name in patching.names]
    prompt = patching.clean if one else patching.items[0]["clean"]
    cells = Cells(
        rows=[f"Layer {i}" for i in range(n_layers)],
        columns=[f"{'position' if by_position else 'head'} {j}" for j in range(n_columns)],
        numbers=numbers,
        words=words,
        samples=None if one else patching.samples,
        links={} if by_position else head_link(model=model, **_shown_there(patching, prompt)),
        python=_cell_in_python(model, patching),
    )
    about = (model, patching.site, patching.axes, prompt, patching.metric_name)
    hint = "Move over the map to read a cell; click one to keep it."
    cell_panel(cells, chart="effects", about=about, key="cell", hint=hint)


def _shown_there(patching: Patching | Probed, prompt: str) -> dict[str, str]:
    """What the Attention page is asked to show beside the head."""
    if isinstance(patching, Probed) or not patching.part:
        return {"prompt": prompt}
    return {"text": prompt, "part": patching.part, "target": patching.target}


def _tokens_at(clean: str, corrupted: str) -> str:
    """The tokens of both prompts at a position, in words."""
    if clean == corrupted:
        return f"{visible(clean)} in both prompts"
    return f"clean {visible(clean)}, corrupted {visible(corrupted)}"


def _strongest(patching: Patching | Probed) -> None:
    """A table of the cells with the largest effects."""
    tokens = patching.names if isinstance(patching, Probed) else patching.clean_tokens
    by_position = patching.axes[-1] == "pos"
    frame = patching.to_frame()
    change = frame["effect"] if patching.direction == "denoising" else 1 - frame["effect"]
    frame = frame.assign(change=change.abs()).nlargest(12, "change")
    st.markdown("Strongest cells")
    table = pd.DataFrame(
        {
            "cell": [
                f"L{i} {visible(tokens[j])} {j}"
                for i, j in zip(frame["layer"], frame["pos"], strict=True)
            ]
        }
        if by_position
        else {"head": [f"L{i}H{j}" for i, j in zip(frame["layer"], frame["head"], strict=True)]}
    )
    for name in ("effect", "low", "high"):
        if name in frame:
            table[name] = frame[name].to_numpy()
    estimates(table, [Estimated("effect", "low", "high")], rows=7, digits=2)


def _cell_in_python(model: str, patching: Patching | Probed) -> str:
    """The code that prints a cell's numbers, with `{row}` and `{column}` for its place."""
    cell_query = f"layer == {{row}} and {patching.axes[-1]} == {{column}}"
    how = (
        f"site={patching.site!r}, direction={patching.direction!r}, metric={patching.metric_name!r}"
    )
    usually = {"replacement": "other", "window": 1, "also": ""}
    how += "".join(
        f", {k}={v!r}" for k, usual in usually.items() if (v := getattr(patching, k)) != usual
    )
    if isinstance(patching, Probed):
        by_name = ", by_name=True" if patching.by_name else ""
        call = f"wb.probe(wb.load({model!r}), {patching.probe!r}, n={patching.n}, {how}{by_name})"
    else:
        answers = f"answer={patching.answer!r}, wrong={patching.wrong!r}"
        words = f"{patching.clean!r}, {patching.corrupted!r}, {answers}"
        if patching.part:
            how += f", part={patching.part!r}, target={patching.target!r}"
        loaded = f"{model!r}{', seq2seq=True, encoder=True' if patching.part else ''}"
        call = f"wb.patch(wb.load({loaded}), {words}, {how})"
    return (
        f"import workbench as wb\n\npatching = {call}\n"
        f"print(patching.to_frame().query({cell_query!r}))"
    )
