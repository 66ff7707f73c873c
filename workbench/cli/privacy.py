"""The command that searches a corpus for personal data and secrets, and writes it redacted."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.terminal import Json, bar, check_out, out, print_json, show, warn
from workbench.errors import WorkbenchError


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
