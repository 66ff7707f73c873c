"""One self-contained HTML page on what fine-tuning changed and where, for review and rerunning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pandas as pd

from workbench.comparison.compare import Comparison, compare
from workbench.comparison.lineage import making
from workbench.comparison.location.carry import Carried, locate_activations
from workbench.comparison.location.locate import Located, locate
from workbench.comparison.report import causes, rerun
from workbench.comparison.report import words as words
from workbench.comparison.report.changes import changes
from workbench.comparison.report.words import paragraphs
from workbench.errors import WorkbenchError
from workbench.figures.export import Section, page
from workbench.jsonable import plain
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics.words import bracketed
from workbench.store import Store
from workbench.subjects import Subject, SubjectOrName, load


@dataclass(frozen=True)
class Report(Record):
    """The contents of a report; `to_html` draws the page.

    Attributes:
        base: The model before.
        tuned: The model after.
        settings: Arguments of the report.
        comparison: What changed.
        located: Where in the weights; None if not possible.
        carried: Where in the activations; None if not possible.
        missing: What could not be measured, and why.
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
        """The sha256 of the benchmark tasks' items and of the cause's measure."""
        located = self.located.data_hashes() if self.located else {}
        return {**self.comparison.data_hashes(), **located}

    def to_frame(self) -> pd.DataFrame:
        """What changed, one row a change (see `Comparison`)."""
        return self.comparison.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """Every part, ready for JSON."""
        return {
            "record": "Report",
            "base": self.base.name,
            "tuned": self.tuned.name,
            "settings": self.settings,
            "comparison": self.comparison.to_dict(),
            "located": None if self.located is None else self.located.to_dict(),
            "carried": None if self.carried is None else self.carried.to_dict(),
            "missing": self.missing,
            "provenance": plain(self.provenance),
        }

    def headline(self) -> str:
        """The comparison's headline and the cause's measure, in one line."""
        return f"{self.comparison.headline()}; cause sought in {self.settings['on']}"

    def to_html(self) -> str:
        """The page, with plotly.js inline, all intervals and n, and the commands to repeat it."""
        subjects = (self.base, self.tuned)
        sections = [
            self._summary(),
            rerun.models(self.base, self.tuned, self.settings),
            *rerun.how_made(self.settings),
            *changes(self.comparison),
            *causes.causes(self.located, self.carried),
            self._method(),
            Section("Limits", paragraphs(words.LIMITS)),
            rerun.again(subjects, self.settings, self.comparison, self.located),
        ]
        title = f"What changed from {self.base.name} to {self.tuned.name}, and where"
        return page(sections, title=Store().titled(title), text=self._lead())

    def _lead(self) -> str:
        s = self.settings
        return (
            f"Made by gpt-workbench {version('gpt-workbench')}. Behaviour: suite {s['suite']}, "
            f"{s['limit']} items a task. Cause: {s['on']}, n = {s['n']}. Seed {s['seed']}."
        )

    def _summary(self) -> Section:
        sentences = []
        known = making(self.settings["tuned"])
        if known is not None and known[1]:
            learned = "; ".join(map(_learned, known[1]))
            sentences.append(f"Trained for. On its own held-out items: {learned}.")
        table = self.comparison.table
        if len(table):
            significant = table.loc[table["p_adjusted"] < 0.05]
            differ = "; ".join(_difference(row) for row in significant.to_dict("records"))
            sentences.append(
                f"Behaviour. Of {len(table)} tasks compared, {len(significant)} differ at p < 0.05 "
                f"after correction: {differ or 'none'}."
            )
        if self.comparison.heads is not None:
            first = self.comparison.heads.to_frame().iloc[0]
            interval = bracketed(first["low"], first["high"])
            sentences.append(
                f"Heads. The attention that moved most is {first['name']}'s: Jensen-Shannon "
                f"distance {first['distance']:.3f} {interval}, n = {first['n']} texts."
            )
        if self.located is not None:
            sentences.append(causes.summary(self.located))
        sentences += [f"Not measured: {why}" for why in (*self.comparison.notes, *self.missing)]
        return Section("In short", sentences)

    def _method(self) -> Section:
        text = paragraphs(words.BEHAVIOUR, seed=self.settings["seed"])
        located = self.located
        if located is not None:
            text += paragraphs(
                words.CAUSE,
                n=located.n,
                measure=located.measure,
                draws=located.draws,
                checks="; ".join(f"{name} {value:g}" for name, value in located.checks.items()),
            )
        return Section("Method", text)


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
    """Measure everything that a report needs; what is not possible is named in it.

    Args:
        base: The model before.
        tuned: The model after.
        suite: Benchmarks for the behaviour.
        limit: Items a task at most.
        on: The measure whose cause is sought: a task, "probe:NAME" or "text".
        n: Samples of it.
        grain: Size of the parts: "layers", "blocks" or "heads" (see `locate`).
        seed: Of items and random subsets.
        known: Results of `locate` and `locate_activations` with the same settings, to reuse.
        progress: Called with the share done and a few words about it.

    Raises:
        WorkbenchError: a model or benchmark does not exist.
    """
    settings = {
        "base": _name(base),
        "tuned": _name(tuned),
        "suite": suite,
        "limit": limit,
        "on": on,
        "n": n,
        "grain": grain,
        "seed": seed,
    }
    first = load(base)
    second = load(tuned)

    def part(start: float, share: float) -> Callable[[float, str], None]:
        def report_part(done: float, what: str) -> None:
            if progress is not None:
                progress(start + share * done, what)

        return report_part

    compared = compare(first, second, suite=suite, limit=limit, seed=seed, progress=part(0, 0.3))
    located: Located | None = None
    carried: Carried | None = None
    for record in known:
        if isinstance(record, Located):
            located = record
        else:
            carried = record
    missing = []
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


def _name(source: SubjectOrName) -> str:
    return source.name if isinstance(source, Subject) else str(source)


def _difference(row: dict[Any, Any]) -> str:
    """One task's scores and their difference, as text."""
    interval = bracketed(row["low"], row["high"], "+.3f")
    return (
        f"{row['task']} {row['base']:.3f} to {row['tuned']:.3f} "
        f"({row['metric']}, {row['difference']:+.3f} {interval}, n = {row['n']})"
    )


def _learned(change: dict[str, Any]) -> str:
    """One of a fine-tune's metrics before and after, as text."""
    interval = bracketed(change["low"], change["high"], "+.3f")
    return (
        f"{change['metric'].replace('_', ' ')} {change['base']:.3f} to {change['tuned']:.3f} "
        f"({change['difference']:+.3f} {interval}, n = {change['n']})"
    )
