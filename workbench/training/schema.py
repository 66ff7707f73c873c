"""The schema of recipes: validation that reports all faults at once, and what each key takes."""

import difflib
import json
from functools import cache
from typing import Any, TypeGuard, TypeVar

from pydantic import TypeAdapter, ValidationError

from workbench.errors import WorkbenchError
from workbench.training.recipe_tables import (
    Corpus,
    Lora,
    Optimisation,
    Privacy,
    Shape,
    TaskTable,
    TokenizerTable,
)

T = TypeVar("T")
TABLES: dict[str, type] = {
    "model": Shape,
    "tokenizer": TokenizerTable,
    "corpus": Corpus,
    "train": Optimisation,
    "task": TaskTable,
    "lora": Lora,
    "privacy": Privacy,
}
"""The tables of a recipe by name."""
UNKNOWN = "unexpected_keyword_argument"
ALIASES = {
    "batch": "batch_size",
    "context_length": "n_ctx",
    "epochs": "steps",
    "hidden_size": "d_model",
    "learning_rate": "lr",
    "max_steps": "steps",
    "n_embd": "d_model",
    "n_head": "n_heads",
    "n_layer": "n_layers",
    "rank": "r",
    "vocab_size": "d_vocab",
    "warmup_steps": "warmup",
}
"""Names that other trainers use, and the key of ours they stand for."""


def checked(cls: type[T], values: Any, *, table: str = "") -> T:
    """A validated recipe or table.

    Args:
        cls: `Recipe`, or one of `TABLES`.
        values: Nested dictionaries from a file, a form or the store.
        table: The table's name, if `cls` is one.

    Raises:
        WorkbenchError: With one line for each key that is unknown, of a wrong type or out of range.
    """
    faults: list[str] = []
    built: Any = None
    try:
        built = _adapter(cls).validate_python(values)
    except ValidationError as error:
        wrong = [
            {**fault, "loc": (table, *fault["loc"]) if table else fault["loc"]}
            for fault in error.errors()
        ]
        faults += dict.fromkeys(
            _sentence(cls, fault) for fault in wrong if fault["type"] != UNKNOWN
        )
        faults += _unknown(cls, [_named(fault) for fault in wrong if fault["type"] == UNKNOWN])
    if isinstance(values, dict) and not table:
        faults += _conflicts(values)
    if faults:
        raise WorkbenchError(_joined(faults))
    return built


