"""Commands about people in the data: what a corpus holds of them, and the corpus without it."""

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
    column: Annotated[str, typer.Option(help="Of tables that holds the text.")] = "",
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
        raise WorkbenchError("Scan takes files, or --measure without any; give one of the two.")
    if measure:
        _measure(as_json)
        return
    check_out(redact)
    sources = [Path(name) for name in file or []]
    with bar(as_json) as report:
        found = search(sources, kind or None, column=column, progress=report)
        written = (
            None if redact is None else write_redacted(sources, redact, kind or None, column=column)
        )
    if as_json:
        print_json({**found.to_dict(), "redacted": None if written is None else str(written)})
        return
    warn(found.remarks)
    show(found.to_frame().query("found > 0").to_dict("records"), False, title=found.headline())
    if found.examples:
        rows = found.examples_frame().to_dict("records")
        show(rows, False, title="The first of each kind, masked")
    out.print(
        f"{found.n:,} documents, {found.bytes / 1e6:,.1f} MB, "
        f"{found.bytes / 1e6 / max(found.seconds, 1e-9):.0f} MB/s"
    )
    if written is not None:
        out.print(f"Wrote {written}", highlight=False)


def _measure(as_json: bool) -> None:
    from workbench.privacy.measured import measure

    found = measure()
    if as_json:
        print_json(found.to_dict())
        return
    show(found.to_frame().to_dict("records"), False, title=f"{found.data}, {found.n:,} texts")
    others = ", ".join(f"{name} {n}" for name, n in found.not_claimed.items())
    out.print(f"Labelled there, but claimed by no kind: {others}", highlight=False)
