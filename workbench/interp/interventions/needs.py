"""Which heads an answer needs: each taken out in turn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Branches, Recording
from workbench.interp.engine.metrics import metric_of
from workbench.interp.engine.packed import UnpackableError, engine
from workbench.interp.engine.reader import plain_reader
from workbench.interp.engine.sweep import split
from workbench.interp.interventions.ablation import KINDS, replacement_values
from workbench.interp.prompts.able import require
from workbench.interp.prompts.pairs import Pair
from workbench.interp.prompts.probes import generate, read_probe
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, cell_statistics, estimate_mean
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class Needed(Record):
    """What a probe loses when one head is taken out, for every head, over the same `n` pairs.

    `loss`, `low`, `high`, `p` are `[layer, head]`: the share of the clean runs' metric that goes, with its paired 95 %
    interval and p corrected over the heads; `engine` says how the runs were made.
    """

    subject: str
    sha256: str
    probe: str
    kind: str
    metric_name: str
    intact: Estimate
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    n: int
    engine: str = "packed"

    def headline(self) -> str:
        """What was found, in a few words."""
        first = self.to_frame().iloc[0]
        lost = f"loses {first['loss']:.3f} [{first['low']:.3f}, {first['high']:.3f}] of the {self.metric_name}"
        return f"{self.probe} without {first['head']} ({self.kind}) {lost}"

    def to_frame(self) -> pd.DataFrame:
        """One row a head, the most needed first."""
        layer, head = np.indices(self.loss.shape).reshape(2, -1)
        columns = {"head": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)], "layer": layer, "index": head}
        maps = {name: getattr(self, name).ravel() for name in ("loss", "low", "high", "p")}
        return pd.DataFrame({**columns, **maps}).sort_values("loss", ascending=False, ignore_index=True)


@public("subject")
@own_modes
def needed_heads(
    subject: SubjectOrName,
    probe: str,
    *,
    n: int = 20,
    replacement: str = "mean",
    seed: int = 0,
    progress: Progress | None = None,
) -> Needed:
    """Which heads does a probe need? Each head is taken out alone, at all positions, and the probe asked again.

    Exact, by the packed engine or, where that cannot run the model, by hooks; the clean prompts are run, and the loss
    is paired over them. Raises `WorkbenchError` for a model that cannot do the probe, and an unknown replacement.
    """
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    asked = read_probe(probe)
    made = generate(subject, asked, n, seed)
    require(subject, asked, seed)
    value = replacement_values(subject, replacement, seed)
    n_layers, n_heads = subject.card.n_layers, subject.card.n_heads
    given = [
        torch.tensor([value("z", i, h) for h in range(n_heads)], dtype=subject.model.dtype, device=subject.device)
        if replacement != "zero"
        else torch.zeros(n_heads, 1, dtype=subject.model.dtype, device=subject.device)
        for i in range(n_layers)
    ]
    try:
        engine(subject)
        without, how = packed_without_each, "packed"
    except UnpackableError as error:
        without, how = hooked_without_each, f"hooks ({error})"
    intact, samples = [], []
    for done, item in enumerate(made.items):
        clean, values = without(subject, item.pair, asked.metric, given)
        intact.append(clean)
        samples.append(clean - values)
        if progress is not None:
            progress((done + 1) / len(made.items), f"pair {done + 1} of {len(made.items)}")
    found = cell_statistics(np.stack(samples), per=np.array(intact))
    return Needed(
        subject.name,
        subject.hash,
        probe,
        replacement,
        asked.metric,
        estimate_mean(intact),
        found.mean,
        found.low,
        found.high,
        found.p,
        len(made.items),
        how,
    )


def packed_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The metric of the clean run, and without each head (set to `given[layer][head]` everywhere), packed."""
    packed = engine(subject)
    run = packed.record(pair.clean.unsqueeze(0))
    metric = metric_of(metric_name, pair, run.logits[0, -1])
    values = torch.empty(len(given), len(given[0]), dtype=torch.float64)
    branches = [_without_each(packed, run, layer, given[layer]) for layer in range(len(given))]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, 0, chunk, last=metric.reads):
            values[branch.key] = metric.of(packed.logits(finals, metric.tokens)).double().cpu()
    return float(metric(run.logits)[0]), values.numpy()


def hooked_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The same by one whole run a head."""
    plain, ids = plain_reader(subject), pair.clean.unsqueeze(0)
    logits = plain.run(ids)
    metric = metric_of(metric_name, pair, logits[0, -1])
    values = np.empty((len(given), len(given[0])))
    for layer, head in np.ndindex(values.shape):

        def without(z: Tensor, layer: int = layer, head: int = head) -> Tensor:
            z = z.clone()
            z[:, :, head] = given[layer][head]
            return z

        with plain.changed("z", layer, without):
            values[layer, head] = float(metric(plain.run(ids))[0])
    return float(metric(logits)[0]), values


def _without_each(packed: Any, run: Recording, layer: int, given: Tensor) -> Branches:
    """One run a head of this layer, with the head's output set to `given[head]` at every position."""

    def make() -> Tensor:
        z = run.z[layer][0]
        n_heads = z.shape[1]
        patched = z.repeat(n_heads, 1, 1, 1)
        for head in range(n_heads):
            patched[head, :, head] = given[head]
        return packed.block(run, 0, layer, torch.arange(len(z), device=z.device), z=patched)

    return Branches(layer + 1, 0, run.z[layer].shape[2], make, layer)
