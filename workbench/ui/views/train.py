"""A recipe as a form: its main fields, or the whole recipe as TOML."""

import tomllib
from dataclasses import replace
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.training import Recipe, schema
from workbench.training.recipe import find
from workbench.ui.parts.notices import fault
from workbench.ui.parts.runs import pressed
from workbench.ui.views import train_outcome
from workbench.ui.views.train_uploads import with_own_data


def recipe_form(name: str, *, as_text: bool = False) -> tuple[str, Recipe] | None:
    """Show a recipe's form; returns the pressed button and the edited recipe.

    The buttons are "start", "cost" and "encodings". None while nothing was pressed, or where the
    edited recipe is invalid; the page then says why. With `as_text` the form is the whole recipe
    as TOML.
    """
    recipe = with_own_data(name, Recipe.read(name))
    try:
        with st.form(f"recipe {name} {as_text}"):
            edited = _text(name, recipe) if as_text else _fields(name, recipe)
            chosen = _buttons(recipe, f"{name} {as_text}")
            return (chosen, checked(edited())) if chosen else None
    except WorkbenchError as error:
        fault(error)
        return None


def _buttons(recipe: Recipe, key: str) -> str | None:
    """Draw the buttons: start, estimate the cost, and train with every position encoding."""
    looks = {
        "start": ("Start", {"type": "primary", "icon": ":material/play_arrow:"}),
        "cost": (
            "What will it cost?",
            {
                "icon": ":material/timer:",
                "help": "Prepares the data and runs a few steps to measure time and memory.",
            },
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
    choice = None
    with st.container(horizontal=True):
        for what, (words, look) in looks.items():
            if pressed(st.form_submit_button, words, f"{what} {key}", **look):
                choice = what
    return choice


def checked(recipe: Recipe) -> Recipe:
    """The recipe, if its values are valid and its files exist; the data is checked by the run."""
    from workbench.training.checks import check

    return check(recipe)


def _text(name: str, recipe: Recipe):
    own = f"{name} own data" in st.session_state
    text = st.text_area(
        "Recipe",
        recipe.to_toml() if own else find(name).read_text(encoding="utf-8"),
        height=420,
        key=f"{name} text",
        help=f"Starts as {name}.toml.",
    )

    def build() -> Recipe:
        try:
            return Recipe.from_dict(tomllib.loads(text or ""))
        except tomllib.TOMLDecodeError as error:
            raise WorkbenchError(f"This is not TOML: {error}.") from error

    return build


def number(column: Any, table: str, word: str, value: Any, *, key: str, **more: Any) -> Any:
    """A number input for one key of a recipe, with label, bounds and help from the schema.

    Args:
        column: The column to draw it in.
        table: Such as "train".
        word: The key, such as "batch_size".
        value: Its first value.
        key: Of the widget.
        more: Further arguments for the widget, such as `step`.
    """
    entry = schema.properties(schema.TABLES[table])[word]
    types = (entry.get("type"), *(part.get("type") for part in entry.get("anyOf", ())))
    kind = float if "number" in types else int
    bounds = {
        "min_value": entry.get("minimum", entry.get("exclusiveMinimum")),
        "max_value": entry.get("maximum"),
    }
    given = {name: kind(bound) for name, bound in bounds.items() if bound is not None}
    look = {"help": entry["description"], **given, **more}
    return column.number_input(entry["title"], value=kind(value), key=key, **look)


def title_of(table: str, word: str) -> str:
    """The label of one key of a recipe."""
    return schema.properties(schema.TABLES[table])[word]["title"]


def _fields(name: str, recipe: Recipe):
    title = st.text_input("Title", recipe.title, key=f"{name} title")
    make = (
        _pretrain(name, recipe) if recipe.kind == "pretrain" else train_outcome.fields(name, recipe)
    )
    train = recipe.train
    left, middle, right = st.columns(3)
    boxes = {
        "steps": number(left, "train", "steps", train.steps, key=f"{name} steps", step=100),
        "batch_size": number(middle, "train", "batch_size", train.batch_size, key=f"{name} batch"),
        "lr": number(right, "train", "lr", train.lr, key=f"{name} lr", format="%g", step=1e-3),
        "eval_every": number(
            left, "train", "eval_every", train.eval_every, key=f"{name} every", step=10
        ),
        "checkpoint_every": number(
            middle,
            "train",
            "checkpoint_every",
            train.checkpoint_every,
            key=f"{name} keep",
            step=100,
        ),
        "seed": number(right, "train", "seed", train.seed, key=f"{name} seed"),
    }

    def build() -> Recipe:
        return replace(make(), title=title, train=replace(train, **boxes))

    return build


def _pretrain(name: str, recipe: Recipe):
    model = recipe.model
    sources = st.text_area(
        title_of("corpus", "sources"),
        "\n".join(recipe.corpus.sources),
        height=70,
        key=f"{name} sources",
        help="One per line: a .txt file, a folder of them, or the name of a data set below "
        "WORKBENCH_DATA.",
    )
    left, middle, right = st.columns(3)
    known = schema.properties(schema.TABLES["model"])
    encodings = known["positions"]["enum"]
    kind = model.get("positions", known["positions"]["default"])
    positions = left.selectbox(
        title_of("model", "positions"), encodings, encodings.index(kind), key=f"{name} p"
    )
    shape = {"positions": positions}
    for column, word, step in (
        (middle, "n_ctx", 64),
        (right, "n_layers", 1),
        (left, "n_heads", 1),
        (middle, "d_model", 32),
    ):
        start = model.get(word, known[word]["default"])
        shape[word] = number(column, "model", word, start, key=f"{name} {word}", step=step)
    d_mlp = right.number_input(
        title_of("model", "d_mlp"),
        0,
        value=model.get("d_mlp") or 0,
        step=32,
        key=f"{name} d_mlp",
        help="0: the usual width for d_model.",
    )

    def build() -> Recipe:
        lines = [line.strip() for line in (sources or "").splitlines() if line.strip()]
        changed = {**model, **shape, "d_mlp": d_mlp or None}
        return replace(recipe, model=changed, corpus=replace(recipe.corpus, sources=lines))

    return build
