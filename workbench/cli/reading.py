"""Commands that read a model without patching: lenses, attribution, attention and head scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workbench.cli.causal import Part, Site, say_failed, with_failed
from workbench.cli.terminal import Json, Model, bar, check_out, out, print_json, show, warn
from workbench.cli.terminal import warn as _warn

if TYPE_CHECKING:
    import pandas as pd

    from workbench.interp.patterns.heads import HeadScores


def lens(
    model: Model,
    prompt: Annotated[str, typer.Option(help="Text to read layer by layer.")] = "",
    tuned: Annotated[bool, typer.Option("--tuned", help="Use the tuned lens.")] = False,
    answer: Annotated[
        list[str] | None, typer.Option(help="Token to follow through the layers; repeatable.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="What an encoder-decoder has written; else its own answer."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train, save and evaluate the tuned lens (minutes).")
    ] = False,
    texts: Annotated[
        str | None, typer.Option(help="Text file to train on; else books below WORKBENCH_DATA.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Logit lens or tuned lens: the prediction at the last position, or in a gap, by layer."""
    from workbench.errors import WorkbenchError
    from workbench.interp import lens as read
    from workbench.interp import tuned_lens
    from workbench.subjects import load

    if not (train or prompt):
        raise WorkbenchError(
            "A lens reads a text: give one with --prompt (or --train, to train the tuned lens)."
        )
    subject = load(model, seq2seq=not train, encoder=not train)
    if train:
        with bar(as_json) as report:
            trained = tuned_lens(subject, texts, again=True, progress=report)
        if not prompt:
            rows = trained.error.to_frame().to_dict("records")
            title = (
                f"Nats a token from the model, {trained.error.n} held-out texts "
                f"({trained.source}), 95 % intervals"
            )
            show([trained.to_dict()] if as_json else rows, as_json, title=title)
            return
    kind = "tuned" if tuned else "logit"
    reading = read(subject, prompt, kind=kind, answer=answer or [], target=target)
    if as_json:
        print_json(with_failed(reading.to_dict(), reading.checks))
        return
    warn(reading.warnings)
    say_failed(reading.checks)
    frame = reading.to_frame()
    place = reading.place % len(reading.tokens)
    last = cast("pd.DataFrame", frame[frame["pos"] == place])
    last = last.rename(columns={"row": "after layers"}).drop(columns=["pos", "token"])
    show(last.to_dict("records"), False, title=f"{reading.kind} lens: {prompt}")


def _heads_of_part(scores: "HeadScores", score: str, top: int, as_json: bool) -> None:
    """Show the heads of an encoder or encoder-decoder with the highest score."""
    from workbench.errors import WorkbenchError

    score = score or next(iter(scores.mean))
    if score not in scores.mean:
        raise WorkbenchError(
            f"The {scores.part} of {scores.subject} has no {score}; there are "
            f"{', '.join(scores.mean)}."
        )
    columns = ["name", score, f"{score}_low", f"{score}_high"]
    rows = scores.to_frame().nlargest(top, score).loc[:, columns].to_dict("records")
    title = (
        f"{scores.subject}, {scores.part}: {score}, mean of {scores.n} samples, 95 % interval "
        f"({scores.text})"
    )
    show(rows, as_json, title=title)


