"""The packed engine: many patched runs as one forward pass, exact, for any model on transformers' attention interface.

A patched run equals the unpatched one before the patched layer and, in a causal model, before the patched position.
So a branch starts at its layer with the rows from its position on, joins the branches of earlier layers in one long row
of tokens, and attends to the recorded keys and values of the shared prefix and to itself. Blocks are the model's
own; only attention is ours, put in through `transformers.AttentionInterface`. The parts of a block are found by the
names that TransformerLens's architecture adapter gives them.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
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
from workbench.interp.causal.branches import Branches, Edit, Recording
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone

NAME = "workbench_packed"
CACHES = ("cache", "past_key_values", "layer_past", "past_key_value")


@dataclass
class _Pass:
    """The state of the pass under way: recording, or packed rows against a recorded target."""

    recording: Recording | None = None
    target: Recording | None = None
    prompt: int = 0
    layer: int = 0
    groups: list[tuple[int, int]] = field(default_factory=list)  # (pos, n) in the order of the packed row
    z: Tensor | None = None
    only_projects: bool = False


_PASS: ContextVar[_Pass | None] = ContextVar("packed_pass", default=None)


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """What the model's attention calls: ordinary attention while recording, packed attention in a sweep."""
    state = _PASS.get()
    softcap = more.get("softcap")
    if state is None or state.recording is not None:
        out = attend(query, key, value, attention_mask, scaling, softcap).transpose(1, 2)
        if state is not None and state.recording is not None:
            state.recording.scaling.append((scaling, softcap))
            for where, tensor in (("queries", query), ("keys", key), ("values", value), ("z", out)):
                getattr(state.recording, where).append(tensor)
        return out, None
    if state.z is not None:
        return state.z, None
    if state.only_projects:
        raise _ProjectedError(query, key, value)
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
        parts.append(attend(q, k, v, own, scaling, softcap).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0), None


def attend(q, k, v, mask, scaling, softcap) -> Tensor:
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


