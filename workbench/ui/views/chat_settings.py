"""The Chat page's controls (models, mode, sampling, colours), all of them in the URL."""

from typing import Any, NamedTuple

import streamlit as st

from workbench.comparison.lineage import parent
from workbench.ui.parts.models import choices
from workbench.ui.parts.titles import bare, option

MODES = ("Chat", "Continue", "Passage")
MODE_HELP = """
- **Chat**: a conversation, in the model's chat template, or in a plain one if it has none
- **Continue**: the model continues a text, greedily and by sampling
- **Passage**: a question about a text that you paste: the answer, where it occurs in the text, and
  the heads that copied it
"""
SURE = "how sure it was"
SURPRISE = "surprise of the other"
DIFFERENCE = "difference to the other"
PLAIN = "nothing"
COLOURS = (SURE, SURPRISE, DIFFERENCE, PLAIN)
COLOUR_HELP = """
- **how sure it was**: the model's own probability of the token; white: certain, orange: unlikely
- **surprise of the other**: how unlikely the *other* model finds the token
- **difference to the other**: blue where this model gives the token a higher probability than the
  other model, red where a lower one; with an edited model and its base, the effect of the edit
"""
MOST_MODELS = 4
DEFAULT = "shelf-base"


class Settings(NamedTuple):
    """What is chosen in the controls; `n` is the maximum of new tokens."""

    models: list[str]
    mode: str
    colour: str
    other: str
    system: str
    temperature: float
    top_p: float
    seed: int
    n: int

    def other_of(self, model: str) -> str:
        """The model that this one's tokens are compared with; "" for none."""
        if self.other != model:
            return self.other
        return next((name for name in self.models if name != model), "")

    def sampling(self) -> dict[str, Any]:
        """The fields of an API request for sampling."""
        fields = {"max_tokens": self.n, "temperature": self.temperature, "seed": self.seed}
        return fields if self.top_p == 1 else {**fields, "top_p": self.top_p}


def controls(mode: str) -> Settings:
    """Draw the controls; returns what is chosen. `mode` is the default mode."""
    known = choices()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        models = pick_models(known)
        st.session_state.setdefault("mode", st.query_params.get("mode", mode))
        chosen = st.segmented_control(
            "Mode", MODES, key="mode", bind="query-params", required=True, help=MODE_HELP
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sampling = sampling_controls(str(chosen))
        colour = st.selectbox(
            "Colour tokens by",
            COLOURS,
            key="colour",
            bind="query-params",
            help=COLOUR_HELP,
            width=230,
        )
        other = pick_other(models, known)
    return Settings(models, str(chosen), str(colour), other, *sampling)


def pick_models(known: list[str]) -> list[str]:
    """A box to choose one to four models; returns their names."""
    options = list(known)
    current = st.session_state.get("models") or st.query_params.get_all("models")
    options = [*(name for name in current if name not in options), *options]
    models = st.multiselect(
        "Models, side by side",
        options,
        [DEFAULT] if DEFAULT in options else options[:1],
        format_func=option,
        key="models",
        bind="query-params",
        max_selections=MOST_MODELS,
        width=640,
        accept_new_options=True,
        placeholder="Choose one to four",
        help="For example a base model and its fine-tuned or edited version. You can also type a "
        "folder, a .gguf file or a Hugging Face id.",
    )
    return list(dict.fromkeys(map(bare, models)))


def pick_other(models: list[str], known: list[str]) -> str:
    """A box to choose the model that tokens are compared with; "" for none."""
    relatives = [base for name in models if (base := parent(name)) and base not in models]
    options = list(dict.fromkeys([*models[1:], *relatives, *known]))
    likely = options.index(relatives[0]) if len(models) == 1 and relatives else 0
    return bare(
        st.selectbox(
            "The other model",
            options,
            likely if len(models) > 1 or relatives else None,
            format_func=option,
            key="other",
            bind="query-params",
            width=230,
            placeholder="none",
            help="The model that each token is compared with, in its colour and in its "
            "alternatives.",
        )
        or ""
    )


def sampling_controls(mode: str) -> tuple[str, float, float, int, int]:
    """A popover for system prompt, temperature, top-p, seed and new tokens; their values."""
    state = st.session_state
    heat = float(state.get("temperature", st.query_params.get("temperature", 0.8)))
    with st.popover(f"Temperature {heat:g}, and more", icon=":material/tune:"):
        system = ""
        if mode == "Chat":
            system = st.text_area(
                "System prompt",
                key="system",
                bind="query-params",
                height=80,
                help="Instructions that come before the conversation.",
            )
        temperature = st.slider(
            "Temperature",
            0.0,
            2.0,
            0.8,
            0.1,
            key="temperature",
            bind="query-params",
            help="0: always the most likely token.",
        )
        top_p = st.slider(
            "Top-p",
            0.05,
            1.0,
            1.0,
            0.05,
            key="top_p",
            bind="query-params",
            help="Sample only from the most likely tokens whose probabilities add up to this.",
        )
        seed = st.number_input(
            "Seed",
            0,
            9999,
            0,
            key="seed",
            bind="query-params",
            help="The same seed gives the same text.",
        )
        n = st.slider("New tokens at most", 1, 512, 60, key="n", bind="query-params")
    return system or "", float(temperature), float(top_p), int(seed), int(n)
