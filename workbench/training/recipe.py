"""A recipe: one TOML file that says how a Subject is trained or fine-tuned."""

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Corpus:
    """What is read: `sources` are files, folders, set names, hub ids or `generated`.

    `validation` is the share held out; `split` is document (each document's own hash decides) or tail (the last
    characters, for one text as it stands).

    `column` is the column of a table that holds the text, where it has none of the usual names. `unwrap` joins the
    lines of paragraphs in hard-wrapped prose; else lines stay as they are.

    `repeated` is the share of training rows that are one span of the corpus given again and again, in half of them
    with its tokens shuffled: it lets a small model on a small budget find induction, which natural text alone teaches
    only after many more tokens.
    """

    sources: list[str] = field(default_factory=list)
    validation: float = 0.02
    repeated: float = 0.0
    split: str = "document"
    column: str = ""
    unwrap: bool = False


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast, what is measured meanwhile and what is kept.

    - `lr` serves matrices (Muon) and everything else (AdamW); `schedule`: trapezoid (flat, then down over the last
      `decay` share of the steps) or cosine; both end at `min_lr`
    - `accumulate`: a step's rows go through in so many parts; 0 finds out how many memory needs
    - `momentum` is Muon's, `beta2` AdamW's: a run of few hundred steps learns faster with less momentum
    - `ema`: decay of an average of the weights, which is what is evaluated and saved; 0 for none
    - `keep`: the last checkpoints that stay, beside the best; `series`: how many stay spread evenly over the
      logarithm of the steps, to see how it learned
    - `sharded`: on several processes, each holds its slice of the weights (FSDP2) instead of all of them (DDP)
    """

    steps: int = 1000
    batch_size: int = 16
    lr: float = 3e-3
    warmup: int = 50
    decay: float = 0.3
    weight_decay: float = 0.1
    clip: float = 1.0
    optimizer: str = "muon"
    schedule: str = "trapezoid"
    min_lr: float = 0.0
    momentum: float = 0.95
    beta2: float = 0.95
    ema: float = 0.0
    accumulate: int = 1
    precision: str = "auto"
    compile: bool = False
    checkpointing: bool = False
    sharded: bool = False
    eval_every: int = 100
    eval_tokens: int = 32_768
    checkpoint_every: int = 500
    keep: int = 3
    series: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """One run's whole description. `kind` is pretrain or finetune; `base`, `task` and `lora` belong to the latter.

    `tokenizer` has a `kind`: bpe (with `d_vocab`) or char, made from the corpus, or model, taken from the `source`.
    `lora` is None where every weight is trained; a `[lora]` table, even an empty one, trains adapters instead.
    """

    title: str
    kind: str = "pretrain"
    notes: str = ""
    licence: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=lambda: {"kind": "bpe", "d_vocab": 4096})
    corpus: Corpus = field(default_factory=Corpus)
    train: Optimisation = field(default_factory=Optimisation)
    base: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] | None = None

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
        """Check and build. Raises `WorkbenchError` naming a word that no recipe has."""
        values = dict(values)
        if "title" not in values:
            raise WorkbenchError('The recipe has no title; add a line such as title = "my model".')
        if values.get("kind", "pretrain") not in ("pretrain", "finetune"):
            raise WorkbenchError(f"The recipe's kind is {values['kind']!r}; it must be pretrain or finetune.")
        values["corpus"] = _build(Corpus, values.get("corpus", {}), "corpus")
        values["train"] = _build(Optimisation, values.get("train", {}), "train")
        return _build(cls, values, "recipe")

    @classmethod
    def read(cls, source: str | Path) -> "Recipe":
        """Read a recipe by path, or by the name of one on the `models/` shelf."""
        path = find(source)
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WorkbenchError(f"{path} is not a readable TOML file: {error}.") from error


def _entry(name: str, value: Any) -> str:
    """One line of TOML; text, numbers, truths and lists of them are spelled as in JSON."""
    return f"{name if name.isidentifier() else json.dumps(name)} = {json.dumps(value, ensure_ascii=False)}"


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise WorkbenchError(f"[{where}] does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}.")
    return cls(**values)


def names() -> list[str]:
    """The recipes on the shelf."""
    return sorted(path.stem for path in paths.shelf("models").glob("*.toml"))


def find(source: str | Path) -> Path:
    """The recipe's path. Raises `WorkbenchError` listing what there is."""
    for path in (Path(source), paths.shelf("models") / f"{source}.toml"):
        if path.is_file():
            return path
    raise WorkbenchError(f"No recipe {str(source)!r}; give a .toml file or one of {', '.join(names())}.")
