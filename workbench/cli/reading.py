"""Commands that read a model without patching it: lenses, estimates by gradient, and the tokens
that matter.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.causal import Site, say_failed, with_failed
from workbench.cli.terminal import Json, Model, bar, check_out, out, print_json, show, warn
from workbench.cli.terminal import warn as _warn


def lens(
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text that is read layer by layer.")] = "",
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Through the trained translators.")
    ] = False,
    answer: Annotated[
        list[str] | None, typer.Option(help="A token to follow through the layers; repeatable.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train the tuned lens (minutes), keep it, measure it.")
    ] = False,
    texts: Annotated[
        str | None, typer.Option(help="A text file to train on; else books below WORKBENCH_DATA.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Logit lens or tuned lens: what the last position would say after each layer."""
    from workbench.errors import WorkbenchError
    from workbench.interp import lens as read
    from workbench.interp import tuned_lens
    from workbench.subjects import load

    if not (train or prompt):
        raise WorkbenchError(
            "A lens reads a text: give one with --prompt (or --train, to train the tuned lens)."
        )
    subject = load(model)
    if train:
        with bar(as_json) as report:
            made = tuned_lens(subject, texts, again=True, progress=report)
        if not prompt:
            rows = made.error.to_frame().to_dict("records")
            title = (
                f"Nats a token from the model, {made.error.n} held-out texts ({made.source}), 95 "
                "% intervals"
            )
            show([made.to_dict()] if as_json else rows, as_json, title=title)
            return
    found = read(subject, prompt, kind="tuned" if tuned else "logit", answer=answer or [])
    if as_json:
        print_json(with_failed(found.to_dict(), found.checks))
        return
    warn(found.warnings)
    say_failed(found.checks)
    rows = found.to_frame()
    rows = rows[rows["pos"] == len(found.tokens) - 1].rename(columns={"row": "after layers"})
    rows = rows.drop(columns=["pos", "token"]).to_dict("records")
    show(rows, False, title=f"{found.kind} lens: {prompt}")


