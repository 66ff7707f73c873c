"""The commands `train` and `dynamics`."""

from typing import Annotated, Any

import typer

from workbench.cli.foreground import in_foreground
from workbench.cli.terminal import Json, bar, print_json, show
from workbench.errors import WorkbenchError


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A .toml file or the name of a bundled recipe.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps, instead of the recipe's.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Resume this interrupted run exactly where it was.")
    ] = None,
    once: Annotated[
        str | None,
        typer.Option(
            help="Begin a run of this name, or go on with it: the same line after a preemption."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the cost, measured on this machine.")
    ] = False,
    background: Annotated[
        bool, typer.Option(help="Start the run as a separate process and return.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train or fine-tune by a recipe, recorded as a run.

    Under torchrun or accelerate launch, several processes share the run. `workbench recipe keys`
    lists every key of a recipe with its type, range and default; `workbench recipe check` checks
    one.
    """
    from workbench.store import Store, followers, jobs
    from workbench.training import Recipe, processes
    from workbench.training.changes import changed
    from workbench.training.start import TRAINING, start, work_of
    from workbench.training.start import once as begin_once

    if (recipe is None) == (resume is None):
        raise WorkbenchError(
            "Name either a recipe to train or, with --resume, a run to go on with."
        )
    store = Store()
    plan: Recipe | None = None
    if resume is None:
        plan = Recipe.read(recipe or "")
        if steps is not None:
            plan = changed(plan, steps=steps)
        if dry_run:
            _dry_run(plan, as_json)
            return
    if followers.follower():
        processes.follow(store)
        return
    if plan is None:
        run = store.reopen(str(resume), TRAINING)
    else:
        run = begin_once(plan, once, store) if once else start(plan, store)
    if run.status == "done":  # by an earlier call with the same name
        pass
    elif background:
        run = jobs.launch(run, store)
    else:
        work = work_of(run)
        with bar(as_json) as report:
            run = in_foreground(
                run, store, lambda tracker: work(run.config, processes.lead(tracker)), report
            )
    result = {"run": run.id, "model": f"run:{run.id}", "status": run.status, **(run.result or {})}
    changes = [] if as_json else result.pop("changes", [])
    show([result], as_json, title=run.title)
    if changes:
        columns = ("metric", "base", "tuned", "difference", "low", "high", "p", "n", "reason")
        show(changes, False, title="Before and after, same held-out items", columns=columns)


def _dry_run(recipe: Any, as_json: bool) -> None:
    from workbench.training.cost import cost

    with bar(as_json) as report:
        projected = cost(recipe, progress=report)
    if as_json:
        print_json(projected.to_dict())
    else:
        rows = [{"what": what, "value": value} for what, value in projected.words()]
        show(rows, False, title=f"{recipe.title}: what it costs on this machine")


def dynamics(
    run: Annotated[
        str, typer.Argument(help="A pretraining run with checkpoints, or a bundled model.")
    ],
    task: Annotated[
        str, typer.Option(help="Benchmark task to run on every checkpoint.")
    ] = "repeat",
    as_json: Json = False,
) -> None:
    """When did a run learn what? Loss, head scores and a benchmark over its checkpoints."""
    from dataclasses import asdict

    from workbench.comparison.dynamics import dynamics as measure

    with bar(as_json) as report:
        trajectory = measure(run, task=task, progress=report)
    if as_json:
        print_json({**asdict(trajectory), "rise": trajectory.rise()})
    else:
        show(
            trajectory.to_frame().to_dict("records"),
            False,
            title=f"{trajectory.title}: what it had learned, by tokens",
        )
