"""The packed engine: many patched runs as one forward pass, exact, for any model on transformers' attention interface.

A patched run equals the unpatched one before the patched layer and, in a causal model, before the patched position.
So a branch starts at its layer with the rows from its position on, joins the branches of earlier layers in one long row
of tokens, and attends to the recorded keys and values of the shared prefix and to itself. Blocks are the model's
own; only attention is ours, put in through `transformers.AttentionInterface`. The parts of a block are found by the
names that TransformerLens's architecture adapter gives them.
"""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from workbench.errors import WorkbenchError
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone

NAME = "workbench_packed"
CACHES = ("past_key_values", "layer_past", "past_key_value")


@dataclass
class Recording:
    """What one ordinary forward pass leaves behind, for each layer; `batch` is the prompts' axis.

    `resid` has n_layers + 1 entries `[batch, pos, d_model]` (the last is `resid_post` of the last layer), `z` is
    `[batch, pos, head, d_head]`, keys and values `[batch, kv_head, pos, d_head]` after rotary turns.
    """

    resid: list[Tensor] = field(default_factory=list)
    attn_out: list[Tensor] = field(default_factory=list)
    mlp_out: list[Tensor] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class Branches:
    """`n` patched runs that differ from the target run from position `pos` on: rows `[n, n_pos - pos, d_model]`.

    They enter before layer `layer` (n_layers: straight to the readout). `key` is the caller's.
    """

    layer: int
    pos: int
    rows: Float[Tensor, "n suffix d_model"]
    key: Any = None


@dataclass
class _Pass:
    """The state of the pass under way: recording, or packed rows against a recorded target."""

    recording: Recording | None = None
    target: Recording | None = None
    prompt: int = 0
    layer: int = 0
    groups: list[tuple[int, int]] = field(default_factory=list)  # (pos, n) in the order of the packed row
    z: Tensor | None = None


_PASS: ContextVar[_Pass | None] = ContextVar("packed_pass", default=None)


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """What the model's attention calls: ordinary attention while recording, packed attention in a sweep."""
    state = _PASS.get()
    softcap = more.get("softcap")
    if state is None or state.recording is not None:
        out = _attend(query, key, value, attention_mask, scaling, softcap).transpose(1, 2)
        if state is not None and state.recording is not None:
            for where, tensor in (("keys", key), ("values", value), ("z", out)):
                getattr(state.recording, where).append(tensor)
        return out, None
    if state.z is not None:
        return state.z, None
    assert state.target is not None
    keys, values = (side[state.layer][state.prompt] for side in (state.target.keys, state.target.values))
    mask = state.target.arguments[state.layer].get("attention_mask")
    n_pos, parts, at = keys.shape[-2], [], 0
    for pos, n in state.groups:
        rows = slice(at, at := at + n * (n_pos - pos))
        q, k, v = (x[0, :, rows].unflatten(1, (n, -1)).transpose(0, 1) for x in (query, key, value))
        k = torch.cat([keys[:, :pos].expand(n, -1, -1, -1), k], dim=2)
        v = torch.cat([values[:, :pos].expand(n, -1, -1, -1), v], dim=2)
        own = None if mask is None else mask[min(state.prompt, len(mask) - 1), :, pos:, :n_pos].unsqueeze(0)
        parts.append(_attend(q, k, v, own, scaling, softcap).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0), None


def _attend(q, k, v, mask, scaling, softcap) -> Tensor:
    """Attention of the last queries over all keys: `[batch, head, query, d_head]`. No mask means causal."""
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if mask is None:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).tril(n_keys - n_queries)
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(-2, -1) * scaling / softcap)
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ v


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class UnpackableError(WorkbenchError):
    """The model does not go through transformers' attention interface; the hooks still work."""


