"""The kind of model a configuration describes: decoder, encoder-decoder or encoder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from workbench.doors import reading, short
from workbench.errors import WorkbenchError
from workbench.subjects.claims import MEND


class Kind(NamedTuple):
    """The class of transformers that reads a model, and the model's configuration."""

    reader: Any
    config: Any


def kind_of(where: str | Path, name: str, *, seq2seq: bool, gguf_file: str | None = None) -> Kind:
    """The class that reads a model, and its configuration; no weight is read.

    Args:
        where: Folder or Hugging Face id; of a GGUF file its folder.
        name: What the user called the model, for errors.
        seq2seq: Whether encoder-decoder models are accepted.
        gguf_file: Name of the GGUF file in the folder.

    Raises:
        WorkbenchError: The configuration cannot be read, or is of an encoder, or of an
            encoder-decoder model without `seq2seq`.
    """
    with reading(name, MEND):
        config = AutoConfig.from_pretrained(where, trust_remote_code=False, gguf_file=gguf_file)
        config.architectures = [str(kind) for kind in config.architectures or []]
    return Kind(
        AutoModelForCausalLM if gguf_file else _auto_class(config, name, seq2seq=seq2seq), config
    )


def _auto_class(config: Any, name: str, *, seq2seq: bool) -> Any:
    what = f"{name} ({short((config.architectures or [config.model_type])[0], 80)})"
    if config.is_encoder_decoder:
        if not seq2seq:
            raise WorkbenchError(
                f"{what} is an encoder-decoder model; the Anatomy page and load(..., seq2seq=True) "
                "take it, all else here needs a decoder-only model such as shelf-base."
            )
        return AutoModelForSeq2SeqLM
    if is_encoder(config):
        raise WorkbenchError(
            f"{what} is an encoder-only model: it fills gaps, sees both sides of a token and "
            "predicts no next one, so what is measured here has no meaning for it. Choose a model "
            "that writes, such as shelf-base or GPT-2."
        )
    return AutoModelForCausalLM


def is_encoder(config: Any) -> bool:
    """Whether attention is bidirectional; transformers would load a BERT as a causal model too."""
    if getattr(config, "is_decoder", False):
        return False
    causal = any(
        "CausalLM" in str(name) or "LMHead" in str(name) for name in config.architectures or []
    )
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal


def says_encoder_decoder(config: Path) -> bool:
    """Whether a `config.json` is of an encoder-decoder model; False where it cannot be read."""
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("is_encoder_decoder"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
