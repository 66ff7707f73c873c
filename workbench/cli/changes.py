"""Commands on what fine-tuning changed: compare, locate the gain, transplant parts, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.terminal import (
    Json,
    Limit,
    Model,
    bar,
    check_out,
    err,
    out,
    plain,
    print_json,
    show,
    write_out,
)
from workbench.statistics.words import bracketed

On = Annotated[
    str,
    typer.Option(
        help=(
            "The behaviour: a task such as clinc150, probe:NAME, a fine-tune's own run:ID, or text."
        )
    ),
]
Samples = Annotated[int, typer.Option("-n", help="Number of samples.")]
_SHARES = (
    "kind",
    "name",
    "into",
    "value",
    "share",
    "low",
    "high",
    "p",
    "random",
    "p_random",
    "n_params",
)


def locate(
    base: Model,
    tuned: Model,
    on: On = "intents",
    n: Samples = 24,
    grain: Annotated[
        str, typer.Option(help="layers, blocks or heads: how fine the parts are.")
    ] = "blocks",
    metric: Annotated[str, typer.Option(help="Metric to show; by default the main one.")] = "",
    activations: Annotated[
        bool, typer.Option("--activations", help="Patch activations instead of weights.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of samples and random subsets.")] = 0,
    as_json: Json = False,
) -> None:
    """Where is the change? Swaps parts between two models, with intervals and random baselines."""
    from workbench.comparison import locate as search
    from workbench.comparison import locate_activations

    if activations:
        with bar(as_json) as report:
            patched = locate_activations(base, tuned, on, n=n, seed=seed, progress=report)
        if as_json:
            print_json(patched.to_dict())
            return
        frame = patched.to_frame().sort_values("share", ascending=False).head(20)
        title = f"Activations of {patched.tuned} and {patched.base} on {patched.measure}"
        show(frame.to_dict("records"), False, title=f"{title}: share of the gain")
        return
    with bar(as_json) as report:
        location = search(base, tuned, on, n=n, grain=grain, seed=seed, progress=report)
    if as_json:
        print_json(location.to_dict())
    else:
        _print(location, metric)


def _print(location: Any, metric: str) -> None:
    """Print the gain, and one table of shares for each kind of part."""
    gain = location.gain(metric)
    name = metric or location.metrics[0]
    out.print(
        f"{name}: {location.base} {gain.base:.4f}, {location.tuned} {gain.tuned:.4f}, gain "
        f"{gain.difference:+.4f} {bracketed(gain.low, gain.high, '+.4f')}, n = {gain.n}; "
        f"{location.seconds:.0f} s"
    )
    if why := location.undefined(metric):
        err.print(plain(why))
    table = location.table(metric)
    for kind in (
        "outer",
        "layer",
        "from_bottom",
        "from_top",
        "attn",
        "mlp",
        "head",
        "random",
        "path",
    ):
        rows = table[table["kind"] == kind]
        if kind == "head":
            rows = rows.sort_values("share", ascending=False).head(15)
        if len(rows):
            show(
                rows.to_dict("records"), False, title=f"{kind}: share of the gain", columns=_SHARES
            )


def transplant(
    base: Model,
    donor: Model,
    parts: Annotated[
        str,
        typer.Argument(help='Parts of the donor, such as "L4,L5.mlp,L2H1,embed"; or all.'),
    ],
    name: Annotated[str, typer.Option(help="Name of the edited model.")] = "",
    alpha: Annotated[float, typer.Option(help="Interpolation: 0 is the base, 1 the donor.")] = 1.0,
    file: Annotated[
        Path | None, typer.Option("--out", help="Also write the JSON here, to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Save an edit that puts parts of one model into another; it loads as edit:NAME everywhere."""
    from workbench.comparison import transplant as make

    check_out(file)
    change = make(base, donor, parts, name=name, alpha=alpha)
    saved_name = change.save()
    if file is not None:
        write_out(file, change.to_json())
    show(
        [{"model": saved_name, "base": base, "donor": donor, "what": change.words, "file": file}],
        as_json,
        title="Kept",
    )


def report(
    base: Model,
    tuned: Model,
    suite: Annotated[str, typer.Option(help="The benchmarks of the behaviour.")] = "core",
    limit: Annotated[int, typer.Option(help="Items per task.")] = 100,
    on: On = "intents",
    n: Samples = 24,
    grain: Annotated[
        str, typer.Option(help="layers, blocks or heads: how fine the parts are.")
    ] = "blocks",
    seed: Annotated[int, typer.Option(help="Seed of items and random subsets.")] = 0,
    file: Annotated[Path, typer.Option("--out", help="The HTML page to write.")] = Path(
        "report.html"
    ),
    as_json: Json = False,
) -> None:
    """One HTML page on what changed and where: behaviour, heads and causes; it can be rerun."""
    from workbench.comparison.report.page import report as measure
    from workbench.figures.export import write_page

    check_out(file)
    with bar(as_json) as shown:
        result = measure(
            base,
            tuned,
            suite=suite,
            limit=limit,
            on=on,
            n=n,
            grain=grain,
            seed=seed,
            progress=shown,
        )
    write_page(result.to_html(), file)
    for why in result.missing:
        err.print(plain(f"not measured: {why}"))
    show(
        [{"base": result.base.name, "tuned": result.tuned.name, "page": str(file)}],
        as_json,
        title="Report",
    )


def compare(
    base: Model,
    tuned: Model,
    suite: Annotated[str, typer.Option(help="A suite or a task.")] = "core",
    limit: Limit = 100,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only behaviour, text, layers, heads or weights; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of items, sequences and linear probes.")] = 0,
    as_json: Json = False,
) -> None:
    """What changed between two models: weights, heads, text, layers and behaviour."""
    from workbench.cli.compare_tables import tables
    from workbench.comparison import compare as run
    from workbench.comparison.compare import Comparison

    wanted = part or ["behaviour", "text", "layers", "heads", "weights"]

    def show_part(name: str, result: Comparison) -> None:
        for title, rows in tables(name, result):
            show(rows, False, title=title)

    with bar(as_json) as report:
        result = run(
            base,
            tuned,
            suite=suite,
            limit=limit,
            seed=seed,
            parts=wanted,
            progress=report,
            partial=None if as_json else show_part,
        )
    if as_json:
        print_json(result.to_dict())
        return
    for note in result.notes:
        err.print(plain(note))
