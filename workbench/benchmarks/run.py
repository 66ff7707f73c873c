"""Run suites: `evaluate` one Subject, or `run_job` several in the background, resumably."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from workbench.benchmarks.documents.sources import MissingDataError
from workbench.benchmarks.documents.user_tasks import TaskError, check_documents, why_not
from workbench.benchmarks.engine.cache import Cache, cache_of
from workbench.benchmarks.engine.shards import Shards
from workbench.benchmarks.inside import INSIDE, heads_task
from workbench.benchmarks.results.paired import compare_results
from workbench.benchmarks.results.record import Results, plain, sample_frame
from workbench.benchmarks.suites import Suite, find_suite, with_variants
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.public import public

if TYPE_CHECKING:
    from workbench.benchmarks.engine.lm import SubjectLM
    from workbench.store import Tracker
    from workbench.subjects import Subject, SubjectOrName

Report = Callable[[float, str], None]
"""Called with (share done, message)."""
GROWING = ("data", "task_versions", "seconds")
"""Entries of a result's config that grow with every task."""


@public("subject", seq2seq=True)
@own_modes
def evaluate(
    subject: "SubjectOrName",
    suite: str | list[str] | Suite = "core",
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    tracker: "Tracker | None" = None,
    progress: Report | None = None,
    seed: int = 0,
    variants: Sequence[str] = (),
    cache: bool = True,
) -> Results:
    """Scores of a Subject on a suite.

    Args:
        subject: The model; an encoder-decoder is asked the tasks of generation, the others are
            skipped.
        suite: A suite's name or YAML file, a task's name (ours or any of lm-eval's), or a list of
            task names.
        limit: At most this many documents a task: a random subset fixed by (task, seed), the same
            for every model.
        num_fewshot: Few-shot examples before each question where the task allows them; None for
            the task's own number.
        tracker: Tracker of a run, which gets the progress; cancelling the run stops the
            evaluation.
        progress: Called with (share done, message) after every batch.
        seed: Of the subset and of the examples.
        variants: Other settings to score each task with as well, such as "shots=2" or
            "prompt=instructed" (see `workbench.benchmarks.tasks.PROMPTS`); they are reported as
            tasks of their own, such as "arc_easy@shots=2".
        cache: Whether requests that this very model has answered before are answered from
            `answers.sqlite` in the home folder.

    Where a launcher such as torchrun has started several processes, each calls this, computes its
    share of the requests, and returns the same results.

    Raises:
        WorkbenchError: the suite or task is unknown, a file is broken, or no task could run.
    """
    subject = cast("Subject", subject)  # `public` has loaded it
    chosen = with_variants(find_suite(suite), variants)

    def report(fraction: float, message: str) -> None:
        if tracker:
            tracker.progress(fraction, message)
        if progress:
            progress(fraction, message)

    settings = {"limit": limit, "num_fewshot": num_fewshot, "seed": seed}
    results = empty_results(subject, chosen, settings)
    origin = tracker.run_id if tracker else uuid4().hex
    answers = cache_of(subject, origin) if cache and Shards().leads else Cache(None)
    with closing(answers):
        for grown in each_task(subject, chosen, results, report, answers):
            results = grown
    if not results.rows:
        raise WorkbenchError(_none_ran(chosen, results))
    return results


def empty_results(subject: "Subject", suite: Suite, settings: dict[str, Any]) -> Results:
    """Results without rows; their `config` identifies the evaluation.

    Args:
        subject: The model.
        suite: What it will be evaluated on.
        settings: `limit`, `num_fewshot` and `seed`.

    Raises:
        WorkbenchError: a limit below one.
    """
    limit = settings["limit"]
    if limit is not None and limit < 1:
        raise WorkbenchError(f"limit={limit}: at least one document a task is needed.")
    config = {
        **settings,
        "suite_version": suite.version,
        "tasks": suite.tasks,
        "data": {},
        "task_versions": {},
        "seconds": {},
        "versions": {
            name: _version(name) for name in ("gpt-workbench", "lm-eval", "torch", "transformers")
        },
    }
    return Results(subject.name, subject.hash, suite.name, [], sample_frame([]), config)


