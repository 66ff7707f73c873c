"""The plan of a sweep: a recipe with settings to vary, or models and the suites to measure them."""

import itertools
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from workbench.doors import path_of, read_toml
from workbench.errors import WorkbenchError
from workbench.training import Recipe, job_kind
from workbench.training.checks import check

MOST = 1000
"""Cells of one sweep."""
KEYS = ("title", "recipe", "vary", "models", "suites", "limit", "seed")
EXAMPLE = 'recipe = "tiny" and a table [vary] such as "train.lr" = [0.001, 0.003]'


class Cell(NamedTuple):
    """One run of a sweep.

    - `kind`, `title`, `config`: of the run
    """

    kind: str
    title: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    - `title`: shown in lists of runs
    - `recipe`: a recipe's name or file, trained once for each combination of `vary`
    - `vary`: values by setting, such as `train.lr`; `base` and `title` of a recipe have no table
    - `models`, `suites`: instead, each model is measured on each suite
    - `limit`, `seed`: items a task (None for all) and their draw, of an evaluation
    """

    title: str
    recipe: str = ""
    vary: dict[str, list[Any]] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    limit: int | None = 100
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan in a TOML file. Raises `WorkbenchError` for one that cannot be carried out."""
        file = path_of(path, "plan")
        return cls.from_dict(read_toml(file, "mend the line"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        """The plan of nested dictionaries.

        Raises:
            WorkbenchError: For an unknown key, a value of a wrong type, or no cells.
        """
        unknown = sorted(set(values) - set(KEYS))
        if unknown:
            raise WorkbenchError(
                f"A plan does not know {', '.join(unknown)}; it knows {', '.join(KEYS)}."
            )
        wrong = [key for key, value in values.items() if not _fits(key, value)]
        if wrong:
            key = wrong[0]
            raise WorkbenchError(f"The plan's {key} is {values[key]!r}; it must be {TAKES[key]}.")
        if not str(values.get("title", "")).strip():
            raise WorkbenchError('The plan has no title; add a line such as title = "my sweep".')
        plan = cls(**values)
        if bool(plan.recipe) == bool(plan.models):
            raise WorkbenchError(
                f"A plan has either {EXAMPLE}, or models = [...] and suites = [...]."
            )
        if plan.models and (plan.vary or not plan.suites):
            raise WorkbenchError("A plan with models needs suites, and has no [vary].")
        if plan.recipe and (plan.suites or not plan.vary):
            raise WorkbenchError("A plan with a recipe needs a table [vary], and has no suites.")
        return plan

    def to_dict(self) -> dict[str, Any]:
        """The plan as nested dictionaries, which `from_dict` reads."""
        return asdict(self)

    def cells(self) -> list[Cell]:
        """Every run of the sweep, checked, in an order that depends on the plan alone.

        Raises:
            WorkbenchError: For more than `MOST` cells, and for one that could not be carried out.
        """
        varied = self.vary.values() if self.recipe else (self.models, self.suites)
        n = math.prod(map(len, varied))
        if n > MOST:
            raise WorkbenchError(f"The plan has {n:,} cells and may have {MOST:,}; vary less.")
        return self._trainings() if self.recipe else self._evaluations()

    def _trainings(self) -> list[Cell]:
        start = Recipe.read(self.recipe).to_dict()
        cells = []
        for chosen in itertools.product(*self.vary.values()):
            settings = dict(zip(self.vary, chosen, strict=True))
            words = ", ".join(f"{name.rpartition('.')[2]} {v}" for name, v in settings.items())
            recipe = check(Recipe.from_dict({**_with(start, settings), "title": self.title}))
            config = {**recipe.to_dict(), "title": f"{self.title}: {words}"}
            cells.append(Cell(job_kind(recipe), config["title"], config))
        return cells

    def _evaluations(self) -> list[Cell]:
        from workbench.benchmarks.suites import find_suite

        for suite in self.suites:
            find_suite(suite)
        cells = []
        for model, suite in itertools.product(self.models, self.suites):
            config = {
                "models": [model],
                "suite": suite,
                "limit": self.limit,
                "seed": self.seed,
                "num_fewshot": None,
                "variants": [],
            }
            cells.append(Cell("eval", f"{self.title}: {suite}, {model}", config))
        return cells


def _with(recipe: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A recipe's dictionary with other values, by names such as `train.lr` or `base`."""
    changed = dict(recipe)
    for name, value in settings.items():
        table, dot, key = name.partition(".")
        if not dot:
            changed[name] = value
            continue
        inner = changed.get(table)
        if inner is not None and not isinstance(inner, dict):
            raise WorkbenchError(f"[vary] {name}: {table} of a recipe is no table.")
        changed[table] = {**(inner or {}), key: value}
    return changed


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _fits(key: str, value: Any) -> bool:
    """Whether a value has the type that a key takes."""
    if key in ("title", "recipe"):
        return isinstance(value, str)
    if key in ("models", "suites"):
        return _texts(value)
    if key == "vary":
        return isinstance(value, dict) and all(
            isinstance(each, list) and each for each in value.values()
        )
    return _whole(value) or (key == "limit" and value is None)


TAKES = {
    **dict.fromkeys(("title", "recipe"), "text"),
    **dict.fromkeys(("models", "suites"), "a list of names"),
    **dict.fromkeys(("limit", "seed"), "a whole number"),
    "vary": "a table of lists, each with a value or more",
}
"""What each key of a plan takes, in words."""
