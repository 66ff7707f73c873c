"""Suites: lists of tasks, a YAML file each, shipped in `suites/` here and a user's own in
`home()/suites`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.benchmarks.documents.yaml_files import parsed
from workbench.doors import path_of, short
from workbench.errors import WorkbenchError
from workbench.paths import home

SHIPPED = Path(__file__).parent / "suites"
KEYS = {"name": str, "description": str, "version": (int, float, str), "tasks": list}


@dataclass(frozen=True)
class Suite:
    """A named list of tasks; `problem` says why a file on the shelf could not be read."""

    name: str
    description: str = ""
    tasks: list[str] = field(default_factory=list)
    version: str = "1"
    problem: str | None = None


def suites() -> dict[str, Suite]:
    """All suites by name: the shipped ones, then the user's (which may replace one of the same
    name).
    """
    found: dict[str, Suite] = {}
    for folder in (SHIPPED, home() / "suites"):
        for path in sorted(folder.glob("*.y*ml")):
            try:
                suite = read_suite(path)
            except WorkbenchError as error:
                suite = Suite(path.stem, problem=str(error))
            found[suite.name] = suite
    return found


def find_suite(suite: "str | list[str] | Suite") -> Suite:
    """The suite of a name, of a YAML file (a suite's or one task's), of one task's name, or of a
    list of task names.
    """
    if isinstance(suite, Suite):
        return suite
    if isinstance(suite, list):
        return Suite("custom", tasks=list(suite))
    path = path_of(suite, "suite or task")
    if suite.endswith((".yaml", ".yml")):
        return Suite(path.stem, tasks=[str(path)]) if _is_task(path) else read_suite(path)
    found = suites().get(suite, Suite(suite, tasks=[suite]))
    if found.problem:
        raise WorkbenchError(found.problem)
    return found


def _is_task(path: Path) -> bool:
    """Whether a YAML file is a task's own settings rather than a list of tasks."""
    from workbench.benchmarks.documents.user_tasks import TaskError, read_task

    try:
        values = read_task(path)
    except TaskError:  # `read_suite` says what is wrong with it
        return False
    its_own = isinstance(values.get("task"), str) or {"group", "output_type", "dataset_path"} & set(
        values
    )
    return "tasks" not in values and bool(its_own)


def with_variants(suite: Suite, variants: Sequence[str]) -> Suite:
    """The suite with every task also asked in other ways, such as "shots=2" or "prompt=instructed"."""
    tasks = [
        name
        for task in suite.tasks
        for name in (task, *(f"{task}@{variant}" for variant in variants))
    ]
    return replace(suite, tasks=tasks)


def read_suite(path: Path) -> Suite:
    """The suite in a YAML file; WorkbenchError with file and line where it is broken."""
    import yaml

    if not path.is_file():
        raise WorkbenchError(f"{path}: there is no such suite file.")
    node, values = parsed(path, what="the names of tasks")
    if not isinstance(node, yaml.MappingNode):
        raise WorkbenchError(
            f"{path}, line 1: a suite is a mapping with the keys {', '.join(KEYS)}."
        )
    for key, _ in node.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key.value, str) or key.value not in KEYS or key.value not in values:
            raise WorkbenchError(
                f"{where}: unknown key {short(key.value, 60)!r}; a suite has {', '.join(KEYS)}."
            )
        if not isinstance(values[key.value], KEYS[key.value]) or isinstance(
            values[key.value], bool
        ):
            raise WorkbenchError(
                f"{where}: {key.value!r} has a wrong type: {short(repr(values[key.value]), 60)}."
            )
    tasks = values.get("tasks") or []
    if not tasks or not all(isinstance(task, str) for task in tasks):
        raise WorkbenchError(
            f"{path}, line 1: 'tasks' must list at least one task name, all of them text."
        )
    tasks = [_beside(path, task) for task in tasks]
    return Suite(
        values.get("name", path.stem),
        values.get("description", ""),
        tasks,
        str(values.get("version", "1")),
    )


def _beside(path: Path, task: str) -> str:
    """A task file that lies beside the suite that names it, by its path; anything else as it is."""
    file = path.parent / task
    return str(file) if task.endswith((".yaml", ".yml")) and file.is_file() else task
