"""The next token of a few texts in few operations, for Llama's family and our own GPT.

With few rows, a matrix product does little but read its matrix. Read as `[in, out]`, in as many
parts as there are cores, that is up to twice as fast as in the `[out, in]` of `nn.Linear`; and half
of the other operations fall away. The copies take the memory of the weights once more.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.generation.kv import KV

CHUNK = 1024
"""Positions for which vectors or angles are computed at a time."""


class Matrix(NamedTuple):
    """A linear layer whose inputs are divided among the processor's cores.

    - `weight`: `[part, in / parts, out]`; the outputs of the parts are added
    - `bias`: `[out]`, or None
    """

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output `[row, out]` for `[row, in]`."""
        parts = x.view(len(x), self.weight.shape[0], -1).transpose(0, 1)
        out = torch.bmm(parts, self.weight).sum(0)
        return out if self.bias is None else out + self.bias


class Layer(NamedTuple):
    """The parts of a layer; `gains` are QK-norm's, `[head + kv_head, d_head]`."""

    before_attention: Callable[[Tensor], Tensor]
    qkv: Matrix
    gains: Tensor | None
    attention_out: Matrix
    before_mlp: Callable[[Tensor], Tensor]
    into: Matrix
    gated: bool
    act: Callable[[Tensor], Tensor]
    mlp_out: Matrix


class Sizes(NamedTuple):
    """Heads, key-value heads, width of a head, scale of the scores, and QK-norm's epsilon."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    scale: float
    eps: float


class Table:
    """Vectors by position, computed in chunks as a text grows.

    Args:
        rows: The vectors of some positions, `[pos, width]`.
    """

    def __init__(self, rows: Callable[[Tensor], Tensor]) -> None:
        self._rows = rows
        self._chunks: dict[int, Sequence[Tensor]] = {}

    def __call__(self, positions: Sequence[int]) -> Tensor:
        """The vectors of these positions, `[position, width]`."""
        return torch.cat([self._row(position) for position in positions])

    def _row(self, position: int) -> Tensor:
        chunk, row = divmod(position, CHUNK)
        if chunk not in self._chunks:
            self._chunks[chunk] = self._rows(
                torch.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
            ).split(1)
        return self._chunks[chunk][row]


class ShortWay:
    """A model as a function from one token a text, and their cache, to the next tokens' logits.

    Args:
        layers: The layers.
        sizes: Of all of them.
        embedding: `[token, d_model]`.
        norm: The last one.
        unembed: From the residual stream to logits.
        added: Vectors added to the embedding, for learned or sinusoidal positions.
        angles: Cosines, then sines with the first half's sign turned, for rotary positions.
        slopes: ALiBi's, `[head]`.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        sizes: Sizes,
        embedding: Tensor,
        norm: Callable[[Tensor], Tensor],
        unembed: Matrix,
        *,
        added: Table | None = None,
        angles: Table | None = None,
        slopes: Tensor | None = None,
    ) -> None:
        self.layers = layers
        self.sizes = sizes
        self.embedding = embedding
        self.norm = norm
        self.unembed = unembed
        self.added = added
        self.angles = angles
        self.slopes = slopes

    @property
    def n_bytes(self) -> int:
        """The memory of the copies."""
        copies = [self.unembed, *(m for part in self.layers for m in part if isinstance(m, Matrix))]
        return sum(copy.weight.numel() * copy.weight.element_size() for copy in copies)

    @torch.no_grad()
    def __call__(self, tokens: Sequence[int], kv: KV) -> Tensor:
        """Logits `[row, d_vocab]` after the tokens, which go into column `kv.end` of the cache.

        Every text must have begun; the cache must have room, and `kv.end` is left as it is.
        """
        positions = [kv.end - start for start in kv.starts]
        x = self.embedding[list(tokens)]  # [row, d_model]
        if self.added is not None:
            x = x + self.added(positions)
        turn = None if self.angles is None else self.angles(positions)[:, None].chunk(2, -1)
        bias = self._bias(kv)
        caches: Any = kv.layers
        for layer, cache in zip(self.layers, caches, strict=True):
            qkv = layer.qkv(layer.before_attention(x))
            x = x + layer.attention_out(self._attend(layer, qkv, turn, bias, cache, kv.end))
            neurons = layer.into(layer.before_mlp(x))
            if layer.gated:
                gate, up = neurons.chunk(2, -1)
                neurons = layer.act(gate) * up
            else:
                neurons = layer.act(neurons)
            x = x + layer.mlp_out(neurons)
        return self.unembed(self.norm(x))

    def _bias(self, kv: KV) -> Tensor | None:
        """What is added to the scores, `[row, kv_head, head of it, column]` or broadcast to that.

        Columns before a text's first are out, and ALiBi lowers those that are far.
        """
        columns = torch.arange(kv.end + 1)
        bias = None
        if max(kv.starts) > 0:
            before = columns < torch.tensor(kv.starts)[:, None]
            bias = torch.zeros(before.shape, dtype=self.embedding.dtype)
            bias = bias.masked_fill(before, -torch.inf)[:, None, None]
        if self.slopes is not None:
            far = self.slopes.view(1, self.sizes.n_kv_heads, -1, 1) * (columns - kv.end)
            bias = far if bias is None else bias + far
        return bias

    def _attend(
        self,
        layer: Layer,
        qkv: Tensor,
        turn: Sequence[Tensor] | None,
        bias: Tensor | None,
        cache: Any,
        column: int,
    ) -> Tensor:
        """The heads' outputs `[row, head * d_head]`; keys and values go into the cache."""
        n_heads, n_kv_heads, d_head, scale, eps = self.sizes
        n_rows = len(qkv)
        parts = qkv.view(n_rows, -1, d_head)  # q of all heads, then k, then v
        turned = parts[:, : n_heads + n_kv_heads]
        if layer.gains is not None:
            turned = F.rms_norm(turned, (d_head,), eps=eps) * layer.gains
        if turn is not None:
            cos, sin = turn
            turned = torch.addcmul(turned * cos, turned.roll(d_head // 2, -1), sin)
        cache.keys[:, :, column] = turned[:, n_heads:]
        cache.values[:, :, column] = parts[:, n_heads + n_kv_heads :]
        keys = cache.keys[:, :, : column + 1].flatten(0, 1)  # [row and kv_head, column, d_head]
        values = cache.values[:, :, : column + 1].flatten(0, 1)
        q = turned[:, :n_heads].reshape(n_rows * n_kv_heads, -1, d_head)
        scores = torch.baddbmm(q.new_zeros(1, 1, 1), q, keys.mT, beta=0, alpha=scale)
        if bias is not None:
            shape = scores.shape
            scores = (scores.view(n_rows, n_kv_heads, *shape[1:]) + bias).view(shape)
        return torch.bmm(scores.softmax(-1), values).view(n_rows, -1)
