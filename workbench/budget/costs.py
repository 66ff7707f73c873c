"""What recipes, suites, sweeps and maps cost before they start: here, and on named GPUs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.budget.gpus import LAUNCH_US, STREAMED, TOGETHER, USED, Gpu, named
from workbench.budget.machine import Machine, machine
from workbench.budget.recipes import Asked, of_recipe
from workbench.budget.work import LIBRARIES_GB, Work, size_of
from workbench.data import hub
from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("recipes", "suites", "patching")
"""What `costs` knows besides names of recipes, suites, tasks and files."""
MOST_GPUS = 4096
LONGEST_PROMPT = 4096
"""Tokens."""


@dataclass(frozen=True)
class Line:
    """What one thing costs in one place.

    - `what`, `kind`: such as "shelf-base", "recipe"
    - `on`: "here", or a GPU of the table, such as "2 x H100"
    - `flops`: floating-point operations in matrix products
    - `seconds`: an estimate; None where it could not be made
    - `memory_gb`: peak of the process in GiB, or of each GPU; `fits`: whether that is there
    - `kwh`: an estimate of the energy: seconds times the power stated
    - `note`: what was assumed, or why there is no figure
    """

    what: str
    kind: str
    on: str
    flops: float | None
    seconds: float | None
    memory_gb: float | None
    fits: bool | None
    kwh: float | None
    note: str


@dataclass(frozen=True)
class Costs(Record):
    """Costs by arithmetic and by this machine's measured figures; nothing was run.

    - `lines`: one for each thing and place
    - `assumed`: what holds for all lines
    - `watts`: stated power of a process here
    """

    lines: list[Line]
    machine: Machine
    watts: float
    assumed: list[str]

    def headline(self) -> str:
        """The sum of what is known here."""
        known = [line.seconds for line in self.lines if line.on == "here" and line.seconds]
        places = sorted({line.on for line in self.lines} - {"here"})
        return f"{in_words(sum(known))} here for {len(known)} of them" + (
            f"; also on {', '.join(places)}" if places else ""
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row for each thing and place."""
        import pandas as pd

        names = list(Line.__dataclass_fields__)
        rows = [[getattr(line, name) for name in names] for line in self.lines]
        return pd.DataFrame(rows, columns=names)


class Place(NamedTuple):
    """Where work could be done: this machine, or some GPUs."""

    name: str
    gpu: Gpu | None = None
    n: int = 1


class Item(NamedTuple):
    """A thing to be costed: its name, its kind, and its work or why that is not known."""

    what: str
    kind: str
    requests: Asked | None
    problem: str = ""


@public()
def costs(
    what: str | Path = "recipes",
    *,
    gpus: Sequence[str] = (),
    n_gpus: int = 1,
    model: str = "shelf-base",
    limit: int | None = None,
    tokens: int = 16,
    watts: float | None = None,
) -> Costs:
    """What something costs in time, memory and energy before it starts, here and on named GPUs.

    Operations are counted from shapes and lengths. Here they are divided by the measured figures of
    `machine`; on a GPU by its data sheet's, of which a share is assumed. What is not counted:
    reading and tokenising a corpus, training a tokenizer, loading a model. Nothing is fetched: of
    data that are not among this machine's files it is said that they are missing.

    Args:
        what: "recipes" (each of the shelf), "suites" (each), "patching" (a layer x position map),
            the name or file of a recipe, a suite or a task, or a sweep's plan.
        gpus: Names from `workbench.budget.gpus.GPUS`, such as "H100".
        n_gpus: How many of each share the work.
        model: Whom a suite or a map is for.
        limit: Documents of a task at most.
        tokens: Of the prompts of a map.
        watts: Power of a process here; None for WORKBENCH_WATTS, else 65.

    Raises:
        WorkbenchError: There is no such thing, or no such GPU.
    """
    from workbench.subjects.model_card import stated_watts

    if not 1 <= n_gpus <= MOST_GPUS:
        raise WorkbenchError(f"n_gpus is {n_gpus}; give a number from 1 to {MOST_GPUS:,}.")
    if not 2 <= tokens <= LONGEST_PROMPT:
        raise WorkbenchError(f"tokens is {tokens}; give a number from 2 to {LONGEST_PROMPT:,}.")
    if limit is not None and limit < 1:
        raise WorkbenchError(f"limit={limit}: at least one document a task is needed.")
    chosen = named(list(gpus))
    power = stated_watts(watts)
    here = machine()
    places = [
        Place("here"),
        *(Place(f"{n_gpus} x {g.name}" if n_gpus > 1 else g.name, g, n_gpus) for g in chosen),
    ]
    with hub.nothing_fetched():
        items = list(_items(str(what), model, limit, tokens))
    lines = [_line(item, place, here, power) for item in items for place in places]
    return Costs(lines, here, power, _assumed(chosen, n_gpus, power))


