"""Commands of causal analysis: patch, probe, which heads a probe needs, and models with parts taken
out.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.terminal import (
    Json,
    Model,
    bar,
    check_out,
    err,
    out,
    print_json,
    show,
    warn,
    write_out,
)

Site = Annotated[
    str,
    typer.Option(
        help=(
            "resid_pre, resid_mid, resid_post, attn_out, mlp_out, z, z_by_pos, q, k, v, "
            "pattern, neurons@LAYER."
        )
    ),
]
Metric = Annotated[
    str, typer.Option(help="logit_difference, prob_difference, log_prob, prob, rank or kl.")
]
Kind = Annotated[str, typer.Option(help="mean, zero or resample.")]


def say_failed(checks: dict[str, float]) -> None:
    """Print the checks that did not hold to standard error."""
    from workbench.interp.patching.trust import failure

    if words := failure(checks):
        err.print(f"[red]{words}[/red]")


def with_failed(said: dict[str, Any], checks: dict[str, float]) -> dict[str, Any]:
    """A record with the checks that did not hold, in words, as `failed_checks`."""
    from workbench.interp.patching.trust import failed

    return {**said, "failed_checks": failed(checks)}


def patch(
    model: Model,
    clean: Annotated[str, typer.Option(help="The prompt with the right answer.")],
    corrupted: Annotated[str, typer.Option(help="As many tokens, another answer.")],
    answer: Annotated[
        str,
        typer.Option(help='The clean answer, such as " Mary" or " New York"; several with commas.'),
    ],
    wrong: Annotated[str, typer.Option(help='The other answer, such as " John".')],
    site: Site = "resid_pre",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    metric: Metric = "logit_difference",
    replacement: Annotated[
        str, typer.Option(help="other, zero, mean, resample or noise.")
    ] = "other",
    as_json: Json = False,
) -> None:
    """Exact activation patching over the whole model: where does the answer come from?"""
    from workbench.interp import patch as sweep
    from workbench.subjects import load

    site, _, layer = site.partition("@")
    with bar(as_json) as report:
        found = sweep(
            load(model),
            clean,
            corrupted,
            answer=answer.split(",") if "," in answer else answer,
            wrong=wrong.split(",") if "," in wrong else wrong,
            site=site,
            direction=direction,
            metric=metric,
            replacement=replacement,
            layer=int(layer) if layer else None,
            progress=report,
        )
    if as_json:
        print_json(with_failed(found.to_dict(), found.checks))
        return
    out.print(
        f"{found.metric_name.replace('_', ' ')}, {answer!r} against {wrong!r}: clean "
        f"{found.clean_metric:+.3f}, corrupted {found.corrupted_metric:+.3f}; {found.site}, "
        f"{found.direction}, {found.engine}, {found.seconds:.2f} s, n = {found.n}"
    )
    rows = found.to_frame()
    if "pos" in rows:
        rows = rows.assign(token=[found.corrupted_tokens[i] for i in rows["pos"]])
    warn(found.warnings)
    rows = rows.reindex(rows["effect"].abs().sort_values(ascending=False).index).head(15)
    show(rows.to_dict("records"), False, title="Largest effects (0 = corrupted run, 1 = clean run)")
    say_failed(found.checks)


def probe(
    model: Model,
    name: Annotated[
        str, typer.Argument(help="A probe of the shelf, such as ioi, or a .toml file.")
    ],
    n: Annotated[int, typer.Option("-n", help="Prompt pairs.")] = 50,
    site: Site = "resid_pre",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    replacement: Annotated[
        str, typer.Option(help="other, zero, mean, resample or noise.")
    ] = "other",
    seed: Annotated[int, typer.Option(help="Of the pairs drawn.")] = 0,
    anyway: Annotated[
        bool, typer.Option(help="Sweep although the model cannot do the probe.")
    ] = False,
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Align by named positions, whatever the lengths.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Patch many prompt pairs of a probe: every cell with its interval and corrected p-value."""
    from workbench.interp import probe as sweep
    from workbench.subjects import load

    site, _, layer = site.partition("@")
    more = {
        "site": site,
        "direction": direction,
        "replacement": replacement,
        "layer": int(layer) if layer else None,
    }
    with bar(as_json) as report:
        found = sweep(
            load(model),
            name,
            n=n,
            seed=seed,
            anyway=anyway,
            by_name=by_name,
            progress=report,
            **more,
        )
    if as_json:
        print_json(with_failed(found.to_dict(), found.checks))
        return
    clean = found.clean_metric
    corrupted = found.corrupted_metric
    out.print(
        f"{found.title}, {found.n} pairs (dropped: {found.dropped or 'none'}), "
        f"{found.right.value:.0%} right; {found.metric_name.replace('_', ' ')}: clean "
        f"{clean.value:+.3f}, corrupted {corrupted.value:+.3f}; {found.site}, {found.direction}, "
        f"{found.engine}, {found.seconds:.1f} s"
    )
    warn(found.warnings)
    rows = found.to_frame()
    if "pos" in rows:
        rows = rows.assign(token=[found.names[i] for i in rows["pos"]])
    change = rows["effect"] if found.direction == "denoising" else 1 - rows["effect"]
    rows = rows.reindex(change.abs().sort_values(ascending=False).index).head(15)
    show(
        rows.to_dict("records"),
        False,
        title="Largest effects with 95 % intervals, p over all cells corrected",
    )
    say_failed(found.checks)


