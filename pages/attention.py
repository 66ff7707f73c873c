"""Attention: all heads of a prompt at a glance, and one head in full."""

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures import routes as draw_routes
from workbench.figures.style import escaped, head_name, visible
from workbench.interp.interventions.ablation import parse_heads
from workbench.interp.patterns.attention import Attention
from workbench.interp.patterns.prompt_scores import PromptScores
from workbench.interp.patterns.routes import LONGEST_FLOW, flow, rollout
from workbench.subjects import Subject
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cut import cut
from workbench.ui.parts.explorer import explorer
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.links import page_link
from workbench.ui.parts.look import PROMPT, look
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import fault, notices
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views.attention import subtracted

MOST = (
    1024  # positions of a prompt; longer ones are cut (a string here would be written on the page)
)


def opened(here: PromptScores) -> tuple[int, int]:
    """The head that the URL names, or the one worth opening first.

    The explorer opens heads in the browser and writes them into the URL, so no script runs for it.
    """
    n_layers, n_heads = here.entropy.shape
    try:
        [(layer, head)] = parse_heads(st.query_params.get("head", ""))
    except (WorkbenchError, ValueError):
        return here.best()
    return (layer, head) if layer < n_layers and head < n_heads else here.best()


@fragment
def explore(found: Attention, here: PromptScores, chosen: tuple[int, int]) -> None:
    pictures = st.container()  # above the controls that say what is subtracted
    below, home = st.columns([4, 1], vertical_alignment="bottom")
    other = None
    try:
        with below:
            other = subtracted(found)
    except WorkbenchError as error:
        fault(error)
    with pictures:
        explorer(found, here, chosen=chosen, key="explorer", other=other)
    with home:
        name = head_name(*chosen)
        st.download_button(
            "As a page (HTML)",
            lambda: found.page(*chosen),
            file_name=f"attention-{found.subject}.html",
            mime="text/html",
            on_click="ignore",
            icon=":material/download:",
            width="stretch",
            help=f"Every head in one file that needs no network; it opens with {name}.",
        )


@st.cache_resource(max_entries=16, show_spinner="Following attention back to the prompt")
def routes(
    sha256: str,
    prompt: str,
    position: int,
    target: int | None,
    _subject: Subject,
    _found: Attention,
):
    with alone(sha256):
        gradient = wb.gradient_attention(_subject, prompt, position=position, answer=target)
    widest = flow(_found, position) if position < LONGEST_FLOW else None
    return gradient, rollout(_found, position), widest


@fragment
def show_routes(subject: Subject, found: Attention) -> None:
    st.subheader("Which tokens does an output rest on?")
    st.caption(
        "Attention followed back through all layers, three ways: rollout multiplies the heads' "
        "mean, flow asks how much could pass at most (Abnar & Zuidema 2020), gradient-weighted "
        "attention counts what raises the chosen logit (Chefer et al. 2021). Readings, not causes; "
        "Patching finds causes."
    )
    where, what, go = st.columns([2, 2, 1], vertical_alignment="bottom")
    last = len(found.tokens) - 1
    if st.session_state.get("at", last) not in range(last + 1):
        st.session_state["at"] = (
            last  # it held a position of another prompt, or the words that named it there
        )
    position = where.selectbox(
        "Output at",
        range(last + 1),
        0 if "at" in st.session_state else last,
        format_func=lambda i: f"{visible(found.tokens[i])} ({i})",
        key="at",
    )
    token = what.text_input(
        "Next token", key="next", bind="query-params", placeholder="what the model expects"
    )
    if not go.toggle("Follow", key="routes", bind="query-params"):
        return
    target = subject.answer_id(token, "next token", prompt=prompt) if token else None
    gradient, shares, widest = routes(
        subject.hash, found.prompt, int(position or 0), target, subject, found
    )
    methods = {"gradient-weighted": gradient.relevance, "rollout": shares[0]}
    if widest is not None:
        methods["flow"] = widest
    else:
        st.caption(f"Flow is worked out up to position {LONGEST_FLOW}.")
    after = visible(found.tokens[gradient.position])
    title = f"Where {visible(gradient.target)} after {after} comes from"
    figures = [
        draw_routes.token_bars(methods, found.tokens, title=escaped(title)),
        draw_routes.rollout_map(shares, found.tokens, title="Rollout by layer"),
    ]
    for figure, name in zip(figures, ("routes", "rollout"), strict=True):
        chart(figure, key=f"figure_{name}", name=f"{found.subject}-{name}", alt=name)
    st.markdown("**The heads with the most gradient-weighted attention**")
    columns = {
        "name": "head",
        "gradient_attention": st.column_config.NumberColumn("sum over its pattern", format="%.3f"),
    }
    st.dataframe(
        gradient.to_frame().head(10), hide_index=True, width="content", column_config=columns
    )
    downloads(
        lambda: figures,
        lambda: pd.DataFrame(
            {"token": found.tokens, **{m: pad(v, last + 1) for m, v in methods.items()}}
        ),
        name=f"routes-{found.subject}",
        title=f"Where an output of {found.subject} comes from",
        text=found.prompt,
    )


def pad(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)))


st.title("What does each head look at?")
st.caption(
    "Every head's attention pattern on your prompt: all of them at a glance, then one in full."
)
choice, box = st.columns([1, 3])
with choice:
    model = pick_name()
with box:
    prompt = st.text_area("Prompt", PROMPT, height=84, key="prompt", bind="query-params") or ""
subject = cached_load(model)
prompt = cut(subject, prompt, MOST)
seen = look(subject, prompt)
notices(seen.found.warnings)
layer, head = opened(seen.scores)
explore(seen.found, seen.scores, (layer, head))
show_routes(subject, seen.found)
page_link(
    "heads",
    "What each head does in general: scores, labels, circuits",
    icon=":material/category:",
    model=model,
)
same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r})
found = wb.attention(subject, {prompt!r})
print(found.pattern.shape)  # [layer, head, query, key]
print(found.value_weighted({layer}, {head}).shape)  # attention times the length of what it moves
found.to_html("attention.html", layer={layer}, head={head})
print(wb.gradient_attention(subject, {prompt!r}).to_frame().head(3))
""")
