"""The model as a graph of senders and receivers, and runs in which single edges are patched.

Senders are the embedding, each head and each MLP; receivers are each head's queries, keys and
values, each MLP and the logits. In a run with a mask, a receiver reads the clean run along the
edges that are in, and the corrupted run along the others (Wang et al. 2022, Conmy et al. 2023).
Heads of one layer read different streams, so attention is computed on a batch of streams, and each
head takes its own; the model's own modules do all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.attend import attend
from workbench.interp.engine.branches import Branches, Recording
from workbench.interp.engine.packed import PackedEngine
from workbench.interp.patching.direct import head_writes


@dataclass(frozen=True)
class Graph:
    """The nodes of a model, in the order in which they are computed.

    A receiver reads all senders that are computed before it.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool

    @property
    def senders(self) -> list[str]:
        """Names of the senders: the embedding, then each layer's heads and its MLP."""
        names = ["embed"]
        for layer in range(self.n_layers):
            names += [f"L{layer}H{head}" for head in range(self.n_heads)]
            names.append(f"MLP {layer}")
        return names

    @property
    def receivers(self) -> list[str]:
        """Names of the receivers: each layer's q, k and v by head and its MLP, then the logits."""
        names = []
        for i in range(self.n_layers):
            for part, n in (("q", self.n_heads), ("k", self.n_kv_heads), ("v", self.n_kv_heads)):
                names += [f"L{i}H{h}.{part}" for h in range(n)]
            names.append(f"MLP {i}")
        return [*names, "logits"]

    @property
    def per_layer(self) -> int:
        """Receivers of one layer."""
        return self.n_heads + 2 * self.n_kv_heads + 1

    def senders_before(self, layer: int, mlp: bool = False) -> int:
        """How many senders come before a layer's attention, or before its MLP."""
        within = self.n_heads if mlp and not self.parallel else 0
        return 1 + layer * (self.n_heads + 1) + within

    def possible(self) -> Bool[Tensor, "receiver sender"]:
        """The edges that there can be, as a mask."""
        mask = torch.zeros(len(self.receivers), len(self.senders), dtype=torch.bool)
        for layer in range(self.n_layers):
            start = layer * self.per_layer
            mask[start : start + self.per_layer - 1, : self.senders_before(layer)] = True
            mask[start + self.per_layer - 1, : self.senders_before(layer, mlp=True)] = True
        mask[-1] = True
        return mask


def graph_of(packed: PackedEngine, run: Recording) -> Graph:
    """The graph of a recorded model.

    Raises:
        WorkbenchError: Norms stand between the parts and the stream, or attention gates its heads.
    """
    if any(block.attn.normed or block.mlp.normed for block in packed.blocks):
        raise WorkbenchError(
            "Circuits need parts that write straight into the stream; this model norms them once "
            "more, so choose another model."
        )
    if packed.gated:
        raise WorkbenchError(
            "Circuits need heads that write what they attend to; this model gates them first, so "
            "choose another model."
        )
    return Graph(len(packed.layers), run.queries[0].shape[1], run.keys[0].shape[1], packed.parallel)


def sender_values(
    packed: PackedEngine, run: Recording, prompt: int
) -> Float[Tensor, "sender pos d_model"]:
    """What every sender writes in a recorded run; attention's bias counts with its first head.

    Args:
        packed: The engine.
        run: The recorded run.
        prompt: Which prompt of it.
    """
    written = [run.resid[0][prompt][None]]
    for layer in range(len(packed.layers)):
        heads, bias = head_writes(packed, run, prompt, layer)
        heads = torch.cat([heads[:1] + bias, heads[1:]])
        mlp = run.resid[layer + 1][prompt] - run.resid[layer][prompt] - heads.sum(0)
        written += [heads, mlp[None]]
    return torch.cat(written)


Read = Callable[[int, int, Tensor], Tensor]
"""(first receiver, how many, what senders before them wrote) -> what they read `[n, pos, d_model]`.
"""


def run_graph(
    packed: PackedEngine,
    graph: Graph,
    base: Recording,
    embedding: Float[Tensor, "pos d_model"],
    read: Read,
) -> Float[Tensor, " vocab"]:
    """The logits at the last position of a run in which each receiver reads a stream of its own.

    Keeps gradients.

    Args:
        packed: The engine.
        graph: The model's graph.
        base: A recorded run of the prompt, for masks and rotary turns.
        embedding: What the embedding writes.
        read: What each receiver reads.
    """
    written = embedding[None]  # [sender, pos, d_model], grows by a layer at a time
    for layer in range(graph.n_layers):
        start = layer * graph.per_layer
        n_attention = graph.per_layer - 1  # receivers but for the MLP
        z = _attend_each(packed, graph, base, layer, read(start, n_attention, written))
        heads = _project_each(packed, layer, z)
        before_mlp = written if graph.parallel else torch.cat([written, heads])
        mlp = packed.mlp_of(base, layer, read(start + n_attention, 1, before_mlp))
        written = torch.cat([written, heads, mlp])
    return packed.readable(read(len(graph.receivers) - 1, 1, written)[:, -1:])[0, 0]


