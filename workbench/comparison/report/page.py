"""One self-contained HTML page on what fine-tuning changed and where, which a reviewer can read and
rerun.
"""

import platform
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pandas as pd

from workbench.comparison.compare import Comparison, compare
from workbench.comparison.lineage import making
from workbench.comparison.location.carry import Carried, locate_activations
from workbench.comparison.location.hybrids import SIDES
from workbench.comparison.location.locate import Located, locate
from workbench.comparison.measures import METRICS
from workbench.comparison.report import words as words
from workbench.comparison.report.changes import changes
from workbench.comparison.report.words import paragraphs
from workbench.errors import WorkbenchError
from workbench.figures import transplants as draw
from workbench.figures.export import Code, Section, Table, page
from workbench.jsonable import plain
from workbench.modes import own_modes
from workbench.provenance import commit
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference
from workbench.statistics.words import bracketed
from workbench.subjects import Subject, SubjectOrName, load

PACKAGES = (
    "gpt-workbench",
    "torch",
    "transformers",
    "transformer-lens",
    "lm-eval",
    "numpy",
    "scipy",
)
SHOWN = 24
"""Parts a table lists in each direction; the figures show all of them."""
FACTS = (
    "name",
    "architecture",
    "n_params",
    "n_layers",
    "n_heads",
    "parent",
    "data",
    "licence",
    "sha256",
)