def _joined(faults: list[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    return f"The recipe has {len(faults)} faults:\n" + "\n".join(f"- {fault}" for fault in faults)


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


# -- sentences -------------------------------------------------------------------------------------


def _named(fault: Any) -> list[str]:
    """The path of keys to a fault, without list indices."""
    return [part for part in fault["loc"] if isinstance(part, str)]


def _sentence(cls: type, fault: Any) -> str:
    """One of pydantic's errors as a sentence: the key, its value, what it takes."""
    where = _named(fault)
    if not where:
        return f"A recipe is a table of keys and values; this is {_shown(fault['input'])}."
    name = where[0]
    if len(where) == 1 and name in TABLES:
        return (
            f"[{name}] of the recipe is {_shown(fault['input'])}; it must be a table of keys and "
            "values."
        )
    if fault["type"] == "missing":
        return f'The recipe has no {name}; add a line such as {name} = "my model".'
    if len(where) == 1:
        return (
            f"The recipe's {name} is {_shown(fault['input'])}; it must be "
            f"{allowed(properties(cls)[name])}."
        )
    key = where[1]
    takes = allowed(properties(TABLES[name])[key])
    part = "an entry of " if isinstance(fault["loc"][-1], int) else ""
    return f"[{name}] {part}{key} is {_shown(fault['input'])}; it must be {takes}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unknown(cls: type, places: list[list[str]]) -> list[str]:
    """One sentence per table: its unknown keys, the known ones, and what was probably meant."""
    by_table: dict[str, list[str]] = {}
    for where in places:
        by_table.setdefault(where[0] if len(where) > 1 else "", []).append(where[-1])
    sentences = []
    for table, keys in by_table.items():
        known = sorted(properties(TABLES[table] if table else cls))
        name = f"[{table}]" if table else "The recipe"
        hints = [hint for key in keys if (hint := _hint(key, known, table))]
        sentences.append(
            " ".join(
                [f"{name} does not know {', '.join(keys)}; it knows {', '.join(known)}.", *hints]
            )
        )
    return sentences


def _hint(key: str, known: list[str], table: str) -> str:
    near = (
        [ALIASES[key]]
        if ALIASES.get(key) in known
        else difflib.get_close_matches(key, known, 1, cutoff=0.7)
    )
    if near:
        return f"Did you mean {near[0]} for {key}?"
    word = ALIASES.get(key, key)
    elsewhere = [
        other for other, kind in TABLES.items() if other != table and word in properties(kind)
    ]
    return f"{word} belongs into [{elsewhere[0]}]." if elsewhere else ""


# -- conflicts between keys ------------------------------------------------------------------------


def _conflicts(values: dict[str, Any]) -> list[str]:
    """Faults between keys whose own values are valid."""
    faults = _shape_conflicts(values) if isinstance(values.get("model"), dict) else []
    kind = values.get("kind", "pretrain")
    if isinstance(values.get("title"), str) and not values["title"].strip():
        faults.append("The run needs a title; type one.")
    corpus = values.get("corpus", {})
    if kind == "pretrain" and isinstance(corpus, dict):
        if not corpus.get("sources"):
            faults.append(
                "The corpus is empty; name a text file, a folder or a data set in [corpus] sources."
            )
        if corpus.get("validation", Corpus.validation) == 0:
            faults.append(
                "[corpus] validation is 0; pretraining measures itself on held-out text, so hold "
                "some out."
            )
        faults += _repeated(values, corpus)
        faults += _aligned(corpus)
    faults += _tokenizer_conflicts(values.get("tokenizer"))
    if values.get("privacy") is not None:
        faults += _privacy_conflicts(kind, values.get("train", {}))
    return faults


def _privacy_conflicts(kind: Any, train: Any) -> list[str]:
    faults = []
    if kind != "finetune":
        faults.append('[privacy] goes with kind = "finetune"; pretraining has no single examples.')
    settings = train if isinstance(train, dict) else {}
    needed = {"optimizer": "adamw", "sharded": False, "checkpointing": False}
    for key, value in needed.items():
        given = settings.get(key, getattr(Optimisation, key))
        if given != value:
            faults.append(f"[privacy] needs [train] {key} = {json.dumps(value)}.")
    if settings.get("compile"):
        faults.append("[privacy] needs [train] compile = false.")
    if settings.get("precision") == "bf16":
        faults.append('[privacy] computes in float32; set [train] precision = "auto" or "no".')
    return faults


def _repeated(values: dict[str, Any], corpus: dict[str, Any]) -> list[str]:
    shape = values.get("model")
    n_ctx = shape.get("n_ctx", Shape.n_ctx) if isinstance(shape, dict) else Shape.n_ctx
    share = corpus.get("repeated", 0)
    if _number(share) and _number(n_ctx) and share > 0 and n_ctx < 8:
        return [f"[corpus] repeated needs a context of 8 tokens or more; [model] n_ctx is {n_ctx}."]
    return []


def _aligned(corpus: dict[str, Any]) -> list[str]:
    if not corpus.get("aligned"):
        return []
    faults = []
    if corpus.get("split", "document") != "document":
        faults.append('[corpus] aligned goes with split = "document": one text has one beginning.')
    if corpus.get("repeated"):
        faults.append("[corpus] aligned keeps documents whole, and repeated does not; choose one.")
    return faults


def _shape_conflicts(values: dict[str, Any]) -> list[str]:
    shape = {name: values["model"].get(name, getattr(Shape, name)) for name in properties(Shape)}
    if not all(_number(shape[name]) and shape[name] > 0 for name in ("d_model", "n_heads")):
        return []
    faults = []
    kv_heads = shape["n_kv_heads"]
    d_head = shape["d_head"]
    if d_head is None and shape["d_model"] < shape["n_heads"]:
        return [
            (
                f"[model] d_model is {shape['d_model']}; it must be at least n_heads, "
                f"{shape['n_heads']}."
            )
        ]
    if _number(kv_heads) and kv_heads > 0 and shape["n_heads"] % kv_heads:
        faults.append(
            f"[model] n_heads {shape['n_heads']} must be a multiple of n_kv_heads {kv_heads}."
        )
    d_head = d_head if _number(d_head) else shape["d_model"] // shape["n_heads"]
    if shape["positions"] == "rotary" and d_head % 2:
        faults.append(
            f"[model] rotary positions need an even d_head (d_model / n_heads); it is {d_head}."
        )
    return faults


def _tokenizer_conflicts(table: Any) -> list[str]:
    if not isinstance(table, dict):
        return []
    kind = table.get("kind", "bpe")
    faults = []
    if kind == "model" and not table.get("source"):
        faults.append(
            '[tokenizer] kind = "model" needs a source: the model whose tokenizer is taken.'
        )
    if kind in ("bpe", "char", "word") and table.get("source"):
        faults.append(f'[tokenizer] source goes with kind = "model", and the kind is {kind}.')
    if kind in ("char", "word", "model") and "d_vocab" in table:
        faults.append(
            f'[tokenizer] d_vocab goes with kind = "bpe"; with {kind} its size follows from the '
            "source."
        )
    return faults


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- the schema in words ---------------------------------------------------------------------------


@cache
def properties(cls: type) -> dict[str, dict[str, Any]]:
    """The JSON schema of each key of `Recipe` or of a table, in order of definition."""
    return _adapter(cls).json_schema()["properties"]


def allowed(entry: dict[str, Any]) -> str:
    """What values a key takes, in words; `entry` is its JSON schema."""
    if entry.get("anyOf"):
        kinds = [kind for kind in entry["anyOf"] if kind.get("type") != "null"]
        return " or ".join(
            dict.fromkeys(allowed({**entry, **kind, "anyOf": None}) for kind in kinds)
        )
    if "enum" in entry:
        *others, last = entry["enum"]
        return f"{', '.join(others)} or {last}"
    if entry.get("type") in ("integer", "number"):
        return _interval(entry)
    words = {"boolean": "true or false", "string": "text", "array": "a list of texts"}
    return words.get(entry.get("type", ""), "a table")


def _interval(entry: dict[str, Any]) -> str:
    noun = "a whole number" if entry["type"] == "integer" else "a number"
    low = entry.get("minimum")
    above = entry.get("exclusiveMinimum")
    high = entry.get("maximum")
    below = entry.get("exclusiveMaximum")
    parts = []
    if low is not None:
        parts.append(f"at least {low:,}")
    if above is not None:
        parts.append(f"above {above:,}")
    if high is not None:
        parts.append(f"at most {high:,}")
    if below is not None:
        parts.append(f"below {below:,}")
    return f"{noun} {' and '.join(parts)}" if parts else noun
