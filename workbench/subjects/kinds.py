"""The kind of model a configuration describes: decoder, encoder-decoder or encoder.

What a model can be asked follows from its kind. A decoder predicts the next token under a causal
mask. An encoder sees the whole text and fills its gaps. An encoder-decoder has a stack of each, and
the decoder looks at the encoder's output.
"""

import json
from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from workbench.doors import reading, short
from workbench.errors import WorkbenchError
from workbench.subjects.claims import MEND

DECODER = "decoder"
ENCODER = "encoder"
SEQ2SEQ = "encoder-decoder"
EVERY = (DECODER, ENCODER, SEQ2SEQ)
"""The kinds of models."""
MODALITIES = {
    "vit": "picture",
    "audio-spectrogram-transformer": "sound",
    "hubert": "sound",
}
"""`model_type` of encoders that read no text -> what they read."""


class Kind(NamedTuple):
    """The class of transformers that reads a model, and the model's configuration."""

    reader: Any
    config: Any


def kind_of(
    where: str | Path,
    name: str,
    *,
    kinds: Collection[str] = (DECODER,),
    gguf_file: str | None = None,
) -> Kind:
    """The class that reads a model, and its configuration; no weight is read.

    Args:
        where: Folder or Hugging Face id; of a GGUF file its folder.
        name: What the user called the model, for errors.
        kinds: The kinds of models that are accepted.
        gguf_file: Name of the GGUF file in the folder.

    Raises:
        WorkbenchError: The configuration cannot be read, or is of a kind that is not accepted.
    """
    with reading(name, MEND):
        config = AutoConfig.from_pretrained(where, trust_remote_code=False, gguf_file=gguf_file)
        config.architectures = [str(kind) for kind in config.architectures or []]
    if gguf_file:
        return Kind(AutoModelForCausalLM, config)
    kind = _described(config)
    what = f"{name} ({short((config.architectures or [config.model_type])[0], 80)})"
    if config.model_type in MODALITIES:
        raise WorkbenchError(
            f"{what} reads {MODALITIES[config.model_type]}s and no text; the Pictures page and "
            "load_encoder take it. Choose a model of text, such as shelf-base."
        )
    if kind not in kinds:
        raise WorkbenchError(refusal(what, kind))
    return Kind(READERS[kind], config)


READERS = {
    DECODER: AutoModelForCausalLM,
    ENCODER: AutoModelForMaskedLM,
    SEQ2SEQ: AutoModelForSeq2SeqLM,
}
"""The class of transformers that reads a kind of model."""


def refusal(what: str, kind: str) -> str:
    """The sentence that refuses a model where its kind has no meaning.

    Args:
        what: The model, in words.
        kind: Its kind.
    """
    if kind == SEQ2SEQ:
        return (
            f"{what} is an encoder-decoder model; Anatomy, Attention, Heads, Lens, Patching, "
            "Benchmarks, Train and load(..., seq2seq=True) take it, all else here needs a "
            "decoder-only model such as shelf-base."
        )
    if kind == ENCODER:
        return (
            f"{what} is an encoder-only model: it fills gaps, sees both sides of a token and "
            "predicts no next one; Attention, Heads, Lens, Patching and load(..., encoder=True) "
            "take it, all else here needs a model that writes, such as shelf-base or GPT-2."
        )
    return f"{what} is a decoder-only model, for which this has no meaning."


def _described(config: Any) -> str:
    """The kind of a configuration."""
    if config.is_encoder_decoder:
        return SEQ2SEQ
    return ENCODER if is_encoder(config) else DECODER


def kind_of_model(model: PreTrainedModel) -> str:
    """The kind of a model in memory, by its class."""
    if model.config.is_encoder_decoder:
        return SEQ2SEQ
    name = type(model).__name__
    masked = name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()
    causal = name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return ENCODER if masked and not causal else DECODER


def is_encoder(config: Any) -> bool:
    """Whether attention is bidirectional; transformers would load a BERT as a causal model too."""
    if getattr(config, "is_decoder", False):
        return False
    causal = any(
        "CausalLM" in str(name) or "LMHead" in str(name) for name in config.architectures or []
    )
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal


def start_token(model: PreTrainedModel) -> int:
    """The token with which the decoder of an encoder-decoder starts; T5's kin start with padding.

    Raises:
        WorkbenchError: The model does not say.
    """
    places = (model.config, getattr(model, "generation_config", None))
    words = ("decoder_start_token_id", "pad_token_id", "bos_token_id")
    for word, place in product(words, places):
        token = getattr(place, word, None)
        if isinstance(token, int):
            return token
    raise WorkbenchError(
        f"{type(model).__name__} does not say with which token its decoder starts; put "
        "decoder_start_token_id into its config.json."
    )


def stated_kind(config: Path) -> str:
    """The kind that a `config.json` describes, read without transformers; a decoder if in doubt.

    Also picture or sound, for models that read no text.
    """
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        if modality := MODALITIES.get(str(values.get("model_type"))):
            return modality
        if values.get("is_encoder_decoder"):
            return SEQ2SEQ
        return ENCODER if is_encoder(_Said(values)) else DECODER
    except (OSError, ValueError, AttributeError, RecursionError, TypeError):
        return DECODER


class _Said:
    """The values of a `config.json` as attributes."""

    def __init__(self, values: dict[str, Any]):
        self.is_decoder = bool(values.get("is_decoder"))
        self.architectures = values.get("architectures")
        self.model_type = values.get("model_type")