class _ProjectedError(Exception):
    """Carries queries, keys and values out of a block; what comes after them is not needed."""


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
        self.outputs = [a.get_submodule(parts["attn"].submodules["o"].name) for a in self.attentions]
        self.neurons = [m.get_submodule(parts["mlp"].submodules["out"].name) for m in self.mlps]
        # What attention adds to the stream: Gemma norms it once more.
        adds = parts.get("ln1_post") or parts["attn"]
        self.adders = [layer.get_submodule(adds.name) for layer in self.layers]
        self.norm2 = [layer.get_submodule(parts["ln2" if "ln2" in parts else "ln1"].name) for layer in self.layers]
        self.parallel = "hook_resid_mid" not in mapping["blocks"].hook_aliases
        self.norm = self.model.get_submodule(mapping["ln_final"].name)
        self.unembed: Any = self.model.get_output_embeddings()
        self.softcap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        self.lock = threading.Lock()

    @torch.no_grad()
    def record(
        self, ids: Int[Tensor, "batch pos"], embeddings: Float[Tensor, "batch pos d_model"] | None = None
    ) -> Recording:
        """One ordinary pass over the prompts (of equal length), or over `embeddings` in their place.

        Everything a sweep needs is kept.
        """
        return self.trace(ids, embeddings)

    def trace(
        self, ids: Int[Tensor, "batch pos"], embeddings: Float[Tensor, "batch pos d_model"] | None = None
    ) -> Recording:
        """As `record`, and what is kept can be differentiated where the embeddings ask for gradients."""
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
            handles += [m.register_forward_hook(leave(recording.added)) for m in self.adders]
            handles += [
                m.register_forward_pre_hook(lambda _m, args: recording.post.append(args[0])) for m in self.neurons
            ]
            handles.append(self.layers[-1].register_forward_hook(leave(last)))
            try:
                given = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
                recording.logits = self.model(**given, use_cache=False).logits
            finally:
                for handle in handles:
                    handle.remove()
        recording.resid += last
        recording.mid = [before + added for before, added in zip(recording.resid, recording.added, strict=False)]
        if len(recording.keys) != len(self.layers):
            raise UnpackableError(f"{type(self.model).__name__} has attention that the packed engine does not see.")
        return recording

    @torch.no_grad()
    def block(
        self, target: Recording, prompt: int, layer: int, pos: Int[Tensor, " row"], **replaced: Tensor
    ) -> Float[Tensor, "n row d_model"]:
        """Run one block at rows `pos` with a part replaced, `[n, row, ...]`: `z`, `attn_out`, `mid`, `post`, `mlp_out`.

        Nothing attends here: with its attention given, a block works on each position alone. Without `z` or
        `attn_out`, the target's own z is used.
        """
        n = len(next(iter(replaced.values())))
        z = replaced.pop("z") if "z" in replaced else target.z[layer][prompt, pos].expand(n, -1, -1, -1)
        rows = target.resid[layer][prompt, pos].repeat(n, 1).unsqueeze(0)
        state = _Pass(target=target, prompt=prompt, layer=layer, z=z.flatten(0, 1).unsqueeze(0))
        given = {site: value.flatten(0, 1).unsqueeze(0) for site, value in replaced.items()}
        if "mid" in given:
            given["mid"] = given["mid"] - rows
        with self.lock, _active(state), self._replaced(layer, given):
            return self._layer(state, rows, pos.repeat(n))[0].unflatten(0, (n, -1))

    def project(
        self, target: Recording, prompt: int, layer: int, resid: Float[Tensor, "n pos d_model"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[n, head, pos, d_head]` of a layer whose attention reads these streams."""
        n, n_pos = resid.shape[:2]
        state = _Pass(target=target, prompt=prompt, layer=layer, only_projects=True)
        where = torch.arange(n_pos, device=resid.device).repeat(n)
        with _active(state):
            try:
                self._layer(state, resid.flatten(0, 1).unsqueeze(0), where)
            except _ProjectedError as seen:
                q, k, v = (x[0].unflatten(1, (n, n_pos)).transpose(0, 1) for x in seen.args)
                return q, k, v
        raise UnpackableError("This model's attention does not ask for its pattern.")

    @contextmanager
    def _replaced(self, layer: int, given: dict[str, Tensor]) -> Iterator[None]:
        """Modules of one block whose output (of `post`: input) is given while the context lasts."""
        modules = {"attn_out": self.attentions, "mid": self.adders, "mlp_out": self.mlps, "post": self.neurons}
        handles = []
        for site, value in given.items():
            module = modules[site][layer]
            if site == "post":
                handles.append(module.register_forward_pre_hook(lambda _m, _args, value=value: (value,)))
            else:
                handles.append(module.register_forward_hook(_replace(value)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _edited(self, layer: int, edits: list[tuple[Int[Tensor, " row"], Edit]]) -> Iterator[None]:
        """The edits of the branches under way in this layer, each at its rows of the packed row."""
        by_site: dict[str, list[tuple[Tensor, Edit]]] = {}
        for rows, edit in edits:
            by_site.setdefault(edit.site, []).append((rows, edit))

        def changed(x: Tensor, found: list[tuple[Tensor, Edit]]) -> Tensor:
            x = x.clone()
            for rows, edit in found:
                value = edit.value.flatten(0, 1)
                if edit.site == "z":
                    heads = x[0].unflatten(-1, (-1, value.shape[-1]))  # a view
                    which = torch.arange(heads.shape[1]) if edit.heads is None else torch.tensor(edit.heads)
                    heads[rows.unsqueeze(1), which.to(rows.device)] = value
                elif edit.heads is not None:
                    x[0, rows.unsqueeze(1), torch.tensor(edit.heads, device=rows.device)] = value
                else:
                    x[0, rows] = value
            return x

        places = {"attn_out": self.attentions, "mlp_out": self.mlps, "z": self.outputs, "post": self.neurons}
        handles = []
        for site, found in by_site.items():
            module = places[site][layer]
            if site in ("z", "post"):
                handles.append(module.register_forward_pre_hook(lambda _m, a, found=found: (changed(a[0], found),)))
            else:
                handles.append(module.register_forward_hook(_change(lambda x, found=found: changed(x, found))))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def carry(
        self, target: Recording, prompt: int, branches: list[Branches], *, last: int = 1
    ) -> list[tuple[Branches, Float[Tensor, "n last d_model"]]]:
        """Carry branches to the last layer; gives each one's residual stream there, before the final norm.

        It is that of the `last` last positions, or of all that a branch has.
        """
        by_pos: dict[int, list[Branches]] = {}
        for branch in sorted(branches, key=lambda b: b.layer):
            by_pos.setdefault(branch.pos, []).append(branch)
        n_pos = target.resid[0].shape[1]
        device = target.resid[0].device
        suffix = {p: torch.arange(p, n_pos, device=device) for p in by_pos}
        rows: dict[int, Tensor] = {}
        for layer in range(min((b.layer for b in branches), default=0), len(self.layers) + 1):
            for p, found in by_pos.items():
                joining = [b.make() for b in found if b.layer == layer]
                if joining:
                    rows[p] = torch.cat([rows[p], *joining] if p in rows else joining)
            if layer < len(self.layers) and rows:
                groups = [(p, len(x)) for p, x in rows.items()]
                state = _Pass(target=target, prompt=prompt, layer=layer, groups=groups)
                packed = torch.cat([x.flatten(0, 1) for x in rows.values()]).unsqueeze(0)
                where = torch.cat([suffix[p].repeat(n) for p, n in groups])
                edits = _edits_here(by_pos, groups, n_pos, layer)
                with self.lock, _active(state), self._edited(layer, edits):
                    packed = self._layer(state, packed, where)[0]
                sizes = [n * (n_pos - p) for p, n in groups]
                for (p, n), part in zip(groups, packed.split(sizes), strict=True):
                    rows[p] = part.unflatten(0, (n, -1))
        done = []
        for p, found in by_pos.items():
            finals = rows[p][:, -last:].split([b.n for b in found])
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
        self, resid: Float[Tensor, "*batch d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*batch token"]:
        """Logits of the residual stream after the last layer, of `tokens` only where given."""
        return self.readable(resid, tokens)

    def readable(
        self, resid: Float[Tensor, "*batch d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*batch token"]:
        """As `logits`, for any batch, and differentiable."""
        x = self.norm(resid)
        if tokens is None:
            out = self.unembed(x)
        else:
            bias = None if self.unembed.bias is None else self.unembed.bias[tokens]
            out = F.linear(x, self.unembed.weight[tokens], bias)
        return self.capped(out)

    def capped(self, logits: Tensor) -> Tensor:
        """Logits as the model gives them: some are kept within bounds by a tanh."""
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


@contextmanager
def _active(state: _Pass) -> Iterator[None]:
    token = _PASS.set(state)
    try:
        yield
    finally:
        _PASS.reset(token)


def _replace(value: Tensor):
    return _change(lambda _: value)


def _change(change: Callable[[Tensor], Tensor]):
    return lambda _module, _args, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)


def _edits_here(
    by_pos: dict[int, list[Branches]], groups: list[tuple[int, int]], n_pos: int, layer: int
) -> list[tuple[Tensor, Edit]]:
    """The edits that branches under way have at this layer, with their rows in the packed row."""
    found, start = [], 0
    for p, n in groups:
        at = start
        for branch in by_pos[p]:
            if branch.layer > layer:
                break  # they are sorted by layer, so the rest has not joined yet
            for edit in branch.edits:
                if edit.layer == layer:
                    first = at + torch.arange(branch.n, device=edit.pos.device) * (n_pos - p)
                    found.append(((first.unsqueeze(1) + edit.pos - p).flatten(), edit))
            at += branch.n * (n_pos - p)
        start += n * (n_pos - p)
    return found


_ENGINES: WeakKeyDictionary[Subject, PackedEngine] = WeakKeyDictionary()


def engine(subject: Subject) -> PackedEngine:
    """The Subject's engine, made once."""
    if subject not in _ENGINES:
        _ENGINES[subject] = PackedEngine(subject)
    return _ENGINES[subject]
