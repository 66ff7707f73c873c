"""Which heads a probe needs: each is taken out alone, chosen on some pairs and judged on others."""

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
    """What a probe loses when one head is taken out, for every head.

    `loss`, `low`, `high`, `p` are `[layer, head]`: the share of the clean runs' metric that goes,
    with its paired 95 % interval and p corrected over the heads, over `n_held_out` pairs. `n`
    others put the heads in order: `chosen_on` is the loss over those, which flatters the first
    heads of the list. `engine` says how the runs were made.
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
        """What was found, in a few words."""
        first = self.to_frame().iloc[0]
        lost = f"loses {first['loss']:.3f} [{first['low']:.3f}, {first['high']:.3f}] of the {self.metric_name}"
        return f"{self.probe} without {first['head']} ({self.kind}) {lost}, held out"

    def to_frame(self) -> pd.DataFrame:
        """One row a head, the most needed by the choosing pairs first; `loss` is over the held-out
        ones.
        """
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
    """Which heads does a probe need? Each head is taken out alone, at all positions, and the probe
    asked again.

    Exact, by the packed engine or, where that cannot run the model, by hooks; the clean prompts are
    run, and the loss is paired over them.

    Args:
        subject: The model.
        probe: A probe of the shelf or a .toml file.
        n: Prompt pairs that put the heads in order.
        held_out: Other pairs, on which each head's loss is judged; None for as many. A probe that
            has fewer pairs in all gives each side its share of them.
        replacement: What a head is set to, one of `KINDS`.
        seed: Of the pairs and of what is resampled.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` for a model that cannot do the probe, an unknown replacement, and fewer
    than one pair on either side.
    """
    if replacement not in KINDS:
        raise WorkbenchError(f"The ablation is {replacement!r}; choose one of {', '.join(KINDS)}.")
    asked = read_probe(probe)
    n_held = n if held_out is None else held_out
    made = generate(subject, asked, max(0, n + n_held), seed)
    choose = n_choosing(len(made.items), n, n_held, f"The probe {probe}")
    require(subject, asked, seed)
    value = replacements(subject, replacement, seed)
    n_layers, n_heads = subject.card.n_layers, subject.card.n_heads
    given = [
        torch.tensor(
            [value("z", i, h) for h in range(n_heads)],
            dtype=subject.model.dtype,
            device=subject.device,
        )
        if replacement != "zero"
        else torch.zeros(n_heads, 1, dtype=subject.model.dtype, device=subject.device)
        for i in range(n_layers)
    ]
    try:
        engine(subject)
        without, how = _packed_without_each, "packed"
    except UnpackableError as error:
        without, how = _hooked_without_each, f"hooks ({error})"
    intact, samples = [], []
    for done, item in enumerate(made.items):
        clean, values = without(subject, item.pair, asked.metric, given)
        intact.append(clean)
        samples.append(clean - values)
        if progress is not None:
            progress((done + 1) / len(made.items), f"pair {done + 1} of {len(made.items)}")
    maps, whole = np.stack(samples), np.array(intact)
    chosen = cell_statistics(maps[:choose], per=whole[:choose])
    found = cell_statistics(maps[choose:], per=whole[choose:])
    return Needed(
        subject.name,
        subject.hash,
        probe,
        replacement,
        asked.metric,
        estimate_mean(whole[choose:]),
        found.mean,
        found.low,
        found.high,
        found.p,
        chosen.mean,
        chosen.low,
        chosen.high,
        choose,
        len(maps) - choose,
        how,
    )


def _packed_without_each(
    subject: Subject, pair: Pair, metric_name: str, given: list[Tensor]
) -> tuple[float, Float[np.ndarray, "layer head"]]:
    """The metric of the clean run, and without each head (set to `given[layer][head]` everywhere),
    packed.
    """
    packed = engine(subject)
    run = packed.record(pair.clean.unsqueeze(0))
    metric = metric_of(metric_name, pair, run.logits[0, -1])
    values = torch.empty(len(given), len(given[0]), dtype=torch.float64)
    branches = [_without_each(packed, run, layer, given[layer]) for layer in range(len(given))]
    for chunk in split(branches, run, 1.0):
        for branch, finals in packed.carry(run, 0, chunk, last=metric.reads):
            values[branch.key] = metric.of(packed.logits(finals, metric.tokens)).double().cpu()
    return float(metric(run.logits)[0]), values.numpy()


def _hooked_without_each(
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
