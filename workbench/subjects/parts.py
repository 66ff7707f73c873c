"""Parts of a model by name: which numbers of which parameters are a layer, a head, an MLP, some of
its neurons.

| name | what it is |
|---|---|
| `embed`, `pos_embed`, `unembed`, `ln_final` | what stands outside the layers; tied embeddings are `embed` alone |
| `rest` | whatever else an architecture has outside its layers |
| `L3` | a whole layer, its norms included |
| `L3.attn`, `L3.mlp` | its attention and its MLP, each with the norms that belong to it; together they are `L3` |
| `L3H1` | one head: its queries, its columns of the output, and its keys and values unless it shares them |
| `L3KV0` | keys and values that a group of heads shares (grouped-query attention) |
| `L3N0:64` | neurons 0 to 63 of an MLP: their incoming and outgoing weights |

Heads, groups and neurons of a layer do not overlap; biases of the output and norms belong to none
of them.
"""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workbench.errors import WorkbenchError
from workbench.subjects.subject import Subject

NAME = re.compile(r"L(\d{1,4})(?:(\.attn|\.mlp)|H(\d{1,4})|KV(\d{1,4})|N(\d{1,7}):(\d{1,7}))?")
OUTER = ("embed", "pos_embed", "ln_final", "unembed")
QKV = ("q", "k", "v")


@dataclass(frozen=True)
class Slice:
    """All of a parameter, or its entries `index` along `dim`."""

    parameter: str
    dim: int = 0
    index: tuple[int, ...] | None = None


