"""Patching: which layer and position (or head) carries the answer, exactly."""

import re

import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures.style import visible
from workbench.interp.pairs import LengthError
from workbench.interp.patching import DIRECTIONS, SITES
from workbench.interp.probes import available_probes, generate, read_probe
from workbench.interp.probing import Probed
from workbench.ui.alignment import alignment
from workbench.ui.links import page_link
from workbench.ui.maps import explore, numbers, picture, probed_numbers
from workbench.ui.progress import with_progress
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import alone, cached_load, pick_name
from workbench.ui.trust import trust

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


def unequal(error: LengthError, given: dict[str, str]) -> None:
    """Why two prompts cannot be patched, and buttons that mend them."""
    st.error(str(error), icon=":material/error:")
    alignment(*zip(*error.aligned, strict=True))
    for offer in error.substitutes:
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption(f"Instead of {visible(offer.word)} in the {offer.side} prompt", width="content")
            for word in offer.choices:
                st.button(word, key=f"{offer.side} {offer.word} {word}", on_click=swap, args=(offer.word, word))


def swap(word: str, other: str) -> None:
    """Put one word in another's place, in both prompts."""
    for field in ("clean", "corrupted"):
        st.session_state[field] = re.sub(rf"\b{re.escape(word)}\b", other, str(st.session_state[field]))


def one_pair(model: str, given: dict[str, str]) -> None:
    subject = cached_load(model)
    key = ("patch", subject.hash, *given.values())
    try:
        with alone(subject.hash):
            found = with_progress(key, lambda report: wb.patch(subject, **given, progress=report))
    except LengthError as error:
        unequal(error, given)
        return
    for warning in found.warnings:
        st.warning(warning)
    alignment(found.clean_tokens, found.corrupted_tokens)
    numbers(found)
    explore(model, found)
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

    by_name = SITES[given["site"]][-1] == "pos" and st.toggle(
        "Align by named positions",
        key="by_name",
        bind="query-params",
        help="Columns are what the probe names, such as the subject and the last token, so that pairs of all lengths "
        "count; else only pairs of the commonest length do.",
    )
    made = generate(subject, asked, n, by_name=by_name)
    first = made.items[0]
    alignment(subject.tokens(first.pair.clean), subject.tokens(first.pair.corrupted))
    anyway = st.session_state.get("anyway") == (model, name)
    how = {**given, "by_name": by_name}
    key = ("probe", subject.hash, name, n, anyway, *how.values())
    with alone(subject.hash):
        try:
            found = with_progress(
                key, lambda report: wb.probe(subject, name, n=n, anyway=anyway, progress=report, seen=seen, **how)
            )
        except WorkbenchError as error:
            st.warning(str(error), icon=":material/block:")
            if "ask for the map anyway" in str(error):
                st.button("Sweep anyway", on_click=lambda: st.session_state.update(anyway=(model, name)))
            return
    growing.empty()
    probed_numbers(found)
    explore(model, found)
    trust(found)
    page_link("circuits", "Which heads and edges does it need?", icon=":material/hub:", model=model, probe=name)
    settings = ", ".join(f"{key}={value!r}" for key, value in how.items())
    same_in_python(f"""\
import workbench as wb

found = wb.probe(wb.load({model!r}), {name!r}, n={n}, {settings})
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
