"""The commands `costs`, `usage` and `scaling`."""

from typing import Annotated

import typer

from workbench.cli.terminal import Json, Limit, out, print_json, show, warn
from workbench.errors import WorkbenchError


def costs(
    what: Annotated[
        str,
        typer.Argument(
            help="recipes, suites, patching; the name or file of one recipe, suite or task; or a "
            "sweep's plan."
        ),
    ] = "recipes",
    on: Annotated[
        list[str] | None, typer.Option(help="A GPU too, such as H100 (may be repeated).")
    ] = None,
    gpus: Annotated[int, typer.Option(help="How many of each GPU share the work.")] = 1,
    model: Annotated[str, typer.Option(help="Whom a suite or a map is for.")] = "shelf-base",
    limit: Limit = None,
    tokens: Annotated[int, typer.Option(help="Of a map's prompts.")] = 16,
    watts: Annotated[
        float | None, typer.Option(help="Power of a process here; else WORKBENCH_WATTS, else 65.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What something costs before it starts: time, memory and energy, here and on named GPUs."""
    from workbench.budget.costs import costs as estimate
    from workbench.budget.costs import in_words

    result = estimate(
        what, gpus=on or (), n_gpus=gpus, model=model, limit=limit, tokens=tokens, watts=watts
    )
    if as_json:
        print_json(result.to_dict())
        return
    rows = [
        {
            "what": line.what,
            "on": line.on,
            "time": "" if line.seconds is None else in_words(line.seconds),
            "GiB": None if line.memory_gb is None else round(line.memory_gb, 2),
            "fits": {True: "yes", False: "no", None: ""}[line.fits],
            "kWh (estimate)": line.kwh,
            "FLOPs": line.flops,
            "note": line.note,
        }
        for line in result.lines
    ]
    show(rows, False, title=f"Costs by arithmetic: {result.machine.headline()}")
    warn(result.assumed)


def usage(as_json: Json = False) -> None:
    """What runs now, and what it uses of processors and memory."""
    from workbench.budget.usage import usage as look

    result = look()
    if as_json:
        print_json(result.to_dict())
        return
    rows = [use for use in result.to_frame().to_dict("records") if use["run"]]
    columns = ("run", "kind", "what", "processes", "cpu", "memory_gb", "progress", "note")
    show(rows, False, title="Runs now", columns=columns)
    out.print(result.headline(), highlight=False)


def scaling(
    runs: Annotated[
        list[str],
        typer.Argument(help="Pretraining runs, or one sweep, or one CSV file (parameters, loss)."),
    ],
    at: Annotated[float | None, typer.Option(help="Parameters to predict for.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Tokens to predict for.")] = None,
    flops: Annotated[
        float | None, typer.Option(help="A budget instead of both: 6 x parameters x tokens.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A scaling law through small runs: the loss it predicts for a larger one."""
    from workbench.budget.scaling import scaling_law

    if not runs:
        raise WorkbenchError("Name runs, a sweep or a CSV file.")
    law = scaling_law(runs[0] if len(runs) == 1 else runs, at=at, tokens=tokens, flops=flops)
    if as_json:
        print_json(law.to_dict())
        return
    show(law.to_frame().to_dict("records"), False, title=law.headline())
    out.print(
        f"95 % intervals; exponent [{law.alpha_low:.3f}, {law.alpha_high:.3f}], a run differs from "
        f"the law by {law.error:.4f} (one standard deviation), n = {law.n}",
        highlight=False,
    )
    if law.held_out is not None:
        held = law.held_out
        out.print(
            f"Check, the largest run predicted from the others: {held.predicted:.3f} "
            f"[{held.low:.3f}, {held.high:.3f}], it has {held.loss:.3f}",
            highlight=False,
        )
    warn(law.warnings)
