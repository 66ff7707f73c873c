"""A recipe as a form: its main fields, or all of it as TOML."""

import tomllib
from dataclasses import replace
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.training import Recipe
from workbench.training.recipe import find
from workbench.ui import finetuning
from workbench.ui.runs import pressed
from workbench.ui.uploads import with_own_data

POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")


def recipe_form(name: str, *, as_text: bool = False) -> tuple[str, Recipe] | None:
    """A form that starts as the recipe `name`; what was pressed (start, cost, encodings) and the edited recipe.

    None while nothing was pressed. With `as_text` the form is the whole recipe as TOML.
    A recipe that cannot be built is refused with its sentence, and nothing starts.
    """
    recipe = with_own_data(name, Recipe.read(name))
    try:
        with st.form(f"recipe {name} {as_text}"):
            edited = _text(name, recipe) if as_text else _fields(name, recipe)
            chosen = _buttons(recipe, f"{name} {as_text}")
            return (chosen, checked(edited())) if chosen else None
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return None


def _buttons(recipe: Recipe, key: str) -> str | None:
    """Start, and beside it what may come first: the cost, or the same recipe with every position encoding."""
    looks = {
        "start": ("Start", {"type": "primary", "icon": ":material/play_arrow:"}),
        "cost": (
            "What will it cost?",
            {"icon": ":material/timer:", "help": "Prepares the data, takes a few steps and keeps nothing of them."},
        ),
        "encodings": (
            "All five encodings",
            {
                "icon": ":material/linear_scale:",
                "help": "Trains it once with each position encoding, one after the other.",
            },
        ),
    }
    if recipe.kind != "pretrain":
        looks.pop("encodings")
    found = None
    with st.container(horizontal=True):
        for what, (words, look) in looks.items():
            if pressed(st.form_submit_button, words, f"{what} {key}", **look):
                found = what
    return found


def checked(recipe: Recipe) -> Recipe:
    """The recipe, when its sizes make sense; what only the data can tell is told by the run."""
    train = recipe.train
    for word in ("steps", "batch_size", "lr", "eval_every", "checkpoint_every"):
        value = getattr(train, word)
        if not isinstance(value, (int, float)) or value <= 0:
            raise WorkbenchError(f"{word} is {value!r}; it must be a number above 0.")
    if not recipe.title.strip():
        raise WorkbenchError("The run needs a title; type one.")
    if recipe.kind == "pretrain":
        if not recipe.corpus.sources:
            raise WorkbenchError("The corpus is empty; name a text file, a folder or a data set.")
        _check_shape(recipe.model)
    else:
        from workbench.training.finetune import make_task

        make_task(recipe)
    return recipe


def _check_shape(model: dict[str, Any]) -> None:
    from workbench.subjects.gpt import WorkbenchGPTConfig

    try:
        WorkbenchGPTConfig(**model)
    except (TypeError, ValueError) as error:
        raise WorkbenchError(f"[model] of the recipe: {error}.") from error


def _text(name: str, recipe: Recipe):
    own = f"{name} own data" in st.session_state
    text = st.text_area(
        "Recipe",
        recipe.to_toml() if own else find(name).read_text(encoding="utf-8"),
        height=420,
        key=f"{name} text",
        help=f"Begins as {name}.toml.",
    )

    def build() -> Recipe:
        try:
            return Recipe.from_dict(tomllib.loads(text or ""))
        except tomllib.TOMLDecodeError as error:
            raise WorkbenchError(f"This is not TOML: {error}.") from error

    return build


def _fields(name: str, recipe: Recipe):
    title = st.text_input("Title", recipe.title, key=f"{name} title")
    make = _pretrain(name, recipe) if recipe.kind == "pretrain" else finetuning.fields(name, recipe)
    train = recipe.train
    left, middle, right = st.columns(3)
    steps = left.number_input("Steps", 1, value=train.steps, step=100, key=f"{name} steps")
    size = middle.number_input("Batch size", 1, value=train.batch_size, key=f"{name} batch")
    lr = right.number_input("Peak lr", 0.0, value=float(train.lr), format="%g", step=1e-3, key=f"{name} lr")
    every = left.number_input("Eval every", 1, value=train.eval_every, step=10, key=f"{name} every")
    keep = middle.number_input("Save every", 1, value=train.checkpoint_every, step=100, key=f"{name} keep")
    seed = right.number_input("Seed", 0, value=train.seed, key=f"{name} seed")

    def build() -> Recipe:
        changed = replace(
            train, steps=steps, batch_size=size, lr=lr, eval_every=every, checkpoint_every=keep, seed=seed
        )
        return replace(make(), title=title, train=changed)

    return build


def _pretrain(name: str, recipe: Recipe):
    model = recipe.model
    sources = st.text_area(
        "Corpus",
        "\n".join(recipe.corpus.sources),
        height=70,
        key=f"{name} sources",
        help="One a line: a .txt file, a folder of them, or the name of a set below WORKBENCH_DATA.",
    )
    left, middle, right = st.columns(3)
    kind = model.get("positions", "rotary")
    positions = left.selectbox(
        "Positions", POSITIONS, POSITIONS.index(kind) if kind in POSITIONS else 0, key=f"{name} p"
    )
    n_ctx = middle.number_input(
        "Context", 2, value=model.get("n_ctx", 256), step=64, key=f"{name} n_ctx", help="Tokens."
    )
    n_layers = right.number_input("Layers", 1, value=model.get("n_layers", 4), key=f"{name} n_layers")
    n_heads = left.number_input("Heads", 1, value=model.get("n_heads", 4), key=f"{name} n_heads")
    d_model = middle.number_input("d_model", 1, value=model.get("d_model", 128), step=32, key=f"{name} d_model")
    d_mlp = right.number_input(
        "d_mlp",
        0,
        value=model.get("d_mlp") or 0,
        step=32,
        key=f"{name} d_mlp",
        help="0: as wide as usual for d_model.",
    )

    def build() -> Recipe:
        shape = {
            "positions": positions,
            "n_ctx": n_ctx,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "d_model": d_model,
        }
        shape = {**model, **shape, "d_mlp": d_mlp or None}
        lines = [line.strip() for line in (sources or "").splitlines() if line.strip()]
        return replace(recipe, model=shape, corpus=replace(recipe.corpus, sources=lines))

    return build
