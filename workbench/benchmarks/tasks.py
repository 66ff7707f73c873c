"""Tasks as lm-eval YAML: ours in `tasks/`, a user's in `home()/tasks`, then the harness's own."""

import difflib
import functools
import hashlib
import json
import logging
import re
from pathlib import Path
from random import Random
from typing import Any

from workbench.benchmarks.documents import sandbox
from workbench.benchmarks.documents.sources import MissingDataError
from workbench.benchmarks.documents.user_tasks import TaskError, check_file, read_task, why_not
from workbench.benchmarks.inside import INSIDE
from workbench.errors import WorkbenchError
from workbench.paths import home

FOLDER = Path(__file__).parent / "tasks"
HARNESS = "harness:"
GENERATES = re.compile(r"(?m)^output_type:\s*generate_until\b")
"""The line of a task's file that says so."""
PROMPTS = {
    "instructed": {"description": "Answer as well as you can.\n\n"},
    "next line": {"target_delimiter": "\n"},
}
"""Prompt variants as changed task settings; a model's score should hardly depend on them."""


def load_tasks(name: str, *, num_fewshot: int | None = None, seed: int = 0) -> dict[str, Any]:
    """The lm-eval tasks that a name stands for, ready to run, by name.

    Args:
        name: A task, a group or a tag, ours before lm-eval's; `harness:arc_easy` is lm-eval's own
            where ours has the same name. A path ending in .yaml is a task file.
            `arc_easy@shots=2` and `arc_easy@prompt=instructed` are variants.
        num_fewshot: Few-shot examples, where a task allows them; None for its own number.
        seed: Of the few-shot examples.

    Raises:
        MissingDataError: the data is not available here.
        TaskError: there is no such task, its file is broken, or it would run code of its own.
    """
    from datasets.exceptions import DatasetsError

    quiet()
    sandbox.install()
    harness = name.startswith(HARNESS)
    name, _, variant = name.partition("@")
    manager, name = _manager_of(name)
    try:
        tasks = manager.load([name])["tasks"]
    except MissingDataError as error:
        raise MissingDataError(f"{name}: {error}") from error
    except TaskError:
        raise
    except Exception as error:
        # In a user's file anything may be wrong; in ours and the harness's only the data.
        file = _users_file(manager, name)
        if file is not None and not isinstance(error, DatasetsError | OSError):
            raise why_not(name, read_task(file), error) from error
        if not isinstance(error, OSError | DatasetsError | ValueError):
            raise
        raise _missing_data(manager, name, error) from error
    for leaf, task in tasks.items():
        configured = task.get_config("num_fewshot")
        if configured is None or (num_fewshot is not None and configured != 0):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=seed)
        if variant:
            _vary(leaf, task, variant, fixed=configured == 0)
    prefix = HARNESS if harness else ""
    suffix = f"@{variant}" if variant else ""
    return {prefix + leaf + suffix: task for leaf, task in tasks.items()}


def _missing_data(manager: Any, name: str, error: Exception) -> MissingDataError:
    entry = manager.task_index.get(name)
    data = (entry.cfg or {}).get("dataset_path") if entry else None
    reason = str(error).splitlines()[0]
    return MissingDataError(f"{name}: needs the Hugging Face data set {data or '?'}: {reason}")


def _users_file(manager: Any, name: str) -> Path | None:
    """The file of a task that a user brought; None for ours and the harness's."""
    entry = manager.task_index.get(name)
    path = Path(name) if entry is None else entry.yaml_path
    # Building the harness's index takes many seconds, so do not build it just to compare.
    is_harness = _harness.cache_info().currsize and manager is _harness()
    return None if path is None or is_harness or path.is_relative_to(FOLDER) else path


def is_users(task: Any) -> bool:
    """Whether a task comes from a file that a user brought."""
    from lm_eval import tasks

    source = Path(str((task.config.metadata or {}).get("config_source", "")))
    return not any(
        source.is_relative_to(folder) for folder in (FOLDER, Path(tasks.__file__).parent)
    )


def check_task(name: str) -> None:
    """Check that a task of this name exists, without reading its data.

    Raises:
        WorkbenchError: there is no such task, or its file is broken.
    """
    if name not in INSIDE:
        _manager_of(name.partition("@")[0])


def _vary(name: str, task: Any, variant: str, *, fixed: bool) -> None:
    """Change a task's settings to a variant of it, in place.

    Args:
        name: The task's name, for messages.
        task: The lm-eval task.
        variant: "shots=N" or "prompt=NAME".
        fixed: Whether the task allows no few-shot examples.

    Raises:
        MissingDataError: the variant would change nothing about this task.
        WorkbenchError: there is no such variant.
    """
    key, _, value = variant.partition("=")
    if key == "shots" and value.isdigit():
        if fixed:
            raise MissingDataError(f"{name} takes no examples.")
        task.set_config(key="num_fewshot", value=int(value))
    elif key == "prompt" and value in PROMPTS:
        if task.OUTPUT_TYPE == "loglikelihood_rolling" or not task.get_config("target_delimiter"):
            raise MissingDataError(f"{name} has no prompt to change.")
        for setting, other in PROMPTS[value].items():
            task.set_config(key=setting, value=other)
    else:
        raise WorkbenchError(
            f"{variant!r} is no way to ask; there are shots=N and "
            f"prompt={', prompt='.join(PROMPTS)}."
        )