def attribution(
    model: Model,
    probe: Annotated[str, typer.Argument(help="A probe, such as ioi; or see --own.")] = "",
    own: Annotated[
        tuple[str, str, str, str] | None,
        typer.Option(
            help="Instead of a probe: clean prompt, corrupted prompt, answer, wrong answer."
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Prompt pairs of a probe.")] = 20,
    site: Site = "z",
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    steps: Annotated[
        int, typer.Option(help="Integration steps of the gradient; 1 is plain attribution.")
    ] = 1,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Compute the softmax exactly for patched q or k.")
    ] = False,
    exact: Annotated[bool, typer.Option(help="Also run every patch exactly, to compare.")] = True,
    as_json: Json = False,
) -> None:
    """Attribution patching: patching effects estimated by gradients, against the exact ones."""
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
        comparison = estimate(load(model), own or probe, progress=report, **how)
    if as_json:
        print_json(with_failed(comparison.to_dict(), comparison.estimate.checks))
        return
    warn(comparison.estimate.warnings)
    say_failed(comparison.estimate.checks)
    rows = comparison.to_frame()
    if comparison.exact is not None and comparison.correlation is not None:
        r = comparison.correlation
        out.print(
            f"{site}, n = {comparison.estimate.n}: r = {r.value:.3f} over {len(rows)} cells, "
            f"{comparison.misleading} mislead; {comparison.estimate.seconds:.1f} s estimated, "
            f"{comparison.exact.seconds:.1f} s exact"
        )
        rows = rows.sort_values("error", key=abs, ascending=False)
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
    rows = rows.sort_values("estimate", key=abs, ascending=False)
    title = (
        f"Largest estimated effects, {comparison.estimate.n} pairs, "
        f"{comparison.estimate.seconds:.1f} s"
    )
    show(rows.head(15).to_dict("records"), False, title=title)


def inputs(
    model: Model,
    prompt: Annotated[str, typer.Option(help="Text whose tokens get scores.")],
    answer: Annotated[str, typer.Option(help='Answer token, such as " Mary".')],
    wrong: Annotated[
        str,
        typer.Option(help="Wrong answer for a logit difference; without it, log-probability."),
    ] = "",
    baseline: Annotated[str, typer.Option(help="mean, zero or corrupted.")] = "mean",
    corrupted: Annotated[
        str, typer.Option(help="Corrupted prompt, for --baseline corrupted.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Integrated gradients: how much each prompt token contributes to the output."""
    from workbench.interp import input_attribution
    from workbench.subjects import load

    result = input_attribution(
        load(model), prompt, answer=answer, wrong=wrong, baseline=baseline, corrupted=corrupted
    )
    if as_json:
        print_json(result.to_dict())
        return
    out.print(
        f"{result.metric_name.replace('_', ' ')}: {result.start:+.3f} at the baseline, "
        f"{result.value:+.3f} at the prompt; scores add up to the difference within "
        f"{result.checks['completeness']:.0e}"
    )
    warn(result.warnings)
    show(
        result.to_frame().to_dict("records"),
        False,
        title=f"What each token adds ({result.baseline} baseline)",
    )


def attention(
    model: Model,
    prompt: Annotated[str, typer.Option(help="Text whose attention is read.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="Write a self-contained HTML page here.")
    ] = None,
    layer: Annotated[int, typer.Option(help="Layer of the head shown in full.")] = 0,
    head: Annotated[int, typer.Option(help="The head shown in full.")] = 0,
    part: Part = "",
    target: Annotated[
        str | None,
        typer.Option(help="What an encoder-decoder has written; else its own answer."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Attention patterns of a prompt: an overview of all heads, and one head in full."""
    from workbench.interp import attention as read
    from workbench.subjects import load

    check_out(file)
    subject = load(model, seq2seq=True, encoder=True)
    patterns = read(subject, prompt, part=part, target=target)
    pattern = patterns.head(layer, head)
    written = None if file is None else str(patterns.to_html(file, layer=layer, head=head))
    if as_json:
        shape = dict(zip(("layers", "heads", "query", "key"), patterns.pattern.shape, strict=True))
        record = {
            "model": patterns.subject,
            "sha256": patterns.sha256,
            "prompt": prompt,
            "tokens": patterns.tokens,
            "part": patterns.part,
            "key_tokens": patterns.key_tokens,
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
        _warn(patterns.warnings)
        rows = patterns.to_frame(layer, head).nlargest(15, "attention").to_dict("records")
        show(
            rows,
            False,
            title=f"L{layer}H{head}: strongest pairs (give --out FILE.html for the figure)",
        )


def heads(
    model: Model,
    score: Annotated[
        str, typer.Option(help="Score to sort by; induction_score for decoder-only models.")
    ] = "",
    top: Annotated[int, typer.Option(help="Maximum of heads.")] = 10,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="File of texts to score on, separated by blank lines; else random tokens."
        ),
    ] = None,
    part: Part = "",
    as_json: Json = False,
) -> None:
    """The heads with the highest score, with 95 % interval and labels."""
    from workbench.data.passages import read_passages
    from workbench.interp import head_catalogue, head_scores
    from workbench.subjects import load
    from workbench.subjects.kinds import DECODER

    subject = load(model, seq2seq=True, encoder=True)
    given = None if texts is None else read_passages(texts)
    if subject.kind != DECODER or part:
        _heads_of_part(head_scores(subject, texts=given, part=part), score, top, as_json)
        return
    score = score or "induction_score"
    catalogue = head_catalogue(subject, texts=given)
    n = catalogue.scores.n
    rows = catalogue.best(score, top).to_dict("records")
    show(
        rows,
        as_json,
        title=f"{model}: {score}, mean of {n} samples, 95 % interval ({catalogue.scores.text})",
    )
