"""The heads' weights: query, key, value and output matrices with the norms folded in.

With row vectors, `QK = W_Q W_K^T` says which residual directions find each other and `OV = W_V W_O`
what is moved when they do (Elhage et al. 2021). Both have rank `d_head`, so nothing of width
`d_vocab` squared is ever built.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.norms import norm_of
from workbench.subjects import Subject


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer's heads.

    Keys and values of grouped-query attention are repeated for each of their query heads. The scale
    of the norm before attention is folded into q, k and v.
    """

    q: Float[Tensor, "head d_model d_head"]
    k: Float[Tensor, "head d_model d_head"]
    v: Float[Tensor, "head d_model d_head"]
    o: Float[Tensor, "head d_head d_model"]


def norm_scale(norm: nn.Module, d_model: int, like: Tensor) -> Float[Tensor, " d_model"]:
    """The factor of each dimension after normalisation (Gemma stores it minus one).

    Args:
        norm: The norm.
        d_model: The width of the vectors that it takes.
        like: A tensor of the dtype and device that the result has.
    """
    return norm_of(norm, d_model, like).gain


def centres(norm: nn.Module, d_model: int) -> bool:
    """Whether a norm subtracts the mean, as LayerNorm does and RMSNorm does not (tried out)."""
    return norm_of(norm, d_model, torch.zeros(1)).centres


@any_family
@torch.no_grad()
def layer_weights(subject: Subject) -> list[LayerWeights]:
    """The weights of every head of every layer, without biases.

    Raises:
        WorkbenchError: TransformerLens cannot split this model's attention into heads.
    """
    bridge = subject.bridge
    card = subject.card
    try:
        q, k, v, o = (getattr(bridge, f"W_{part}").detach() for part in "QKVO")
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        raise WorkbenchError(
            f"TransformerLens cannot take the heads of {subject.name} ({card.architecture}) "
            f"apart: {error}"
        ) from error
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    layers = []
    for i, module in enumerate(block_norms(subject)):
        norm = norm_of(module, card.d_model, q)
        read = [x[i] * norm.gain[:, None] for x in (q, k, v)]
        if norm.centres:
            read = [x - x.mean(-2, keepdim=True) for x in read]
        layers.append(LayerWeights(q=read[0], k=read[1], v=read[2], o=o[i]))
    return layers


def block_norms(subject: Subject) -> list[nn.Module]:
    """The norm before each layer's attention."""
    mapping: Any = subject.bridge.adapter.component_mapping
    layers: Any = subject.model.get_submodule(mapping["blocks"].name)
    return [layer.get_submodule(mapping["blocks"].submodules["ln1"].name) for layer in layers]


@any_family
@torch.no_grad()
def embedding(subject: Subject) -> Float[Tensor, "d_vocab d_model"]:
    """Token vectors at unit root mean square, as after a norm (whose scale is in the weights)."""
    weight: Any = subject.model.get_input_embeddings().weight
    vectors = weight.detach()
    if centres(block_norms(subject)[0], subject.card.d_model):
        vectors = vectors - vectors.mean(-1, keepdim=True)
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)


@any_family
@torch.no_grad()
def unembedding(subject: Subject) -> Float[Tensor, "d_vocab d_model"]:
    """Each token's unembedding vector, with the scale of the final norm folded in.

    Mean-centred over the vocabulary (softmax is shift-invariant).
    """
    mapping: Any = subject.bridge.adapter.component_mapping
    norm = subject.model.get_submodule(mapping["ln_final"].name)
    unembed: Any = subject.model.get_output_embeddings()
    weight: Tensor = unembed.weight.detach()
    final_norm = norm_of(norm, subject.card.d_model, weight)
    read = weight * final_norm.gain
    read = read - read.mean(0)
    return read - read.mean(-1, keepdim=True) if final_norm.centres else read
