"""Patching: which layer and position (or head) carries the answer, exactly."""

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures import patching as draw
from workbench.figures import style
from workbench.figures.style import visible
from workbench.interp.checks import TOLERANCE, WORDS
from workbench.interp.patching import DIRECTIONS, SITES, Patching
from workbench.interp.probes import available_probes, generate, read_probe
from workbench.interp.probing import Probed
from workbench.ui.alignment import alignment
from workbench.ui.charts import chart, downloads
from workbench.ui.links import page_link
from workbench.ui.progress import with_progress
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import alone, cached_load, pick_name
from workbench.ui.words import p_text

FLAT = [site for site, axes in SITES.items() if axes in (("layer", "pos"), ("layer", "head"))]
EXAMPLES = {
    "Induction": (
        "The red house, the green tree, the old horse, the black dog. The red house, the green tree, the old",
        "The red house, the green tree, the old dog, the black horse. The red house, the green tree, the old",
        " horse",
        " dog",
    ),
    "Subject and verb": ("The plants of the garden", "The plant of the garden", " are", " is"),
    "Indirect object": (
        "When Mary and John went to the store, John gave a drink to",
        "When Mary and John went to the store, Mary gave a drink to",
        " Mary",
        " John",
    ),
}
FIELDS = ("clean", "corrupted", "answer", "wrong")
SITE_HELP = """
- **resid_pre**, **resid_mid**, **resid_post**: the residual stream before a layer, between its attention and its
  MLP, and after it
- **attn_out**, **mlp_out**: what attention and the MLP add to it
- **z**: what one head puts out, at all positions
- **q**, **k**, **v**, **pattern**: the queries, keys, values or attention pattern of one head
"""
DIRECTION_HELP = """
- **denoising**: clean activations into the corrupted run. What is enough to bring the answer back?
- **noising**: corrupted activations into the clean run. What breaks the answer?
"""
SMALL = 0.5  # logits; below this, effects are divided by next to nothing


def fill(example: str) -> None:
    for field, text in zip(FIELDS, EXAMPLES[example], strict=True):
        st.session_state[field] = text


OWN = "My own prompts"


def controls() -> tuple[str, str, int, dict[str, str]]:
    """The model, the probe ("" for own prompts), how many pairs, and what is swept."""
    choose_model, choose_probe, choose_site, choose_direction = st.columns([3, 4, 2, 3])
    with choose_model:
        model = pick_name()
    probe = choose_probe.selectbox(
        "Question",
        [OWN, *available_probes()],
        key="probe",
        bind="query-params",
        help="A probe of the shelf draws many prompt pairs, and every cell of the map gets an interval.",
    )
    site = choose_site.selectbox("What is patched", FLAT, key="site", bind="query-params", help=SITE_HELP)
    direction = choose_direction.segmented_control(
        "Direction",
        DIRECTIONS,
        default=DIRECTIONS[0],
        key="direction",
        bind="query-params",
        required=True,
        help=DIRECTION_HELP,
    )
    pairs = 20
    if probe != OWN:
        pairs = choose_probe.select_slider("Prompt pairs", [10, 20, 50, 100], 20, key="pairs", bind="query-params")
    sweep = {"site": site or "", "direction": direction or ""}
    return model, "" if probe == OWN else str(probe), int(pairs), sweep


def prompts() -> dict[str, str]:
    first = next(iter(EXAMPLES.values()))
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Examples", width="content")
        for name in EXAMPLES:
            st.button(name, on_click=fill, args=(name,))
    words, answers = st.columns([4, 1])
    given = {
        "clean": words.text_input("Clean prompt", first[0], key="clean", bind="query-params"),
        "corrupted": words.text_input("Corrupted prompt", first[1], key="corrupted", bind="query-params"),
        "answer": answers.text_input(
            "Answer", first[2], key="answer", bind="query-params", help="One token, with its leading space."
        ),
        "wrong": answers.text_input(
            "Wrong answer",
            first[3],
            key="wrong",
            bind="query-params",
            help="What the corrupted prompt leads to.",
        ),
    }
    return {name: text or "" for name, text in given.items()}


def numbers(found: Patching) -> None:
    cells = sum(map(len, found.effect))
    columns = st.columns(4)
    question = f"logit({visible(found.answer)}) − logit({visible(found.wrong)}) at the last position"
    columns[0].metric("Clean run", f"{found.clean_metric:+.2f}", help=f"Logit difference: {question}.")
    columns[1].metric("Corrupted run", f"{found.corrupted_metric:+.2f}", help=f"Logit difference: {question}.")
    columns[2].metric("Patched runs", f"{cells:,}", help="Cells of the map, each an exact result and no estimate.")
    columns[3].metric("Time", f"{found.seconds:.2f} s", help=f"Engine: {found.engine}.")
    gap = abs(found.clean_metric - found.corrupted_metric)
    if gap < SMALL:
        st.info(
            f"The two runs differ by {gap:.2g} logits only, and effects are shares of that: large ones mean little.",
            icon=":material/info:",
        )
    elif found.clean_metric * found.corrupted_metric > 0:
        st.info(
            f"Both runs prefer {visible(found.answer if found.clean_metric > 0 else found.wrong)}: the model "
            "does not tell the prompts apart as intended, so read the map with care.",
            icon=":material/info:",
        )