class PackedEngine:
    """Records runs of a Subject and carries branches through its layers. Raises `UnpackableError`."""

    def __init__(self, subject: Subject):
        mapping: Any = subject.bridge.adapter.component_mapping
        if not getattr(subject.model, "_supports_attention_backend", False):
            raise UnpackableError(f"{subject.card.architecture} does not use transformers' attention interface.")
        self.model = shared_clone(subject.model)
        self.model.set_attn_implementation(NAME)
        self.layers: Any = self.model.get_submodule(mapping["blocks"].name)
        parts = mapping["blocks"].submodules
        self.attentions = [layer.get_submodule(parts["attn"].name) for layer in self.layers]
        self.mlps = [layer.get_submodule(parts["mlp"].name) for layer in self.layers]
        self.norm = self.model.get_submodule(mapping["ln_final"].name)
        self.unembed: Any = self.model.get_output_embeddings()
        self.softcap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        self.lock = threading.Lock()

    @torch.no_grad()
    def record(self, ids: Int[Tensor, "batch pos"]) -> Recording:
        """One ordinary pass over the prompts (of equal length), everything a sweep needs kept."""
        recording = Recording()

        def enter(layer: nn.Module, args: tuple, kwargs: dict) -> None:
            bound = dict(inspect.signature(layer.forward).bind(*args, **kwargs).arguments)
            bound |= bound.pop("kwargs", {})
            recording.resid.append(bound.pop("hidden_states"))
            recording.arguments.append({k: v for k, v in bound.items() if k not in CACHES})

        def leave(where: list[Tensor]):
            return lambda _module, _args, out: where.append(out[0] if isinstance(out, tuple) else out)

        last: list[Tensor] = []
        with self.lock, _active(_Pass(recording=recording)):
            handles = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in self.layers]
            handles += [m.register_forward_hook(leave(recording.attn_out)) for m in self.attentions]
            handles += [m.register_forward_hook(leave(recording.mlp_out)) for m in self.mlps]
            handles.append(self.layers[-1].register_forward_hook(leave(last)))
            try:
                recording.logits = self.model(ids, use_cache=False).logits
            finally:
                for handle in handles:
                    handle.remove()
        recording.resid += last
        if len(recording.keys) != len(self.layers):
            raise UnpackableError(f"{type(self.model).__name__} has attention that the packed engine does not see.")
        return recording

    @torch.no_grad()
    def block(
        self, target: Recording, prompt: int, layer: int, pos: Int[Tensor, " row"], **replaced: Tensor
    ) -> Float[Tensor, "n row d_model"]:
        """Run one block at rows `pos` with a part of it replaced: `z`, `attn_out` or `mlp_out`, `[n, row, ...]`.

        Nothing attends here: with its attention given, a block works on each position alone. Without `z` or
        `attn_out`, the target's own z is used.
        """
        n = len(next(iter(replaced.values())))
        rows = target.resid[layer][prompt, pos].repeat(n, 1).unsqueeze(0)
        z = replaced["z"] if "z" in replaced else target.z[layer][prompt, pos].expand(n, -1, -1, -1)
        state = _Pass(target=target, prompt=prompt, layer=layer, z=z.flatten(0, 1).unsqueeze(0))
        outputs = {"attn_out": self.attentions[layer], "mlp_out": self.mlps[layer]}
        with self.lock, _active(state):
            handles = [
                module.register_forward_hook(_replace(replaced[name].flatten(0, 1).unsqueeze(0)))
                for name, module in outputs.items()
                if name in replaced
            ]
            try:
                return self._layer(state, rows, pos.repeat(n))[0].unflatten(0, (n, -1))
            finally:
                for handle in handles:
                    handle.remove()

    @torch.no_grad()
    def carry(
        self, target: Recording, prompt: int, branches: list[Branches]
    ) -> list[tuple[Branches, Float[Tensor, "n d_model"]]]:
        """Carry branches to the last layer; gives each one's last-position residual stream, before the final norm."""
        by_pos: dict[int, list[Branches]] = {}
        for branch in sorted(branches, key=lambda b: b.layer):
            by_pos.setdefault(branch.pos, []).append(branch)
        n_pos = target.resid[0].shape[1]
        device = target.resid[0].device
        suffix = {p: torch.arange(p, n_pos, device=device) for p in by_pos}
        rows: dict[int, Tensor] = {}
        for layer in range(min((b.layer for b in branches), default=0), len(self.layers) + 1):
            for p, found in by_pos.items():
                joining = [b.rows for b in found if b.layer == layer]
                if joining:
                    rows[p] = torch.cat([rows[p], *joining] if p in rows else joining)
            if layer < len(self.layers) and rows:
                groups = [(p, len(x)) for p, x in rows.items()]
                state = _Pass(target=target, prompt=prompt, layer=layer, groups=groups)
                packed = torch.cat([x.flatten(0, 1) for x in rows.values()]).unsqueeze(0)
                where = torch.cat([suffix[p].repeat(n) for p, n in groups])
                with _active(state):
                    packed = self._layer(state, packed, where)[0]
                sizes = [n * (n_pos - p) for p, n in groups]
                for (p, n), part in zip(groups, packed.split(sizes), strict=True):
                    rows[p] = part.unflatten(0, (n, -1))
        done = []
        for p, found in by_pos.items():
            finals = rows[p][:, -1].split([len(b.rows) for b in found])
            done += list(zip(found, finals, strict=True))
        return done

    def _layer(self, state: _Pass, rows: Float[Tensor, "1 row d_model"], where: Int[Tensor, " row"]) -> Tensor:
        """One block of the model's own over packed rows that stand at positions `where`."""
        assert state.target is not None
        arguments = dict(state.target.arguments[state.layer], attention_mask=None, use_cache=False)
        if (turns := arguments.get("position_embeddings")) is not None:
            arguments["position_embeddings"] = tuple(t[:1, where] for t in turns)
        if arguments.get("position_ids") is not None:
            arguments["position_ids"] = where.unsqueeze(0)
        out = self.layers[state.layer](rows, **arguments)
        return out[0] if isinstance(out, tuple) else out

    @torch.no_grad()
    def logits(
        self, resid: Float[Tensor, "n d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "n token"]:
        """Logits of the residual stream after the last layer, of `tokens` only where given."""
        x = self.norm(resid)
        if tokens is None:
            out = self.unembed(x)
        else:
            bias = None if self.unembed.bias is None else self.unembed.bias[tokens]
            out = F.linear(x, self.unembed.weight[tokens], bias)
        return out if self.softcap is None else torch.tanh(out / self.softcap) * self.softcap


@contextmanager
def _active(state: _Pass) -> Iterator[None]:
    token = _PASS.set(state)
    try:
        yield
    finally:
        _PASS.reset(token)


def _replace(value: Tensor):
    return lambda _module, _args, out: (value, *out[1:]) if isinstance(out, tuple) else value


_ENGINES: WeakKeyDictionary[Subject, PackedEngine] = WeakKeyDictionary()


def engine(subject: Subject) -> PackedEngine:
    """The Subject's engine, made once."""
    if subject not in _ENGINES:
        _ENGINES[subject] = PackedEngine(subject)
    return _ENGINES[subject]
