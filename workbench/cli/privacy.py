"""Commands on privacy: personal data in a corpus, and what a model knows of its rows by heart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.terminal import Json, Model, bar, check_out, out, print_json, show, warn
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.privacy.exposure import Canary
    from workbench.privacy.holders import Holders

Texts = Annotated[list[str] | None, typer.Option(help="Files, folders or sets; repeatable.")]
_CHANGED = (
    *("heads", "chosen", "exposure", "bits_removed", "log_prob"),
    *("loss_before", "loss_change", "loss_low", "loss_high", "n"),
)


def scan(
    file: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, Hugging Face ids, or names below WORKBENCH_DATA."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Look for this kind only; repeatable.")
    ] = None,
    column: Annotated[str, typer.Option(help="The column of a table that holds the text.")] = "",
    redact: Annotated[
        Path | None,
        typer.Option(help="Write the corpus here with placeholders, as text or as .jsonl."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Precision and recall by kind on presidio's labelled set."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Search a corpus for personal data and secrets: counts by kind, and masked examples."""
    from workbench.privacy.redacted import write_redacted
    from workbench.privacy.scan import scan as search

    if bool(file) == measure:
        raise WorkbenchError("The scan takes either files or --measure; give one of the two.")
    if measure:
        _measure(as_json)
        return
    check_out(redact)
    sources = [Path(name) for name in file or []]
    with bar(as_json) as report:
        result = search(sources, kind or None, column=column, progress=report)
        written = (
            None if redact is None else write_redacted(sources, redact, kind or None, column=column)
        )
    if as_json:
        print_json({**result.to_dict(), "redacted": None if written is None else str(written)})
        return
    warn(result.remarks)
    show(result.to_frame().query("found > 0").to_dict("records"), False, title=result.headline())
    if result.examples:
        rows = result.examples_frame().to_dict("records")
        show(rows, False, title="The first of each kind, masked")
    out.print(
        f"{result.n:,} documents, {result.bytes / 1e6:,.1f} MB, "
        f"{result.bytes / 1e6 / max(result.seconds, 1e-9):.0f} MB/s"
    )
    if written is not None:
        out.print(f"Wrote {written}", highlight=False)


def _measure(as_json: bool) -> None:
    """Print precision and recall of each kind on presidio's labelled texts."""
    from workbench.privacy.measured import measure

    result = measure()
    if as_json:
        print_json(result.to_dict())
        return
    show(result.to_frame().to_dict("records"), False, title=f"{result.data}, {result.n:,} texts")
    others = ", ".join(f"{name} {n}" for name, n in result.not_claimed.items())
    out.print(f"Labels that no kind covers: {others}", highlight=False)


def audit(
    model: Model,
    canary: Annotated[
        list[str] | None,
        typer.Option(help='A text with {} and its planted value: "code {}=3141"; repeatable.'),
    ] = None,
    alphabet: Annotated[
        str, typer.Option(help="The characters that the values were drawn from.")
    ] = "0123456789",
    trained: Texts = None,
    held_out: Texts = None,
    n: Annotated[int, typer.Option("-n", help="The most rows of each group.")] = 200,
    prefix: Annotated[
        int | None, typer.Option(help="Tokens of a row to give; half a row, at most 50.")
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Also find the heads that hold each canary.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draws of rows and values.")] = 0,
    as_json: Json = False,
) -> None:
    """What does a model know by heart? Exposure, membership inference and verbatim extraction."""
    from workbench.privacy.audit import audit as measure
    from workbench.privacy.holders import holders
    from workbench.subjects import load

    canaries = [_canary(text, alphabet) for text in canary or []]
    if heads and not canaries:
        raise WorkbenchError("--heads finds what holds a canary; give one with --canary.")
    rows = [_texts(files, n) for files in (trained, held_out)]
    subject = load(model)
    with bar(as_json) as report:
        result = measure(
            subject,
            canaries,
            trained=rows[0],
            held_out=rows[1],
            n=n,
            prefix=prefix,
            seed=seed,
            progress=report,
        )
        of_each = [
            holders(subject, one, held_out=rows[1], seed=seed, progress=report)
            for one in (canaries if heads else [])
        ]
    if as_json:
        print_json({**result.to_dict(), "holders": [one.to_dict() for one in of_each]})
        return
    warn([*result.remarks, *sorted({one.reason for one in result.attacks if one.reason})])
    title = f"{subject.name}, {result.rows or 'training rows unknown'}"
    show(result.to_frame().to_dict("records"), False, title=title)
    for text in [] if result.extraction is None else result.extraction.examples:
        out.print(f"reproduced: {text!r}", highlight=False, markup=False)
    for one in of_each:
        _show_holders(one)


def _canary(text: str, alphabet: str) -> "Canary":
    """The canary that an option spells: its text, an equals sign, its value.

    Raises:
        WorkbenchError: There is no equals sign.
    """
    from workbench.privacy.exposure import Canary, check_canary

    words, equals, value = text.rpartition("=")
    if not equals:
        raise WorkbenchError(
            f'--canary {text!r} names no value; write it after an equals sign: "the code is '
            '{}=3141".'
        )
    canary = Canary(words, value, alphabet)
    check_canary(canary)
    return canary


def _texts(files: list[str] | None, n: int) -> list[str] | None:
    """The first `n` texts of files, folders or sets; None where none are named."""
    from itertools import islice

    from workbench.training.texts import documents

    return list(islice(documents(files), n)) if files else None


def _show_holders(one: "Holders") -> None:
    """Print the parts that hold a canary, and what it costs to take heads out."""
    warn(one.remarks)
    title = (
        f"{one.text.replace('{}', one.value)!r}: nats that the value loses without each part, of "
        f"{one.log_prob - one.neighbour.value:.2f}"
    )
    show(one.to_frame().head(8).to_dict("records"), False, title=title)
    title = (
        f"Without these heads, on {one.rows}; the whole model has {one.exposure.exposure:.2f} bits"
    )
    show(one.removed_frame().to_dict("records"), False, title=title, columns=_CHANGED)