def _items(what: str, model: str, limit: int | None, tokens: int) -> Iterator[Item]:
    """Everything that a word stands for."""
    from workbench.benchmarks.suites import suites
    from workbench.training import recipe

    if what == "recipes":
        for name in recipe.names():
            yield _recipe(name)
    elif what == "suites":
        for name in suites():
            yield _suite(name, model, limit)
    elif what == "patching":
        yield _map(model, tokens)
    elif what in suites() or what.endswith((".yaml", ".yml")):
        yield _suite(what, model, limit)
    elif what.endswith(".toml") or what in recipe.names():
        yield from _of_toml(what)
    else:
        item = _suite(what, model, limit)
        if item.requests is None:
            raise WorkbenchError(
                f"There is nothing called {what!r} to cost; name a recipe, a suite, a task, a "
                f"plan's file, or one of {', '.join(KINDS)}."
            )
        yield item


def _of_toml(what: str) -> Iterator[Item]:
    """A recipe, or each cell of a plan."""
    from workbench.doors import read_toml
    from workbench.training import recipe

    values = read_toml(recipe.find(what), "mend the line")
    if not {"vary", "suites"} & set(values):
        yield _recipe(what, strict=True)
        return
    from workbench.sweeps.plan import Plan

    for cell in Plan.from_dict(values).cells():
        if cell.kind == "eval":
            (model,) = cell.config["models"]
            item = _suite(cell.config["suite"], model, cell.config["limit"])
            yield item._replace(what=cell.title, kind="cell")
        else:
            yield _try(cell.title, "cell", partial(_of_config, cell.config))


def _of_config(config: dict[str, Any]) -> Asked:
    from workbench.training import Recipe

    return of_recipe(Recipe.from_dict(config))


def _recipe(name: str, *, strict: bool = False) -> Item:
    from workbench.training import Recipe

    if strict:
        return Item(name, "recipe", of_recipe(Recipe.read(name)))
    return _try(name, "recipe", lambda: of_recipe(Recipe.read(name)))


def _suite(name: str, model: str, limit: int | None) -> Item:
    from workbench.budget.suites import of_suite
    from workbench.subjects import load

    return _try(name, "suite", lambda: of_suite(name, load(model, device="cpu"), limit))


def _map(model: str, tokens: int) -> Item:
    from workbench.budget.patching import of_map
    from workbench.subjects import load

    size = size_of(load(model, device="cpu").model)
    return Item(f"layer x position, {model}", "patching", of_map(size, tokens))


def _try(what: str, kind: str, count: Any) -> Item:
    """The item, or why it could not be counted."""
    try:
        return Item(what, kind, count())
    except WorkbenchError as error:
        return Item(what, kind, None, str(error))


def _line(item: Item, place: Place, here: Machine, watts: float) -> Line:
    """One thing in one place."""
    if item.requests is None:
        return Line(item.what, item.kind, place.name, None, None, None, None, None, item.problem)
    work, assumed = item.requests
    notes = list(assumed)
    if place.gpu is None:
        seconds = work.seconds_on(here)
        memory = work.memory_gb + LIBRARIES_GB
        room = here.memory_gb
        power = watts
        if work.precision == "bf16" and here.bf16_gflops[-1] < here.fp32_gflops[-1] / 2:
            notes.append("bf16, which this processor only emulates: precision = no is faster")
    else:
        seconds = work.seconds_on_gpus(place.gpu, place.n, _precision(item, work))
        memory = work.memory_gb
        room = place.gpu.memory_gb * 1e9 / 2**30
        power = place.gpu.watts * place.n
    return Line(
        item.what,
        item.kind,
        place.name,
        work.flops,
        seconds,
        memory,
        memory <= room,
        seconds * power / 3.6e6,
        "; ".join(notes),
    )


def _precision(item: Item, work: Work) -> str:
    """Of products on a GPU: a recipe's own, where training takes bf16 unless told not to."""
    return "bf16" if item.kind in ("recipe", "cell") else work.precision


def _assumed(gpus: list[Gpu], n: int, watts: float) -> list[str]:
    """What holds for all lines."""
    sentences = [
        f"Energy is an estimate: the time x {watts:g} W stated for here"
        + (", and x each GPU's power limit there." if gpus else "."),
        "Not counted: reading and tokenising a corpus, training a tokenizer, loading a model.",
    ]
    if gpus:
        sentences.append(
            f"On a GPU, by its data sheet and not measured: {USED:.0%} of its matrix rate, "
            f"{STREAMED:.0%} of its bandwidth, at least {LAUNCH_US:g} microseconds an operation."
        )
    if gpus and n > 1:
        sentences.append(f"Of {n} GPUs each is assumed to keep {TOGETHER:.0%} of its speed.")
    return sentences


def in_words(seconds: float) -> str:
    """A length of time, such as "3 min 20 s" or "2.5 days"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86_400
    return f"{days:.1f} days" if days < 700 else f"{days / 365.25:,.0f} years"
