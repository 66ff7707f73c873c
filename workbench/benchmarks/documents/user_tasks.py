"""Task files that people bring: what in them could run code is refused, and what cannot be asked is
told.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.benchmarks.documents.yaml_files import Loader, parsed
from workbench.doors import path_of
from workbench.errors import WorkbenchError

DEEPEST = 20
"""Files that include one another."""
LOADERS = ("json", "csv", "parquet", "text", "arrow")
"""Formats of `datasets` that a task file may name; others read pickles or connect to elsewhere."""
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


class TaskError(WorkbenchError):
    """One task cannot be asked; a suite leaves it out, says why, and goes on."""


@contextmanager
def trusting(trusted: bool = True) -> Iterator[None]:
    """Within it, task files may run the Python that they name; only the command line asks for that."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


class Function(str):
    """What stood behind `!function`, as text; it is not imported."""


class _TaskLoader(Loader):
    """Reads `!function` as text."""


_TaskLoader.add_constructor("!function", lambda loader, node: Function(getattr(node, "value", "")))


def read_task(path: Path, *, depth: int = 0) -> dict[str, Any]:
    """The settings in a task file and in those that it includes, with nothing imported.

    Raises:
        TaskError: there is no such file, it is too large, no YAML, or no mapping.
    """
    if depth > DEEPEST:
        raise TaskError(f"{path}: more than {DEEPEST} files include one another.")
    if not path.is_file():
        raise TaskError(f"{path}: there is no such task file.")
    try:
        _, values = parsed(path, _TaskLoader)
    except WorkbenchError as error:
        raise TaskError(str(error)) from error
    if not isinstance(values, dict):
        raise TaskError(f"{path}: a task file is a mapping of settings, such as task: my_task.")
    merged: dict[str, Any] = {}
    included = values.pop("include", None) or []
    for name in included if isinstance(included, list) else [included]:
        merged |= read_task(path_of(path.parent / str(name), "task file"), depth=depth + 1)
    return merged | values


def check_file(path: Path) -> None:
    """Refuse a task file that could run code, and one with a setting, a metric or a format that
    there is not.

    Raises:
        TaskError: names the file, what is wrong in it and what to change.
    """
    values = read_task(path)
    if not isinstance(values.get("task") or values.get("group"), str | list):
        raise TaskError(f"{path}: it has no name; add a line such as task: {path.stem}.")
    for where, table in _tables(values):
        _check_code(path, where, table)
        _check_words(path, table)


