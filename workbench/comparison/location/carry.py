"""Where in the computation does a fine-tuning gain arise? Patches activations between two models.

Both models read the same question with its right answer. An activation of one model, at one layer
and some positions, replaces the other's, and the rest is computed with the other's weights. All
patched runs of a question share one packed forward pass. Questions differ in length, so positions
are named: the first, the last ones (counted from the question's end), the middle (all in between
together), the answer's tokens, and all at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.comparison.location.hybrids import SIDES, other
from workbench.comparison.matching import need
from workbench.comparison.measures import Measure, measure_of
from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Branches, Edit, Recording
from workbench.interp.engine.packed import PackedEngine, engine
from workbench.interp.engine.sweep import split
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference, gain_shares, paired_difference
from workbench.subjects import Subject, SubjectOrName, load

SITES = {
    "resid_pre": "the residual stream before a layer",
    "attn_out": "what attention adds to the residual stream",
    "mlp_out": "what the MLP adds to the residual stream",
}


@dataclass(frozen=True)
class Carried(Record):
    """Share of the gain that activations carry from one model to the other.

    The metric is the right answer's log-likelihood in nats; the gain is tuned minus base. In the
    dictionaries the key is the model that was patched, "base" or "tuned".

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        base_sha256: Hash of its weights.
        tuned_sha256: Hash of its weights.
        measure: Name of the questions' measure.
        site: What was patched, a key of `SITES`.
        layers: Labels of the rows.
        columns: Labels of the positions.
        n: Questions.
        seed: Of the questions and the bootstrap.
        ends: The models' own values, `[n]`.
        values: The patched values, `[n, layer, column]`.
        share: Share of the gain, `[layer, column]`, as in `statistics.gain_shares`.
        low: Lower ends of the shares' 95 % intervals.
        high: Upper ends.
        p: p of no change.
        seconds: Time taken.
        notes: Remarks.
    """

    base: str
    tuned: str
    base_sha256: str
    tuned_sha256: str
    measure: str
    site: str
    layers: list[str]
    columns: list[str]
    n: int
    seed: int
    ends: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    share: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    p: dict[str, np.ndarray]
    seconds: float
    notes: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The gain in one line."""
        gain = self.gain
        words = f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nats"
        return f"{self.measure}, {self.site}: tuned minus base {words}"

    @property
    def gain(self) -> Difference:
        """Tuned minus base, with the paired 95 % interval."""
        return paired_difference(self.ends["base"], self.ends["tuned"], seed=self.seed)

    def to_frame(self) -> pd.DataFrame:
        """One row a cell and direction."""
        rows = []
        for into in SIDES:
            maps = {name: getattr(self, name)[into] for name in ("share", "low", "high", "p")}
            value = self.values[into].mean(0)
            for (i, j), mean in np.ndenumerate(value):
                cell = {name: float(numbers[i, j]) for name, numbers in maps.items()}
                rows.append(
                    {
                        "into": into,
                        "layer": self.layers[i],
                        "position": self.columns[j],
                        "value": mean,
                        **cell,
                    }
                )
        return pd.DataFrame(rows).assign(n=self.n)

    def to_dict(self) -> dict[str, Any]:
        """The record with its gain and cells, ready for JSON."""
        return {
            **super().to_dict(),
            "gain": vars(self.gain),
            "cells": self.to_frame().to_dict("records"),
        }


