"""The sections of a report on where the change is: weights and activations exchanged."""

from typing import Any

import pandas as pd

from workbench.comparison.location.carry import Carried
from workbench.comparison.location.locate import Located
from workbench.comparison.measures import METRICS
from workbench.comparison.report import words as words
from workbench.comparison.report.words import paragraphs
from workbench.figures import transplants as draw
from workbench.figures.export import Section, Table
from workbench.statistics import Difference
from workbench.statistics.words import bracketed

SHOWN = 24
"""Parts that a table lists in each direction; the figures show all of them."""
SINGLE = ("outer", "layer", "attn", "mlp", "head", "kv", "random")
"""Kinds of experiments that exchange one part."""


def causes(located: Located | None, carried: Carried | None) -> list[Section]:
    """The sections on exchanged weights, interpolated weights and exchanged activations."""
    sections = []
    if located is not None:
        sections += [_weights(located), _between(located)]
    if carried is not None:
        sections.append(_activations(carried))
    return sections


def summary(located: Located) -> str:
    """One sentence on the single part that carries most of the gain."""
    if why := located.undefined():
        return f"Cause. {why}"
    added = _best(located, "base")
    lost = _best(located, "tuned")
    random = located.best("random", "base").set_index("name")["share"].get("layer")
    baseline = ""
    if random is not None:
        baseline = f"; random weights of a layer's size bring {random:.2f}"
    return (
        f"Cause. Of single layers and the parts outside the layers, {added['name']} brings "
        f"{_share(added)} of the gain into the base{baseline}; put back in the tuned model, "
        f"{lost['name']} takes {_share(lost)} of the gain away."
    )


def _best(located: Located, into: str) -> dict[Any, Any]:
    """The row of the single layer, or part outside the layers, with the largest share."""
    rows = pd.concat([located.best("layer", into), located.best("outer", into)])
    return rows.sort_values("share", ascending=False).to_dict("records")[0]


def _share(row: dict[Any, Any]) -> str:
    """A share with its interval, as text."""
    return f"{row['share']:.2f} {bracketed(row['low'], row['high'], '.2f')}"


def _weights(located: Located) -> Section:
    parts: list[Any] = [_gain(located)]
    for metric in located.metrics[:2]:
        why = located.undefined(metric)
        parts += [why] if why else _shares(located, metric)
    return Section("Where does the change live? Weights exchanged", parts)


def _shares(located: Located, metric: str) -> list[Any]:
    """The figures and the table of one metric."""
    table = located.table(metric)
    name = METRICS[metric]
    n_layers = located.n_layers
    parts: list[Any] = [
        draw.parts(table, n_layers=n_layers, title=f"Share of the gain in {name}"),
        draw.series(table, n_layers=n_layers, title=f"More and more layers into the base: {name}"),
    ]
    if "head" in set(table["kind"]):
        for into, direction in draw.DIRECTIONS.items():
            title = f"Heads, {direction} ({name})"
            parts.append(draw.head_map(table, into, n_layers=n_layers, title=title))
    single = table["kind"].isin(SINGLE) & ~table["name"].str.endswith("layers")
    rows = table.loc[single].sort_values(["into", "share"], ascending=[True, False])
    shown = rows.groupby("into").head(SHOWN).drop(columns=["index", "alpha", "layer"])
    which = "all parts"
    if len(shown) < len(rows):
        which = f"the {SHOWN} largest of {len(rows) // 2} in each direction"
    return [*parts, Table(shown, f"Share of the gain in {name}, {which}")]


def _between(located: Located) -> Section:
    paths = [draw.path(located.path(metric), metric=METRICS[metric]) for metric in located.metrics]
    text = paragraphs(words.BETWEEN, n=located.n)
    return Section("Between the two models and beyond", [*text, *paths])


def _activations(carried: Carried) -> Section:
    title = "Where in the computation? Activations exchanged"
    gain = carried.gain
    values = f"base {gain.base:.3f}, tuned {gain.tuned:.3f}, gain {_interval(gain)}"
    text = paragraphs(words.ACTIVATIONS, n=carried.n, gain=values)
    if not (gain.low > 0 or gain.high < 0):
        undefined = "The gain is not significant at 5 %, so no share of it can be given."
        return Section(title, [*text, undefined])
    maps = draw.activation_maps(
        carried.share,
        carried.low,
        carried.high,
        layers=carried.layers,
        columns=carried.columns,
        n=carried.n,
        site=carried.site,
    )
    return Section(title, [*text, *maps.values()])


def _gain(located: Located) -> str:
    gains = []
    for metric in located.metrics:
        gain = located.gain(metric)
        gains.append(f"{METRICS[metric]}: {gain.base:.3f} to {gain.tuned:.3f}, {_interval(gain)}")
    return (
        f"Measured on {located.title}, n = {located.n}; {located.n_changed:,} of "
        f"{located.n_params:,} weights differ. The gain, tuned minus base: {'; '.join(gains)}."
    )


def _interval(gain: Difference) -> str:
    return f"{gain.difference:+.3f} {bracketed(gain.low, gain.high, '+.3f')}"
