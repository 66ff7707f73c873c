"""The command `fairness`: stereotypes by category, and the heads that carry them."""

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.terminal import Json, Limit, Model, bar, err, out, plain, print_json, show, warn
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.bias.carriers import Carriers

_REMOVED = (
    *("heads", "chosen", "share", "share_change", "share_low", "share_high"),
    *("nats_change", "nats_low", "nats_high", "n"),
)
_COSTS = ("heads", "task", "metric", "base", "tuned", "difference", "low", "high", "p", "n")


def fairness(
    model: Model,
    tuned: Annotated[
        str | None, typer.Argument(help="A second model, scored on the same documents.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="crows_pairs, winogender, bbq ...; repeatable. responsible: all."),
    ] = None,
    limit: Limit = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Also find the heads that carry each task of pairs.")
    ] = False,
    pairs: Annotated[
        int, typer.Option(help="Pairs on which every head is exchanged; half of them rank.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="Seed of subsets and draws.")] = 0,
    as_json: Json = False,
) -> None:
    """How does a model treat groups of people? Suites on bias by category, and which heads."""
    from workbench.bias.by_category import fairness as measure
    from workbench.bias.carriers import bias_heads
    from workbench.bias.measures import PAIRED_TASKS
    from workbench.subjects import load

    tasks = task or list(PAIRED_TASKS)
    named = tasks[0] if len(tasks) == 1 and tasks[0] == "responsible" else tasks
    of_pairs = [name for name in tasks if name in PAIRED_TASKS]
    if heads and not of_pairs:
        raise WorkbenchError(
            f"--heads needs a task of pairs; give --task with one of {', '.join(PAIRED_TASKS)}."
        )
    base = load(model)
    other = None if tuned is None else load(tuned)
    with bar(as_json) as report:
        result = measure(base, other, named, limit=limit, seed=seed, progress=report)
        carried = [
            bias_heads(base, name, pairs=pairs, limit=limit, seed=seed, progress=report)
            for name in (of_pairs if heads else [])
        ]
    if as_json:
        print_json({**result.to_dict(), "heads": [one.to_dict() for one in carried]})
        return
    warn(result.remarks)
    for name, why in result.skipped:
        err.print(f"{name} skipped: {plain(why)}")
    table = result.to_frame().astype(object).where(lambda frame: frame.notna(), None)
    title = base.name if other is None else f"{base.name} and {other.name}, same documents"
    show(table.to_dict("records"), False, title=title)
    for one in carried:
        _show_heads(one)


def _show_heads(one: "Carriers") -> None:
    """Print the parts that carry a preference, and what it costs to take heads out."""
    title = (
        f"{one.task}: nats of {one.preference.value:+.3f} that each part carries, on {one.n} pairs"
    )
    show(one.to_frame().head(8).to_dict("records"), False, title=title)
    title = f"Without these heads; the whole model has a share of {one.share.value:.3f}"
    show(one.removed_frame().to_dict("records"), False, title=title, columns=_REMOVED)
    title = f"What that costs on {one.core}"
    show(one.cost_frame().to_dict("records"), False, title=title, columns=_COSTS)
    out.print(one.headline(), highlight=False, markup=False)
