"""Attention: all heads of a prompt at a glance, and one head in full."""

import streamlit as st

from workbench.figures import attention as draw
from workbench.figures.style import head_name, visible
from workbench.interp.attention import Attention
from workbench.interp.prompt_scores import PromptScores
from workbench.ui.charts import chart, downloads
from workbench.ui.cut import cut
from workbench.ui.links import page_link
from workbench.ui.look import PROMPT, look
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import cached_load, pick_name
from workbench.ui.token_view import token_view

MOST = 1024
"""Positions of a prompt; longer ones are cut."""


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

    A click frames its head in the browser; the chart stays as it is then, quick and ready for the next click.
    """
    drawn, times = st.session_state.get("drawn", (name, 0))
    if st.session_state.get("framed") != name:
        drawn, times = name, times + 1
    st.session_state["framed"], st.session_state["drawn"] = name, (drawn, times)
    return drawn, times


@st.fragment
def explore(found: Attention, here: PromptScores, image: draw.Atlas) -> None:
    n_layers, n_heads = here.entropy.shape
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    if st.session_state.get("head") not in names:
        st.session_state.pop("head", None)  # the head of another, larger model
    left, right = st.columns(2, gap="medium")
    with right:
        pick, show = st.columns([1, 3], vertical_alignment="bottom")
        best = here.best()
        name = pick.selectbox("Head", names, names.index(head_name(*best)), key="head", bind="query-params")
        layer, head = divmod(names.index(name), n_heads)
        views = ["Map", "Strongest pairs"]
        view = show.segmented_control("View", views, default="Map", key="view", bind="query-params", required=True)
        if view == "Map":
            title = f"{name}: what each token (row) attends to (column)"
            chart(
                draw.head(found.head(layer, head), found.tokens, title=title),
                key="head_map",
                name=f"{found.subject}-{name}",
                alt=f"Attention pattern of {name}",
            )
        else:
            pairs(found, layer, head)
    with left:
        st.markdown(f"**All {len(names)} heads**")
        st.caption("Click one to open it. Rows of a picture attend to its columns; darker is more attention.")
        drawn, times = frame(name)
        figure = draw.atlas(image, chosen=divmod(names.index(drawn), n_heads), hover=hover_texts(here))
        figure.update_layout(meta=times)
        chart(figure, key="atlas", name=f"{found.subject}-heads", on_click=choose, alt="Attention of all heads")
    st.markdown(f"**{name}, token by token**")
    token_view(found.head(layer, head), found.tokens, name=name, key="tokens")
    downloads(
        lambda: [
            draw.atlas(image, title="All heads"),
            draw.head(found.head(layer, head), found.tokens, title=name),
        ],
        lambda: found.to_frame(layer, head),
        name=f"attention-{found.subject}-{name}",
        title=f"Attention of {found.subject}, {name}",
        text=found.prompt,
    )


def pairs(found: Attention, layer: int, head: int) -> None:
    first = st.toggle("With the first token", key="first", bind="query-params", help="Many heads park attention there.")
    frame = found.to_frame(layer, head)
    if not first:
        frame = frame[frame["key"] > 0]
    frame = frame.nlargest(50, "attention")
    for column in ("query_token", "key_token"):
        frame[column] = frame[column].map(visible)
    st.dataframe(
        frame[["query_token", "query", "key_token", "key", "attention"]],
        hide_index=True,
        height=500,
        column_config={
            "query_token": "from (query)",
            "query": st.column_config.NumberColumn("position", width="small"),
            "key_token": "to (key)",
            "key": st.column_config.NumberColumn("position ", width="small"),
            "attention": st.column_config.ProgressColumn("attention", format="%.3f", min_value=0, max_value=1),
        },
    )


st.title("What does each head look at?")
st.caption("Every head's attention pattern on your prompt: all of them at a glance, then one in full.")
choice, box = st.columns([1, 3])
with choice:
    model = pick_name()
with box:
    prompt = st.text_area("Prompt", PROMPT, height=84, key="prompt", bind="query-params") or ""
subject = cached_load(model)
prompt = cut(subject, prompt, MOST)
st.session_state.pop("framed", None)  # the whole page is drawn anew, and so is the atlas
explore(*look(subject, prompt))
page_link("heads", "What each head does in general: scores, labels, circuits", icon=":material/category:", model=model)
same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r})
found = wb.attention(subject, {prompt!r})
print(found.pattern.shape)  # [layer, head, query, key]
found.to_html("attention.html", layer=0, head=0)
""")