def attribution(
    model: Model,
    probe: Annotated[str, typer.Argument(help="A probe, such as ioi; or see --own.")] = "",
    own: Annotated[
        tuple[str, str, str, str] | None,
        typer.Option(
            help="In a probe's place: clean prompt, corrupted prompt, answer, wrong answer."
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Prompt pairs of a probe.")] = 20,
    site: Site = "z",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    steps: Annotated[
        int, typer.Option(help="Inputs over which the gradient is averaged; 1 is the plain method.")
    ] = 1,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Run attention exactly where q or k is patched.")
    ] = False,
    exact: Annotated[bool, typer.Option(help="Also run every patch, and compare.")] = True,
    as_json: Json = False,
) -> None:
    """Attribution patching: a map estimated by gradients, beside the exact one, and where it
    misleads.
    """
    from workbench.errors import WorkbenchError
    from workbench.interp import attribution as estimate
    from workbench.subjects import load

    site, _, layer = site.partition("@")
    if bool(probe) == bool(own):
        raise WorkbenchError(
            "Attribution is of a probe or of a pair of your own (--own); give one of the two."
        )
    more = {"site": site, "direction": direction, "layer": int(layer) if layer else None}
    how: dict[str, Any] = {**more, "n": n, "steps": steps, "softmax": softmax, "exact": exact}
    with bar(as_json) as report:
        found = estimate(load(model), own or probe, progress=report, **how)
    if as_json:
        print_json(with_failed(found.to_dict(), found.estimate.checks))
        return
    warn(found.estimate.warnings)
    say_failed(found.estimate.checks)
    rows = found.to_frame()
    if found.exact is not None and found.correlation is not None:
        r = found.correlation
        out.print(
            f"{site}, n = {found.estimate.n}: r = {r.value:.3f} over {len(rows)} cells, "
            f"{found.misleading} mislead; {found.estimate.seconds:.1f} s estimated, "
            f"{found.exact.seconds:.1f} s exact"
        )
        rows = rows.reindex(rows["error"].abs().sort_values(ascending=False).index)
        columns = (
            "cell",
            "estimate",
            "exact",
            "error",
            "error_low",
            "error_high",
            "error_p",
            "kind",
        )
        show(
            rows.head(15).to_dict("records"),
            False,
            title="Where the estimate is furthest off",
            columns=columns,
        )
        return
    rows = rows.reindex(rows["estimate"].abs().sort_values(ascending=False).index)
    title = f"Largest estimated effects, {found.estimate.n} pairs, {found.estimate.seconds:.1f} s"
    show(rows.head(15).to_dict("records"), False, title=title)


def inputs(
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text whose tokens are weighed.")],
    answer: Annotated[str, typer.Option(help='One token, such as " Mary".')],
    wrong: Annotated[
        str,
        typer.Option(help="Another: the logit difference is split; without, the log-probability."),
    ] = "",
    baseline: Annotated[str, typer.Option(help="mean, zero or corrupted.")] = "mean",
    corrupted: Annotated[
        str, typer.Option(help="The other prompt, for the baseline of that name.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Integrated gradients: which tokens of a prompt an output rests on; the scores add up to it."""
    from workbench.interp import input_attribution
    from workbench.subjects import load

    found = input_attribution(
        load(model), prompt, answer=answer, wrong=wrong, baseline=baseline, corrupted=corrupted
    )
    if as_json:
        print_json(found.to_dict())
        return
    out.print(
        f"{found.metric_name.replace('_', ' ')}: {found.start:+.3f} at the baseline, "
        f"{found.value:+.3f} at the prompt; scores add up to the difference within "
        f"{found.checks['completeness']:.0e}"
    )
    warn(found.warnings)
    show(
        found.to_frame().to_dict("records"),
        False,
        title=f"What each token adds ({found.baseline} baseline)",
    )


def attention(
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text whose attention is read.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="Write a self-contained HTML page here.")
    ] = None,
    layer: Annotated[int, typer.Option(help="Layer of the head shown in full.")] = 0,
    head: Annotated[int, typer.Option(help="The head shown in full.")] = 0,
    as_json: Json = False,
) -> None:
    """Attention patterns of a prompt: an atlas of all heads, and one head in full."""
    from workbench.interp import attention as read
    from workbench.subjects import load

    check_out(file)
    found = read(load(model), prompt)
    pattern = found.head(layer, head)
    written = None if file is None else str(found.to_html(file, layer=layer, head=head))
    if as_json:
        shape = dict(zip(("layers", "heads", "query", "key"), found.pattern.shape, strict=True))
        record = {
            "model": found.subject,
            "sha256": found.sha256,
            "prompt": prompt,
            "tokens": found.tokens,
        }
        print_json(
            {
                **record,
                **shape,
                "layer": layer,
                "head": head,
                "pattern": pattern.tolist(),
                "file": written,
            }
        )
    elif written:
        out.print(f"Wrote {written}")
    else:
        _warn(found.warnings)
        rows = found.to_frame(layer, head).nlargest(15, "attention").to_dict("records")
        show(
            rows,
            False,
            title=f"L{layer}H{head}: strongest pairs (give --out FILE.html for the figure)",
        )


def heads(
    model: Model,
    score: Annotated[str, typer.Option(help="Sort by this score.")] = "induction_score",
    top: Annotated[int, typer.Option(help="At most this many heads.")] = 10,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="A file of texts to measure on, blank lines between them; else random tokens."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Heads with the most of a score, its 95 % interval and their labels."""
    from workbench.data.passages import read_passages
    from workbench.interp import head_catalogue
    from workbench.subjects import load

    found = head_catalogue(load(model), texts=None if texts is None else read_passages(texts))
    n = found.scores.n
    rows = found.best(score, top).to_dict("records")
    show(
        rows,
        as_json,
        title=f"{model}: {score}, mean of {n} samples, 95 % interval ({found.scores.text})",
    )
