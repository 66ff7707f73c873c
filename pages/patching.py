"""Patching: which layer and position (or head) carries the answer, exactly."""

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.figures import patching as draw
from workbench.figures.style import visible
from workbench.interp.checks import TOLERANCE, WORDS
from workbench.interp.patching import DIRECTIONS, SITES, Patching
from workbench.ui.alignment import alignment
from workbench.ui.charts import chart, downloads
from workbench.ui.progress import with_progress
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import alone, cached_load, pick_name

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


def inputs() -> tuple[str, dict[str, str]]:
    first = next(iter(EXAMPLES.values()))
    choose_model, example, choose_site, choose_direction = st.columns([3, 5, 2, 3])
    with choose_model:
        model = pick_name()
    with example.container(gap=None):
        st.caption("Examples")
        with st.container(horizontal=True, gap="small"):
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
    given |= {"site": site, "direction": direction}
    return model, {name: text or "" for name, text in given.items()}


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


def trust(found: Patching) -> None:
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
        st.badge(f"{found.n} prompt pair: no interval", color="gray")


def choose(point: list | None) -> None:
    if point:
        st.session_state["cell"] = (point[0], point[1])


@st.fragment
def explore(found: Patching) -> None:
    n_layers, n_columns = len(found.effect), len(found.effect[0])
    across = {"pos": "position"}.get(found.axes[1], found.axes[1])
    by_position = across == "position"
    names = (
        draw.column_names(found.clean_tokens, found.corrupted_tokens)
        if by_position
        else [f"H{i}" for i in range(n_columns)]
    )
    starts = found.first_difference if by_position else 0
    cell = st.session_state.get("cell")
    if cell is None or cell[0] >= n_layers or cell[1] >= n_columns:
        cell = None
    figure = draw.effect_map(
        found.effect,
        found.metric,
        names,
        across=across,
        starts=starts,
        title=f"{found.direction} {found.site}: share of the logit difference "
        + ("brought back (1 = clean run)" if found.direction == "denoising" else "kept (1 = clean run)"),
        chosen=cell,
    )
    left, right = st.columns([3, 1], gap="medium")
    with left:
        chart(figure, key="effects", name=f"patching-{found.site}", on_click=choose, alt="Effect of every patch")
        if starts:
            nothing = 0 if found.direction == "denoising" else 1
            st.caption(
                "Left of the dotted line the prompts are the same. A causal model computes the same there, "
                f"so a patch changes nothing: those cells are exactly {nothing}."
            )
    with right:
        details(found, cell, by_position)
    downloads(
        lambda: [figure],
        found.to_frame,
        name=f"patching-{found.subject}-{found.site}",
        title=f"Patching {found.site} of {found.subject} ({found.direction})",
        text=f"clean: {found.clean}\ncorrupted: {found.corrupted}\nanswer: {found.answer!r}, wrong: {found.wrong!r}",
    )


def details(found: Patching, cell: tuple[int, int] | None, by_position: bool) -> None:
    if cell is None:
        st.markdown("**Click a cell** to see its numbers.")
    else:
        layer, column = cell
        where = f"position {column}, token {visible(found.clean_tokens[column])}" if by_position else f"head {column}"
        st.markdown(f"**Layer {layer}, {where}**")
        st.metric("Effect", f"{found.effect[layer][column]:.3f}", help="0 is the corrupted run, 1 the clean run.")
        st.metric("Logit difference", f"{found.metric[layer][column]:+.3f}")
    frame = found.to_frame()
    change = frame["effect"] if found.direction == "denoising" else 1 - frame["effect"]
    frame = frame.assign(change=change.abs()).nlargest(12, "change")
    st.markdown("Strongest cells")
    table = pd.DataFrame({"layer": frame["layer"]})
    table["token" if by_position else "head"] = (
        [f"{visible(found.clean_tokens[i])} {i}" for i in frame["pos"]]
        if by_position
        else [f"L{i}H{j}" for i, j in zip(frame["layer"], frame["head"], strict=True)]
    )
    table["effect"] = frame["effect"]
    st.dataframe(
        table,
        hide_index=True,
        height=300,
        column_config={"effect": st.column_config.NumberColumn(format="%.3f")},
    )


st.title("Where does the answer come from?")
st.caption(
    "Two prompts that lead to different answers: put one activation of one run into the other, at every "
    "place in turn, and see which place decides."
)
model, given = inputs()
subject = cached_load(model)
key = ("patch", subject.hash, *given.values())
with alone(subject.hash):
    found = with_progress(key, lambda report: wb.patch(subject, **given, progress=report))
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
