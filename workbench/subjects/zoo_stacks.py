"""Tiny random models of the encoder and encoder-decoder families in transformers; see `zoo`."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from workbench.errors import WorkbenchError
from workbench.subjects import zoo
from workbench.subjects.kinds import ENCODER, SEQ2SEQ
from workbench.subjects.load import load
from workbench.subjects.modules import moved
from workbench.subjects.subject import Subject
from workbench.subjects.tokenizer import train_tokenizer

MASK = "Ġgave"
"""The token of the tiny tokenizer that stands for a gap."""
WIDTHS: dict[str, Any] = {
    "d_kv": 8,
    "num_heads": zoo.N_HEADS,
    "d_ff": 64,
    "num_layers": zoo.N_LAYERS,
}
"""Fields that T5's kin have and decoders have not."""

OWN: dict[str, dict[str, Any]] = {"xmod": {"default_language": "en_XX"}}
"""Further fields that a family needs."""


class StackFamily(NamedTuple):
    """A model type, and its kind: encoder or encoder-decoder."""

    name: str
    kind: str


def stack_families() -> list[StackFamily]:
    """The encoder and encoder-decoder families of transformers, sorted by kind and name."""
    seq2seq = set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    writers = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    encoders = {
        name
        for name, architecture in MODEL_FOR_MASKED_LM_MAPPING_NAMES.items()
        if name not in seq2seq and architecture not in writers
    }
    return [
        *(StackFamily(name, ENCODER) for name in sorted(encoders)),
        *(StackFamily(name, SEQ2SEQ) for name in sorted(seq2seq)),
    ]


def stack_subject(family: StackFamily, folder: Path) -> Subject:
    """A tiny random model of a family, written below a folder and loaded as a Subject.

    Raises:
        WorkbenchError: It cannot be made tiny, built or loaded.
    """
    reader = AutoModelForMaskedLM if family.kind == ENCODER else AutoModelForSeq2SeqLM
    try:
        config = _config(family)
        with torch.device("meta"):
            size = sum(p.numel() for p in reader.from_config(config).parameters())
        if size > zoo.MOST_PARAMETERS:
            raise WorkbenchError(f"A tiny {family.name} still has {size:,} parameters.")
        torch.manual_seed(0)
        model = reader.from_config(config)
    except WorkbenchError:
        raise
    except Exception as error:  # families raise anything for sizes they refuse
        why = (str(error).strip() or type(error).__name__).splitlines()[-1][:160]
        raise WorkbenchError(f"A tiny {family.name} cannot be built: {why}") from error
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, zoo.WIDTH)
    where = folder / family.name
    where.mkdir(parents=True, exist_ok=True)
    moved(model, torch.float32).eval().save_pretrained(where)
    tokenizer = train_tokenizer([zoo.TEXT * 50], "bpe", zoo.D_VOCAB)
    tokenizer.mask_token = MASK
    tokenizer.save_pretrained(where)
    return load(where, device="cpu", seq2seq=True, encoder=True)


def _config(family: StackFamily) -> Any:
    kind = CONFIG_MAPPING[family.name]
    fields = {field.name for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {
        name: value for name, value in (zoo.SMALL | WIDTHS).items() if name in fields
    }
    if family.kind == SEQ2SEQ and "decoder_start_token_id" in fields:
        values["decoder_start_token_id"] = zoo.END
    return kind(**(values | OWN.get(family.name, {})))
