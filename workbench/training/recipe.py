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
    Shape,
    Table,
    TaskTable,
    TokenizerTable,
)

__all__ = ["Corpus", "Optimisation", "Recipe", "find", "names"]


@dataclass(frozen=True)
class Recipe:
    """One run's whole description. `kind` is pretrain or finetune; `base`, `task` and `lora` belong
    to the latter.

    `tokenizer` has a `kind`: bpe (with `d_vocab`) or char, made from the corpus, or model, taken
        from the `source`.
    `lora` is None where every weight is trained; a `[lora]` table, even an empty one, trains
    adapters instead.
    """

    __pydantic_config__ = CLOSED

    title: Annotated[StrictStr, Field(title="Title", description="What people read in lists.")]
    kind: Annotated[
        Literal["pretrain", "finetune"],
        Field(description="A new model, or a known one trained further."),
    ] = "pretrain"
    notes: Annotated[StrictStr, Field(description="For people.")] = ""
    licence: Annotated[StrictStr, Field(description="For people, and the model's card.")] = ""
    model: Annotated[dict[str, Any], Table(Shape)] = field(default_factory=dict)
    tokenizer: Annotated[dict[str, Any], Table(TokenizerTable)] = field(
        default_factory=lambda: {"kind": "bpe", "d_vocab": 4096}
    )
    corpus: Corpus = field(default_factory=Corpus)
    train: Optimisation = field(default_factory=Optimisation)
    base: Annotated[
        StrictStr, Field(description="Of a fine-tune: the model that it begins with.")
    ] = ""
    task: Annotated[dict[str, Any], Table(TaskTable)] = field(default_factory=dict)
    lora: Annotated[dict[str, Any], Table(Lora)] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, as `Recipe.from_dict` reads them."""
        return asdict(self)

    def to_toml(self) -> str:
        """The recipe as a file that `read` takes; what is empty is left out."""
        values = {k: v for k, v in self.to_dict().items() if v is not None and (v or k == "lora")}
        if self.kind == "finetune":
            values.pop("tokenizer", None)  # the base's own
        tables = {k: v for k, v in values.items() if isinstance(v, dict)}
        lines = [_entry(k, v) for k, v in values.items() if k not in tables]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(_entry(k, v) for k, v in table.items() if v is not None)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Check and build. Raises `WorkbenchError` with a line for every key that is unknown or
        wrong.
        """
        return schema.checked(cls, values)

    def checked(self) -> "Recipe":
        """The same recipe, checked again: `replace` and `Recipe(...)` take anything. Raises as
        `from_dict` does.
        """
        return self.from_dict(self.to_dict())

    @classmethod
    def read(cls, source: str | Path) -> "Recipe":
        """Read a recipe by path, or by the name of one on the `models/` shelf."""
        return cls.from_dict(read_toml(find(source), "mend the line"))


def _entry(name: str, value: Any) -> str:
    """One line of TOML; text, numbers, truths and lists of them are spelled as in JSON."""
    return (
        f"{name if name.isidentifier() else json.dumps(name)} = "
        f"{json.dumps(value, ensure_ascii=False)}"
    )


def names() -> list[str]:
    """The recipes on the shelf."""
    return sorted(path.stem for path in paths.shelf("models").glob("*.toml"))


def find(source: str | Path) -> Path:
    """The recipe's path. Raises `WorkbenchError` listing what there is."""
    for path in (
        path_of(source, "recipe"),
        paths.shelf("models") / f"{path_of(source, 'recipe')}.toml",
    ):
        if path.is_file():
            return path
    raise WorkbenchError(
        f"No recipe {str(source)!r}; give a .toml file or one of {', '.join(names())}."
    )
