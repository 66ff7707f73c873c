"""Terminal output: tables, JSON, a progress bar; and the options that many commands share."""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from workbench.doors import writing
from workbench.errors import WorkbenchError

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Model = Annotated[
    str,
    typer.Argument(
        help="A bundled name, folder, .gguf file, Hugging Face id, run:ID or edit:NAME."
    ),
]


def check_out(path: Path | None) -> None:
    """Check before any work that the file of `--out` can be written.

    Raises:
        WorkbenchError: If it is a folder, or its folder is missing or read-only.
    """
    if path is None:
        return
    path = path.expanduser()
    folder = path.absolute().parent
    if path.is_dir():
        raise WorkbenchError(
            f"--out {path} is a folder; name a file in it, such as {path / 'result.html'}."
        )
    if not folder.is_dir():
        raise WorkbenchError(
            f"--out {path}: there is no folder {folder}; make it first, or name another place."
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise WorkbenchError(f"--out {path} may not be written; name another place.")


def write_out(path: Path, text: str) -> None:
    """Write a text to the file of `--out`. Raises `WorkbenchError` if the disk is full."""
    with writing(path.expanduser()) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def bar(quiet: bool) -> Iterator[Any]:
    """A progress bar on standard error; yields `report(fraction, message="")`, which moves it."""
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(
        *columns, console=err, transient=True, disable=quiet or not err.is_terminal
    ) as shown:
        task = shown.add_task("", total=1.0)

        def report(fraction: float, message: str = "") -> None:
            shown.update(task, completed=fraction, description=plain(message))

        yield report


def show(
    rows: list[dict[str, Any]], as_json: bool, *, title: str, columns: tuple[str, ...] = ()
) -> None:
    """Print rows as a table without empty columns, or as JSON with all of them.

    Args:
        rows: One dictionary per row.
        as_json: Whether to print JSON.
        title: Above the table.
        columns: The columns of the table in order; by default the keys of the first row.
    """
    if as_json:
        print_json(rows)
        return
    names = columns or tuple(rows[0]) if rows else columns
    names = [name for name in names if any(_cell(row.get(name)) for row in rows)]
    table = Table(
        title=plain(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in names:
        numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
        # Numbers are never broken over two lines; words may be.
        table.add_column(
            str(name).replace("_", " "), overflow="fold", no_wrap=numbers and len(str(name)) < 8
        )
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    out.print(table if rows else f"{title}: none")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else plain(str(value))


def plain(text: str) -> str:
    """The text escaped, so that Rich prints it unchanged."""
    return text.replace("[", r"\[")


def warn(sentences: Iterable[str]) -> None:
    """Print the warnings of a result to standard error."""
    for sentence in sentences:
        err.print(plain(sentence))


def print_json(value: Any) -> None:
    """Print one JSON document; NaN and infinity, which JSON lacks, become null."""

    def clean(x: Any) -> Any:
        if isinstance(x, dict):
            return {str(k): clean(v) for k, v in x.items()}
        if isinstance(x, list | tuple):
            return [clean(v) for v in x]
        if hasattr(x, "item"):
            x = x.item()
        if isinstance(x, float) and not math.isfinite(x):
            return None
        return x if isinstance(x, str | int | float | bool | None) else str(x)

    sys.stdout.write(json.dumps(clean(value), ensure_ascii=False) + os.linesep)


Limit = Annotated[int | None, typer.Option(help="Maximum of items per task.")]
