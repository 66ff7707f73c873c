"""Checks on users' task files: refuse what could run code, and explain what cannot be scored."""

import difflib
import re
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
"""Levels of files that include one another."""
LOADERS = ("json", "csv", "parquet", "text", "arrow")
"""Formats of `datasets` that a task file may name; others read pickles or use the network."""
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


class TaskError(WorkbenchError):
    """One task cannot be scored; a suite skips it, says why, and goes on."""


@contextmanager
def trusting(trusted: bool = True) -> Iterator[None]:
    """Let task files run the Python that they name; only the command line offers this."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


class Function(str):
    """The name after `!function`, as text; it is not imported."""


class _TaskLoader(Loader):
    """Reads `!function` as text."""


_TaskLoader.add_constructor("!function", lambda loader, node: Function(getattr(node, "value", "")))


def read_task(path: Path, *, depth: int = 0) -> dict[str, Any]:
    """The settings of a task file and of those it includes; no code is imported.

    Args:
        path: The YAML file.
        depth: How many files include this one.

    Raises:
        TaskError: the file does not exist, is too large, is not YAML or not a mapping.
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
    """Refuse a task file that could run code, or names a setting or metric that does not exist.

    Raises:
        TaskError: names the file, what is wrong in it and what to change.
    """
    values = read_task(path)
    if not isinstance(values.get("task") or values.get("group"), str | list):
        raise TaskError(f"{path}: it has no name; add a line such as task: {path.stem}.")
    for where, table in _tables(values):
        _check_code(path, where, table)
        _check_data(path, table)
        _check_words(path, table)


def _tables(values: Any, where: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every mapping in the settings, with the key it is under."""
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
            f"{path} would run code of its own ({'; '.join(reasons)}). Only if you trust its "
            "author, run it with workbench eval --trust-tasks."
        )


def _check_data(path: Path, table: dict[Any, Any]) -> None:
    """Refuse a format without files, for which `datasets` reads all below the current folder."""
    data = table.get("dataset_path")
    given = table.get("dataset_kwargs")
    named = isinstance(given, dict) and (given.get("data_files") or given.get("data_dir"))
    if data in LOADERS and not named and "custom_dataset" not in table:
        raise TaskError(
            f"{path}: dataset_path: {data} names a format and no file; add the files below "
            "dataset_kwargs: data_files:."
        )


def _entries(table: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        yield from ((str(key), part) for part in (value if isinstance(value, list) else [value]))


def _packaged() -> set[str]:
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return set(_PACKAGED_DATASETS_MODULES)


def _check_words(path: Path, table: dict[Any, Any]) -> None:
    """Check settings, metrics, aggregations and output types against those of lm-eval."""
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
    """One sentence on why lm-eval could not load or score a task.

    Args:
        name: The task, and where it is known the document.
        values: The task's settings.
        error: What lm-eval raised.
    """
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
    if isinstance(error, re.error):
        return TaskError(f"{name}: it has a regular expression that cannot be read: {reason}.")
    if kind == "IndexError" and values.get("output_type") == "multiple_choice":
        return TaskError(
            f"{name}: its answer is none of its choices; doc_to_target must give the number of "
            "the right choice, from 0, or its text."
        )
    splits = {key: values[key] for key in values if str(key).endswith("_split") and values[key]}
    if isinstance(error, KeyError) and error.args and error.args[0] in splits.values():
        key = next(key for key, split in splits.items() if split == error.args[0])
        return TaskError(
            f"{name}: {key} is {error.args[0]!r}, and the data has no split of that name."
        )
    return TaskError(f"{name}: its settings do not fit its data ({kind}: {reason}).")


def check_documents(name: str, task: Any, indices: list[int] | None) -> None:
    """Check that every document to be scored gives a question and, of its choices, the right one.

    Args:
        name: The task's name, for the message.
        task: An lm-eval task.
        indices: The documents to be scored; None for all.

    Raises:
        TaskError: names the document and what it lacks.
    """
    documents = task.eval_docs
    for index in range(len(documents)) if indices is None else indices:
        _check_document(f"{name}, document {index}", task, documents[index])


def _check_document(where: str, task: Any, document: Any) -> None:
    choices = None
    try:
        question = task.doc_to_text(document)
        answer = task.doc_to_target(document)
        for words in (task.config.description, task.config.gen_prefix):
            task.resolve_field(document, words)
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = task.doc_to_choice(document)
    except Exception as error:  # a template may raise anything; the message names the document
        raise why_not(where, task.config.to_dict(), error) from error
    if choices is None:
        return
    if not isinstance(choices, list) or len(choices) < 2:
        raise TaskError(f"{where}: a question needs a list of at least two choices.")
    gold = question if task.multiple_input else answer
    for right in gold if isinstance(gold, list) else [gold]:
        if right not in (range(len(choices)) if isinstance(right, int) else choices):
            raise TaskError(
                f"{where}: the answer {right!r} is none of its choices {choices!r}; doc_to_target "
                "must give the number of the right choice, from 0, or its text."
            )