def generates(name: str) -> bool:
    """Whether a task's answers are generated, by its file; False for lm-eval's own tasks.

    Args:
        name: Of a task, or the path of its file; no data is read.
    """
    name = name.partition("@")[0]
    files = [Path(name), *(folder / f"{name}.yaml" for folder in (FOLDER, home() / "tasks"))]
    file = next((f for f in files if f.suffix in (".yaml", ".yml") and f.is_file()), None)
    return file is not None and bool(GENERATES.search(file.read_text(errors="replace")))


def pick(task: Any, limit: int | None, seed: int) -> list[int] | None:
    """Indices of the documents to score, sorted; None for all.

    They are a random subset that is fixed by (task, seed), part of any larger limit's, and
    balanced over the documents' `stratum` or `group`.

    Args:
        task: The lm-eval task.
        limit: How many documents; None for all.
        seed: Of the random order.
    """
    docs = task.eval_docs
    if limit is None or limit >= len(docs):
        return None
    features = getattr(docs, "features", {})
    column = next((name for name in ("stratum", "group") if name in features), None)
    strata = docs[column][:] if column else [""] * len(docs)  # a lazy column is slow by item
    rng = Random(f"{task.task_name}/{seed}")
    order = rng.sample(range(len(docs)), len(docs))
    seen: dict[str, int] = {}
    turns = {}
    for index in order:
        turns[index] = seen.setdefault(strata[index], 0)
        seen[strata[index]] += 1
    return sorted(sorted(order, key=turns.__getitem__)[:limit])


def data_hash(task: Any) -> str:
    """SHA-256 over a task's documents and prompt settings: scores of equal hash are comparable."""
    prompt_settings = (
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "description",
        "target_delimiter",
        "num_fewshot",
    )
    config = task.config.to_dict()
    settings = [str(config.get(key)) for key in prompt_settings]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for doc in task.eval_docs:
        digest.update(json.dumps(doc, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def quiet() -> None:
    """Keep lm-eval's notices and progress bars off the terminal; its errors still show."""
    import lm_eval.api.task as harness_task
    from tqdm import tqdm

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # lm-eval has no option to hide the progress bar it shows while it builds prompts.
    harness_task.tqdm = functools.partial(tqdm, disable=True)


def _manager_of(name: str) -> tuple[Any, str]:
    """The lm-eval task manager that knows a task, and the task's name there."""
    from lm_eval.tasks import TaskManager

    ours = None
    if not name.startswith(HARNESS):
        folders: list[str | Path] = [p for p in (FOLDER, home() / "tasks") if p.is_dir()]
        ours = TaskManager(include_path=folders, include_defaults=False)
        if name in ours.task_index:
            _check_all(ours, name)
            return ours, name
        if name.endswith((".yaml", ".yml")):
            check_file(Path(name))
            return ours, name
    theirs = _harness()
    bare = name.removeprefix(HARNESS)
    if bare not in theirs.task_index:
        known = [*(ours.all_tasks if ours is not None else []), *theirs.all_tasks]
        close = difflib.get_close_matches(bare, known, 3)
        hint = (
            f"; did you mean {', '.join(close)}?"
            if close
            else "; see `workbench.benchmarks.suites()`."
        )
        raise TaskError(f"There is no task {bare!r}{hint}")
    return theirs, bare


@functools.cache
def _harness() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _check_all(manager: Any, name: str) -> None:
    """Check the user's files of a task, or of every task in a group or tag."""
    waiting = [name]
    seen = set()
    while waiting:
        entry = manager.task_index.get(waiting.pop())
        if entry is None or entry.name in seen:
            continue
        seen.add(entry.name)
        path = entry.yaml_path
        if path is not None and not path.is_relative_to(FOLDER):
            check_file(path)
        members = (entry.cfg or {}).get("task")
        waiting += sorted(entry.tags) if path is None else []
        for member in members if isinstance(members, list) else []:
            if isinstance(member, dict):
                member = member.get("task", member.get("group"))
            waiting.append(str(member))


def own_requests(task: Any, requests: list[Any]) -> list[Any]:
    """The requests of a question's own choices, one a choice.

    For `acc_mutual_info` lm-eval scores each choice a second time without the question; those are
    left out.

    Args:
        task: The lm-eval task.
        requests: All requests of one question, or their results.
    """
    if "acc_mutual_info" in getattr(task, "_metric_fn_list", {}) and len(requests) % 2 == 0:
        return requests[: len(requests) // 2]
    return requests
