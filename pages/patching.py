"""Patching: which layers, positions and heads carry the answer, by exact activation patching."""

from typing import Any

import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.interp.engine.sites import WINDOWED
from workbench.interp.patching.pair_maps import DIRECTIONS, METRICS, REPLACEMENTS, SITES
from workbench.interp.patching.probe_maps import Probed
from workbench.interp.patching.stack_maps import OF_CROSS
from workbench.interp.prompts.able import UnableError
from workbench.interp.prompts.pairs import LengthError
from workbench.interp.prompts.probes import available_probes, generate, read_probe
from workbench.interp.stacks.structure import CROSS
from workbench.subjects import Subject
from workbench.subjects.kinds import DECODER, SEQ2SEQ
from workbench.ui.parts.alignment import alignment
from workbench.ui.parts.charts import themed
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import notices, warn
from workbench.ui.parts.own_prompts import FIELDS, OWN, prompts, unequal
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.snippets import loading, same_in_python
from workbench.ui.parts.stack_prompts import stack_prompts
from workbench.ui.parts.stack_texts import pick_part
from workbench.ui.parts.trust import trust
from workbench.ui.views.patching import explore, numbers, picture, probed_numbers

FLAT = [site for site, axes in SITES.items() if axes in (("layer", "pos"), ("layer", "head"))]
SITE_HELP = """
- **resid_pre**, **resid_mid**, **resid_post**: the residual stream before a layer, between its
  attention and its MLP, and after the layer
- **attn_out**, **mlp_out**: what attention or the MLP adds to the residual stream
- **z**: the output of one head, at all positions
- **q**, **k**, **v**, **pattern**: the queries, keys, values or attention pattern of one head
"""
DIRECTION_HELP = """
- **denoising**: clean activations into the corrupted run. Which are sufficient for the answer?
- **noising**: corrupted activations into the clean run. Which are necessary for the answer?
"""
USUAL = "usual"


def controls() -> tuple[str, Subject, str, int, dict[str, Any]]:
    """Model, Subject, probe ("" for own prompts), number of pairs, and the sweep's settings."""
    choose_model, choose_probe, choose_site, rest = st.columns([6, 7, 4, 7])
    choose_direction = rest.container(horizontal=True, vertical_alignment="bottom")
    with choose_model:
        model = pick_name(seq2seq=True, encoder=True)
    subject = cached_load(model, seq2seq=True, encoder=True)
    causal = subject.kind == DECODER
    probe = choose_probe.selectbox(
        "Question",
        [OWN, *(available_probes() if causal else [])],
        key="probe",
        bind="query-params",
        help="A bundled probe generates many prompt pairs, so every cell of the map gets an "
        "interval.",
    )
    part = ""
    if subject.kind == SEQ2SEQ:
        with choose_probe:
            part = pick_part(subject)
    sites = [site for site in FLAT if part != CROSS or site in OF_CROSS]
    site = choose_site.selectbox(
        "What is patched",
        sites,
        sites.index("z") if part else 0,
        key="site",
        bind="query-params",
        help=SITE_HELP,
    )
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
        pairs = choose_probe.select_slider(
            "Prompt pairs", [10, 20, 50, 100], 20, key="pairs", bind="query-params"
        )
    with choose_direction:
        sweep = {"site": site or "", "direction": direction or "", **more(probe != OWN, causal)}
    sweep |= {"part": part} if part else {}
    return model, subject, "" if probe == OWN else str(probe), int(pairs), sweep


def more(of_probe: bool, causal: bool) -> dict[str, Any]:
    """Settings of the *More* popover that differ from their defaults."""
    usual = "the probe's own" if of_probe else "logit_difference"
    with st.popover("More", icon=":material/tune:"):
        metric = st.selectbox(
            "Metric",
            [USUAL, *METRICS],
            key="metric",
            bind="query-params",
            format_func=lambda name: usual if name == USUAL else name,
            help="\n".join(f"- **{name}**: {words}" for name, words in METRICS.items()),
        )
        replacement = st.selectbox(
            "Replacement activation",
            list(REPLACEMENTS) if causal else ["other", "zero"],
            key="replacement",
            bind="query-params",
            help="\n".join(f"- **{name}**: {words}" for name, words in REPLACEMENTS.items()),
        )
        window = st.number_input(
            "Window of layers",
            1,
            30,
            key="window",
            bind="query-params",
            help=f"Layers patched at once, centred on each layer ({' and '.join(WINDOWED)} only).",
        )
        also = st.selectbox(
            "Patch together with",
            ["nothing", *WINDOWED],
            key="together",
            bind="query-params",
            help=f"Patch {' and '.join(WINDOWED)} of a layer at once.",
        )
    usually = {"metric": USUAL, "replacement": "other", "window": 1, "also": "nothing"}
    chosen = {"metric": metric, "replacement": replacement, "window": int(window), "also": also}
    return {name: value for name, value in chosen.items() if value != usually[name]}


