"""The Chat page's controls: which models, in which mode, how tokens are drawn and coloured; all of
it in the URL.
"""

from typing import Any, NamedTuple

import streamlit as st

from workbench.comparison.lineage import parent
from workbench.ui.parts.models import choices

MODES = ("Chat", "Continue", "Passage")
MODE_HELP = """
- **Chat**: turns of a conversation, in the model's chat template, or in a plain one where it has none
- **Continue**: the model goes on with a text: its likeliest words beside drawn ones
- **Passage**: a question about a text that you paste: the answer, where it stands, and the heads that fetched it
"""
SURE, SURPRISE, DIFFERENCE, PLAIN = (
    "how sure it was",
    "surprise of the other",
    "difference to the other",
    "nothing",
)
COLOURS = (SURE, SURPRISE, DIFFERENCE, PLAIN)
COLOUR_HELP = """
- **how sure it was**: white is certain; the deeper, the less likely the model itself found the token
- **surprise of the other**: how unlikely the *other* model finds what this one wrote
- **difference to the other**: blue where this model finds the token likelier than the other, red where less; with an
  edited model and its base, what the edit changed
"""
MOST_MODELS = 4
DEFAULT = "shelf-base"


class Settings(NamedTuple):
    """What the controls say."""

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
        """The model that a model's tokens are compared with; "" for none."""
        if self.other != model:
            return self.other
        return next((name for name in self.models if name != model), "")

    def sampling(self) -> dict[str, Any]:
        """The fields of a request that say how tokens are drawn."""
        fields = {"max_tokens": self.n, "temperature": self.temperature, "seed": self.seed}
        return fields if self.top_p == 1 else {**fields, "top_p": self.top_p}


def controls(mode: str) -> Settings:
    """Draw the controls; `mode` is taken where the URL names none."""
    known = choices()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        models = pick_models(known)
        st.session_state.setdefault("mode", st.query_params.get("mode", mode))
        chosen = st.segmented_control(
            "Mode", MODES, key="mode", bind="query-params", required=True, help=MODE_HELP
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        drawn = drawing(str(chosen))
        colour = st.selectbox(
            "Colour of a token",
            COLOURS,
            key="colour",
            bind="query-params",
            help=COLOUR_HELP,
            width=230,
        )
        other = pick_other(models, known)
    return Settings(models, str(chosen), str(colour), other, *drawn)


def pick_models(known: list[str]) -> list[str]:
    """One to four models, beside each other."""
    options = list(known)
    current = st.session_state.get("models") or st.query_params.get_all("models")
    options = [*(name for name in current if name not in options), *options]
    models = st.multiselect(
        "Models, side by side",
        options,
        [DEFAULT] if DEFAULT in options else options[:1],
        key="models",
        bind="query-params",
        max_selections=MOST_MODELS,
        width=640,
        accept_new_options=True,
        placeholder="Choose one to four",
        help="A base beside its fine-tune, or beside an edit of it; or type a folder, a .gguf file or a Hugging Face "
        "id. Every pane names the weights that answered.",
    )
    return [str(name) for name in models]


def pick_other(models: list[str], known: list[str]) -> str:
    """The model that tokens are compared with: another pane's, or what the model was made from."""
    relatives = [
        made_from for name in models if (made_from := parent(name)) and made_from not in models
    ]
    options = list(dict.fromkeys([*models[1:], *relatives, *known]))
    likely = options.index(relatives[0]) if len(models) == 1 and relatives else 0
    return str(
        st.selectbox(
            "The other model",
            options,
            likely if len(models) > 1 or relatives else None,
            key="other",
            bind="query-params",
            width=230,
            placeholder="none",
            help="What a token is compared with: its colour, and what the other would have said.",
        )
        or ""
    )


def drawing(mode: str) -> tuple[str, float, float, int, int]:
    """System prompt, temperature, top-p, seed and new tokens, behind a button that says what is
    set.
    """
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
                help="What the model is told first.",
            )
        temperature = st.slider(
            "Temperature",
            0.0,
            2.0,
            0.8,
            0.1,
            key="temperature",
            bind="query-params",
            help="0: always the likeliest.",
        )
        top_p = st.slider(
            "Top-p",
            0.05,
            1.0,
            1.0,
            0.05,
            key="top_p",
            bind="query-params",
            help="Draw only from the likeliest tokens that together have this share.",
        )
        seed = st.number_input(
            "Seed",
            0,
            9999,
            0,
            key="seed",
            bind="query-params",
            help="The same seed, the same text.",
        )
        n = st.slider("New tokens, at most", 1, 512, 60, key="n", bind="query-params")
    return system or "", float(temperature), float(top_p), int(seed), int(n)
