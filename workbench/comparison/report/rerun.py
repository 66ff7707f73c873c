"""The sections of a report on its subject: the two models, their making, and how to repeat it."""

import platform
import shlex
from importlib.metadata import version
from typing import Any

import pandas as pd

from workbench.comparison.compare import Comparison
from workbench.comparison.lineage import making
from workbench.comparison.location.hybrids import SIDES
from workbench.comparison.location.locate import Located
from workbench.comparison.report import words as words
from workbench.comparison.report.words import paragraphs
from workbench.figures.export import Code, Section, Table
from workbench.provenance import commit
from workbench.subjects import Subject

PACKAGES = (
    "gpt-workbench",
    "torch",
    "transformers",
    "transformer-lens",
    "lm-eval",
    "numpy",
    "scipy",
)
"""Packages whose versions a report states."""
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
"""Entries of a model's card that a report states."""


def models(base: Subject, tuned: Subject, settings: dict[str, Any]) -> Section:
    """A table of both models' cards.

    Args:
        base: The model before.
        tuned: The model after.
        settings: Of the report.
    """
    before = base.card.to_dict()
    after = tuned.card.to_dict()
    rows = [{"": "loaded as", "base": settings["base"], "tuned": settings["tuned"]}]
    rows += [{"": fact, "base": str(before[fact]), "tuned": str(after[fact])} for fact in FACTS]
    return Section("The two models", [Table(pd.DataFrame(rows))])


def how_made(settings: dict[str, Any]) -> list[Section]:
    """The tuned model's recipe and results; empty if neither its run nor the shelf knows them."""
    known = making(settings["tuned"])
    if known is None:
        return []
    recipe, changed = known
    parts: list[Any] = []
    if changed:
        caption = "What it was trained for, on its own held-out items; 95 % paired intervals"
        parts.append(Table(pd.DataFrame(changed), caption))
    return [Section("How the tuned model was made", [*parts, Code(recipe.to_toml())])]


def again(
    subjects: tuple[Subject, Subject],
    settings: dict[str, Any],
    comparison: Comparison,
    located: Located | None,
) -> Section:
    """The commands that make the report again, with all hashes and versions.

    Args:
        subjects: Base and tuned.
        settings: Of the report.
        comparison: Knows the hashes of the benchmarks' data.
        located: Knows the hash of the cause's token ids.
    """
    results = comparison.base_results
    data = {} if results is None else results.config.get("data", {})
    rows = [(f"sha256 of {subject.name}", subject.hash) for subject in subjects]
    rows += [(f"data of {task}", str(digest)) for task, digest in data.items()]
    if located is not None:
        rows.append((f"token ids of {located.measure}", located.data))
    rows += [(package, version(package)) for package in PACKAGES]
    rows += [
        ("Python, machine", f"{platform.python_version()}, {platform.machine()}"),
        ("device", str(subjects[0].device)),
        ("commit of gpt-workbench", commit() or "installed without git"),
    ]
    parts: list[Any] = [Code("\n".join(_commands(settings)))]
    if any(settings[side].startswith(("run:", "edit:")) for side in SIDES):
        parts += paragraphs(words.ELSEWHERE)
    table = pd.DataFrame(rows, columns=pd.Index(["what", "value"]))
    return Section("To make this page again", [*parts, Table(table)])


def _commands(settings: dict[str, Any]) -> list[str]:
    s = settings
    models = f"{shlex.quote(s['base'])} {shlex.quote(s['tuned'])}"
    suite = f"--suite {s['suite']} --limit {s['limit']}"
    cause = f"--on {s['on']} -n {s['n']}"
    grain = f"--grain {s['grain']} --seed {s['seed']}"
    fewer = f"--on {s['on']} -n {min(s['n'], 24)} --seed {s['seed']}"
    return [
        f"workbench report {models} {suite} {cause} {grain} --out report.html",
        f"workbench compare {models} {suite} --seed {s['seed']}",
        f"workbench locate {models} {cause} {grain}",
        f"workbench locate {models} {fewer} --activations",
    ]
