"""Parts of a model by name: the slices of parameters that belong to a layer, head, MLP or neurons.

| name | part |
|---|---|
| `embed`, `pos_embed`, `unembed`, `ln_final` | parts outside the layers; tied ones are `embed` |
| `rest` | whatever else an architecture has outside its layers |
| `L3` | a whole layer with its norms |
| `L3.attn`, `L3.mlp` | the layer's attention and MLP with their norms; together they are `L3` |
| `L3H1` | a head: its rows of W_Q, its columns of W_O, and its own rows of W_K and W_V |
| `L3KV0` | rows of W_K and W_V that a group of heads shares (grouped-query attention) |
| `L3N0:64` | neurons 0 to 63 of an MLP: their incoming and outgoing weights |

Heads, groups and neurons of a layer do not overlap. Output biases and norms belong to none of them.
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
    """A whole parameter, or its entries `index` along the axis `dim`."""

    parameter: str
    dim: int = 0
    index: tuple[int, ...] | None = None


class Parts:
    """The parts of one model; `slices` gives the slices of a part's parameters.

    Raises:
        WorkbenchError: TransformerLens does not know the architecture.
    """

    def __init__(self, subject: Subject) -> None:
        self.name = subject.name
        self.model = subject.model
        self.card = subject.card
        self._bridge = subject.bridge
        mapping: Any = self._bridge.adapter.component_mapping
        self._block: dict[str, Any] = mapping["blocks"].submodules
        self._blocks = f"{mapping['blocks'].name}."
        self._sizes = {name: p.numel() for name, p in self.model.named_parameters()}
        self._joint: dict[int, dict[str, Tensor]] = {}
        self.outer: dict[str, list[str]] = {}  # parameters of each part outside the layers
        outside = [name for name in self._sizes if not name.startswith(self._blocks)]
        for part in OUTER:
            if part in mapping:
                prefix = f"{mapping[part].name}."
                inside = [name for name in self._sizes if name.startswith(prefix)]
                if inside:
                    self.outer[part] = inside
        taken = {name for names in self.outer.values() for name in names}
        rest = [name for name in outside if name not in taken]
        if rest:
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
        """Every head, and with grouped-query attention every group of shared keys and values."""
        names = [f"{layer}H{i}" for layer in self.layers for i in range(self.card.n_heads)]
        if self._grouped:
            names += [f"{layer}KV{i}" for layer in self.layers for i in range(self.card.n_kv_heads)]
        return names

    @property
    def units(self) -> list[str]:
        """Parts of about equal size, to draw random subsets of: heads, and packets of neurons."""
        width = self._neurons(0)
        if not width:  # attention-only
            return self.heads
        head_size = self.n_params(["L0H0"])
        mlp_size = max(1, self.n_params([f"L0N0:{width}"]))
        # Neurons that have as many parameters as one head.
        size = max(1, min(width, round(head_size * width / mlp_size)))
        packets = [f"N{start}:{min(start + size, width)}" for start in range(0, width, size)]
        return [*self.heads, *(layer + packet for layer in self.layers for packet in packets)]

    @property
    def all(self) -> list[str]:
        """Parts that together are the whole model: those outside the layers, and every layer."""
        return [*self.outer, *self.layers]

    @property
    def _grouped(self) -> bool:
        return self.card.n_kv_heads != self.card.n_heads

    def n_params(self, names: Iterable[str]) -> int:
        """Number of parameters that these parts have together, each counted once."""
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        whole: set[str] = set()  # parameters that belong to the parts entirely
        partial: dict[tuple[str, int], set[int]] = {}  # indices by parameter and axis
        for piece in (piece for name in names for piece in self.slices(name)):
            if piece.index is None:
                whole.add(piece.parameter)
            else:
                partial.setdefault((piece.parameter, piece.dim), set()).update(piece.index)
        total = sum(self._sizes[parameter] for parameter in whole)
        for (parameter, dim), index in partial.items():
            if parameter not in whole:
                total += len(index) * self._sizes[parameter] // shapes[parameter][dim]
        return total

    def slices(self, name: str) -> list[Slice]:
        """The slices of parameters that a part consists of.

        Raises:
            WorkbenchError: The model has no such part.
        """
        if name in self.outer:
            return [Slice(parameter) for parameter in self.outer[name]]
        match = NAME.fullmatch(name)
        if match is None or int(match[1]) >= self.card.n_layers:
            raise WorkbenchError(
                f"{self.name} has no part {name!r}; there are {', '.join(self.outer)}, L0 to "
                f"L{self.card.n_layers - 1}, and of a layer such as L0: L0.attn, L0.mlp, L0H0, "
                "L0N0:64" + (", L0KV0." if self._grouped else ".")
            )
        layer, block, head, group, low, high = match.groups()
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
        """The layer that a parameter is in; None for those outside the layers."""
        if not parameter.startswith(self._blocks):
            return None
        return int(parameter.removeprefix(self._blocks).partition(".")[0])

    def _belongs(self, parameter: str, block: str) -> bool:
        """Whether a parameter belongs to "mlp" or "attn", with its norms; others are "attn"."""
        rest = parameter.removeprefix(self._blocks).partition(".")[2]
        of_mlp = any(
            rest.startswith(f"{self._block[k].name}.")
            for k in ("mlp", "ln2", "ln2_post")
            if k in self._block
        )
        return of_mlp == (block == "mlp")

    def _module(self, layer: int, block: str, part: str = "") -> tuple[str, Any] | None:
        """Name and module of a block, or of its linear layer `part`; None where there is none."""
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
        """Weights and biases of a linear layer's outputs `index`."""
        name, module = where
        outputs = tuple(index)
        dim = 1 if isinstance(module, Conv1D) else 0  # Conv1D is [in, out]
        bias = [Slice(f"{name}.bias", 0, outputs)] if module.bias is not None else []
        return [Slice(f"{name}.weight", dim, outputs), *bias]

    def _inputs(self, where: tuple[str, Any], index: Iterable[int]) -> list[Slice]:
        """Weights of a linear layer's inputs `index`."""
        name, module = where
        return [Slice(f"{name}.weight", 0 if isinstance(module, Conv1D) else 1, tuple(index))]

    def _projected(self, layer: int, part: str, i: int) -> list[Slice]:
        """Slices of head (or group) `i` in q, k or v, whether these are one fused matrix or not."""
        d = self.card.d_head
        rows = range(i * d, (i + 1) * d)
        separate = self._module(layer, "attn", part)
        if separate is not None:
            return self._outputs(separate, rows)
        fused = self._module(layer, "attn", "qkv")
        if fused is None:
            raise WorkbenchError(
                f"The heads of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        return self._outputs(fused, self._fused(layer)[part][list(rows)].tolist())

    def _fused(self, layer: int) -> dict[str, Tensor]:
        """Which outputs of a fused QKV matrix are queries, keys and values.

        Architectures interleave them in different ways, so this fills the matrix with the number
        of each output and lets TransformerLens split it.
        """
        if layer not in self._joint:
            attention = copy.deepcopy(
                self.model.get_submodule(f"{self._blocks}{layer}.{self._block['attn'].name}")
            )
            fused: Any = attention.get_submodule(self._block["attn"].submodules["qkv"].name)
            outputs_last = isinstance(fused, Conv1D)
            n_outputs = fused.weight.shape[1 if outputs_last else 0]
            numbers = torch.arange(n_outputs, dtype=torch.float64)
            numbers = numbers if outputs_last else numbers[:, None]
            numbered = numbers.expand(fused.weight.shape)
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
        output = self._module(layer, "attn", "o")
        if output is None:
            raise WorkbenchError(
                f"The heads of {self.name} ({self.card.architecture}) cannot be told apart."
            )
        own = ("q",) if self._grouped else QKV
        projected = [piece for part in own for piece in self._projected(layer, part, head)]
        d = self.card.d_head
        return [*projected, *self._inputs(output, range(head * d, (head + 1) * d))]

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
        """Number of neurons in a layer's MLP."""
        w_in = self._module(layer, "mlp", "in")
        w_out = self._module(layer, "mlp", "out")
        if w_in is not None and w_out is not None:
            n_in = _shape(w_in[1])[0]
            n_out = _shape(w_out[1])[1]
            if n_in == n_out:
                return n_in
        raise WorkbenchError(
            f"The neurons of {self.name} ({self.card.architecture}) cannot be told apart."
        )

    def _packet(self, layer: int, low: int, high: int) -> list[Slice]:
        width = self._neurons(layer)
        if not low < high <= width:
            raise WorkbenchError(f"{self.name} has no neurons {low}:{high}; a layer has 0:{width}.")
        pieces = []
        for part in ("in", "gate"):
            where = self._module(layer, "mlp", part)
            if where is not None:
                pieces += self._outputs(where, range(low, high))
        out = self._module(layer, "mlp", "out")
        assert out is not None
        return [*pieces, *self._inputs(out, range(low, high))]


def _shape(module: Any) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, or of transformers' transposed `Conv1D`."""
    rows, columns = module.weight.shape
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def assemble(
    slices: Iterable[Slice], host: dict[str, Tensor], donor: dict[str, Tensor], alpha: float = 1.0
) -> dict[str, Tensor]:
    """The parameters of a host that change when it gets these slices of a donor, by name.

    Whole parameters are the donor's own tensors, not copies; of partial ones the host's is copied.
    Where one model has more embedding rows (added tokens), the rows that both have are taken.

    Args:
        slices: Slices to take from the donor.
        host: The host's parameters by name.
        donor: The donor's parameters by name.
        alpha: How far to move: host + alpha (donor - host). 0 gives the host's values and 1 the
            donor's, to the bit.
    """
    changed: dict[str, Tensor] = {}
    pieces = list(slices) if alpha else []

    def mixed(ours: Tensor, theirs: Tensor) -> Tensor:
        return theirs if alpha == 1 else torch.lerp(ours, theirs, alpha)

    for piece in (p for p in pieces if p.index is None):
        ours = host[piece.parameter]
        theirs = donor[piece.parameter]
        if ours.shape == theirs.shape:
            changed[piece.parameter] = mixed(ours, theirs)
        else:
            n_rows = min(len(ours), len(theirs))
            tensor = ours.clone()
            tensor[:n_rows] = mixed(ours[:n_rows], theirs[:n_rows])
            changed[piece.parameter] = tensor
    whole = set(changed)
    for piece in (p for p in pieces if p.index is not None and p.parameter not in whole):
        ours = host[piece.parameter]
        theirs = donor[piece.parameter]
        if piece.parameter not in changed:
            changed[piece.parameter] = ours.clone()
        at: list[Any] = [slice(None)] * ours.ndim
        at[piece.dim] = list(piece.index or ())
        where = tuple(at)
        changed[piece.parameter][where] = mixed(ours[where], theirs[where])
    return changed
