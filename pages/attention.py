"""Attention: all heads of a prompt at a glance, and one head in full."""

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures import attention as draw
from workbench.figures import routes as draw_routes
from workbench.figures.style import escaped, head_name, visible
from workbench.interp.interventions.ablation import parse_heads
from workbench.interp.patterns.attention import Attention
from workbench.interp.patterns.prompt_scores import PromptScores
from workbench.interp.patterns.routes import LONGEST_FLOW, flow, rollout
from workbench.subjects import Subject
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cut import cut
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.links import page_link
from workbench.ui.parts.look import PROMPT, look
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import fault, notices
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.token_view import token_view
from workbench.ui.views.attention import VIEWS, show_view

MOST = (
    1024  # positions of a prompt; longer ones are cut (a string here would be written on the page)
)


def hover_texts(here: PromptScores) -> list[str]:
    n_layers, n_heads = here.entropy.shape
    parts = {
        "to the token before": here.previous_token,
        "to the first token": here.first_token,
        "to what followed an earlier copy": here.induction,
    }
    texts = []
    for layer in range(n_layers):
        for head in range(n_heads):
            lines = [f"{w} {v[layer, head]:.2f}" for w, v in parts.items() if v is not None]
            lines.append(f"entropy {here.entropy[layer, head]:.1f} bits")
            texts.append(f"<b>{head_name(layer, head)}</b> on this prompt<br>" + "<br>".join(lines))
    return texts


def choose(name: str | None) -> None:
    if name:
        st.session_state["head"] = name
    st.session_state["framed"] = name


def frame(name: str) -> tuple[str, int]:
    """The head that the atlas is drawn with, and how often it was drawn anew.

    A click frames its head in the browser; the chart stays as it is then, quick and ready for the
    next click.
    """
    drawn, times = st.session_state.get("drawn", (name, 0))
    if st.session_state.get("framed") != name:
        drawn, times = name, times + 1
    st.session_state["framed"], st.session_state["drawn"] = name, (drawn, times)
    return drawn, times


def atlas_of(image: draw.Atlas, here: PromptScores, chosen: tuple[int, int], times: int):
    """The atlas as it was drawn last, if nothing in it changed: another head then costs no second
    drawing.
    """
    key = (image.uri, chosen, times)
    if st.session_state.get("atlas_drawn", (None,))[0] != key:
        figure = draw.atlas(image, chosen=chosen, hover=hover_texts(here))
        figure.update_layout(meta=times)
        st.session_state["atlas_drawn"] = key, figure
    return st.session_state["atlas_drawn"][1]


@fragment
def explore(found: Attention, here: PromptScores, image: draw.Atlas) -> None:
    n_layers, n_heads = here.entropy.shape
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    if st.session_state.get("head") not in names:
        st.session_state.pop("head", None)  # the head of another, larger model
    left, right = st.columns(2, gap="medium")
    with right:
        pick, show = st.columns([1, 3], vertical_alignment="bottom")
        best = here.best()
        name = pick.selectbox(
            "Head", names, names.index(head_name(*best)), key="head", bind="query-params"
        )
        layer, head = divmod(names.index(name), n_heads)
        view = show.segmented_control(
            "View", VIEWS, default="Map", key="view", bind="query-params", required=True
        )
        try:
            show_view(str(view), found, layer, head, names)
        except WorkbenchError as error:
            fault(error)
    with left:
        st.markdown(f"**All {len(names)} heads**")
        st.caption(
            "Click one to open it. Rows of a picture attend to its columns; darker is more attention."
        )
        drawn, times = frame(name)
        figure = atlas_of(image, here, divmod(names.index(drawn), n_heads), times)
        chart(
            figure,
            key="atlas",
            name=f"{found.subject}-heads",
            on_click=choose,
            alt="Attention of all heads",
        )
    st.markdown(f"**{name}, token by token**")
    token_view(found.head(layer, head), found.tokens, name=name, key="tokens")
    downloads(
        lambda: draw.for_export(image, (layer, head), found.head(layer, head), found.tokens),
        lambda: found.to_frame(layer, head),
        name=f"attention-{found.subject}-{name}",
        title=f"Attention of {found.subject}, {name}",
        text=found.prompt,
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
        "Attention followed back through all layers, three ways: rollout multiplies the heads' mean, flow asks how "
        "much could pass at most (Abnar & Zuidema 2020), gradient-weighted attention counts what raises the chosen "
        "logit (Chefer et al. 2021). Readings, not causes; Patching finds causes."
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
    title = f"Where {visible(gradient.target)} after {visible(found.tokens[gradient.position])} comes from"
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
st.session_state.pop("framed", None)  # the whole page is drawn anew, and so is the atlas
seen = look(subject, prompt)
notices(seen.found.warnings)
explore(*seen)
show_routes(subject, seen.found)
page_link(
    "heads",
    "What each head does in general: scores, labels, circuits",
    icon=":material/category:",
    model=model,
)
[(layer, head)] = parse_heads(st.session_state["head"])
same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r})
found = wb.attention(subject, {prompt!r})
print(found.pattern.shape)  # [layer, head, query, key]
print(found.value_weighted({layer}, {head}).shape)  # attention times the length of what it moves
found.to_html("attention.html", layer={layer}, head={head})
print(wb.gradient_attention(subject, {prompt!r}).to_frame().head(3))
""")
