"""The command `eval`: benchmark suites from the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.foreground import in_foreground
from workbench.cli.terminal import Json, Limit, bar, check_out, err, plain, print_json, show
from workbench.errors import WorkbenchError


def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Argument(help="One or more models; the first of several is the base."),
    ] = None,
    suite: Annotated[str, typer.Option(help="A suite, a task, or a YAML file of either.")] = "core",
    limit: Limit = 100,
    seed: Annotated[int, typer.Option(help="Seed of the random subset of items.")] = 0,
    shots: Annotated[
        int | None, typer.Option(help="Few-shot examples per question; else the task's own number.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="A prompt variant: shots=2 or prompt=instructed; repeatable."),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Resume this interrupted evaluation.")] = None,
    trust_tasks: Annotated[
        bool,
        typer.Option(
            "--trust-tasks",
            help="Let task files run Python code. Only for files from people you trust.",
        ),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the scores here: .html, .json (lm-eval's form), .csv or .parquet."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Benchmark models on a suite, recorded as a run; torchrun and accelerate launch share it."""
    from workbench.benchmarks import Results
    from workbench.benchmarks.documents.user_tasks import trusting
    from workbench.benchmarks.results.files import check_suffix, write_scores
    from workbench.benchmarks.run import run_job
    from workbench.statistics import too_few
    from workbench.store import Store, followers

    model = model or []
    if bool(model) == (resume is not None):
        raise WorkbenchError(
            "Name either models to evaluate or, with --resume, an evaluation to go on with."
        )
    check_out(file)
    if file:
        check_suffix(file)
    if len(model) > 1 and limit is not None and (why := too_few(limit)):
        err.print(plain(why))
    config = {"models": model, "suite": suite, "limit": limit, "seed": seed, "num_fewshot": shots}
    config["variants"] = vary or []
    if followers.follower():
        with trusting(trust_tasks):
            silent = followers.Silent()
            run_job(config if resume is None else Store().get(resume).config, silent)
        return
    store = Store()
    if resume is not None:
        run = store.reopen(resume, ("eval",))
        model = list(run.config["models"])
        suite = str(run.config.get("suite", "core"))
    else:
        run = store.create("eval", f"{suite}: {', '.join(model)}", config)
    with trusting(trust_tasks), bar(as_json) as report:
        run = in_foreground(run, store, lambda tracker: run_job(run.config, tracker), report)
    result: dict[str, Any] = {"run": run.id, **(run.result or {})}
    if file:
        records = result["models"].items()
        scores = {name: Results.read(record["folder"]) for name, record in records}
        write_scores(scores, file, title=f"{suite}: {', '.join(scores)}")
    if as_json:
        print_json(result)
        return
    rows = [
        {"model": name, **row}
        for name, record in result["models"].items()
        for row in record["rows"]
    ]
    columns = (
        "model",
        "task",
        "metric",
        "value",
        "stderr",
        "low",
        "high",
        "n",
        "n_unscored",
        "reason",
    )
    show(rows, False, title=f"Suite {suite}", columns=columns)
    for name, record in result["models"].items():
        for task, why in record["skipped"]:
            err.print(f"{name}: {task} skipped: {plain(why)}")
    if result["comparison"]:
        show(result["comparison"], False, title=f"Against {model[0]}, same items", columns=_PAIRED)


_PAIRED = (
    "model",
    "task",
    "base",
    "tuned",
    "difference",
    "low",
    "high",
    "p_adjusted",
    "n",
    "reason",
)
