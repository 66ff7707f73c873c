"""Typed access to modules of torch and transformers, whose own annotations say too little."""

import os
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)


def moved(model: Model, to: torch.device | torch.dtype) -> Model:
    """The model itself, moved to a device or converted to a dtype."""
    # The wrapper of `PreTrainedModel.to` hides its signature from type checkers.
    return cast("Model", cast("nn.Module", model).to(to))


def device_of(wanted: str | torch.device | None) -> torch.device:
    """The device that was asked for, or where a model goes by itself: a GPU where there is one.

    Where torchrun has started several processes, each has a GPU of its own.
    """
    if wanted:
        return torch.device(wanted)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = os.environ.get("LOCAL_RANK", "")
    if not number.isdecimal():
        return torch.device("cuda")
    return torch.device("cuda", int(number) % torch.cuda.device_count())


def lowered(x: Tensor) -> Tensor:
    """`x` in autocast's precision where that is on: cast once, not by each projection of it."""
    kind = x.device.type
    if x.dtype != torch.float32 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a module that has one, such as a linear layer or an embedding."""
    return cast("Tensor", module.weight)


def n_embedding_rows(model: PreTrainedModel) -> int:
    """Rows of the token embedding; may be more than the tokenizer has tokens."""
    return weight_of(model.get_input_embeddings()).shape[0]
