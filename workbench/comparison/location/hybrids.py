"""Models made of two: one module tree whose parameters point at one model's weights or the other's.

Nothing is copied but the matrices of which only a part changes, so two models and a hybrid of them
fit where two fit. Below the first layer that differs a hybrid computes what one of the two
computes, so it starts there, from that model's recorded stream; the result is the same to the bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.benchmarks.engine.loglikelihood import Row, Scorer
from workbench.comparison.matching import need, over_shared_rows
from workbench.comparison.measures import Measure
from workbench.subjects import Subject
from workbench.subjects.bridge import own_clone
from workbench.subjects.intervention import check_alike
from workbench.subjects.parts import Parts, Slice, assemble

SIDES = ("base", "tuned")
MOST_RECORDED = 1 << 30
"""Bytes of recorded streams; where they would take more, every hybrid is computed from its first
layer.
"""

Values = Float[np.ndarray, "metric n"]


def other(side: str) -> str:
    """The other of `SIDES`."""
    return SIDES[1 - SIDES.index(side)]


class Hybrids:
    """Scores hybrids of two Subjects on a measure.

    `ends` are the two models' own values, `[metric, n]`; `differ` names the parameters that are not
    the same, `n_changed` counts their numbers that are not. Where one model has tokens that the
    other has not, both are scored without them. Raises `WorkbenchError` where the two differ in
    shape, tokenizer, or in more than weights.
    """

    def __init__(self, base: Subject, tuned: Subject, measure: Measure) -> None:
        check_alike(base, tuned)
        need(base, tuned, "text")
        base, tuned = over_shared_rows(base, tuned)
        self.measure, self.parts = measure, Parts(base)
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
        self._model = own_clone(base.model)
        self._own = dict(self._model.named_parameters())
        mapping: Any = base.bridge.adapter.component_mapping
        self._layers: Any = self._model.get_submodule(mapping["blocks"].name)
        embeds = {n for part in ("embed", "pos_embed") for n in self.parts.outer.get(part, ())}
        last = len(self._layers)
        self._stage = {
            n: -1 if n in embeds else last if (at := self.parts.layer_of(n)) is None else at
            for n in self._own
        }
        self._scorer = Scorer(self._model, n_ctx=base.n_ctx)
        self._batches = self._scorer.plan(measure.requests)
        self.ends = {
            side: measure.of(s, self._batches) for side, s in zip(SIDES, (base, tuned), strict=True)
        }
        tokens = sum(len(batch) * max(row.length for row in batch) for batch in self._batches)
        n_bytes = (
            2
            * (last + 1)
            * tokens
            * base.card.d_model
            * self._own[next(iter(self._own))].element_size()
        )
        self._tuples = False
        self._streams: dict[str, list[list[Tensor]]] = {}
        if n_bytes <= MOST_RECORDED:
            self._streams = {
                side: [self._record(side, batch) for batch in self._batches] for side in SIDES
            }

    def score(
        self, slices: list[Slice], into: str, *, alpha: float = 1.0, whole: bool = False
    ) -> Values:
        """The values of the model `into` ("base" or "tuned") with these slices of the other one.

        `whole` computes every layer, though some are known.
        """
        host, donor = self.weights[into], self.weights[other(into)]
        found = assemble([s for s in slices if s.parameter in self.differ], host, donor, alpha)
        found = {
            name: tensor for name, tensor in found.items() if not torch.equal(tensor, host[name])
        }
        if not found and not whole:
            return self.ends[into]
        side, start = (into, 0) if whole else self._start(found, into)
        scores = {}
        with self._holding({**host, **found}):
            for number, batch in enumerate(self._batches):
                with self._from(side, start, number):
                    scores |= self._scorer.run(batch)
        return self.measure.values(scores)

    def cost(self, slices: list[Slice], into: str) -> float:
        """About which share of a model a hybrid's score computes."""
        names = {s.parameter for s in slices if s.parameter in self.differ}
        if not names:
            return 0.0
        found = {n: self.weights[other(into)][n] for n in names}
        return 1 - self._start(found, into)[1] / len(self._layers)

    def _start(self, found: dict[str, Tensor], into: str) -> tuple[str, int]:
        """Whose stream a hybrid shares longest, and the first layer that it has to compute."""
        if not self._streams:
            return into, 0
        last, donor = len(self._layers), self.weights[other(into)]
        brought = {n for n, tensor in found.items() if tensor is donor[n]}
        host_until = min((self._stage[n] for n in found), default=last)
        donor_until = min((self._stage[n] for n in self.differ - brought), default=last)
        side, until = (other(into), donor_until) if donor_until > host_until else (into, host_until)
        return side, max(0, until)

    @contextmanager
    def _holding(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """The module tree with these weights; the base's afterwards."""
        try:
            for name, parameter in self._own.items():
                parameter.data = weights[name]
            yield
        finally:
            for name, parameter in self._own.items():
                parameter.data = self.weights["base"][name]

    @contextmanager
    def _from(self, side: str, start: int, batch: int) -> Iterator[None]:
        """Layers before `start` hand on what they are given, the last of them what was recorded."""
        skipped = self._layers[:start]
        try:
            for i, layer in enumerate(skipped):
                layer.forward = self._handing_on(
                    self._streams[side][batch][start] if i == start - 1 else None
                )
            yield
        finally:
            for layer in skipped:
                del layer.forward

    def _handing_on(self, stream: Tensor | None) -> Any:
        def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            found = hidden_states if stream is None else stream
            return (found,) if self._tuples else found

        return forward

    def _record(self, side: str, batch: list[Row]) -> list[Tensor]:
        """The stream before every layer and after the last one, for one batch."""
        found: list[Tensor] = []

        def enter(_module: Any, args: tuple, kwargs: dict) -> None:
            found.append(args[0] if args else kwargs["hidden_states"])

        def leave(_module: Any, _args: tuple, out: Any) -> None:
            self._tuples = isinstance(out, tuple)
            found.append(out[0] if self._tuples else out)

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
        return found
