"""The packed engine: many patched runs as one forward pass, exact.

It runs any model on transformers' attention interface. A patched run equals the unpatched one
before the patched layer and, in a causal model, before the patched position. So a branch starts at
its layer with the rows from its position on, joins the branches of earlier layers in one long row
of tokens, and attends to the recorded keys and values of the shared prefix and to itself. Blocks
are the model's own; only attention is ours (`attend`), put in through
`transformers.AttentionInterface`. The parts of a block are found by the names that
TransformerLens's architecture adapter gives them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import threads
from workbench.interp.engine.attend import NAME, Pass, ProjectedError, active, packed_attention
from workbench.interp.engine.branches import Branches, Edit, Recording
from workbench.interp.engine.reader import Reader, UnpackableError, plain_reader
from workbench.interp.engine.rows import edits_at, packed_row, prompts_of, unpacked
from workbench.subjects import Subject
from workbench.subjects.card import within_context
from workbench.subjects.stream import first


class PackedEngine(Reader):
    """Records runs of a Subject and carries patched runs (branches) through its layers.

    Raises:
        UnpackableError: The model does not use transformers' attention interface, or a trial shows
            that its packed runs differ from ordinary ones.
    """

    def __init__(self, subject: Subject):
        super().__init__(subject)
        # Without the interface there is no place to put our attention in.
        if not getattr(subject.model, "_supports_attention_backend", False):
            raise UnpackableError(
                f"{subject.card.architecture} does not use transformers' attention interface."
            )
        if self.stream.unlike:
            raise UnpackableError(f"In {self.what} {self.stream.unlike}.")
        self.need_end()
        # `self.model` is a clone that shares the weights, so the Subject's own model is untouched.
        self.model.set_attn_implementation(NAME)
        # Whether attention's output passes a gate before its projection; `_trial` finds out.
        self.gated = False
        self._check(subject)

    def trace(
        self,
        ids: Int[Tensor, "batch pos"],
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Recording:
        """Like `record`, but keeps gradients where `embeddings` ask for them.

        Args:
            ids: Token ids of prompts of equal length.
            embeddings: What the model reads in place of the tokens' embeddings; None for these.
        """
        recording = Recording()
        given = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
        with self.lock, active(Pass(recording=recording)), self._recording(recording):
            recording.logits = self.model(**given, use_cache=False).logits
        # `resid` has one entry more than `attn_out`: the stream after the last layer.
        sides = zip(recording.resid, recording.attn_out, strict=False)
        recording.mid = [before + added for before, added in sides]
        # A layer whose attention bypasses the interface leaves no keys behind.
        if len(recording.keys) != len(self.layers):
            raise UnpackableError(f"{self.what} has attention that the packed engine does not see.")
        return recording

    @torch.no_grad()
    def _check(self, subject: Subject) -> None:
        """Raise `UnpackableError` unless packed runs of two short prompts equal ordinary ones."""
        vocab = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 8, 9, 10, 11]], device=subject.device)
        ids = ids % vocab  # toy models have few tokens
        ids = ids[:, : within_context(subject.model.config, ids.shape[1])]
        # [2, 6]: the prompts share two tokens, so branches from position 2 use a recorded prefix.
        try:
            ends = subject.model(input_ids=ids, use_cache=False).logits[:, -1]  # [prompt, vocab]
            off = self._trial(ids, ends)
        except UnpackableError:
            raise
        except Exception as error:  # whatever is unlike the other families, hooks do without it
            raise UnpackableError(
                f"{self.what} cannot be run in packed rows ({type(error).__name__})."
            ) from error
        # Rounding alone: 1e-4 in float32, more where the model runs in half precision.
        limit = max(1e-4, 64 * torch.finfo(ends.dtype).eps)
        if not off <= limit:
            raise UnpackableError(
                f"Packed runs of {self.what} differ from ordinary ones by {off:.2g} of the logits."
            )

    def _trial(self, ids: Int[Tensor, "2 pos"], ends: Float[Tensor, "2 vocab"]) -> float:
        """The largest share by which packed runs of two prompts that begin alike are off.

        Three runs show all that can go wrong: the whole of prompt 0 put into prompt 1 at the first
        layer, prompt 1 put into itself half-way up, and one block alone with its own z.
        """
        run = self.record(ids)
        # What attention gathers is what is projected, unless a gate multiplies it.
        self.gated = not torch.equal(run.attended[0].flatten(), run.z[0].flatten())
        half = len(self.layers) // 2
        # Keys 0 and 1 name the prompt whose logits each run must give; rows are [1, pos - 2, d].
        whole = Branches(0, 2, 1, lambda: run.resid[0][:1, 2:], 0, prompt=1)
        itself = Branches(half, 2, 1, lambda: run.resid[half][1:, 2:], 1, prompt=1)
        everywhere = torch.arange(ids.shape[1], device=ids.device)
        after = self.block(run, 0, half, everywhere, z=run.z[half][:1])
        off = float((after - run.resid[half + 1][:1]).abs().max() / after.abs().max())
        carried = self.carry(run, [whole, itself])
        if len(carried) != 2:
            raise UnpackableError(f"Packed runs of {self.what} are lost on their way.")
        for branch, final in carried:
            difference = self.logits(final[0, -1]) - ends[branch.key]
            off = max(off, float(difference.abs().max() / ends.abs().max()))
        return off

    @torch.no_grad()
    def block(
        self,
        target: Recording,
        prompt: int,
        layer: int,
        pos: Int[Tensor, " row"],
        **replaced: Tensor,
    ) -> Float[Tensor, "n row d_model"]:
        """The stream after one block in which parts are replaced.

        Nothing attends here: with its attention given, a block works on each position alone.

        Args:
            target: The recorded run that is patched.
            prompt: Which prompt of it.
            layer: The block.
            pos: The positions to compute.
            **replaced: New values `[n, row, ...]` by part: `attended` (what attention's weights
                gather, by head; the target's own if absent), `z` (what of it is projected: the same
                but for models that gate it), `attn_out`, `mid`, `post` or `mlp_out`.
        """
        n = len(next(iter(replaced.values())))
        own = target.attended[layer][prompt, pos]  # [row, head, d_head]
        z = replaced.pop("attended") if "attended" in replaced else own.expand(n, -1, -1, -1)
        # All n versions stand in one packed row: [1, n * row, d_model].
        rows = target.resid[layer][prompt, pos].repeat(n, 1).unsqueeze(0)
        state = Pass(target=target, prompt=prompt, layer=layer, z=z.flatten(0, 1).unsqueeze(0))
        given = {site: value.flatten(0, 1).unsqueeze(0) for site, value in replaced.items()}
        if "mid" in given:
            # `changed` sets what attention adds, so of the stream after it only the difference.
            given["mid"] = given["mid"] - rows
        # The lock: hooks hang on modules that all threads share.
        with self.lock, active(state), self._replaced(layer, given):
            return self._layer(state, rows, pos.repeat(n))[0].unflatten(0, (n, -1))

    def mlp_of(
        self, target: Recording, layer: int, stream: Float[Tensor, "n pos d_model"]
    ) -> Float[Tensor, "n pos d_model"]:
        """What a layer's MLP adds to the stream where it reads these streams; keeps gradients.

        Args:
            target: A recorded run, which gives the block its other arguments.
            layer: The layer.
            stream: What the MLP (with its norm) reads.
        """
        parts = self.blocks[layer]
        block = self.layers[layer]
        if parts.mlp.plain and not parts.mlp.normed and parts.mlp_norm is not None:
            normed = block.get_submodule(parts.mlp_norm)(stream)  # [n, pos, d_model]
            return first(block.get_submodule(parts.mlp.raw)(normed))
        # Elsewhere norms or factors stand in between, so the whole block runs, attention silenced.
        rows = stream.flatten(0, 1).unsqueeze(0)  # [1, n * pos, d_model]
        where = torch.arange(stream.shape[1], device=stream.device).repeat(len(stream))
        state = Pass(target=target, layer=layer, z=target.attended[layer][:1, where])
        written: list[Tensor] = []

        def look(mlp_out: Tensor) -> Tensor:
            written.append(mlp_out)
            return mlp_out

        silenced = self.changed("attn_out", layer, torch.zeros_like)
        with self.lock, active(state), silenced, self.changed("mlp_out", layer, look):
            self._layer(state, rows, where)
        return written[0].view_as(stream)

    def project(
        self, target: Recording, prompt: int, layer: int, resid: Float[Tensor, "n pos d_model"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a layer whose attention reads these streams.

        Args:
            target: A recorded run, which gives the block its other arguments.
            prompt: Which prompt of it.
            layer: The layer.
            resid: What its attention (with its norm) reads.

        Returns:
            Three tensors `[n, head, pos, d_head]`, after rotary turns.
        """
        n, n_pos = resid.shape[:2]
        # Rotary turns are those of `where`, so all n streams stand at positions 0 to n_pos - 1.
        state = Pass(target=target, prompt=prompt, layer=layer, only_projects=True)
        where = torch.arange(n_pos, device=resid.device).repeat(n)
        with active(state):
            *parts, _ = self._projections(state, resid.flatten(0, 1).unsqueeze(0), where)
        # Each is [1, head, n * pos, d_head], one packed row.
        q, k, v = (x[0].unflatten(1, (n, n_pos)).transpose(0, 1) for x in parts)
        return q, k, v

    def _projections(self, state: Pass, rows: Tensor, where: Tensor) -> tuple[Any, ...]:
        """Queries, keys and values of packed rows, and how they are scored; the block ends there.

        Args:
            state: The pass under way, which only projects.
            rows: `[1, row, d_model]`.
            where: The position of each.
        """
        try:
            self._layer(state, rows, where)
        except ProjectedError as projected:
            return projected.args
        raise UnpackableError("This model's attention does not ask for its pattern.")

    @contextmanager
    def _replaced(self, layer: int, given: dict[str, Tensor]) -> Iterator[None]:
        """Parts of one block whose activation is given while the context lasts."""

        def always(value: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda _: value

        # As many contexts as there are parts: an ExitStack holds a number not known before.
        with ExitStack() as stack:
            for site, value in given.items():
                stack.enter_context(self.changed(site, layer, always(value)))
            yield

    @contextmanager
    def _edited(self, layer: int, edits: list[tuple[Int[Tensor, " _row"], Edit]]) -> Iterator[None]:
        """The edits of the branches under way in this layer, each at its rows of the packed row."""
        # One hook a site, however many branches edit there.
        by_site: dict[str, list[tuple[Tensor, Edit]]] = {}
        for rows, edit in edits:
            by_site.setdefault(edit.site, []).append((rows, edit))

        def edited(edits_here: list[tuple[Tensor, Edit]]) -> Callable[[Tensor], Tensor]:
            def change(x: Tensor) -> Tensor:
                x = x.clone()  # [1, row, ...]: the packed row of all branches
                for rows, edit in edits_here:
                    value = edit.value.flatten(0, 1)  # [n * row, ...]
                    if edit.heads is not None:
                        # Rows and heads index as a grid: [n * row, 1] against [head].
                        heads = torch.tensor(edit.heads, device=rows.device)
                        x[0, rows.unsqueeze(1), heads] = value
                    else:
                        x[0, rows] = value
                return x

            return change

        with ExitStack() as stack:
            for site, edits_here in by_site.items():
                stack.enter_context(self.changed(site, layer, edited(edits_here)))
            yield

    @torch.no_grad()
    def carry(
        self, target: Recording, branches: list[Branches], *, last: int = 1
    ) -> list[tuple[Branches, Float[Tensor, "n last d_model"]]]:
        """The residual stream of every branch after the last layer, before the final norm.

        Args:
            target: The recorded run that all branches start from, each from its own prompt.
            branches: The patched runs; each joins at its own layer.
            last: Positions to give, from the end; a branch that has fewer gives all.
        """
        # Branches from one position are equally long and share a tensor [n, n_pos - pos, d_model].
        by_pos: dict[int, list[Branches]] = {}
        for branch in sorted(branches, key=lambda b: b.layer):
            by_pos.setdefault(branch.pos, []).append(branch)
        rows: dict[int, Tensor] = {}
        # One step past the last layer, where branches join that go straight to the readout.
        for layer in range(min((b.layer for b in branches), default=0), len(self.layers) + 1):
            threads.fit()
            for pos, siblings in by_pos.items():
                joining = [branch.make() for branch in siblings if branch.layer == layer]
                if layer == len(self.layers):
                    joining = [run[:, -last:] for run in joining]
                if joining:
                    rows[pos] = torch.cat([rows[pos], *joining] if pos in rows else joining)
            if layer == len(self.layers) - 1 and rows:
                rows = self._through_last(target, rows, by_pos, last)
            elif layer < len(self.layers) and rows:
                rows = self._through_layer(target, layer, rows, by_pos)
        # Siblings were sorted by layer, so they joined in this very order and split in it.
        carried = []
        for pos, siblings in by_pos.items():
            finals = rows[pos].split([branch.n for branch in siblings])
            carried += list(zip(siblings, finals, strict=True))
        return carried

    def _through_layer(
        self,
        target: Recording,
        layer: int,
        rows: dict[int, Tensor],
        by_pos: dict[int, list[Branches]],
    ) -> dict[int, Tensor]:
        """The rows `[n, n_pos - pos, d_model]` of every start position after one more layer."""
        n_pos = target.resid[0].shape[1]
        groups = [(pos, prompts_of(by_pos[pos], len(x))) for pos, x in rows.items()]
        state = Pass(target=target, layer=layer, groups=groups)
        packed, where = packed_row(rows, n_pos)
        edits = edits_at(by_pos, groups, n_pos, layer)
        with self.lock, active(state), self._edited(layer, edits):
            packed = self._layer(state, packed, where)[0]  # [all rows, d_model]
        return unpacked(packed, rows)

    def _through_last(
        self,
        target: Recording,
        rows: dict[int, Tensor],
        by_pos: dict[int, list[Branches]],
        last: int,
    ) -> dict[int, Tensor]:
        """The last rows `[n, last, d_model]` of every start position after the last layer.

        All rows are looked at there, so all are projected; only what is read needs the rest.
        """
        layer = len(self.layers) - 1
        groups = [(pos, prompts_of(by_pos[pos], len(x))) for pos, x in rows.items()]
        n_pos = target.resid[0].shape[1]
        if edits_at(by_pos, groups, n_pos, layer):
            rows = self._through_layer(target, layer, rows, by_pos)
            return {pos: x[:, -last:] for pos, x in rows.items()}
        state = Pass(target=target, layer=layer, groups=groups, only_projects=True)
        ends = {pos: x[:, -last:] for pos, x in rows.items()}
        with self.lock:
            with active(state):
                projections = self._projections(state, *packed_row(rows, n_pos))
            z = packed_attention(state, *projections, last=last)
            with active(Pass(target=target, layer=layer, z=z)) as known:
                packed = self._layer(known, *packed_row(ends, n_pos))[0]
        return unpacked(packed, ends)

    def _layer(
        self, state: Pass, rows: Float[Tensor, "1 row d_model"], where: Int[Tensor, " row"]
    ) -> Tensor:
        """One block of the model's own over packed rows that stand at positions `where`."""
        assert state.target is not None
        # The recorded arguments of the block, but for a mask and a cache: our attention has both.
        arguments = dict(state.target.arguments[state.layer], attention_mask=None, use_cache=False)
        # Packed rows stand at many positions: their turns are gathered, [1, row, d_turning].
        turns = arguments.get("position_embeddings")
        if isinstance(turns, tuple):  # cosines and sines
            arguments["position_embeddings"] = tuple(turn[:1, where] for turn in turns)
        elif turns is not None:  # DeepSeek 2 has complex numbers in one tensor
            arguments["position_embeddings"] = turns[:1, where]
        if arguments.get("position_ids") is not None:
            arguments["position_ids"] = where.unsqueeze(0)
        out = self.layers[state.layer](rows, **arguments)
        # Some families' blocks give a tuple: the stream, then attention's pattern or a cache.
        return out[0] if isinstance(out, tuple) else out


# Failures are remembered too: the trial of a model that cannot be packed is not repeated.
_ENGINES: WeakKeyDictionary[Subject, PackedEngine | UnpackableError] = WeakKeyDictionary()


def engine(subject: Subject) -> PackedEngine:
    """The Subject's packed engine, built once per Subject.

    Raises:
        UnpackableError: The model cannot be packed.
    """
    if subject not in _ENGINES:
        try:
            _ENGINES[subject] = PackedEngine(subject)
        except UnpackableError as error:
            _ENGINES[subject] = error
    outcome = _ENGINES[subject]
    if isinstance(outcome, UnpackableError):
        # A new exception: the remembered one would gather the tracebacks of every call.
        raise UnpackableError(str(outcome))
    return outcome


def reader(subject: Subject) -> Reader:
    """The Subject's packed engine, or its plain reader, which records too, if it has none."""
    try:
        return engine(subject)
    except UnpackableError:
        return plain_reader(subject)