def needs(
    model: Model,
    probe: Annotated[
        str, typer.Argument(help="A probe, such as ioi; with --task a benchmark task.")
    ],
    n: Annotated[
        int,
        typer.Option(
            "-n",
            help="Prompt pairs (items of a task) that put heads in order; as many others judge.",
        ),
    ] = 20,
    kind: Kind = "mean",
    task: Annotated[
        bool, typer.Option("--task", help="The name is a multiple-choice benchmark task.")
    ] = False,
    heads: Annotated[
        str, typer.Option(help="Of a task: only these heads, such as L3H1,L5H0.")
    ] = "",
    greedy: Annotated[
        int, typer.Option(help="Of a task: also take out so many heads one upon the other.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Which heads does a probe need? Each is taken out alone; paired intervals over held-out
    prompts.
    """
    from workbench.interp import needed_heads
    from workbench.subjects import load

    if task:
        _task_needs(
            model, probe, heads, {"limit": 2 * n, "replacement": kind, "greedy": greedy}, as_json
        )
        return
    with bar(as_json) as report:
        found = needed_heads(load(model), probe, n=n, replacement=kind, progress=report)
    if as_json:
        print_json(found.to_dict())
        return
    title = (
        f"Share of the {found.metric_name.replace('_', ' ')} lost without the head ({found.kind})"
    )
    show(found.to_frame().head(15).to_dict("records"), False, title=title)
    say_held_out(found.n, found.n_held_out)


def _task_needs(model: str, task: str, heads: str, how: dict[str, Any], as_json: bool) -> None:
    from workbench.benchmarks.needs import task_needs
    from workbench.interp.interventions.ablation import parse_heads
    from workbench.subjects import load

    chosen = parse_heads(heads) if heads else []
    with bar(as_json) as report:
        found = task_needs(load(model), task, heads=chosen, progress=report, **how)
    if as_json:
        print_json(found.to_dict())
        return
    show(
        found.to_frame().head(15).to_dict("records"),
        False,
        title=f"{task} without one head; {found.tested} tried",
    )
    if found.greedy:
        show(found.to_frame(found.greedy).to_dict("records"), False, title="One upon the other")
    say_held_out(found.n, found.n_held_out, "items")


def say_held_out(n: int, n_held_out: int, what: str = "pairs") -> None:
    """What the column `chosen_on` is, and what all others are over."""
    out.print(
        f"{n} {what} put the heads in order ('chosen_on': the loss on those, which flatters the "
        f"first); all other figures are over {n_held_out} held-out {what}."
    )


def ablate(
    model: Model,
    heads: Annotated[str, typer.Argument(help='Heads to take out, such as "L3H1,L5H0".')],
    name: Annotated[str, typer.Option(help="What the edited model is called.")] = "",
    kind: Kind = "mean",
    file: Annotated[
        Path | None, typer.Option("--out", help="Also write the JSON here, to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep an intervention that takes heads out; the edited model loads as edit:NAME everywhere."""
    from workbench.interp import ablation
    from workbench.interp.interventions.ablation import parse_heads
    from workbench.subjects import load

    check_out(file)
    change = ablation(load(model), parse_heads(heads), replacement=kind, name=name, base=model)
    kept = change.save()
    if file is not None:
        write_out(file, change.to_json())
    show(
        [{"model": kept, "base": model, "what": change.words, "file": file}], as_json, title="Kept"
    )


def circuit(
    model: Model,
    probe: Annotated[str, typer.Argument(help="A probe, such as ioi.")],
    n: Annotated[
        int,
        typer.Option("-n", help="Prompt pairs that choose the circuit; as many others judge it."),
    ] = 6,
    as_json: Json = False,
) -> None:
    """The edges between parts that carry a probe: screened by gradient, run exactly, against random
    circuits.
    """
    from workbench.interp import circuit as search
    from workbench.subjects import load

    with bar(as_json) as report:
        found = search(load(model), probe, n=n, progress=report)
    if as_json:
        print_json(with_failed(found.to_dict(), found.checks))
        return
    rows = [
        {
            "edges": s.edges,
            "faithfulness": s.faithfulness.value,
            "low": s.faithfulness.low,
            "high": s.faithfulness.high,
            "chosen on": s.chosen_on.value,
            "all but it": s.without.value,
            "random": s.random.value,
        }
        for s in found.curve
    ]
    show(rows, False, title=f"Circuits of {probe} in {found.subject}; {found.n_edges} edges in all")
    out.print(
        f"{found.n} pairs chose the edges ('chosen on': the faithfulness on those, which "
        f"flatters); all other figures are over {found.n_held_out} held-out pairs."
    )
    show(
        found.edges.head(15).to_dict("records"),
        False,
        title=f"Strongest of the {found.chosen} chosen edges",
    )
    out.print(f"estimate against exact value: r = {found.correlation:.3f}; {found.seconds:.0f} s")
    say_failed(found.checks)


def linear(
    model: Model,
    labels: Annotated[
        str, typer.Argument(help="number, position, part_of_speech, entity, sentiment, or a file.")
    ],
    site: Annotated[str, typer.Option(help="resid_post, attn_out, mlp_out or z.")] = "resid_post",
    n: Annotated[int, typer.Option("-n", help="Readings.")] = 1500,
    seed: Annotated[int, typer.Option(help="Of the texts, the split and the control.")] = 0,
    as_json: Json = False,
) -> None:
    """What a linear probe reads off each layer, beside its control task, and what a label costs in
    bits.
    """
    from workbench.interp import linear_probe
    from workbench.subjects import load

    with bar(as_json) as report:
        found = linear_probe(load(model), labels, site=site, n=n, seed=seed, progress=report)
    if as_json:
        print_json(found.to_dict())
        return
    columns = (
        "stage",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "control",
        "selectivity",
        "bits",
        "control_bits",
    )
    title = (
        f"{found.title}, {found.n_held} held out of {found.n}; commonest class "
        f"{found.majority.value:.3f}"
    )
    show(found.to_frame().to_dict("records"), False, title=title, columns=columns)