class Parts:
    """The parts of one architecture: `slices` gives what a name stands for.

    Raises `WorkbenchError` for an architecture that TransformerLens cannot name.
    """

    def __init__(self, subject: Subject) -> None:
        self.name, self.model, self.card = subject.name, subject.model, subject.card
        self._bridge = subject.bridge
        mapping: Any = self._bridge.adapter.component_mapping
        self._block: dict[str, Any] = mapping["blocks"].submodules
        self._blocks = f"{mapping['blocks'].name}."
        self._sizes = {name: p.numel() for name, p in self.model.named_parameters()}
        self._joint: dict[int, dict[str, Tensor]] = {}
        self.outer = {
            part: found
            for part in OUTER
            if part in mapping
            and (found := [n for n in self._sizes if n.startswith(f"{mapping[part].name}.")])
        }
        named = {n for names in self.outer.values() for n in names}
        if rest := [n for n in self._sizes if n not in named and not n.startswith(self._blocks)]:
            self.outer["rest"] = rest

    @property
    def layers(self) -> list[str]:
        """`L0`, `L1`, ..."""
        return [f"L{i}" for i in range(self.card.n_layers)]

    @property
    def blocks(self) -> list[str]:
        """`L0.attn`, `L0.mlp`, `L1.attn`, ..."""
        return [f"{layer}.{block}" for layer in self.layers for block in ("attn", "mlp")]

    @property
    def heads(self) -> list[str]:
        """Every head, and the groups of keys and values where heads share them."""
        found = [f"{layer}H{i}" for layer in self.layers for i in range(self.card.n_heads)]
        if self._grouped:
            found += [f"{layer}KV{i}" for layer in self.layers for i in range(self.card.n_kv_heads)]
        return found

    @property
    def units(self) -> list[str]:
        """Heads, groups, and neurons in packets of about as many parameters as a head: what random
        subsets draw.
        """
        size = self.n_params(["L0H0"])
        width = self._neurons(0)
        if not width:  # attention alone
            return self.heads
        packet = max(1, min(width, round(size * width / max(1, self.n_params([f"L0N0:{width}"])))))
        packets = [f"N{a}:{min(a + packet, width)}" for a in range(0, width, packet)]
        return [*self.heads, *(layer + packet for layer in self.layers for packet in packets)]

    @property
    def all(self) -> list[str]:
        """Parts that make up the whole model: what stands outside the layers, and every layer."""
        return [*self.outer, *self.layers]

    @property
    def _grouped(self) -> bool:
        return self.card.n_kv_heads != self.card.n_heads

    def n_params(self, names: Iterable[str]) -> int:
        """How many numbers these parts have together."""
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        seen: dict[str, dict[int, set[int]] | None] = {}
        for piece in (piece for name in names for piece in self.slices(name)):
            if piece.index is None:
                seen[piece.parameter] = None
            elif (had := seen.setdefault(piece.parameter, {})) is not None:
                had.setdefault(piece.dim, set()).update(piece.index)
        return sum(
            self._sizes[parameter]
            if dims is None
            else sum(
                len(index) * self._sizes[parameter] // shapes[parameter][dim]
                for dim, index in dims.items()
            )
            for parameter, dims in seen.items()
        )

    def slices(self, name: str) -> list[Slice]:
        """What a name stands for. Raises `WorkbenchError` for no part of this model."""
        if name in self.outer:
            return [Slice(parameter) for parameter in self.outer[name]]
        said = NAME.fullmatch(name)
        if said is None or int(said[1]) >= self.card.n_layers:
            raise WorkbenchError(
                f"{self.name} has no part {name!r}; there are {', '.join(self.outer)}, L0 to "
                f"L{self.card.n_layers - 1}, and of a layer such as L0: L0.attn, L0.mlp, L0H0, L0N0:64"
                + (", L0KV0." if self._grouped else ".")
            )
        layer, block, head, group, low, high = said.groups()
        inside = [n for n in self._sizes if n.startswith(f"{self._blocks}{int(layer)}.")]
        if block:
            return [Slice(n) for n in inside if self._belongs(n, block[1:])]
        if head:
            return self._head(int(layer), int(head))
        if group:
            return self._group(int(layer), int(group))
        if low:
            return self._packet(int(layer), int(low), int(high))
        return [Slice(n) for n in inside]

    def layer_of(self, parameter: str) -> int | None:
        """The layer that a parameter is in, None for those outside."""
        if not parameter.startswith(self._blocks):
            return None
        return int(parameter.removeprefix(self._blocks).partition(".")[0])

    def _belongs(self, parameter: str, block: str) -> bool:
        """Norms go with what they stand before or after; what is none of both goes with attention."""
        rest = parameter.removeprefix(self._blocks).partition(".")[2]
        of_mlp = any(
            rest.startswith(f"{self._block[k].name}.")
            for k in ("mlp", "ln2", "ln2_post")
            if k in self._block
        )
        return of_mlp == (block == "mlp")

    def _module(self, layer: int, block: str, part: str = "") -> tuple[str, Any] | None:
        """Name and module of a block's linear layer; None where the architecture has none of that
        name.
        """
        name = f"{self._blocks}{layer}.{self._block[block].name}"
        if part:
            if part not in self._block[block].submodules:
                return None
            name = f"{name}.{self._block[block].submodules[part].name}"
        try:
            return name, self.model.get_submodule(name)
        except AttributeError:
            return None

    def _outputs(self, where: tuple[str, Any], index: Iterable[int]) -> list[Slice]:
        """Outputs `index` of a linear layer: weights and biases."""
        name, module = where
        dim, chosen = (1 if isinstance(module, Conv1D) else 0), tuple(index)
        bias = [Slice(f"{name}.bias", 0, chosen)] if module.bias is not None else []
        return [Slice(f"{name}.weight", dim, chosen), *bias]

    def _inputs(self, where: tuple[str, Any], index: Iterable[int]) -> list[Slice]:
        name, module = where
        return [Slice(f"{name}.weight", 0 if isinstance(module, Conv1D) else 1, tuple(index))]

    def _projected(self, layer: int, part: str, i: int) -> list[Slice]:
        """The rows of head (or group) `i` in the queries, keys or values, fused in one matrix or
        not.
        """
        d = self.card.d_head
        rows = range(i * d, (i + 1) * d)
        if (own := self._module(layer, "attn", part)) is not None:
            return self._outputs(own, rows)
        fused = self._module(layer, "attn", "qkv")
        if fused is None:
            raise WorkbenchError(
                f"The heads of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        return self._outputs(fused, self._fused(layer)[part][list(rows)].tolist())

    def _fused(self, layer: int) -> dict[str, Tensor]:
        """Which outputs of a fused matrix are queries, keys and values: numbers its rows and lets
        them be split.
        """
        if layer not in self._joint:
            attention = copy.deepcopy(
                self.model.get_submodule(f"{self._blocks}{layer}.{self._block['attn'].name}")
            )
            fused: Any = attention.get_submodule(self._block["attn"].submodules["qkv"].name)
            wide = isinstance(fused, Conv1D)
            count = torch.arange(fused.weight.shape[1 if wide else 0], dtype=torch.float64)
            numbered = (
                count.expand(fused.weight.shape)
                if wide
                else count[:, None].expand(fused.weight.shape)
            )
            fused.weight = nn.Parameter(numbered.clone(), requires_grad=False)
            split = self._bridge.blocks[layer].attn.split_qkv_matrix(attention)
            self._joint[layer] = {
                part: linear.weight[:, 0].detach().long()
                for part, linear in zip(QKV, split, strict=True)
            }
        return self._joint[layer]

    def _head(self, layer: int, head: int) -> list[Slice]:
        if head >= self.card.n_heads:
            raise WorkbenchError(
                f"{self.name} has no head L{layer}H{head}; a layer has {self.card.n_heads}."
            )
        output, d = self._module(layer, "attn", "o"), self.card.d_head
        if output is None:
            raise WorkbenchError(
                f"The heads of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        own = ("q",) if self._grouped else QKV
        read = [piece for part in own for piece in self._projected(layer, part, head)]
        return [*read, *self._inputs(output, range(head * d, (head + 1) * d))]

    def _group(self, layer: int, group: int) -> list[Slice]:
        if not self._grouped or group >= self.card.n_kv_heads:
            have = (
                f"{self.card.n_kv_heads} a layer"
                if self._grouped
                else "none: each head has its own"
            )
            raise WorkbenchError(
                f"{self.name} has no shared keys and values L{layer}KV{group}; there are {have}."
            )
        return [piece for part in ("k", "v") for piece in self._projected(layer, part, group)]

    def _neurons(self, layer: int) -> int:
        out = self._module(layer, "mlp", "out")
        enters = self._module(layer, "mlp", "in")
        if out is None or enters is None:
            raise WorkbenchError(
                f"The neurons of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        width, given = (
            m.weight.shape[isinstance(m, Conv1D) != reads]
            for (_, m), reads in ((out, True), (enters, False))
        )
        if width != given:
            raise WorkbenchError(
                f"The neurons of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        return int(width)

    def _packet(self, layer: int, low: int, high: int) -> list[Slice]:
        width = self._neurons(layer)
        if not low < high <= width:
            raise WorkbenchError(f"{self.name} has no neurons {low}:{high}; a layer has 0:{width}.")
        found = []
        for part in ("in", "gate"):
            if (where := self._module(layer, "mlp", part)) is not None:
                found += self._outputs(where, range(low, high))
        out = self._module(layer, "mlp", "out")
        assert out is not None
        return [*found, *self._inputs(out, range(low, high))]


def assemble(
    slices: Iterable[Slice], host: dict[str, Tensor], donor: dict[str, Tensor], alpha: float = 1.0
) -> dict[str, Tensor]:
    """The parameters of a host that change when it gets these slices of a donor, by name.

    Whole parameters are the donor's own tensors, no copies; of others the host's is copied first.
    Where one has more rows (tokens that were added) those that both have are brought. With `alpha`
    they move by that much of the
    way instead: host + alpha (donor - host), with 0 the host's and 1 the donor's to the bit.
    """
    found: dict[str, Tensor] = {}
    pieces = list(slices) if alpha else []
    for piece in (p for p in pieces if p.index is None):
        ours, theirs = host[piece.parameter], donor[piece.parameter]
        if ours.shape == theirs.shape:
            found[piece.parameter] = theirs if alpha == 1 else torch.lerp(ours, theirs, alpha)
        else:
            n = min(len(ours), len(theirs))
            found[piece.parameter] = ours.clone()
            found[piece.parameter][:n] = (
                theirs[:n] if alpha == 1 else torch.lerp(ours[:n], theirs[:n], alpha)
            )
    whole = set(found)
    for piece in (p for p in pieces if p.index is not None and p.parameter not in whole):
        ours, theirs = host[piece.parameter], donor[piece.parameter]
        if piece.parameter not in found:
            found[piece.parameter] = ours.clone()
        at: list[Any] = [slice(None)] * ours.ndim
        at[piece.dim] = list(piece.index or ())
        where = tuple(at)
        found[piece.parameter][where] = (
            theirs[where] if alpha == 1 else torch.lerp(ours[where], theirs[where], alpha)
        )
    return found
