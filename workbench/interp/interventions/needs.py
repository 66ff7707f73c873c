"""The heads that a probe needs: each is ablated alone, ranked on some pairs, measured on others."""

from dataclasses import dataclass
from typing import Any, cast

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
from workbench.interp.interventions.ablation import KINDS, replacements
from workbench.interp.prompts.able import require
from workbench.interp.prompts.held_out import n_choosing
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
    """What a probe loses without each head.

    - `loss`, `low`, `high`, `p`: `[layer, head]`, the share of the clean runs' metric that is lost
        over the `n_held_out` pairs, with its paired 95 % interval and a p-value corrected over the
        heads
    - `chosen_on`, `chosen_low`, `chosen_high`: the same over the `n` pairs that rank the heads,
        which flatters the first ones
    - `engine`: how the runs were made
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
    chosen_on: np.ndarray
    chosen_low: np.ndarray
    chosen_high: np.ndarray
    n: int
    n_held_out: int
    engine: str = "packed"

    def headline(self) -> str:
        """The result in a few words."""
        first = self.to_frame().iloc[0]
        interval = f"[{first['low']:.3f}, {first['high']:.3f}]"
        lost = f"loses {first['loss']:.3f} {interval} of the {self.metric_name}"
        return f"{self.probe} without {first['head']} ({self.kind}) {lost}, held out"

    def to_frame(self) -> pd.DataFrame:
        """One row per head, ranked by the choosing pairs; `loss` is over the held-out pairs."""
        layer, head = np.indices(self.loss.shape).reshape(2, -1)
        columns = {
            "head": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)],
            "layer": layer,
            "index": head,
        }
        names = ("loss", "low", "high", "p", "chosen_on", "chosen_low", "chosen_high")
        maps = {name: getattr(self, name).ravel() for name in names}
        return pd.DataFrame({**columns, **maps}).sort_values(
            "chosen_on", ascending=False, ignore_index=True
        )


@public("subject")
@own_modes
def needed_heads(
    subject: SubjectOrName,
    probe: str,
    *,
    n: int = 20,
    held_out: int | None = None,
    replacement: str = "mean",
    seed: int = 0,
    progress: Progress | None = None,
) -> Needed:
    """The heads that a probe needs: its loss when each head alone is ablated at all positions.

    Exact, by the packed engine or, if it cannot run the model, by hooks. Only the clean prompts are
    run, and the loss is paired over them.

    Args:
        subject: The model.
        probe: A built-in probe or a .toml file.
        n: Prompt pairs that rank the heads.
        held_out: Other pairs, on which each head's loss is measured; None for as many. If the probe
            has fewer pairs, each side gets its share of them.
        replacement: What a head is set to, one of `KINDS`.
        seed: For the pairs and the resampled token.
        progress: Called with the share done and a word about it.

    Raises:
        WorkbenchError: The model cannot do the probe, there is no such replacement, or there are
            too few pairs.
    """
    subject = cast(Subject, subject)
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    task = read_probe(probe)
    n_held = n if held_out is None else held_out
    pairs = generate(subject, task, max(0, n + n_held), seed)
    choose = n_choosing(len(pairs.items), n, n_held, f"The probe {probe}")
    require(subject, task, seed)
    ablated = _ablated_heads(subject, replacement, seed)
    try:
        engine(subject)
        without = _packed_without_each
        how = "packed"
    except UnpackableError as error:
        without = _hooked_without_each
        how = f"hooks ({error})"
    intact: list[float] = []
    losses: list[np.ndarray] = []
    for done, item in enumerate(pairs.items):
        clean, values = without(subject, item.pair, task.metric, ablated)
        intact.append(clean)
        losses.append(clean - values)
        if progress is not None:
            progress((done + 1) / len(pairs.items), f"pair {done + 1} of {len(pairs.items)}")
    maps = np.stack(losses)
    whole = np.array(intact)
    chosen = cell_statistics(maps[:choose], per=whole[:choose])
    held = cell_statistics(maps[choose:], per=whole[choose:])
    return Needed(
        subject=subject.name,
        sha256=subject.hash,
        probe=probe,
        kind=replacement,
        metric_name=task.metric,
        intact=estimate_mean(whole[choose:]),
        loss=held.mean,
        low=held.low,
        high=held.high,
        p=held.p,
        chosen_on=chosen.mean,
        chosen_low=chosen.low,
        chosen_high=chosen.high,
        n=choose,
        n_held_out=len(maps) - choose,
        engine=how,
    )


def _ablated_heads(
    subject: Subject, replacement: str, seed: int
) -> list[Float[Tensor, "head d_head"]]:
    """What each head of each layer is set to (zeros have width 1, which broadcasts)."""
    value = replacements(subject, replacement, seed)
    dtype = subject.model.dtype
    layers = []
    for layer in range(subject.card.n_layers):
        if replacement == "zero":
            heads = torch.zeros(subject.card.n_heads, 1, dtype=dtype, device=subject.device)
        else:
            rows = [value("z", layer, head) for head in range(subject.card.n_heads)]
            heads = torch.tensor(rows, dtype=dtype, device=subject.device)
        layers.append(heads)
    return layers


def _packed_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The metric of the clean run, and with each head set to `given[layer][head]`, packed."""
    packed = engine(subject)
    run = packed.record(pair.clean.unsqueeze(0))
    metric = metric_of(metric_name, pair, run.logits[0, -1])
    values = torch.empty(len(given), len(given[0]), dtype=torch.float64)
    branches = [_without_each(packed, run, layer, given[layer]) for layer in range(len(given))]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, chunk, last=metric.reads):
            values[branch.key] = metric.of(packed.logits(finals, metric.tokens)).double().cpu()
    return float(metric(run.logits)[0]), values.numpy()


def _hooked_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The same by one whole run per head."""
    plain = plain_reader(subject)
    ids = pair.clean.unsqueeze(0)
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
    """One run per head of this layer, with its output set to `given[head]` at every position."""

    def make() -> Tensor:
        z = run.z[layer][0]
        n_heads = z.shape[1]
        patched = z.repeat(n_heads, 1, 1, 1)
        for head in range(n_heads):
            patched[head, :, head] = given[head]
        return packed.block(run, 0, layer, torch.arange(len(z), device=z.device), z=patched)

    return Branches(layer + 1, 0, run.z[layer].shape[2], make, layer)
