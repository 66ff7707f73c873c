"""Hybrids of two models: one module tree whose parameters point at either model's weights.

Only matrices that change in part are copied, so a hybrid needs hardly more memory than the two
models. Up to the first layer that differs a hybrid computes what one of the two computes, so it
starts at that layer, from that model's recorded residual stream; the result is bit-identical.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.benchmarks.engine.loglikelihood import Row, Scorer
from workbench.comparison.location.experiments import BOTTOM
from workbench.comparison.matching import need, over_shared_rows
from workbench.comparison.measures import Measure
from workbench.subjects import Subject
from workbench.subjects.bridge import own_clone
from workbench.subjects.intervention import check_alike
from workbench.subjects.parts import Parts, Slice, assemble

SIDES = ("base", "tuned")
MOST_RECORDED = 1 << 30
"""Most bytes of recorded streams; if they would take more, hybrids are computed from layer 0."""

Values = Float[np.ndarray, "metric n"]


def other(side: str) -> str:
    """The other one of `SIDES`."""
    return SIDES[1 - SIDES.index(side)]


class Hybrids:
    """Scores hybrids of two Subjects on a measure.

    Where one model has tokens that the other lacks, both are scored without them.

    Attributes:
        measure: What is measured.
        parts: The models' parts.
        weights: By side: its parameters by name.
        differ: Names of the parameters that are not equal.
        n_changed: How many numbers in them are not equal.
        ends: By side: the model's own values.

    Raises:
        WorkbenchError: the models differ in shape, tokenizer, or in more than weights.
    """

    def __init__(self, base: Subject, tuned: Subject, measure: Measure) -> None:
        check_alike(base, tuned)
        need(base, tuned, "text")
        base, tuned = over_shared_rows(
            base, tuned
        )  # a grown vocabulary is cut to the shared tokens
        self.measure = measure
        self.parts = Parts(base)
        self.weights = {
            side: {name: p.detach() for name, p in subject.model.named_parameters()}
            for side, subject in zip(SIDES, (base, tuned), strict=True)
        }
        self.differ = {
            n
            for n, p in self.weights["base"].items()
            if not torch.equal(p, self.weights["tuned"][n])
        }
        self.n_changed = sum(
            int((self.weights["base"][n] != self.weights["tuned"][n]).sum()) for n in self.differ
        )
        # A module tree of its own, whose parameters are pointed at either model's tensors: scoring
        # a hybrid copies no weight, and the two Subjects stay as they are.
        self._model = own_clone(base.model)
        self._own = dict(self._model.named_parameters())
        mapping: Any = base.bridge.adapter.component_mapping
        self._layers: Any = self._model.get_submodule(mapping["blocks"].name)
        # Where a parameter acts decides from which layer on a hybrid has to be computed.
        self._embeds = {n for part in BOTTOM for n in self.parts.outer.get(part, ())}
        self._stage = {name: self._stage_of(name) for name in self._own}
        # One plan for all hybrids: batch i holds the same rows, in the same order, every time.
        self._scorer = Scorer(self._model, n_ctx=base.n_ctx)
        self._batches = self._scorer.plan(measure.requests)
        self.ends = {
            side: measure.of(s, self._batches) for side, s in zip(SIDES, (base, tuned), strict=True)
        }
        self._tuples = False  # whether this family's layers return a tuple; seen while recording
        # By side, batch and layer: the residual stream [row, pos, d_model] that enters the layer;
        # the last one is what leaves the last layer.
        self._streams: dict[str, list[list[Tensor]]] = {}
        if self._stream_bytes(base.card.d_model) <= MOST_RECORDED:
            self._streams = {
                side: [self._record(side, batch) for batch in self._batches] for side in SIDES
            }

    def _stage_of(self, name: str) -> int:
        """The layer of a parameter; -1 for embeddings, the number of layers for what comes last."""
        if name in self._embeds:
            return -1
        layer = self.parts.layer_of(name)
        return len(self._layers) if layer is None else layer

    def _stream_bytes(self, d_model: int) -> int:
        """Memory of both models' residual streams before every layer and after the last."""
        # A batch is padded to its longest row.
        tokens = sum(len(batch) * max(row.length for row in batch) for batch in self._batches)
        n_streams = len(SIDES) * (len(self._layers) + 1)
        return n_streams * tokens * d_model * next(iter(self._own.values())).element_size()

    def score(
        self, slices: list[Slice], into: str, *, alpha: float = 1.0, whole: bool = False
    ) -> Values:
        """The values of one model with these slices of the other one.

        Args:
            slices: Parts of parameters to take from the other model.
            into: The model that is changed, "base" or "tuned".
            alpha: How far to move the slices towards the other model's weights.
            whole: Whether to compute every layer, also those whose output is known.
        """
        host = self.weights[into]
        donor = self.weights[other(into)]
        mixed = assemble([s for s in slices if s.parameter in self.differ], host, donor, alpha)
        changed = {
            name: tensor for name, tensor in mixed.items() if not torch.equal(tensor, host[name])
        }
        # Weights that agree change nothing: the hybrid is the host, whose values are known.
        if not changed and not whole:
            return self.ends[into]
        side, start = (into, 0) if whole else self._start(changed, into)
        scores = {}
        with self._holding({**host, **changed}):
            for number, batch in enumerate(self._batches):
                with self._from(side, start, number):
                    scores |= self._scorer.run(batch)
        return self.measure.values(scores)

    def cost(self, slices: list[Slice], into: str) -> float:
        """Approximate share of the layers that scoring a hybrid computes."""
        names = {s.parameter for s in slices if s.parameter in self.differ}
        if not names:
            return 0.0
        # Mixed or whole, a parameter acts in the same layer: the donor's tensors stand for it.
        changed = {n: self.weights[other(into)][n] for n in names}
        return 1 - self._start(changed, into)[1] / len(self._layers)

    def _start(self, changed: dict[str, Tensor], into: str) -> tuple[str, int]:
        """The model that a hybrid agrees with longest, and the first layer that has to be computed.

        Args:
            changed: The hybrid's parameters that are not those of the model `into`.
            into: "base" or "tuned".
        """
        if not self._streams:
            return into, 0
        last = len(self._layers)
        donor = self.weights[other(into)]
        # A parameter that is the donor's own tensor, and not a mixture, agrees with the donor.
        from_donor = {n for n, tensor in changed.items() if tensor is donor[n]}
        # Below the first changed layer the hybrid is the host; below the first layer that kept a
        # weight of the host where the two differ, it is the donor. The longer stretch is skipped.
        host_until = min((self._stage[n] for n in changed), default=last)
        donor_until = min((self._stage[n] for n in self.differ - from_donor), default=last)
        if donor_until > host_until:
            return other(into), max(0, donor_until)
        return into, max(0, host_until)

    @contextmanager
    def _holding(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Give the module tree these weights, and the base's again afterwards."""
        try:
            for name, parameter in self._own.items():
                parameter.data = weights[name]  # points at the tensor; nothing is copied
            yield
        finally:
            for name, parameter in self._own.items():
                parameter.data = self.weights["base"][name]

    @contextmanager
    def _from(self, side: str, start: int, batch: int) -> Iterator[None]:
        """Skip the layers before `start`; the last of them returns the recorded stream.

        Args:
            side: The model whose stream it is.
            start: The first layer to compute.
            batch: Number of the batch.
        """
        skipped = self._layers[:start]
        try:
            for i, layer in enumerate(skipped):
                # Only the last skipped layer's output is read, so the others pass their input on.
                recorded = self._streams[side][batch][start] if i == start - 1 else None
                # An attribute of the instance hides the class's method until it is deleted below.
                layer.forward = self._identity(recorded)
            yield
        finally:
            for layer in skipped:
                del layer.forward

    def _identity(self, stream: Tensor | None) -> Any:
        """A layer's `forward` that returns its input, or `stream` if that is given."""

        def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            # [row, pos, d_model]
            out = hidden_states if stream is None else stream
            return (out,) if self._tuples else out

        return forward

    def _record(self, side: str, batch: list[Row]) -> list[Tensor]:
        """The residual stream before every layer and after the last one, for one batch."""
        streams: list[Tensor] = []

        def enter(_module: Any, args: tuple, kwargs: dict) -> None:
            # Families differ in whether they pass the stream by position or by name.
            streams.append(args[0] if args else kwargs["hidden_states"])

        def leave(_module: Any, _args: tuple, out: Any) -> None:
            self._tuples = isinstance(out, tuple)
            streams.append(out[0] if self._tuples else out)

        # What enters each layer, and once what leaves the last: n_layers + 1 streams.
        handles = [
            layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in self._layers
        ]
        handles.append(self._layers[-1].register_forward_hook(leave))
        try:
            with self._holding(self.weights[side]):
                self._scorer.run(batch)
        finally:
            for handle in handles:
                handle.remove()
        return streams
