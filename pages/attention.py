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
from workbench.interp.patterns.prompt_scores import PartPromptScores, PromptScores
from workbench.interp.patterns.routes import LONGEST_FLOW, GradientAttention, flow, rollout
from workbench.interp.stacks.runs import PARTS
from workbench.subjects import Subject
from workbench.subjects.kinds import DECODER
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cut import cut
from workbench.ui.parts.explorer import explorer
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.history import changed, first_index
from workbench.ui.parts.links import page_link
from workbench.ui.parts.look import PROMPT, look
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import fault, notices
from workbench.ui.parts.snippets import loading, same_in_python
from workbench.ui.parts.stack_texts import Asked, ask
from workbench.ui.views.attention import subtracted

# Tokens of a prompt; longer ones are cut. (Streamlit would write a string here on the page.)
MOST = 1024


def opened(scores: PromptScores | PartPromptScores) -> tuple[int, int]:
    """The layer and number of the head that the URL names, or of the one worth opening first.

    The explorer opens heads in the browser and writes them into the URL; no script runs for that.
    """
    n_layers, n_heads = scores.entropy.shape
    if changed("head", (n_layers, n_heads)):
        st.query_params.pop("head", None)
    try:
        [(layer, head)] = parse_heads(st.query_params.get("head", ""))
    except (WorkbenchError, ValueError):
        return scores.best()
    return (layer, head) if layer < n_layers and head < n_heads else scores.best()


@fragment
def explore(
    attention: Attention,
    scores: PromptScores | PartPromptScores,
    chosen: tuple[int, int],
    target: str | None = None,
) -> None:
    """Show the explorer, the choice of what to subtract, and the page to download."""
    pictures = st.container()  # above the controls that say what is subtracted
    below, home = st.columns([4, 1], vertical_alignment="bottom")
    other = None
    try:
        with below:
            other = subtracted(attention, target)
    except WorkbenchError as error:
        fault(error)
    with pictures:
        explorer(attention, scores, chosen=chosen, key="explorer", other=other)
    with home:
        name = head_name(*chosen)
        st.download_button(
            "As a page (HTML)",
            lambda: attention.page(*chosen),
            file_name=f"attention-{attention.subject}.html",
            mime="text/html",
            on_click="ignore",
            icon=":material/download:",
            width="stretch",
            help=f"All heads in one file that needs no network; {name} is open in it at first.",
        )


@st.cache_resource(max_entries=16, show_spinner="Following attention back to the prompt")
def routes(
    sha256: str,
    prompt: str,
    position: int,
    target: int | None,
    _subject: Subject,
    _attention: Attention,
) -> tuple[GradientAttention, np.ndarray, np.ndarray | None]:
    """What an output rests on: gradient-weighted attention, rollout by layer, and flow.

    Flow is None from position `LONGEST_FLOW` on.
    """
    with alone(sha256):
        gradient = wb.gradient_attention(_subject, prompt, position=position, answer=target)
    widest = flow(_attention, position) if position < LONGEST_FLOW else None
    return gradient, rollout(_attention, position), widest


@fragment
def show_routes(subject: Subject, attention: Attention) -> None:
    """Show which tokens an output rests on, by three methods, once Follow is switched on."""
    st.subheader("Which tokens does an output rest on?")
    st.caption(
        "Three ways to follow attention back through all layers: rollout multiplies the layers' "
        "mean patterns, flow is the most that could pass (both Abnar & Zuidema 2020), and "
        "gradient-weighted attention counts what raises the chosen logit (Chefer et al. 2021). "
        "They describe the model's attention; to find causes, use Patching."
    )
    where, what, go = st.columns([2, 2, 1], vertical_alignment="bottom")
    last = len(attention.tokens) - 1
    position = where.selectbox(
        "Output at",
        range(last + 1),
        first_index("at", tuple(attention.tokens), range(last + 1), last),
        format_func=lambda i: f"{visible(attention.tokens[i])} ({i})",
        key="at",
    )
    token = what.text_input(
        "Next token", key="next", bind="query-params", placeholder="what the model expects"
    )
    if not go.toggle("Follow", key="routes", bind="query-params"):
        return
    target = subject.answer_id(token, "next token", prompt=prompt) if token else None
    gradient, shares, widest = routes(
        subject.hash, attention.prompt, int(position or 0), target, subject, attention
    )
    methods = {"gradient-weighted": gradient.relevance, "rollout": shares[0]}
    if widest is not None:
        methods["flow"] = widest
    else:
        st.caption(f"Flow is computed for positions below {LONGEST_FLOW} only.")
    after = visible(attention.tokens[gradient.position])
    title = f"Where {visible(gradient.target)} after {after} comes from"
    figures = [
        draw_routes.token_bars(methods, attention.tokens, title=escaped(title)),
        draw_routes.rollout_map(shares, attention.tokens, title="Rollout by layer"),
    ]
    for figure, name in zip(figures, ("routes", "rollout"), strict=True):
        chart(figure, key=f"figure_{name}", name=f"{attention.subject}-{name}", alt=name)
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
            {
                "token": attention.tokens,
                **{method: pad(values, last + 1) for method, values in methods.items()},
            }
        ),
        name=f"routes-{attention.subject}",
        title=f"Where an output of {attention.subject} comes from",
        text=attention.prompt,
    )


def pad(values: np.ndarray, length: int) -> np.ndarray:
    """The values followed by zeros, up to a length."""
    return np.pad(values, (0, length - len(values)))


st.title("What does each head look at?")
st.caption("Every head's attention pattern on your prompt: all heads at a glance, and one in full.")
choice, box = st.columns([1, 3])
with choice:
    model = pick_name(seq2seq=True, encoder=True)
subject = cached_load(model, seq2seq=True, encoder=True)
writes = subject.kind == DECODER
with box:
    if writes:
        typed = st.text_area("Prompt", PROMPT, height=84, key="prompt", bind="query-params")
        reading = Asked(typed or "", "", None)
    else:
        reading = ask(subject)
prompt = cut(subject, reading.prompt, MOST)
seen = look(subject, prompt, reading.part, reading.target)
notices(seen.attention.warnings)
if not writes:
    st.caption(f"{PARTS[seen.attention.part].capitalize()}.")
layer, head = opened(seen.scores)
explore(seen.attention, seen.scores, (layer, head), reading.target)
if writes:
    show_routes(subject, seen.attention)
else:
    st.caption(
        "Rollout, flow and gradient-weighted attention follow a next token back through causal "
        "layers, so they are not offered here; to find causes, use Patching."
    )
page_link(
    "heads",
    "What each head does in general: scores, labels, circuits",
    icon=":material/category:",
    model=model,
)
given = {
    name: value
    for name, value in (("part", reading.part), ("target", reading.target or ""))
    if value
}
more = "".join(f", {name}={value!r}" for name, value in given.items())
gradient = f"print(wb.gradient_attention(subject, {prompt!r}).to_frame().head(3))"
same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r}{loading(subject)})
attention = wb.attention(subject, {prompt!r}{more})
print(attention.pattern.shape)  # [layer, head, query, key]
print(attention.value_weighted({layer}, {head}).shape)  # attention times the length of values
attention.to_html("attention.html", layer={layer}, head={head})
{gradient if writes else ""}""")
