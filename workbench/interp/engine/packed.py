"""The packed engine: many patched runs as one forward pass, exact, for any model on transformers'
attention interface.

A patched run equals the unpatched one before the patched layer and, in a causal model, before the
patched position. So a branch starts at its layer with the rows from its position on, joins the
branches of earlier layers in one long row of tokens, and attends to the recorded keys and values of
the shared prefix and to itself. Blocks are the model's own; only attention is ours, put in through
`transformers.AttentionInterface`. The parts of a block are found by the names that
TransformerLens's architecture adapter gives them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from workbench.interp.engine.branches import Branches, Edit, Recording
from workbench.interp.engine.reader import Reader, UnpackableError, plain_reader
from workbench.subjects import Subject
from workbench.subjects.card import within_context
from workbench.subjects.stream import first

NAME = "workbench_packed"


@dataclass
class _Pass:
    """The state of the pass under way: recording, or packed rows against a recorded target."""

    recording: Recording | None = None
    target: Recording | None = None
    prompt: int = 0
    layer: int = 0
    groups: list[tuple[int, int]] = field(
        default_factory=list
    )  # (pos, n) in the order of the packed row
    z: Tensor | None = None
    only_projects: bool = False


_PASS: ContextVar[_Pass | None] = ContextVar("packed_pass", default=None)


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """What the model's attention calls: ordinary attention while recording, packed attention in a
    sweep.
    """
    state = _PASS.get()
    softcap, sinks = more.get("softcap"), more.get("s_aux")
    if state is None or state.recording is not None:
        out = attend(query, key, value, attention_mask, scaling, softcap, sinks).transpose(1, 2)
        if state is not None and state.recording is not None:
            state.recording.scaling.append((scaling, softcap, sinks))
            for where, tensor in (
                ("queries", query),
                ("keys", key),
                ("values", value),
                ("attended", out),
            ):
                getattr(state.recording, where).append(tensor)
        return out, None
    if state.z is not None:
        return state.z, None
    if state.only_projects:
        raise _ProjectedError(query, key, value)
    assert state.target is not None
    keys, values = (
        side[state.layer][state.prompt] for side in (state.target.keys, state.target.values)
    )
    mask = state.target.arguments[state.layer].get("attention_mask")
    n_pos, parts, at = keys.shape[-2], [], 0
    for pos, n in state.groups:
        rows = slice(at, at := at + n * (n_pos - pos))
        q, k, v = (x[0, :, rows].unflatten(1, (n, -1)).transpose(0, 1) for x in (query, key, value))
        k = torch.cat([keys[:, :pos].expand(n, -1, -1, -1), k], dim=2)
        v = torch.cat([values[:, :pos].expand(n, -1, -1, -1), v], dim=2)
        own = (
            None
            if mask is None
            else mask[min(state.prompt, len(mask) - 1), :, pos:, :n_pos].unsqueeze(0)
        )
        parts.append(attend(q, k, v, own, scaling, softcap, sinks).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).unsqueeze(0), None


def attend(q, k, v, mask, scaling, softcap=None, sinks=None) -> Tensor:
    """Attention of the last queries over all keys: `[batch, head, query, d_head]`. No mask means
    causal.

    `softcap` bounds the scores; `sinks`, one a head, are scores of a key that gives nothing.
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if mask is None:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).tril(
            n_keys - n_queries
        )
    if softcap is None and sinks is None:
        return F.scaled_dot_product_attention(
            q, k, v, mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if sinks is None:
        return scores.softmax(-1) @ v
    column = sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, column], -1).softmax(-1)[..., :-1] @ v


