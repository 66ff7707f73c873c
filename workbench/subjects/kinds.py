"""What kind of model a configuration describes, before any weight is read: decoder, encoder-decoder or encoder."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from workbench.errors import WorkbenchError


def auto_class(where: str | Path, name: str, *, seq2seq: bool) -> Any:
    """The class of transformers that reads this model.

    Raises `WorkbenchError` for an encoder, and for an encoder-decoder model unless `seq2seq` says that it may be one;
    what transformers raises for an unreadable configuration passes.
    """
    config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    what = f"{name} ({(config.architectures or [config.model_type])[0]})"
    if config.is_encoder_decoder:
        if not seq2seq:
            raise WorkbenchError(
                f"{what} is an encoder-decoder model; the Anatomy page and load(..., seq2seq=True) take it, all else "
                "here needs a decoder-only model such as shelf-base."
            )
        return AutoModelForSeq2SeqLM
    if is_encoder(config):
        raise WorkbenchError(
            f"{what} is an encoder-only model: it fills gaps, sees both sides of a token and predicts no next one, so "
            "what is measured here has no meaning for it. Choose a model that writes, such as shelf-base or GPT-2."
        )
    return AutoModelForCausalLM


def is_encoder(config: Any) -> bool:
    """Whether attention looks both ways: transformers would load a BERT as a causal model all the same."""
    if getattr(config, "is_decoder", False):
        return False
    causal = any("CausalLM" in str(name) or "LMHead" in str(name) for name in config.architectures or [])
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal


def says_encoder_decoder(config: Path) -> bool:
    """Whether a `config.json` says that its model has an encoder and a decoder; for lists, so no model is touched."""
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("is_encoder_decoder"))
    except (OSError, ValueError, AttributeError):
        return False
