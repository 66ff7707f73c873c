"""A recipe: one TOML file that says how a Subject is trained or fine-tuned."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictStr

from workbench import paths
from workbench.doors import path_of, read_toml
from workbench.errors import WorkbenchError
from workbench.training import schema
from workbench.training.recipe_tables import (
    CLOSED,
    Corpus,
    Lora,
    Optimisation,
    Privacy,
    Shape,
    Table,
    TaskTable,
    TokenizerTable,
)

__all__ = ["Corpus", "Optimisation", "Recipe", "find", "names"]


@dataclass(frozen=True)
class Recipe:
    """A run's full description; a fine-tune has `base`, `task`, `lora` and `privacy` as well.

    - `tokenizer` has a `kind`: bpe (with `d_vocab`), char or word, trained on the corpus, or model,
      taken from the `source`
    - `lora` is None to train every weight; a `[lora]` table, even an empty one, trains adapters
    - `privacy` is None for ordinary training; a `[privacy]` table, even an empty one, is DP-SGD
    """

    __pydantic_config__ = CLOSED

    title: Annotated[StrictStr, Field(title="Title", description="Shown in lists.")]
    kind: Annotated[
        Literal["pretrain", "finetune"],
        Field(description="Train a new model, or a known one further."),
    ] = "pretrain"
    notes: Annotated[StrictStr, Field(description="For people.")] = ""
    licence: Annotated[StrictStr, Field(description="Licence of the model, for its card.")] = ""
    model: Annotated[dict[str, Any], Table(Shape)] = field(default_factory=dict)
    tokenizer: Annotated[dict[str, Any], Table(TokenizerTable)] = field(
        default_factory=lambda: {"kind": "bpe", "d_vocab": 4096}
    )
    corpus: Corpus = field(default_factory=Corpus)
    train: Optimisation = field(default_factory=Optimisation)
    base: Annotated[StrictStr, Field(description="Of a fine-tune: the model to start from.")] = ""
    task: Annotated[dict[str, Any], Table(TaskTable)] = field(default_factory=dict)
    lora: Annotated[dict[str, Any], Table(Lora)] | None = None
    privacy: Annotated[dict[str, Any], Table(Privacy)] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe as nested dictionaries, which `Recipe.from_dict` reads."""
        return asdict(self)

    def to_toml(self) -> str:
        """The recipe as TOML text, which `read` takes; empty values are left out."""
        may_be_empty = ("lora", "privacy")
        values = {k: v for k, v in self.to_dict().items() if v or (v == {} and k in may_be_empty)}
        if self.kind == "finetune":
            values.pop("tokenizer", None)  # the base's own
        tables = {k: v for k, v in values.items() if isinstance(v, dict)}
        lines = [_entry(k, v) for k, v in values.items() if k not in tables]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(_entry(k, v) for k, v in table.items() if v is not None)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe of nested dictionaries.

        Raises:
            WorkbenchError: With one line for every unknown or wrong key.
        """
        return schema.checked(cls, values)

    def checked(self) -> "Recipe":
        """The same recipe, validated: `replace` and `Recipe(...)` themselves accept anything."""
        return self.from_dict(self.to_dict())

    @classmethod
    def read(cls, source: str | Path) -> "Recipe":
        """The recipe in a file, given by path or by its name on the `models/` shelf."""
        return cls.from_dict(read_toml(find(source), "mend the line"))


def _entry(name: str, value: Any) -> str:
    """One line of TOML; strings, numbers, booleans and lists of them are spelled as in JSON."""
    return (
        f"{name if name.isidentifier() else json.dumps(name)} = "
        f"{json.dumps(value, ensure_ascii=False)}"
    )


def names() -> list[str]:
    """The names of the recipes on the `models/` shelf."""
    return sorted(path.stem for path in paths.shelf("models").glob("*.toml"))


def find(source: str | Path) -> Path:
    """The path of a recipe. Raises `WorkbenchError` listing the available ones."""
    for path in (
        path_of(source, "recipe"),
        paths.shelf("models") / f"{path_of(source, 'recipe')}.toml",
    ):
        if path.is_file():
            return path
    raise WorkbenchError(
        f"No recipe {str(source)!r}; give a .toml file or one of {', '.join(names())}."
    )