class _ProjectedError(Exception):
    """Carries queries, keys and values out of a block; what comes after them is not needed."""


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class PackedEngine(Reader):
    """Records runs of a Subject and carries branches through its layers. Raises `UnpackableError`."""

    def __init__(self, subject: Subject):
        super().__init__(subject)
        if not getattr(subject.model, "_supports_attention_backend", False):
            raise UnpackableError(
                f"{subject.card.architecture} does not use transformers' attention interface."
            )
        if self.stream.unlike:
            raise UnpackableError(f"In {self.what} {self.stream.unlike}.")
        self.need_end()
        self.model.set_attn_implementation(NAME)
        self.gated = False
        self._check(subject)

    def trace(
        self,
        ids: Int[Tensor, "batch pos"],
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Recording:
        """As `record`, and what is kept can be differentiated where the embeddings ask for
        gradients.
        """
        recording = Recording()
        given = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
        with self.lock, _active(_Pass(recording=recording)), self._recording(recording):
            recording.logits = self.model(**given, use_cache=False).logits
        sides = zip(recording.resid, recording.attn_out, strict=False)
        recording.mid = [before + added for before, added in sides]
        if len(recording.keys) != len(self.layers):
            raise UnpackableError(f"{self.what} has attention that the packed engine does not see.")
        return recording

    @torch.no_grad()
    def _check(self, subject: Subject) -> None:
        """Carry two short prompts through every layer and compare: what packs wrongly is not packed
        at all.
        """
        vocab = self.model.get_input_embeddings().weight.shape[0]
        ids = (
            torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 8, 9, 10, 11]], device=subject.device)
        ) % vocab
        ids = ids[:, : within_context(subject.model.config, ids.shape[1])]
        try:
            run = self.record(ids)
            ends = subject.model(input_ids=ids, use_cache=False).logits[:, -1]
            self.gated = not torch.equal(run.attended[0].flatten(), run.z[0].flatten())
            whole = Branches(0, 2, 1, lambda: run.resid[0][:1, 2:], 0)
            half = len(self.layers) // 2
            itself = Branches(half, 2, 1, lambda: run.resid[half][1:, 2:], 1)
            z = self.block(
                run, 0, half, torch.arange(ids.shape[1], device=ids.device), z=run.z[half][:1]
            )
            off = float((z - run.resid[half + 1][:1]).abs().max() / z.abs().max())
            carried = self.carry(run, 1, [whole, itself])
            if len(carried) != 2:
                raise UnpackableError(f"Packed runs of {self.what} are lost on their way.")
            for branch, final in carried:
                told = self.logits(final[0, -1])
                off = max(off, float((told - ends[branch.key]).abs().max() / ends.abs().max()))
        except UnpackableError:
            raise
        except Exception as error:  # whatever is unlike the other families, hooks do without it
            raise UnpackableError(
                f"{self.what} cannot be run in packed rows ({type(error).__name__})."
            ) from error
        limit = max(1e-4, 64 * torch.finfo(ends.dtype).eps)
        if not off <= limit:
            raise UnpackableError(
                f"Packed runs of {self.what} differ from ordinary ones by {off:.2g} of the logits."
            )

    @torch.no_grad()
    def block(
        self,
        target: Recording,
        prompt: int,
        layer: int,
        pos: Int[Tensor, " row"],
        **replaced: Tensor,
    ) -> Float[Tensor, "n row d_model"]:
        """Run one block at rows `pos` with a part replaced, `[n, row, ...]`.

        The parts are `attended` (what attention's weights gather, a head), `z` (what of it is
        projected: the same but for models that gate it), `attn_out`, `mid`, `post` and `mlp_out`.
        Nothing attends here: with its attention given, a block works on each position alone.
        Without `attended` the target's own is used.
        """
        n = len(next(iter(replaced.values())))
        own = target.attended[layer][prompt, pos]
        z = replaced.pop("attended") if "attended" in replaced else own.expand(n, -1, -1, -1)
        rows = target.resid[layer][prompt, pos].repeat(n, 1).unsqueeze(0)
        state = _Pass(target=target, prompt=prompt, layer=layer, z=z.flatten(0, 1).unsqueeze(0))
        given = {site: value.flatten(0, 1).unsqueeze(0) for site, value in replaced.items()}
        if "mid" in given:
            given["mid"] = given["mid"] - rows
        with self.lock, _active(state), self._replaced(layer, given):
            return self._layer(state, rows, pos.repeat(n))[0].unflatten(0, (n, -1))

    def mlp_of(
        self, target: Recording, layer: int, stream: Float[Tensor, "n pos d_model"]
    ) -> Float[Tensor, "n pos d_model"]:
        """What a layer's MLP adds to the stream where it reads these streams; differentiable."""
        parts, block = self.blocks[layer], self.layers[layer]
        if parts.mlp.plain and not parts.mlp.normed and parts.mlp_norm is not None:
            return first(
                block.get_submodule(parts.mlp.raw)(block.get_submodule(parts.mlp_norm)(stream))
            )
        rows, seen = stream.flatten(0, 1).unsqueeze(0), []
        where = torch.arange(stream.shape[1], device=stream.device).repeat(len(stream))
        state = _Pass(target=target, layer=layer, z=target.attended[layer][:1, where])
        nothing = self.changed("attn_out", layer, torch.zeros_like)
        look = self.changed("mlp_out", layer, lambda x: (seen.append(x), x)[1])
        with self.lock, _active(state), nothing, look:
            self._layer(state, rows, where)
        return seen[0].view_as(stream)

    def project(
        self, target: Recording, prompt: int, layer: int, resid: Float[Tensor, "n pos d_model"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[n, head, pos, d_head]` of a layer whose attention reads these
        streams.
        """
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
        """Parts of one block whose activation is given while the context lasts."""
        with ExitStack() as stack:
            for site, value in given.items():
                stack.enter_context(self.changed(site, layer, lambda _, value=value: value))
            yield

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
                if edit.heads is not None:
                    x[0, rows.unsqueeze(1), torch.tensor(edit.heads, device=rows.device)] = value
                else:
                    x[0, rows] = value
            return x

        with ExitStack() as stack:
            for site, found in by_site.items():
                stack.enter_context(
                    self.changed(site, layer, lambda x, found=found: changed(x, found))
                )
            yield

    @torch.no_grad()
    def carry(
        self, target: Recording, prompt: int, branches: list[Branches], *, last: int = 1
    ) -> list[tuple[Branches, Float[Tensor, "n last d_model"]]]:
        """Carry branches to the last layer; gives each one's residual stream there, before the
        final norm.

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

    def _layer(
        self, state: _Pass, rows: Float[Tensor, "1 row d_model"], where: Int[Tensor, " row"]
    ) -> Tensor:
        """One block of the model's own over packed rows that stand at positions `where`."""
        assert state.target is not None
        arguments = dict(state.target.arguments[state.layer], attention_mask=None, use_cache=False)
        if (turns := arguments.get("position_embeddings")) is not None:
            both = isinstance(
                turns, tuple
            )  # cosines and sines; DeepSeek 2 has complex numbers in one tensor
            arguments["position_embeddings"] = (
                tuple(t[:1, where] for t in turns) if both else turns[:1, where]
            )
        if arguments.get("position_ids") is not None:
            arguments["position_ids"] = where.unsqueeze(0)
        out = self.layers[state.layer](rows, **arguments)
        return out[0] if isinstance(out, tuple) else out


@contextmanager
def _active(state: _Pass) -> Iterator[None]:
    token = _PASS.set(state)
    try:
        yield
    finally:
        _PASS.reset(token)


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


_ENGINES: WeakKeyDictionary[Subject, PackedEngine | UnpackableError] = WeakKeyDictionary()


def engine(subject: Subject) -> PackedEngine:
    """The Subject's engine, made once. Raises `UnpackableError` where the model cannot be packed."""
    if subject not in _ENGINES:
        try:
            _ENGINES[subject] = PackedEngine(subject)
        except UnpackableError as error:
            _ENGINES[subject] = error
    made = _ENGINES[subject]
    if isinstance(made, UnpackableError):
        raise UnpackableError(str(made))
    return made


def reader(subject: Subject) -> Reader:
    """The Subject's engine, or where it cannot be packed the plain reader, which records all the
    same.
    """
    try:
        return engine(subject)
    except UnpackableError:
        return plain_reader(subject)