@public("base", "tuned", loads=True)
@own_modes
def locate_activations(
    base: SubjectOrName,
    tuned: SubjectOrName,
    on: str | Measure,
    *,
    n: int = 12,
    site: str = "resid_pre",
    last: int = 6,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Carried:
    """Share of the gain that each activation carries, patched both ways between two models.

    Args:
        base: The model before.
        tuned: The model after, with the same shape and tokenizer.
        on: A benchmark task such as "clinc150", "probe:NAME", or a `Measure` of your own.
        n: Questions.
        site: What to patch, a key of `SITES`.
        last: How many positions at the question's end have a column of their own.
        seed: Of the questions and the bootstrap.
        progress: Called with the share done and a few words about it.

    Raises:
        WorkbenchError: the models do not match, or the packed engine cannot run them.
    """
    if site not in SITES:
        raise WorkbenchError(f"The site is {site!r}; choose one of {', '.join(SITES)}.")
    if last < 1:
        raise WorkbenchError(f"last is {last}; at least the last position stands alone.")
    began = time.perf_counter()
    first = load(base)
    second = load(tuned)
    subjects: dict[str, Subject] = dict(zip(SIDES, (first, second), strict=True))
    need(first, second, "layers")
    measure = on if isinstance(on, Measure) else measure_of(first, on, n=n, seed=seed)
    questions = measure.questions()
    last = max(1, min(last, min(len(prompt) for prompt, _ in questions) - 2))
    engines = {side: engine(subject) for side, subject in subjects.items()}
    ends: dict[str, list[float]] = {side: [] for side in SIDES}
    values: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
    for i, (prompt, answer) in enumerate(questions):
        ids = torch.tensor([[*prompt, *answer[:-1]]], device=first.device)
        runs = {side: packed.record(ids) for side, packed in engines.items()}
        for into in SIDES:
            read = _Reader(engines[into], runs[into], prompt, answer)
            ends[into].append(read.own())
            values[into].append(_map(read, runs[other(into)], site, last))
        if progress is not None:
            progress((i + 1) / len(questions), f"question {i + 1} of {len(questions)}")
    return _result(subjects, measure, site, last, seed, ends, values, time.perf_counter() - began)


@dataclass(frozen=True)
class _Reader:
    """The run to patch, and how the answer's log-likelihood is read from its last positions."""

    packed: PackedEngine
    run: Recording
    prompt: list[int]
    answer: list[int]

    def own(self) -> float:
        """The unpatched run's log-likelihood of the answer."""
        return float(self.of(self.run.resid[-1][0, -len(self.answer) :][None])[0])

    def of(self, stream: Float[Tensor, "n answer d_model"]) -> Float[np.ndarray, " n"]:
        """The answer's log-likelihood from the residual stream before the final norm."""
        logs = self.packed.logits(stream.flatten(0, 1)).float().log_softmax(-1)
        targets = torch.tensor(self.answer, device=logs.device).repeat(len(stream))
        chosen = logs.gather(-1, targets[:, None])[:, 0].double()
        return chosen.unflatten(0, (len(stream), -1)).sum(-1).cpu().numpy()


def _groups(n_prompt: int, n_pos: int, last: int) -> list[list[int]]:
    """The positions of every column; "answer" is empty if the answer has one token.

    Args:
        n_prompt: Tokens of the question.
        n_pos: Tokens of the run, without the answer's last one.
        last: Positions at the question's end with a column of their own.
    """
    ends = [[n_prompt - i] for i in range(last, 0, -1)]
    return [
        [0],
        list(range(1, n_prompt - last)),
        *ends,
        list(range(n_prompt, n_pos)),
        list(range(n_pos)),
    ]


def _columns(last: int) -> list[str]:
    return ["first", "middle", *(f"-{i}" for i in range(last, 0, -1)), "answer", "all"]


def _map(
    read: _Reader, source: Recording, site: str, last: int
) -> Float[np.ndarray, "layer column"]:
    """The answer's log-likelihood for every patch of one question.

    Args:
        read: The run to patch.
        source: The other model's run.
        site: What to patch.
        last: Positions at the question's end with a column of their own.
    """
    run = read.run
    n_layers = len(read.packed.layers)
    rows = n_layers + 1 if site == "resid_pre" else n_layers
    groups = _groups(len(read.prompt), run.resid[0].shape[1], last)
    values = np.full((rows, len(groups)), read.own())
    branches = [
        _branch(run, source, site, layer, group, (layer, column))
        for layer in range(rows)
        for column, group in enumerate(groups)
        if group
    ]
    k = len(read.answer)
    final = run.resid[-1]
    for chunk in split(branches, run, 1.0):  # as many in one pass as memory allows
        for branch, patched in read.packed.carry(run, chunk, last=k):
            if patched.shape[1] < k:  # positions before the patch are as in the unpatched run
                unchanged = final[:, final.shape[1] - k : branch.pos]
                patched = torch.cat([unchanged, patched], 1)
            values[branch.key] = read.of(patched)[0]
    return values


def _branch(
    run: Recording, source: Recording, site: str, layer: int, group: list[int], key: Any
) -> Branches:
    """The patch of one cell, for the packed engine.

    Args:
        run: The run to patch.
        source: The other model's run.
        site: What to patch.
        layer: At which layer.
        group: At which positions.
        key: The cell.
    """
    start = group[0]
    at = torch.tensor(group, device=run.resid[0].device)
    if site != "resid_pre":
        edit = Edit(layer, site, at, getattr(source, site)[layer][:, at])
        return Branches(layer, start, 1, lambda: run.resid[layer][:, start:], key, [edit])

    def rows() -> Tensor:
        stream = run.resid[layer][:, start:].clone()
        stream[:, at - start] = source.resid[layer][:, at]
        return stream

    return Branches(layer, start, 1, rows, key)


def _result(
    subjects: dict[str, Subject],
    measure: Measure,
    site: str,
    last: int,
    seed: int,
    ends: dict[str, list[float]],
    values: dict[str, list[np.ndarray]],
    seconds: float,
) -> Carried:
    """The record, with shares of the gain from the values of all questions."""
    base, tuned = subjects.values()
    own = {side: np.array(numbers) for side, numbers in ends.items()}
    maps = {side: np.stack(numbers) for side, numbers in values.items()}
    share: dict[str, np.ndarray] = {}
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    p: dict[str, np.ndarray] = {}
    for into in SIDES:
        shape = maps[into].shape[1:]
        cells = maps[into].reshape(len(own[into]), -1).T  # [cell, question]
        shares = gain_shares(cells, own[into], own[other(into)], seed=seed)
        share[into] = shares.mean.reshape(shape)
        low[into] = shares.low.reshape(shape)
        high[into] = shares.high.reshape(shape)
        p[into] = shares.p.reshape(shape)
    n_rows = maps["base"].shape[1]
    names = [f"L{i}" for i in range(base.card.n_layers)] + ["out"] * (n_rows > base.card.n_layers)
    return Carried(
        base=base.name,
        tuned=tuned.name,
        base_sha256=base.hash,
        tuned_sha256=tuned.hash,
        measure=measure.name,
        site=site,
        layers=names,
        columns=_columns(last),
        n=len(own["base"]),
        seed=seed,
        ends=own,
        values=maps,
        share=share,
        low=low,
        high=high,
        p=p,
        seconds=seconds,
    )