def masked(
    mask: Bool[Tensor, "receiver sender"], corrupted: Float[Tensor, "sender pos d_model"]
) -> Read:
    """A `Read`: this run along the edges of `mask`, the corrupted run along all others."""

    def read(first: int, n: int, written: Tensor) -> Tensor:
        n_before = len(written)
        inside = mask[first : first + n, :n_before].to(written)
        differs = (written - corrupted[:n_before]).flatten(1)
        return corrupted[:n_before].sum(0) + (inside @ differs).unflatten(-1, written.shape[1:])

    return read


def _attend_each(
    packed: PackedEngine, graph: Graph, base: Recording, layer: int, streams: Tensor
) -> Float[Tensor, "pos head d_head"]:
    """Every head's z when its queries, keys and values come from streams of their own."""
    q, k, v = packed.project(base, 0, layer, streams)
    n_heads = graph.n_heads
    n_kv = graph.n_kv_heads
    i = torch.arange(n_heads)
    j = torch.arange(n_kv)
    # Stream i is read by query head i, the next n_kv streams by key heads, the rest by values.
    own_q = q[i, i][None]
    own_k = k[n_heads + j, j][None]
    own_v = v[n_heads + n_kv + j, j][None]
    z = attend(own_q, own_k, own_v, own_mask(base, layer), *base.scaling[layer])
    return z[0].transpose(0, 1)


def own_mask(base: Recording, layer: int) -> Tensor | None:
    """The attention mask of a layer for one prompt, `[1, head, pos, pos]`."""
    mask = base.arguments[layer].get("attention_mask")
    n_pos = base.resid[0].shape[1]
    return None if mask is None else mask[:1, :, :n_pos, :n_pos]


def _project_each(packed: PackedEngine, layer: int, z: Tensor) -> Float[Tensor, "head pos d_model"]:
    """What each head writes, the bias with the first."""
    n_heads = z.shape[1]
    alone = torch.eye(n_heads, dtype=z.dtype, device=z.device)
    written = packed.outputs[layer]((z[None] * alone[:, None, :, None]).flatten(-2))
    bias = packed.outputs[layer](torch.zeros_like(z[:1]).flatten(-2))
    return torch.cat([written[:1], written[1:] - bias]) * packed.blocks[layer].attn.scale


def edge_effects(
    packed: PackedEngine,
    graph: Graph,
    run: Recording,
    differs: Float[Tensor, "sender pos d_model"],
    edges: list[tuple[int, int]],
) -> Float[Tensor, "edge 1 d_model"]:
    """Path patching: the last stream of the run (prompt 0) when one edge carries `differs` more.

    Exact, and packed: all edges in one go, each alone; the sender's other edges stay as they are.

    Args:
        packed: The engine.
        graph: The model's graph.
        run: The recorded run.
        differs: What each sender writes more.
        edges: (receiver, sender) of each edge.

    Reference:
        Goldowsky-Dill et al. 2023, arXiv:2304.05969.
    """
    branches = []
    everywhere = torch.arange(run.resid[0].shape[1], device=differs.device)
    by_receiver: dict[int, list[int]] = {}
    for i, (receiver, _) in enumerate(edges):
        by_receiver.setdefault(receiver, []).append(i)
    final = run.resid[-1][0, -1:].repeat(len(edges), 1, 1)
    for receiver, which in by_receiver.items():
        moved = differs[[edges[i][1] for i in which]]
        if receiver == len(graph.receivers) - 1:
            final[which] = run.resid[-1][0, -1:] + moved[:, -1:]
            continue
        layer, part = divmod(receiver, graph.per_layer)

        def make(layer: int = layer, part: int = part, moved: Tensor = moved) -> Tensor:
            return _after_edge(packed, graph, run, layer, part, moved, everywhere)

        branches.append(Branches(layer + 1, 0, len(which), make, which))
    for branch, carried in packed.carry(run, branches):
        final[branch.key] = carried
    return final


def _after_edge(
    packed: PackedEngine,
    graph: Graph,
    run: Recording,
    layer: int,
    part: int,
    moved: Tensor,
    pos: Tensor,
) -> Tensor:
    """The stream after a layer in which one receiver reads `moved` more."""
    if part == graph.per_layer - 1:
        stream = run.resid[layer][0] if graph.parallel else run.mid[layer][0]
        return packed.block(run, 0, layer, pos, mlp_out=packed.mlp_of(run, layer, stream + moved))
    q, k, v = packed.project(run, 0, layer, run.resid[layer][0] + moved)
    # The run's own queries, keys and values, [edge, head, pos, d_head], but for the one receiver.
    n_edges = len(moved)
    queries = run.queries[layer][0].repeat(n_edges, 1, 1, 1)
    keys = run.keys[layer][0].repeat(n_edges, 1, 1, 1)
    values = run.values[layer][0].repeat(n_edges, 1, 1, 1)
    first_value = graph.n_heads + graph.n_kv_heads
    if part < graph.n_heads:
        queries[:, part] = q[:, part]
    elif part < first_value:
        keys[:, part - graph.n_heads] = k[:, part - graph.n_heads]
    else:
        values[:, part - first_value] = v[:, part - first_value]
    z = attend(queries, keys, values, own_mask(run, layer), *run.scaling[layer])
    return packed.block(run, 0, layer, pos, z=z.transpose(1, 2))
