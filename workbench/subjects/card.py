"""A Subject's card: sizes, source, licence, and the hash that pins it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from transformers import PretrainedConfig, PreTrainedModel

from workbench.doors import read_object, short
from workbench.errors import WorkbenchError

FILE = "card.json"
T5_CONTEXT = 512
"""T5's training context; its relative positions have no end, so its configuration has no limit."""

CARD_MEND = "correct it, or remove it: all that is measured is found out again"
KINDS = {str: "a text", int: "a whole number", dict: "an object"}
"""Types of a card's fields, in words."""
MOST_BYTES = 1_000_000
"""Largest `card.json` that is read."""

MEASURED_AT_LOAD = frozenset({"identity", "loaded"})
"""Fields that are set at every load, and so are not stored in a folder's `card.json`."""

CONTEXTS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "seq_length",
)
"""Configuration names of the context length in different families."""
OPEN_CONTEXT = 2048
"""Context length used where the configuration sets none, as for BLOOM (ALiBi has no limit)."""


@dataclass(frozen=True)
class Card:
    """Facts about a Subject; unknown ones are empty strings.

    - `n_params`: number of parameters, tied weights counted once
    - `n_ctx`: longest input in tokens; `positions`: position encoding
    - `sha256`: hash of the bytes of the weight files
    - `identity`: hash of weights, configuration, tokenizer and edits together
    - `loaded`: what loading changed, such as a prefix left out of names
    - `parent`: name of the Subject that this one was made from
    """

    name: str
    source: str
    architecture: str
    n_params: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    n_ctx: int
    d_vocab: int
    positions: str
    sha256: str
    identity: str = ""
    loaded: str = ""
    licence: str = ""
    parent: str = ""
    created: str = ""
    command: str = ""
    data: str = ""
    notes: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, as it is written to `card.json`."""
        return asdict(self)


def read_card(folder: Path) -> dict[str, Any]:
    """The known fields of a folder's `card.json`; {} where there is none.

    Raises:
        WorkbenchError: The card is not JSON, or a field has another type than in `Card`.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    values = read_object(path, CARD_MEND, largest=MOST_BYTES)
    known = get_type_hints(Card)
    lasting = {
        word: value
        for word, value in values.items()
        if word in known and word not in MEASURED_AT_LOAD
    }
    for word, value in lasting.items():
        kind = get_origin(known[word]) or known[word]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise WorkbenchError(
                f"{path}: {word} is {short(repr(value), 60)}, not {KINDS[kind]}; {CARD_MEND}."
            )
    return lasting


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a folder's `card.json`, without the fields that are set at every load."""
    lasting = {word: value for word, value in card.items() if word not in MEASURED_AT_LOAD}
    (folder / FILE).write_text(
        json.dumps(lasting, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def make_card(
    model: PreTrainedModel,
    name: str,
    source: str,
    sha256: str,
    stated: dict[str, Any],
    *,
    identity: str = "",
    loaded: str = "",
) -> Card:
    """The card of a loaded model: sizes from the model itself, the rest from `stated`.

    Args:
        model: The loaded model.
        name: Name to show.
        source: Path or Hugging Face id with revision.
        sha256: Hash of the bytes of the weight files.
        stated: Fields from the model's folder or recipe, such as its licence.
        identity: Hash of weights, configuration and tokenizer together.
        loaded: What loading changed.

    Raises:
        WorkbenchError: The model has no attention heads, or heads of different sizes.
    """
    config: Any = model.config.get_text_config()
    n_heads = getattr(config, "num_attention_heads", None)
    if not n_heads:
        raise WorkbenchError(
            f"{name} ({type(model).__name__}) has no attention heads, and all that is asked here "
            "is about attention; choose a GPT-like model, such as shelf-base."
        )
    try:
        d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    except RuntimeError as error:  # a configuration with a value per layer has none for all
        raise WorkbenchError(
            f"{name} ({type(model).__name__}) has heads of different sizes in different layers, "
            "which is not known here; choose a model whose heads are all of one size."
        ) from error
    measured = {
        "name": name,
        "source": source,
        "architecture": type(model).__name__,
        "n_params": sum(p.numel() for p in model.parameters()),
        "n_layers": config.num_hidden_layers,
        "n_heads": n_heads,
        "n_kv_heads": _n_kv_heads(config, n_heads),
        "d_model": config.hidden_size,
        "d_head": d_head,
        "n_ctx": context_of(config),
        "d_vocab": config.vocab_size,
        "positions": position_encoding(config),
        "sha256": sha256,
        "identity": identity,
        "loaded": loaded,
    }
    return Card(**{**stated, **measured})


def _n_kv_heads(config: Any, n_heads: int) -> int:
    """Key-value heads per layer; Falcon has a switch instead of a number."""
    if config.model_type == "falcon" and not config.new_decoder_architecture:
        return 1 if config.multi_query else n_heads
    for name in ("num_key_value_heads", "num_kv_heads"):
        n_kv_heads = getattr(config, name, None)
        if n_kv_heads:
            return n_kv_heads
    return n_heads


def context_of(config: Any) -> int:
    """The context length of a configuration, in tokens."""
    if hasattr(config, "relative_attention_num_buckets"):
        return T5_CONTEXT
    sizes = (getattr(config, word, None) for word in CONTEXTS)
    return next((n for n in sizes if isinstance(n, int) and n > 0), OPEN_CONTEXT)


def within_context(config: PretrainedConfig, n_tokens: int) -> int:
    """`n_tokens`, or the model's context length where that is shorter."""
    known = (getattr(config.get_text_config(), word, None) for word in CONTEXTS)
    return min([n_tokens, *(n for n in known if n)])


def position_encoding(config: PretrainedConfig) -> str:
    """The encoding: learned, sinusoidal, rotary, alibi, relative (T5's biases), none or unknown."""
    if hasattr(config, "positions"):
        return str(config.positions)
    if hasattr(config, "relative_attention_num_buckets"):
        return "relative"
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "alibi"
    if getattr(config, "rope_parameters", None) or hasattr(config, "rotary_dim"):
        return "rotary"
    return (
        "learned"
        if config.model_type in ("gpt2", "opt", "gpt_neo", "openai-gpt", "gpt_bigcode", "biogpt")
        else "unknown"
    )


def hash_files(files: Iterable[Path]) -> str:
    """The sha256 over the bytes of the files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
