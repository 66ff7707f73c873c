"""The commands `train` and `dynamics`."""

from typing import Annotated, Any

import typer

from workbench.cli.foreground import in_foreground
from workbench.cli.terminal import Json, bar, print_json, show
from workbench.errors import WorkbenchError


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A .toml file or a recipe on the models shelf.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Train this many steps instead of the recipe's.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run, cut short, exactly where it was.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it costs, measured here, and stop.")
    ] = False,
    background: Annotated[
        bool, typer.Option(help="Start it as a process of its own and return.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train or fine-tune as a recipe says, recorded as a run; under torchrun or accelerate launch
    on many processes.

    `workbench recipe keys` lists every key of a recipe with its type, range and default; `workbench
    recipe check` looks one over.
    """
    from workbench.store import Store, followers, jobs
    from workbench.training import Recipe, processes
    from workbench.training.changes import changed
    from workbench.training.start import TRAINING, start, work_of

    if (recipe is None) == (resume is None):
        raise WorkbenchError(
            "Name either a recipe to train or, with --resume, a run to go on with."
        )
    store = Store()
    if resume is None:
        found = Recipe.read(recipe or "")
        if steps is not None:
            found = changed(found, steps=steps)
        if dry_run:
            _dry_run(found, as_json)
            return
    if followers.follower():
        processes.follow(store)
        return
    run = store.reopen(resume, TRAINING) if resume else start(found, store)
    if background:
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
        found = cost(recipe, progress=report)
    if as_json:
        print_json(found.to_dict())
    else:
        rows = [{"what": what, "value": value} for what, value in found.words()]
        show(rows, False, title=f"{recipe.title}: what it costs on this machine")


def dynamics(
    run: Annotated[
        str, typer.Argument(help="A pretraining run that kept checkpoints, or a bundled model.")
    ],
    task: Annotated[
        str, typer.Option(help="The benchmark task asked of every checkpoint.")
    ] = "repeat",
    as_json: Json = False,
) -> None:
    """When a run learned what: loss, head scores and a benchmark over its checkpoints."""
    from dataclasses import asdict

    from workbench.comparison.dynamics import dynamics as measure

    with bar(as_json) as report:
        found = measure(run, task=task, progress=report)
    if as_json:
        print_json({**asdict(found), "rise": found.rise()})
    else:
        show(
            found.to_frame().to_dict("records"),
            False,
            title=f"{found.title}: what it had learned, by tokens",
        )