def estimated(model: str, **query: str) -> None:
    """A link to the same map estimated by gradients."""
    page_link(
        "attribution",
        "Compare this map with a gradient estimate",
        icon=":material/compare:",
        model=model,
        **query,
    )


def one_pair(model: str, subject: Subject, given: dict[str, Any]) -> None:
    """The patching map of one prompt pair."""
    key = ("patch", subject.hash, *given.values())
    try:
        with alone(subject.hash):
            patching = with_progress(
                key, lambda report: wb.patch(subject, **given, progress=report)
            )
    except LengthError as error:
        unequal(error)
        return
    notices(patching.warnings)
    both = (patching.clean, patching.corrupted)
    alignment(*(subject.tokens(subject.encode(text)) for text in both))
    numbers(patching)
    explore(model, patching)
    trust(patching)
    if not patching.spelt and not patching.part:
        estimated(model, probe=OWN, **{name: given[name] for name in (*FIELDS, "site")})
    settings = "".join(
        f"    {name}={value!r},\n" for name, value in given.items() if name not in FIELDS[:2]
    )
    same_in_python(f"""\
import workbench as wb

patching = wb.patch(
    wb.load({model!r}{loading(subject)}),
    {given["clean"]!r},
    {given["corrupted"]!r},
{settings})
print(patching.clean_metric, patching.corrupted_metric, patching.checks)
print(patching.to_frame().nlargest(10, "effect"))
""")


def many_pairs(model: str, name: str, n: int, given: dict[str, Any]) -> None:
    """The patching map of a probe: means over `n` prompt pairs, with intervals."""
    subject = cached_load(model)
    definition = read_probe(name)
    st.caption(f"{definition.question} {definition.source}.")
    growing = st.empty()

    def show_so_far(partial: Probed) -> None:
        map_so_far = picture(partial, partial.effect)
        growing.plotly_chart(themed(map_so_far), theme=None, key=f"growing{partial.n}")

    by_name = SITES[given["site"]][-1] == "pos" and st.toggle(
        "Align by position names",
        key="by_name",
        bind="query-params",
        help="Columns are the positions that the probe names, such as the subject or the last "
        "token, so pairs of any length are used; otherwise only pairs of the most common length "
        "are.",
    )
    generated = generate(subject, definition, n, by_name=by_name)
    first = generated.items[0]
    alignment(subject.tokens(first.pair.clean), subject.tokens(first.pair.corrupted))
    anyway = st.session_state.get("anyway") == (model, name)
    how = {**given, "by_name": by_name}
    key = ("probe", subject.hash, name, n, anyway, *how.values())
    with alone(subject.hash):
        try:
            probed = with_progress(
                key,
                lambda report: wb.probe(
                    subject, name, n=n, anyway=anyway, progress=report, partial=show_so_far, **how
                ),
            )
        except WorkbenchError as error:
            warn(error)
            if isinstance(error, UnableError):
                st.button(
                    "Patch anyway", on_click=lambda: st.session_state.update(anyway=(model, name))
                )
            return
    growing.empty()
    notices(probed.warnings)
    probed_numbers(probed)
    explore(model, probed)
    trust(probed)
    with st.container(horizontal=True):
        page_link(
            "circuits",
            "Which heads and edges does this probe need?",
            icon=":material/hub:",
            model=model,
            probe=name,
        )
        estimated(model, probe=name, site=given["site"])
    settings = ", ".join(f"{key}={value!r}" for key, value in how.items())
    same_in_python(f"""\
import workbench as wb

probed = wb.probe(wb.load({model!r}), {name!r}, n={n}, {settings})
print(probed.right, probed.clean_metric, probed.corrupted_metric)
print(probed.to_frame().query("p < 0.05").nlargest(10, "effect"))
""")


st.title("Where does the answer come from?")
st.caption(
    "Take two prompts with different answers. Copy one activation from one run into the other, at "
    "every layer and position (or head) in turn, and see where it changes the answer."
)
model, chosen, probe, pairs, sweep = controls()
if probe:
    many_pairs(model, probe, pairs, sweep)
elif chosen.kind == DECODER:
    one_pair(model, chosen, {**prompts(), **sweep})
else:
    gap_pair = stack_prompts(chosen)
    if all(gap_pair[field] for field in FIELDS):
        one_pair(model, chosen, {**gap_pair, **sweep})
    else:
        st.info(
            "Enter two prompts of equal length with a gap at the same place, and the word that "
            "fills it in each.",
            icon=":material/edit:",
        )
