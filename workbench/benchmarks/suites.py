"""Suites: lists of tasks in YAML files, shipped ones in `suites/`, a user's in `home()/suites`."""

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
    """A named list of tasks; `problem` says why its file could not be read, if it could not."""

    name: str
    description: str = ""
    tasks: list[str] = field(default_factory=list)
    version: str = "1"
    problem: str | None = None


def suites() -> dict[str, Suite]:
    """All suites by name; a user's suite replaces a shipped one of the same name."""
    by_name: dict[str, Suite] = {}
    for folder in (SHIPPED, home() / "suites"):
        for path in sorted(folder.glob("*.y*ml")):
            try:
                suite = read_suite(path)
            except WorkbenchError as error:
                suite = Suite(path.stem, problem=str(error))
            by_name[suite.name] = suite
    return by_name


def find_suite(suite: "str | list[str] | Suite") -> Suite:
    """The suite for a name or file of a suite or task, or for a list of task names.

    Raises:
        WorkbenchError: the file does not exist or is broken.
    """
    if isinstance(suite, Suite):
        return suite
    if isinstance(suite, list):
        return Suite("custom", tasks=list(suite))
    path = path_of(suite, "suite or task")
    if suite.endswith((".yaml", ".yml")):
        return Suite(path.stem, tasks=[str(path)]) if _is_task(path) else read_suite(path)
    named = suites().get(suite, Suite(suite, tasks=[suite]))
    if named.problem:
        raise WorkbenchError(named.problem)
    return named


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
    """The suite with every task also in variants, such as "shots=2" or "prompt=instructed"."""
    tasks = []
    for task in suite.tasks:
        tasks.append(task)
        tasks += [f"{task}@{variant}" for variant in variants]
    return replace(suite, tasks=tasks)


def read_suite(path: Path) -> Suite:
    """The suite in a YAML file.

    Raises:
        WorkbenchError: names the file, the line and what is wrong there.
    """
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
    """The path of a task file that is in the suite's folder; any other task name unchanged."""
    file = path.parent / task
    return str(file) if task.endswith((".yaml", ".yml")) and file.is_file() else task