def trust(found: Patching | Probed) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Can this be trusted?**", width="content")
        for name, value in found.checks.items():
            good = value <= TOLERANCE
            st.badge(
                f"{WORDS.get(name, name)}: {value:.0e}",
                icon=":material/check:" if good else ":material/warning:",
                color="green" if good else "red",
            )
        st.badge(f"engine: {found.engine}", color="gray")
        st.badge("1 prompt pair: no interval" if found.n == 1 else f"{found.n} prompt pairs", color="gray")
    wrong = [WORDS.get(name, name) for name, value in found.checks.items() if not value <= TOLERANCE]
    if wrong:
        st.error(f"Do not believe this map: {'; '.join(wrong)} failed.", icon=":material/dangerous:")


def choose(point: list | None) -> None:
    if point:
        st.session_state["cell"] = (point[0], point[1])


def view(found: Patching | Probed, shown: np.ndarray) -> tuple[list[str], str, int]:
    """Column names, the name of the axis, and the column at which the map starts."""
    if found.axes[-1] != "pos":
        return [f"H{i}" for i in range(shown.shape[1])], "head", 0
    if isinstance(found, Probed):
        return style.labels(found.names), "position", found.first_difference
    return draw.column_names(found.clean_tokens, found.corrupted_tokens), "position", found.first_difference


def picture(found: Patching | Probed, shown: np.ndarray, cell: tuple[int, int] | None = None):
    names, across, starts = view(found, shown)
    share = "brought back" if found.direction == "denoising" else "kept"
    many = f", mean of {found.n} pairs" if found.n > 1 else ""
    return draw.effect_map(
        shown,
        np.asarray(found.metric),
        names,
        across=across,
        starts=starts if found.replacement in ("other", "noise") else 0,
        title=f"{found.direction} {found.site}: share of the {found.metric_name.replace('_', ' ')} {share} "
        f"(1 = clean run){many}",
        chosen=cell,
    )


@st.fragment
def explore(found: Patching | Probed) -> None:
    shown = np.asarray(found.effect)
    if isinstance(found, Probed):
        hide = st.toggle(
            "Hide cells that are not significant",
            key="hide",
            bind="query-params",
            help="Sign-flip test a cell over the pairs, 5 % false discoveries over the map (Benjamini-Hochberg).",
        )
        if hide:
            shown = np.where(found.significant, shown, 0.0 if found.direction == "denoising" else 1.0)
    cell = st.session_state.get("cell")
    if cell is None or cell[0] >= shown.shape[0] or cell[1] >= shown.shape[1]:
        cell = None
    figure = picture(found, shown, cell)
    left, right = st.columns([3, 1], gap="medium")
    with left:
        chart(figure, key="effects", name=f"patching-{found.site}", on_click=choose, alt="Effect of every patch")
        if found.axes[-1] == "pos" and found.first_difference and found.replacement == "other":
            nothing = 0 if found.direction == "denoising" else 1
            st.caption(
                "Left of the dotted line the prompts are the same. A causal model computes the same there, "
                f"so a patch changes nothing: those cells are exactly {nothing}."
            )
    with right:
        details(found, cell)
    downloads(
        lambda: [figure],
        found.to_frame,
        name=f"patching-{found.subject}-{found.site}",
        title=f"Patching {found.site} of {found.subject} ({found.direction})",
        text=f"{found.title}, n = {found.n}"
        if isinstance(found, Probed)
        else f"clean: {found.clean}\ncorrupted: {found.corrupted}\nanswer: {found.answer!r}, wrong: {found.wrong!r}",
    )


