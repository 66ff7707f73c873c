"""Commands about what fine-tuning changed and where: locate the gain, transplant parts."""

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
Samples = Annotated[int, typer.Option("-n", help="Samples.")]
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
    metric: Annotated[
        str, typer.Option(help="The metric that is shown; else the measure's first.")
    ] = "",
    activations: Annotated[
        bool, typer.Option("--activations", help="Patch activations instead of weights.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of samples and random subsets.")] = 0,
    as_json: Json = False,
) -> None:
    """Where does the change live? Parts of one model in the other, both ways, with intervals and a
    random baseline.
    """
    from workbench.comparison import locate as search
    from workbench.comparison import locate_activations

    with bar(as_json) as report:
        if activations:
            found = locate_activations(base, tuned, on, n=n, seed=seed, progress=report)
        else:
            found = search(base, tuned, on, n=n, grain=grain, seed=seed, progress=report)
    if as_json:
        print_json(found.to_dict())
    elif activations:
        rows = found.to_frame().sort_values("share", ascending=False).head(20).to_dict("records")
        show(
            rows,
            False,
            title=(
                f"Activations of {found.tuned} and {found.base} on {found.measure}: share of "
                "the gain"
            ),
        )
    else:
        _print(found, metric)


def _print(found, metric: str) -> None:
    gain = found.gain(metric)
    name = metric or found.metrics[0]
    out.print(
        f"{name}: {found.base} {gain.base:.4f}, {found.tuned} {gain.tuned:.4f}, gain "
        f"{gain.difference:+.4f} {bracketed(gain.low, gain.high, '+.4f')}, n = {gain.n}; "
        f"{found.seconds:.0f} s"
    )
    if why := found.undefined(metric):
        err.print(plain(why))
    table = found.table(metric)
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
        typer.Argument(help='What comes in, such as "L4,L5.mlp,L2H1,embed"; all for everything.'),
    ],
    name: Annotated[str, typer.Option(help="What the edited model is called.")] = "",
    alpha: Annotated[
        float, typer.Option(help="How far towards the donor: 1 all the way, 0.5 half.")
    ] = 1.0,
    file: Annotated[
        Path | None, typer.Option("--out", help="Also write the JSON here, to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep an intervention that brings parts of one model into another; it loads as edit:NAME
    everywhere.
    """
    from workbench.comparison import transplant as make

    check_out(file)
    change = make(base, donor, parts, name=name, alpha=alpha)
    kept = change.save()
    if file is not None:
        write_out(file, change.to_json())
    show(
        [{"model": kept, "base": base, "donor": donor, "what": change.words, "file": file}],
        as_json,
        title="Kept",
    )


def report(
    base: Model,
    tuned: Model,
    suite: Annotated[str, typer.Option(help="The benchmarks of the behaviour.")] = "core",
    limit: Annotated[int, typer.Option(help="Items a task.")] = 100,
    on: On = "intents",
    n: Samples = 24,
    grain: Annotated[
        str, typer.Option(help="layers, blocks or heads: how fine the parts are.")
    ] = "blocks",
    seed: Annotated[int, typer.Option(help="Of items and random subsets.")] = 0,
    file: Annotated[Path, typer.Option("--out", help="The HTML page to write.")] = Path(
        "report.html"
    ),
    as_json: Json = False,
) -> None:
    """One HTML page on what changed and where: behaviour, heads, cause; to be read and rerun by a
    reviewer.
    """
    from workbench.comparison.report.page import report as measure
    from workbench.figures.export import write_page

    check_out(file)
    with bar(as_json) as shown:
        found = measure(
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
    write_page(found.to_html(), file)
    for why in found.missing:
        err.print(plain(f"not measured: {why}"))
    show(
        [{"base": found.base.name, "tuned": found.tuned.name, "page": str(file)}],
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
        typer.Option(help="Only this: behaviour, text, layers, heads, weights; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of items, random sequences and probes.")] = 0,
    as_json: Json = False,
) -> None:
    """What changed between two models: weights, heads, text, layers and behaviour, each shown as it
    is there.
    """
    from workbench.cli.compare_tables import tables
    from workbench.comparison import compare as run

    wanted = part or ["behaviour", "text", "layers", "heads", "weights"]
    shown: Any = (
        None
        if as_json
        else lambda name, found: [show(rows, False, title=t) for t, rows in tables(name, found)]
    )
    with bar(as_json) as report:
        found = run(
            base,
            tuned,
            suite=suite,
            limit=limit,
            seed=seed,
            parts=wanted,
            progress=report,
            partial=shown,
        )
    if as_json:
        print_json(found.to_dict())
        return
    for note in found.notes:
        err.print(plain(note))