def _tables(values: Any, where: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every mapping in the settings, and the key that it stands under."""
    if isinstance(values, dict):
        yield where, values
        for key, value in values.items():
            yield from _tables(value, str(key))
    elif isinstance(values, list):
        for value in values:
            yield from _tables(value, where)


def _check_code(path: Path, where: str, table: dict[Any, Any]) -> None:
    if _TRUSTED.get():
        return
    reasons = [
        f"{key}: !function {value}" for key, value in _entries(table) if isinstance(value, Function)
    ]
    reasons += [f"{key}:" for key in ("class", "custom_dataset", "use_prompt") if table.get(key)]
    reasons += [
        f"{key}: true"
        for key in ("unsafe_code", "hf_evaluate", "trust_remote_code")
        if table.get(key)
    ]
    if where == "metric_list" and "/" in str(table.get("metric", "")):
        reasons.append(f"metric: {table['metric']}")
    data = str(table.get("dataset_path", ""))
    if data.endswith(".py") or ("/" not in data and data in _packaged() and data not in LOADERS):
        reasons.append(f"dataset_path: {data}")
    if reasons:
        raise TaskError(
            f"{path} would run code of its own ({'; '.join(reasons)}). Only if you trust its author, run it with "
            "workbench eval --trust-tasks."
        )


def _entries(table: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        yield from ((str(key), part) for part in (value if isinstance(value, list) else [value]))


def _packaged() -> set[str]:
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return set(_PACKAGED_DATASETS_MODULES)


def _check_words(path: Path, table: dict[Any, Any]) -> None:
    """Settings, metrics, aggregations and output types against what lm-eval knows."""
    from lm_eval.api import metrics as _registers  # noqa: F401 (which registers them)
    from lm_eval.api.registry import aggregation_registry, metric_registry
    from lm_eval.config.task import TaskConfig

    metric = table.get("metric")
    own = isinstance(metric, Function) or table.get("hf_evaluate")
    if isinstance(metric, str) and not own and "process_results" not in table:
        _known(path, "metric", metric, [*metric_registry])
    how = table.get("aggregation")
    if isinstance(how, str) and not isinstance(how, Function):
        _known(path, "aggregation", how, [*aggregation_registry])
    if "task" not in table or isinstance(table["task"], list) or "group" in table:
        return
    settings = {field.name for field in fields(TaskConfig)} | {
        "group",
        "class",
        "task_list",
        "include",
        "tag",
    }
    for key in table:
        _known(path, "setting", str(key), sorted(settings))
    kinds = ("loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice")
    _known(path, "output_type", str(table.get("output_type", kinds[0])), list(kinds))


def _known(path: Path, what: str, word: str, known: list[str]) -> None:
    if word in known:
        return
    near = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}."
    raise TaskError(f"{path}: there is no {what} {word!r}; {hint}")


def why_not(name: str, values: dict[str, Any], error: Exception) -> TaskError:
    """In a sentence why lm-eval could not make a task of its settings, or ask it."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
    kind = type(error).__name__
    if kind == "UndefinedError":
        return TaskError(
            f"{name}: a template names a field that its documents do not have: {reason}."
        )
    if kind == "SecurityError":
        return TaskError(f"{name}: a template does what templates may not do: {reason}.")
    if kind.startswith("Template"):
        return TaskError(f"{name}: a template cannot be read: {reason}.")
    if kind == "IndexError" and values.get("output_type") == "multiple_choice":
        return TaskError(
            f"{name}: its answer is none of its choices; doc_to_target must give the number of the right choice, from "
            "0, or its text."
        )
    splits = {key: values[key] for key in values if str(key).endswith("_split") and values[key]}
    if isinstance(error, KeyError) and error.args and error.args[0] in splits.values():
        key = next(key for key, split in splits.items() if split == error.args[0])
        return TaskError(
            f"{name}: {key} is {error.args[0]!r}, and the data has no split of that name."
        )
    return TaskError(f"{name}: its settings do not fit its data ({kind}: {reason}).")


def check_documents(name: str, task: Any, indices: list[int] | None) -> None:
    """Look whether every document that will be asked gives a question, and of choices the right
    one.

    Args:
        name: The task's, for the sentence.
        task: An lm-eval task.
        indices: The documents that will be asked; None for all.

    Raises:
        TaskError: names the document and what it lacks.
    """
    documents = task.eval_docs
    for index in range(len(documents)) if indices is None else indices:
        document = documents[index]
        try:
            question, answer = task.doc_to_text(document), task.doc_to_target(document)
            for words in (task.config.description, task.config.gen_prefix):
                task.resolve_field(document, words)
            choices = (
                task.doc_to_choice(document) if task.OUTPUT_TYPE == "multiple_choice" else None
            )
        except (
            Exception
        ) as error:  # whatever a template does, the sentence names the task and the document
            raise why_not(f"{name}, document {index}", task.config.to_dict(), error) from error
        if choices is None:
            continue
        if not isinstance(choices, list) or len(choices) < 2:
            raise TaskError(
                f"{name}, document {index}: a question needs a list of at least two choices."
            )
        for gold in _golds(question if task.multiple_input else answer):
            right = gold in range(len(choices)) if isinstance(gold, int) else gold in choices
            if not right:
                raise TaskError(
                    f"{name}, document {index}: the answer {gold!r} is none of its choices {choices!r}; doc_to_target "
                    "must give the number of the right choice, from 0, or its text."
                )


def _golds(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]