def details(found: Patching | Probed, cell: tuple[int, int] | None) -> None:
    tokens = found.names if isinstance(found, Probed) else found.clean_tokens
    by_position = found.axes[-1] == "pos"
    if cell is None:
        st.markdown("**Click a cell** to see its numbers.")
    else:
        layer, column = cell
        where = f"position {column}, token {visible(tokens[column])}" if by_position else f"head {column}"
        st.markdown(f"**Layer {layer}, {where}**")
        effect = np.asarray(found.effect)[cell]
        if isinstance(found, Probed):
            st.metric("Effect", f"{effect:.3f}", help=f"95 % bootstrap interval over {found.n} pairs below.")
            st.caption(
                f"[{found.low[cell]:.3f}, {found.high[cell]:.3f}], {p_text(float(found.p[cell]))}, n = {found.n}"
            )
            spread = draw.distribution(found.samples[(slice(None), *cell)], found.effect[cell])
            chart(spread, key="spread", name="distribution", alt="The effect of this patch in every pair")
        else:
            st.metric("Effect", f"{effect:.3f}", help="0 is the corrupted run, 1 the clean run.")
            st.metric(found.metric_name.replace("_", " ").capitalize(), f"{np.asarray(found.metric)[cell]:+.3f}")
            if not by_position:
                head = f"L{layer}H{column}"
                page_link("attention", f"Attention of {head}", model=model, prompt=found.clean, head=head)
    frame = found.to_frame()
    change = frame["effect"] if found.direction == "denoising" else 1 - frame["effect"]
    frame = frame.assign(change=change.abs()).nlargest(12, "change")
    st.markdown("Strongest cells")
    table = pd.DataFrame({"layer": frame["layer"]})
    table["token" if by_position else "head"] = (
        [f"{visible(tokens[i])} {i}" for i in frame["pos"]]
        if by_position
        else [f"L{i}H{j}" for i, j in zip(frame["layer"], frame["head"], strict=True)]
    )
    for name in ("effect", "low", "high"):
        if name in frame:
            table[name] = frame[name]
    st.dataframe(
        table,
        hide_index=True,
        height=300,
        column_config={n: st.column_config.NumberColumn(format="%.3f") for n in ("effect", "low", "high")},
    )


def probed_numbers(found: Probed) -> None:
    columns = st.columns(4)
    for column, name, value in ((0, "Clean runs", found.clean_metric), (1, "Corrupted runs", found.corrupted_metric)):
        columns[column].metric(name, f"{value.value:+.2f}", help=f"Mean {found.metric_name.replace('_', ' ')}.")
        columns[column].caption(f"[{value.low:+.2f}, {value.high:+.2f}], n = {value.n}")
    columns[2].metric("Told apart", f"{found.right.value:.0%}", help="Pairs whose clean run scores above the other.")
    columns[2].caption(f"[{found.right.low:.0%}, {found.right.high:.0%}], n = {found.right.n}")
    columns[3].metric("Time", f"{found.seconds:.1f} s", help=f"Engine: {found.engine}.")
    dropped = ", ".join(f"{count} {why}" for why, count in found.dropped.items())
    columns[3].caption(f"{found.effect.size * found.n:,} patched runs" + (f"; dropped: {dropped}" if dropped else ""))


def one_pair(model: str, given: dict[str, str]) -> None:
    subject = cached_load(model)
    key = ("patch", subject.hash, *given.values())
    with alone(subject.hash):
        found = with_progress(key, lambda report: wb.patch(subject, **given, progress=report))
    for warning in found.warnings:
        st.warning(warning)
    alignment(found.clean_tokens, found.corrupted_tokens)
    numbers(found)
    explore(found)
    trust(found)
    same_in_python(f"""\
import workbench as wb

found = wb.patch(
    wb.load({model!r}),
    {given["clean"]!r},
    {given["corrupted"]!r},
    answer={given["answer"]!r},
    wrong={given["wrong"]!r},
    site={given["site"]!r},
    direction={given["direction"]!r},
)
print(found.clean_metric, found.corrupted_metric, found.checks)
print(found.to_frame().nlargest(10, "effect"))
""")


def many_pairs(model: str, name: str, n: int, given: dict[str, str]) -> None:
    subject = cached_load(model)
    asked = read_probe(name)
    st.caption(f"{asked.question} {asked.source}.")
    growing = st.empty()

    def seen(found: Probed) -> None:
        growing.plotly_chart(picture(found, found.effect), theme=None, key=f"growing{found.n}")

    made = generate(subject, asked, n)
    first = made.items[0]
    alignment(subject.tokens(first.pair.clean), subject.tokens(first.pair.corrupted))
    anyway = st.session_state.get("anyway") == (model, name)
    key = ("probe", subject.hash, name, n, anyway, *given.values())
    with alone(subject.hash):
        try:
            found = with_progress(
                key, lambda report: wb.probe(subject, name, n=n, anyway=anyway, progress=report, seen=seen, **given)
            )
        except WorkbenchError as error:
            st.warning(str(error), icon=":material/block:")
            if "ask for the map anyway" in str(error):
                st.button("Sweep anyway", on_click=lambda: st.session_state.update(anyway=(model, name)))
            return
    growing.empty()
    probed_numbers(found)
    explore(found)
    trust(found)
    same_in_python(f"""\
import workbench as wb

found = wb.probe(wb.load({model!r}), {name!r}, n={n}, site={given["site"]!r}, direction={given["direction"]!r})
print(found.right, found.clean_metric, found.corrupted_metric)
print(found.to_frame().query("p < 0.05").nlargest(10, "effect"))
""")


st.title("Where does the answer come from?")
st.caption(
    "Two prompts that lead to different answers: put one activation of one run into the other, at every "
    "place in turn, and see which place decides."
)
model, probe, pairs, sweep = controls()
if probe:
    many_pairs(model, probe, pairs, sweep)
else:
    one_pair(model, {**prompts(), **sweep})
