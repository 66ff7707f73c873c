"""Commands of causal analysis: patch, probe, needs, ablate, circuit and linear probes."""

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
Part = Annotated[
    str, typer.Option(help="Attention of an encoder-decoder: encoder, decoder or cross (default).")
]
Kind = Annotated[str, typer.Option(help="mean, zero or resample.")]


def say_failed(checks: dict[str, float]) -> None:
    """Print failed checks to standard error."""
    from workbench.interp.patching.trust import failure

    if words := failure(checks):
        err.print(f"[red]{words}[/red]")


def with_failed(record: dict[str, Any], checks: dict[str, float]) -> dict[str, Any]:
    """A copy of a record with its failed checks as sentences under `failed_checks`."""
    from workbench.interp.patching.trust import failed

    return {**record, "failed_checks": failed(checks)}


def patch(  # noqa: PLR0913
    model: Model,
    clean: Annotated[str, typer.Option(help="Clean prompt, with the right answer.")],
    corrupted: Annotated[
        str, typer.Option(help="Corrupted prompt; as many tokens as the clean one.")
    ],
    answer: Annotated[
        str,
        typer.Option(help='Answer to the clean prompt, such as " Mary"; several with commas.'),
    ],
    wrong: Annotated[str, typer.Option(help='Answer to the corrupted prompt, such as " John".')],
    site: Site = "resid_pre",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    metric: Metric = "logit_difference",
    replacement: Annotated[
        str, typer.Option(help="other, zero, mean, resample or noise.")
    ] = "other",
    part: Part = "",
    target: Annotated[
        str, typer.Option(help="What an encoder-decoder has written before the answer.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Exact activation patching over the whole model: where does the answer come from?"""
    from workbench.interp import patch as sweep
    from workbench.subjects import load

    site, _, layer = site.partition("@")
    with bar(as_json) as report:
        result = sweep(
            load(model, seq2seq=True, encoder=True),
            clean,
            corrupted,
            answer=answer.split(",") if "," in answer else answer,
            wrong=wrong.split(",") if "," in wrong else wrong,
            site=site,
            direction=direction,
            metric=metric,
            replacement=replacement,
            layer=int(layer) if layer else None,
            part=part,
            target=target,
            progress=report,
        )
    if as_json:
        print_json(with_failed(result.to_dict(), result.checks))
        return
    out.print(
        f"{result.metric_name.replace('_', ' ')}, {answer!r} against {wrong!r}: clean "
        f"{result.clean_metric:+.3f}, corrupted {result.corrupted_metric:+.3f}; {result.site}, "
        f"{result.direction}, {result.engine}, {result.seconds:.2f} s, n = {result.n}"
    )
    rows = result.to_frame()
    if "pos" in rows:
        rows = rows.assign(token=[result.corrupted_tokens[i] for i in rows["pos"]])
    warn(result.warnings)
    rows = rows.sort_values("effect", key=abs, ascending=False).head(15)
    show(rows.to_dict("records"), False, title="Largest effects (0 = corrupted run, 1 = clean run)")
    say_failed(result.checks)


def probe(
    model: Model,
    name: Annotated[str, typer.Argument(help="A bundled probe, such as ioi, or a .toml file.")],
    n: Annotated[int, typer.Option("-n", help="Number of prompt pairs.")] = 50,
    site: Site = "resid_pre",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    replacement: Annotated[
        str, typer.Option(help="other, zero, mean, resample or noise.")
    ] = "other",
    seed: Annotated[int, typer.Option(help="Seed of the sampled pairs.")] = 0,
    anyway: Annotated[bool, typer.Option(help="Sweep even if the model fails the probe.")] = False,
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Align by named positions, for unequal lengths.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Patch many prompt pairs of a probe: each cell with its interval and corrected p-value."""
    from workbench.interp import probe as sweep
    from workbench.subjects import load

    site, _, layer = site.partition("@")
    with bar(as_json) as report:
        result = sweep(
            load(model),
            name,
            n=n,
            seed=seed,
            anyway=anyway,
            by_name=by_name,
            progress=report,
            site=site,
            direction=direction,
            replacement=replacement,
            layer=int(layer) if layer else None,
        )
    if as_json:
        print_json(with_failed(result.to_dict(), result.checks))
        return
    clean = result.clean_metric
    corrupted = result.corrupted_metric
    out.print(
        f"{result.title}, {result.n} pairs (dropped: {result.dropped or 'none'}), "
        f"{result.right.value:.0%} right; {result.metric_name.replace('_', ' ')}: clean "
        f"{clean.value:+.3f}, corrupted {corrupted.value:+.3f}; {result.site}, {result.direction}, "
        f"{result.engine}, {result.seconds:.1f} s"
    )
    warn(result.warnings)
    rows = result.to_frame()
    if "pos" in rows:
        rows = rows.assign(token=[result.names[i] for i in rows["pos"]])

    def change(effects: Any) -> Any:
        """How far each cell moves the run: towards clean from 0, or away from it from 1."""
        return abs(effects if result.direction == "denoising" else 1 - effects)

    rows = rows.sort_values("effect", key=change, ascending=False).head(15)
    show(
        rows.to_dict("records"),
        False,
        title="Largest effects with 95 % intervals, p over all cells corrected",
    )
    say_failed(result.checks)


def needs(
    model: Model,
    probe: Annotated[
        str, typer.Argument(help="A probe, such as ioi; with --task a benchmark task.")
    ],
    n: Annotated[
        int,
        typer.Option(
            "-n",
            help="Prompt pairs (or items) that rank the heads; as many others are held out.",
        ),
    ] = 20,
    kind: Kind = "mean",
    task: Annotated[
        bool, typer.Option("--task", help="The argument is a multiple-choice benchmark task.")
    ] = False,
    heads: Annotated[
        str, typer.Option(help="With --task: test only these heads, such as L3H1,L5H0.")
    ] = "",
    greedy: Annotated[
        int, typer.Option(help="With --task: also ablate this many heads cumulatively.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Which heads does a probe need? Ablates each alone, with intervals over held-out prompts."""
    from workbench.interp import needed_heads
    from workbench.subjects import load

    if task:
        _task_needs(
            model, probe, heads, {"limit": 2 * n, "replacement": kind, "greedy": greedy}, as_json
        )
        return
    with bar(as_json) as report:
        effects = needed_heads(load(model), probe, n=n, replacement=kind, progress=report)
    if as_json:
        print_json(effects.to_dict())
        return
    title = (
        f"Share of the {effects.metric_name.replace('_', ' ')} lost without the head "
        f"({effects.kind})"
    )
    show(effects.to_frame().head(15).to_dict("records"), False, title=title)
    say_held_out(effects.n, effects.n_held_out)


def _task_needs(model: str, task: str, heads: str, how: dict[str, Any], as_json: bool) -> None:
    """The same for the items of a benchmark task."""
    from workbench.benchmarks.needs import task_needs
    from workbench.interp.interventions.ablation import parse_heads
    from workbench.subjects import load

    chosen = parse_heads(heads) if heads else []
    with bar(as_json) as report:
        effects = task_needs(load(model), task, heads=chosen, progress=report, **how)
    if as_json:
        print_json(effects.to_dict())
        return
    show(
        effects.to_frame().head(15).to_dict("records"),
        False,
        title=f"{task} without one head; {effects.tested} tried",
    )
    if effects.greedy:
        show(
            effects.to_frame(effects.greedy).to_dict("records"),
            False,
            title="One upon the other",
        )
    say_held_out(effects.n, effects.n_held_out, "items")


def say_held_out(n: int, n_held_out: int, what: str = "pairs") -> None:
    """Print what the column `chosen_on` means, and over what the other figures are.

    Args:
        n: How many ranked the heads.
        n_held_out: How many were held out.
        what: Their name: pairs, or items.
    """
    out.print(
        f"{n} {what} put the heads in order ('chosen_on': the loss on those, which flatters the "
        f"first); all other figures are over {n_held_out} held-out {what}."
    )


def ablate(
    model: Model,
    heads: Annotated[str, typer.Argument(help='Heads to ablate, such as "L3H1,L5H0".')],
    name: Annotated[str, typer.Option(help="Name of the edited model.")] = "",
    kind: Kind = "mean",
    file: Annotated[
        Path | None, typer.Option("--out", help="Also write the JSON here, to share.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Save an ablation of heads; the edited model loads as edit:NAME everywhere."""
    from workbench.interp import ablation
    from workbench.interp.interventions.ablation import parse_heads
    from workbench.subjects import load

    check_out(file)
    change = ablation(load(model), parse_heads(heads), replacement=kind, name=name, base=model)
    saved_name = change.save()
    if file is not None:
        write_out(file, change.to_json())
    show(
        [{"model": saved_name, "base": model, "what": change.words, "file": file}],
        as_json,
        title="Kept",
    )


def circuit(
    model: Model,
    probe: Annotated[str, typer.Argument(help="A probe, such as ioi.")],
    n: Annotated[
        int,
        typer.Option("-n", help="Prompt pairs that choose the circuit; as many are held out."),
    ] = 6,
    as_json: Json = False,
) -> None:
    """Find the circuit of a probe: edges screened by gradient, run exactly, against random ones."""
    from workbench.interp import circuit as search
    from workbench.subjects import load

    with bar(as_json) as report:
        result = search(load(model), probe, n=n, progress=report)
    if as_json:
        print_json(with_failed(result.to_dict(), result.checks))
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
        for s in result.curve
    ]
    show(
        rows, False, title=f"Circuits of {probe} in {result.subject}; {result.n_edges} edges in all"
    )
    out.print(
        f"{result.n} pairs chose the edges ('chosen on': the faithfulness on those, which "
        f"flatters); all other figures are over {result.n_held_out} held-out pairs."
    )
    show(
        result.edges.head(15).to_dict("records"),
        False,
        title=f"Strongest of the {result.chosen} chosen edges",
    )
    out.print(f"estimate against exact value: r = {result.correlation:.3f}; {result.seconds:.0f} s")
    say_failed(result.checks)


def linear(
    model: Model,
    labels: Annotated[
        str, typer.Argument(help="number, position, part_of_speech, entity, sentiment, or a file.")
    ],
    site: Annotated[str, typer.Option(help="resid_post, attn_out, mlp_out or z.")] = "resid_post",
    n: Annotated[int, typer.Option("-n", help="Number of labelled activations.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of texts, split and control task.")] = 0,
    as_json: Json = False,
) -> None:
    """Linear probes on each layer: accuracy, control task, and bits per label."""
    from workbench.interp import linear_probe
    from workbench.subjects import load

    with bar(as_json) as report:
        result = linear_probe(load(model), labels, site=site, n=n, seed=seed, progress=report)
    if as_json:
        print_json(result.to_dict())
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
        f"{result.title}, {result.n_held} held out of {result.n}; commonest class "
        f"{result.majority.value:.3f}"
    )
    show(result.to_frame().to_dict("records"), False, title=title, columns=columns)