@dataclass(frozen=True)
class Report(Record):
    """What a report is made of; `to_html` draws it. `missing` says what could not be measured, and
    why.
    """

    base: Subject
    tuned: Subject
    settings: dict[str, Any]
    comparison: Comparison
    located: Located | None
    carried: Carried | None
    missing: list[str] = field(default_factory=list)

    UNREADABLE = "it is read as HTML; make the report again"

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of both models, by their names."""
        return {subject.name: subject.hash for subject in (self.base, self.tuned)}

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the benchmark tasks' items and of what the cause was sought in."""
        return {
            **self.comparison.data_hashes(),
            **(self.located.data_hashes() if self.located else {}),
        }

    def to_frame(self) -> pd.DataFrame:
        """What changed, a row each (see `Comparison`)."""
        return self.comparison.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record of every part."""
        parts = {"comparison": self.comparison, "located": self.located, "carried": self.carried}
        said = {name: None if part is None else part.to_dict() for name, part in parts.items()}
        facts = {
            "record": "Report",
            "base": self.base.name,
            "tuned": self.tuned.name,
            "settings": self.settings,
        }
        return {**facts, **said, "missing": self.missing, "provenance": plain(self.provenance)}

    def headline(self) -> str:
        """What was found, in a few words."""
        return f"{self.comparison.headline()}; cause sought in {self.settings['on']}"

    def to_html(self) -> str:
        """The page: plotly.js inline, all numbers with intervals and n, the commands that make it
        again.
        """
        found = [self._summary(), self._models(), *self._making(), *changes(self.comparison)]
        found += [self._weights(), self._between()] if self.located else []
        found += [self._activations()] if self.carried else []
        found += [self._method(), Section("Limits", paragraphs(words.LIMITS)), self._again()]
        return page(
            found,
            title=f"What changed from {self.base.name} to {self.tuned.name}, and where",
            text=self._lead(),
        )

    def _lead(self) -> str:
        s = self.settings
        return (
            f"Made by gpt-workbench {version('gpt-workbench')}. Behaviour: suite {s['suite']}, {s['limit']} items a "
            f"task. Cause: {s['on']}, n = {s['n']}. Seed {s['seed']}."
        )

    def _summary(self) -> Section:
        said = []
        if (made := making(self.settings["tuned"])) and made[1]:
            said.append(
                f"Trained for. On its own held-out items: {'; '.join(map(_learned, made[1]))}."
            )
        if len(table := self.comparison.table):
            real = table[table["p_adjusted"] < 0.05]
            said.append(
                f"Behaviour. Of {len(table)} tasks compared, {len(real)} differ at p < 0.05 after correction: "
                + ("; ".join(_difference(row) for row in real.to_dict("records")) or "none")
                + "."
            )
        if (heads := self.comparison.heads) is not None:
            first = heads.to_frame().iloc[0]
            said.append(
                f"Heads. The attention that moved most is {first['name']}'s: Jensen-Shannon distance "
                f"{first['distance']:.3f} {bracketed(first['low'], first['high'])}, n = {first['n']} texts."
            )
        if (found := self.located) is not None:
            said.append(_where(found))
        said += [f"Not measured: {why}" for why in (*self.comparison.notes, *self.missing)]
        return Section("In short", said)

    def _models(self) -> Section:
        cards = [subject.card.to_dict() for subject in (self.base, self.tuned)]
        rows = [
            {"": fact, "base": str(cards[0][fact]), "tuned": str(cards[1][fact])} for fact in FACTS
        ]
        rows.insert(
            0, {"": "loaded as", "base": self.settings["base"], "tuned": self.settings["tuned"]}
        )
        return Section("The two models", [Table(pd.DataFrame(rows))])

    def _making(self) -> list[Section]:
        """How the tuned model was made, where its run or the shelf knows: before and after, and the
        recipe.
        """
        made = making(self.settings["tuned"])
        if made is None:
            return []
        recipe, changed = made
        parts: list[Any] = []
        if changed:
            said = "What it was trained for, on its own held-out items; 95 % paired intervals"
            parts.append(Table(pd.DataFrame(changed), said))
        return [Section("How the tuned model was made", [*parts, Code(recipe.to_toml())])]

    def _weights(self) -> Section:
        found = self.located
        assert found is not None
        parts: list[Any] = [_gain(found)]
        for metric in found.metrics[:2] if len(found.metrics) > 2 else found.metrics:
            if why := found.undefined(metric):
                parts.append(why)
                continue
            table = found.table(metric)
            name = METRICS[metric]
            parts += [
                draw.parts(table, n_layers=found.n_layers, title=f"Share of the gain in {name}"),
                draw.series(
                    table, n_layers=found.n_layers, title=f"Ever more layers into the base: {name}"
                ),
            ]
            if "head" in set(table["kind"]):
                parts += [
                    draw.head_map(
                        table, into, n_layers=found.n_layers, title=f"Heads {direction}: {name}"
                    )
                    for into, direction in draw.DIRECTIONS.items()
                ]
            kinds = ["outer", "layer", "attn", "mlp", "head", "kv", "random"]
            single = table["kind"].isin(kinds) & ~table["name"].str.endswith("layers")
            shown = table[single].sort_values(["into", "share"], ascending=[True, False])
            first = shown.groupby("into").head(SHOWN).drop(columns=["index", "alpha", "layer"])
            more = (
                f"the {SHOWN} greatest of {len(shown) // 2} a direction"
                if len(first) < len(shown)
                else "all parts"
            )
            parts.append(Table(first, f"Share of the gain in {name}, {more}"))
        return Section("Where does the change live? Weights exchanged", parts)

    def _between(self) -> Section:
        found = self.located
        assert found is not None
        return Section(
            "Between the two models and beyond",
            [
                *paragraphs(words.BETWEEN, n=found.n),
                *(
                    draw.path(found.path(metric), metric=METRICS[metric])
                    for metric in found.metrics
                ),
            ],
        )

    def _activations(self) -> Section:
        found = self.carried
        assert found is not None
        d, title = found.gain, "Where in the computation? Activations exchanged"
        gain = f"base {d.base:.3f}, tuned {d.tuned:.3f}, gain {_interval(d)}"
        head = paragraphs(words.ACTIVATIONS, n=found.n, gain=gain)
        if not (d.low > 0 or d.high < 0):
            return Section(
                title, [*head, "The gain is not shown at 5 %, so no share of it can be given."]
            )
        maps = draw.activation_maps(
            found.share,
            found.low,
            found.high,
            layers=found.layers,
            columns=found.columns,
            n=found.n,
            site=found.site,
        )
        return Section(title, [*head, *maps.values()])

    def _method(self) -> Section:
        found = paragraphs(words.BEHAVIOUR, seed=self.settings["seed"])
        if (located := self.located) is not None:
            checks = "; ".join(f"{name} {value:g}" for name, value in located.checks.items())
            found += paragraphs(
                words.CAUSE,
                n=located.n,
                measure=located.measure,
                draws=located.draws,
                checks=checks,
            )
        return Section("Method", found)

    def _again(self) -> Section:
        s = self.settings
        base, tuned = (shlex.quote(s[side]) for side in ("base", "tuned"))
        commands = [
            f"workbench report {base} {tuned} --suite {s['suite']} --limit {s['limit']} --on {s['on']} -n {s['n']} "
            f"--grain {s['grain']} --seed {s['seed']} --out report.html",
            f"workbench compare {base} {tuned} --suite {s['suite']} --limit {s['limit']} --seed {s['seed']}",
            f"workbench locate {base} {tuned} --on {s['on']} -n {s['n']} --grain {s['grain']} --seed {s['seed']}",
            f"workbench locate {base} {tuned} --on {s['on']} -n {min(s['n'], 24)} --seed {s['seed']} --activations",
        ]
        results = self.comparison.base_results
        data = {} if results is None else results.config.get("data", {})
        rows = [
            *({"what": f"sha256 of {x.name}", "value": x.hash} for x in (self.base, self.tuned)),
            *({"what": f"data of {task}", "value": digest} for task, digest in data.items()),
            *(
                [{"what": f"token ids of {self.located.measure}", "value": self.located.data}]
                if self.located
                else []
            ),
            *({"what": package, "value": version(package)} for package in PACKAGES),
            {
                "what": "Python, machine",
                "value": f"{platform.python_version()}, {platform.machine()}",
            },
            {"what": "device", "value": str(self.base.device)},
            {"what": "commit of gpt-workbench", "value": commit() or "installed without git"},
        ]
        parts: list[Any] = [Code("\n".join(commands))]
        if any(s[side].startswith(("run:", "edit:")) for side in SIDES):
            parts += paragraphs(words.ELSEWHERE)
        return Section("To make this page again", [*parts, Table(pd.DataFrame(rows))])


@public("base", "tuned", loads=True)
@own_modes
def report(
    base: SubjectOrName,
    tuned: SubjectOrName,
    *,
    suite: str = "core",
    limit: int = 100,
    on: str = "intents",
    n: int = 24,
    grain: str = "blocks",
    seed: int = 0,
    known: Sequence[Located | Carried] = (),
    progress: Callable[[float, str], None] | None = None,
) -> Report:
    """Measure everything a report needs; what cannot be had for these two models is named in it.

    Args:
        base: The model before.
        tuned: The model after.
        suite: The benchmarks of the behaviour.
        limit: Items a task.
        on: What the cause is looked for in: a task, "probe:NAME" or "text".
        n: Samples of it.
        grain: layers, blocks or heads (see `locate`).
        seed: Of items and random subsets.
        known: What `locate` and `locate_activations` have found with these very settings, so as not
            to do it again.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` for models or benchmarks that cannot be had.
    """
    names = {"base": _said(base), "tuned": _said(tuned)}
    settings = {
        **names,
        "suite": suite,
        "limit": limit,
        "on": on,
        "n": n,
        "grain": grain,
        "seed": seed,
    }
    first, second = load(base), load(tuned)

    def part(start: float, share: float) -> Callable[[float, str], None]:
        return lambda done, what: (
            progress(start + share * done, what) if progress is not None else None
        )

    compared = compare(first, second, suite=suite, limit=limit, seed=seed, progress=part(0, 0.3))
    located, carried, missing = None, None, []
    for found in known:
        located, carried = (found, carried) if isinstance(found, Located) else (located, found)
    try:
        located = located or locate(
            first, second, on, n=n, grain=grain, seed=seed, progress=part(0.3, 0.5)
        )
    except WorkbenchError as error:
        missing.append(f"weights exchanged: {error}")
    try:
        carried = carried or locate_activations(
            first, second, on, n=min(n, 24), seed=seed, progress=part(0.8, 0.2)
        )
    except WorkbenchError as error:
        missing.append(f"activations exchanged: {error}")
    return Report(first, second, settings, compared, located, carried, missing)


def _said(source: str | Subject) -> str:
    return source.name if isinstance(source, Subject) else str(source)


def _difference(row: dict[Any, Any]) -> str:
    return (
        f"{row['task']} {row['base']:.3f} to {row['tuned']:.3f} ({row['metric']}, {row['difference']:+.3f} "
        f"{bracketed(row['low'], row['high'], '+.3f')}, n = {row['n']})"
    )


def _learned(change: dict[str, Any]) -> str:
    return (
        f"{change['metric'].replace('_', ' ')} {change['base']:.3f} to {change['tuned']:.3f} "
        f"({change['difference']:+.3f} {bracketed(change['low'], change['high'], '+.3f')}, n = {change['n']})"
    )


def _interval(d: Difference) -> str:
    return f"{d.difference:+.3f} {bracketed(d.low, d.high, '+.3f')}"


def _gain(found: Located) -> str:
    gains = []
    for metric in found.metrics:
        d = found.gain(metric)
        gains.append(f"{METRICS[metric]}: {d.base:.3f} to {d.tuned:.3f}, {_interval(d)}")
    return (
        f"Measured on {found.title}, n = {found.n}; {found.n_changed:,} of {found.n_params:,} weights differ. "
        f"The gain to be shared out, tuned minus base: {'; '.join(gains)}."
    )


def _where(found: Located) -> str:
    if why := found.undefined():
        return f"Cause. {why}"
    said = []
    for into, verb in (
        ("base", "brings {share} into the base"),
        ("tuned", "takes {share} out of the tuned model"),
    ):
        rows = pd.concat([found.best("layer", into), found.best("outer", into)])
        row = rows.sort_values("share", ascending=False).iloc[0]
        share = f"{row['share']:.2f} {bracketed(row['low'], row['high'], '.2f')} of the gain"
        said.append(f"{row['name']} {verb.format(share=share)}")
    random = found.best("random", "base").set_index("name")["share"].get("layer")
    beside = "" if random is None else f"; as many random weights as a layer has bring {random:.2f}"
    return f"Cause. Of single layers and of what stands outside them, {said[0]}{beside}; put back, {said[1]}."