def each_task(
    subject: "Subject", suite: Suite, done: Results, report: Report, cache: Cache | None = None
) -> Iterator[Results]:
    """The results after each task of the suite.

    Args:
        subject: The model.
        suite: The tasks.
        done: Results to start from; their finished tasks are not run again.
        report: Called with (share done, message) after every batch.
        cache: Earlier answers of the model; None for none.

    Raises:
        WorkbenchError: no task could run, and the file of at least one is broken.
    """
    from workbench.benchmarks.engine.rewriting import lm_of

    lm = lm_of(subject, cache)
    finished = set(done.config.get("finished", []))
    results = replace(done, skipped=[])
    count = len(suite.tasks)
    broken = 0
    for number, name in enumerate(suite.tasks):
        label = f"{subject.name} · {name} {number + 1}/{count}"
        report(number / count, label)
        if name not in finished:
            lm.progress = _progress_of_task(report, number, count, label)
            lm.n_known = 0
            began = time.perf_counter()
            try:
                results = _grown(results, subject, lm, name)
            except (MissingDataError, TaskError) as error:
                broken += isinstance(error, TaskError)
                results = replace(results, skipped=[*results.skipped, (name, str(error))])
            else:
                finished.add(name)
                results.config["finished"] = sorted(finished)
                if not lm.n_known:  # cached answers would make the task look faster than it is
                    results.config["seconds"] = {
                        **results.config.get("seconds", {}),
                        name: round(time.perf_counter() - began, 2),
                    }
        yield results
    if broken and not results.rows:
        raise WorkbenchError(_none_ran(suite, results))
    report(1.0, f"{subject.name} · done")


def _progress_of_task(
    report: Report, number: int, count: int, label: str
) -> Callable[[float], None]:
    """A callback for the progress within one task, `number` of `count`."""

    def progress(share: float) -> None:
        report((number + share) / count, label)

    return progress


def _none_ran(suite: Suite, results: Results) -> str:
    reasons = "; ".join(why for _, why in results.skipped)
    return f"No task of {suite.name!r} could run: {reasons}"


def _grown(results: Results, subject: "Subject", lm: "SubjectLM", name: str) -> Results:
    """The results with every task that a name stands for, as a group is several."""
    from workbench.benchmarks.engine.rewriting import why_no_heads
    from workbench.benchmarks.tasks import load_tasks

    config = results.config
    if name in INSIDE:
        if reason := why_no_heads(subject, name):
            raise MissingDataError(reason)
        try:
            rows, records, digest = heads_task(
                subject, name, limit=config["limit"], seed=config["seed"], report=lm.progress
            )
        except WorkbenchError as error:
            raise MissingDataError(f"{name}: {error}") from error
        return _added(results, name, rows, records, data=digest, version=1)
    for leaf, task in load_tasks(
        name, num_fewshot=config["num_fewshot"], seed=config["seed"]
    ).items():
        results = _with_task(results, lm, leaf, task)
    return results


def _with_task(results: Results, lm: "SubjectLM", name: str, task: Any) -> Results:
    from jinja2 import TemplateError
    from lm_eval.evaluator import evaluate as harness_evaluate

    from workbench.benchmarks.engine.rewriting import why_skipped
    from workbench.benchmarks.results.scores import rows_and_records
    from workbench.benchmarks.tasks import data_hash, is_users, pick

    if reason := why_skipped(lm.subject, name, task):
        raise MissingDataError(reason)
    lm.n_truncated = 0
    lm.n_unspelt = 0
    lm.n_spoilt = 0
    indices = pick(task, results.config["limit"], results.config["seed"])
    users = is_users(task)
    if users:
        check_documents(name, task, indices)
    try:
        output: Any = harness_evaluate(
            lm,
            {"tasks": {name: task}, "groups": {}},
            samples={name: indices} if indices else None,
            bootstrap_iters=0,
            log_samples=True,
        )
        rows, records = rows_and_records(name, task, output["samples"][name])
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        TemplateError,
        re.error,
    ) as error:
        if not users:
            raise
        raise why_not(name, task.config.to_dict(), error) from error
    if note := "; ".join(_limits(lm)):
        rows = [replace(row, note=note) for row in rows]
    return _added(results, name, rows, records, data=data_hash(task), version=task.VERSION)


def _limits(lm: "SubjectLM") -> Iterator[str]:
    """Notes on requests that the model could not read as they were."""
    if lm.n_truncated:
        yield f"{lm.n_truncated} requests cut from the left to the model's {lm.max_length} tokens"
    if lm.n_unspelt:
        where = f"in {lm.n_spoilt} requests"
        yield f"{lm.n_unspelt} pieces of text, {where}, that its tokenizer cannot spell"


