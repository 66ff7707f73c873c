"""The command `sweep`: many trainings or evaluations from one plan."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.terminal import Json, bar, out, print_json, show
from workbench.errors import WorkbenchError


def sweep(  # noqa: PLR0913
    plan: Annotated[
        Path | None,
        typer.Argument(help="A .toml file: a recipe with [vary], or models and suites."),
    ] = None,
    on: Annotated[
        str, typer.Option(help="Where cells are worked on: here, local, slurm or torchrun.")
    ] = "here",
    workers: Annotated[int, typer.Option(help="Processes, on local and slurm.")] = 1,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this sweep; failed cells are tried again.")
    ] = None,
    result: Annotated[
        str | None, typer.Option("--result", help="Only print what this sweep came to so far.")
    ] = None,
    background: Annotated[
        bool, typer.Option(help="On slurm: submit the workers and return.")
    ] = False,
    minutes: Annotated[int, typer.Option(help="Of one worker, on slurm.")] = 1440,
    cpus: Annotated[int, typer.Option(help="Of one worker, on slurm.")] = 2,
    gpus: Annotated[int, typer.Option(help="Of one worker, on slurm.")] = 0,
    memory: Annotated[
        float, typer.Option(help="GB of one worker, on slurm; 0: what the cluster gives.")
    ] = 16,
    partition: Annotated[str, typer.Option(help="Slurm's partition.")] = "",
    sbatch: Annotated[
        list[str] | None,
        typer.Option(help="One more option of sbatch, such as account=mine; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Carry out a plan of many runs; whoever is free takes the next, also that of a dead worker."""
    from workbench.store import Store
    from workbench.store.followers import follower
    from workbench.sweeps import result_of
    from workbench.sweeps.slurm import Resources, options_of
    from workbench.sweeps.submit import check_place, submit
    from workbench.sweeps.sweep import begin_or_join, carry_out, go_on

    if sum(given is not None for given in (plan, resume, result)) != 1:
        raise WorkbenchError("Give a plan, or --resume or --result with the id of a sweep.")
    if background and on != "slurm":
        raise WorkbenchError("--background goes with --on slurm.")
    follows = follower()  # the work itself forgets the launcher
    store = Store()
    if result is not None:
        table = result_of(result, store)
    else:
        check_place(on, workers)
        resources = Resources(minutes, cpus, gpus, memory, partition, options_of(sbatch or ()))
        run = begin_or_join(plan or "", store, on) if resume is None else go_on(resume, store)
        if background:
            submit(run.id, store, on, workers, resources)
            out.print(f"Submitted. Look with: workbench sweep --result {run.id}", highlight=False)
            return
        with bar(as_json) as report:
            table = carry_out(
                run, store, on=on, workers=workers, resources=resources, progress=report
            )
    if follows:
        return
    if as_json:
        print_json(table.to_dict())
        return
    show(table.rows, False, title=f"{table.title} ({table.headline()})")