def _added(
    results: Results,
    name: str,
    rows: list[Any],
    records: list[dict[str, Any]],
    *,
    data: str,
    version: Any,
) -> Results:
    import pandas as pd

    config = {
        **results.config,
        "data": {**results.config["data"], name: data},
        "task_versions": {**results.config["task_versions"], name: version},
    }
    frames = [frame for frame in (results.samples, sample_frame(records)) if len(frame)]
    samples = pd.concat(frames, ignore_index=True) if frames else results.samples
    return replace(results, rows=[*results.rows, *rows], samples=samples, config=config)


def run_job(config: dict[str, Any], tracker: "Tracker") -> dict[str, Any]:
    """Evaluate several models on a suite, as a run of the store.

    Args:
        config: `models` (names that `workbench.subjects.load` accepts; the first is the base of
            the comparison), `suite`, and optionally `limit`, `num_fewshot`, `seed`, `variants`.
        tracker: The run's tracker. Results are saved after every task, to one folder a model below
            the run's folder; a job restarted on the same folder resumes at the first unfinished
            task.

    Returns:
        {"models": {name: {"rows", "skipped", "folder"}}, "comparison": rows of `compare_results`,
        each with "model"}

    Raises:
        WorkbenchError: no model is given, or the suite is unknown or broken.
    """
    from workbench.subjects import load

    sources = config.get("models") or []
    if not sources:
        raise WorkbenchError("An evaluation needs at least one model in 'models'.")
    suite = with_variants(find_suite(config.get("suite", "core")), config.get("variants") or ())
    settings = {
        "limit": config.get("limit"),
        "num_fewshot": config.get("num_fewshot"),
        "seed": config.get("seed") or 0,
    }
    by_model: dict[str, Results] = {}
    for number, source in enumerate(sources):
        tracker.progress(number / len(sources), f"loading {source}")
        subject = load(source, seq2seq=True)
        name = _folder_name(subject.name, by_model)

        def report(fraction: float, message: str, number: int = number) -> None:
            tracker.progress((number + fraction) / len(sources), message)

        fresh = empty_results(subject, suite, settings)
        by_model[name] = _resumable(subject, suite, fresh, Path(tracker.folder) / name, report)
    return _summary(by_model, Path(tracker.folder))


def _resumable(
    subject: "Subject", suite: Suite, fresh: Results, folder: Path, report: Report
) -> Results:
    """One model's results, saved to its folder after every task.

    Args:
        subject: The model.
        suite: The tasks.
        fresh: Empty results, with the settings of the job.
        folder: The model's folder; its parent is the run's.
        report: Called with (share done, message) after every batch.
    """
    shards = Shards()
    results = shards.of_first(lambda: _earlier_or(fresh, folder))
    cache = cache_of(subject, folder.parent.name) if shards.leads else Cache(None)
    with closing(cache):
        for grown in each_task(subject, suite, results, report, cache):
            results = grown
            if shards.leads:
                results.save(folder)
    return results


def _earlier_or(fresh: Results, folder: Path) -> Results:
    """Results that an earlier start of the same job left in the folder, else `fresh`."""
    if not (folder / "results.json").is_file():
        return fresh
    earlier = Results.read(folder)
    same = all(
        earlier.config.get(key) == fresh.config[key] for key in fresh.config if key not in GROWING
    )
    return earlier if same and earlier.subject_hash == fresh.subject_hash else fresh


def _summary(by_model: dict[str, Results], folder: Path) -> dict[str, Any]:
    models = {
        name: {
            "rows": results.to_dict()["rows"],
            "skipped": [list(pair) for pair in results.skipped],
            "folder": str(folder / name),
        }
        for name, results in by_model.items()
    }
    base, *others = by_model.values()
    comparison = []
    for name, other in zip(list(by_model)[1:], others, strict=True):
        if len(base.samples) and len(other.samples):
            for row in compare_results(base, other).to_dict("records"):
                comparison.append({"model": name, **{str(k): v for k, v in plain(row).items()}})
    return {"models": models, "comparison": comparison}


def _folder_name(name: str, taken: dict[str, Results]) -> str:
    bare = re.sub(r"[^\w.@-]+", "_", name).strip(".") or "model"
    return next(n for n in (bare, *(f"{bare}-{i}" for i in range(2, 1000))) if n not in taken)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
