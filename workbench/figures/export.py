"""Figures, tables and text as one self-contained HTML page: no network, no server."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from workbench.doors import writing
from workbench.figures.style import FONT, INK, PANEL, RULE, SOFT

if TYPE_CHECKING:
    import pandas as pd

CONFIG = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "svg"}}
STYLE = (
    f"body{{font-family:{FONT};color:{INK};max-width:1100px;margin:2rem auto;padding:0 1rem;"
    "line-height:1.45}"
    f"p{{white-space:pre-wrap;max-width:52rem}}.soft{{color:{SOFT}}}h2{{margin-top:2.4rem}}"
    f"pre{{background:{PANEL};padding:.8rem 1rem;overflow-x:auto;font-size:13px}}"
    ".table{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:.6rem 0}"
    f"td,th{{padding:3px 9px;text-align:left;border-bottom:1px solid {RULE};"
    "overflow-wrap:break-word;max-width:24rem}"
    f"caption{{text-align:left;color:{SOFT};padding-bottom:.3rem}}"
)


@dataclass(frozen=True)
class Table:
    """A table on a page, with a caption."""

    frame: "pd.DataFrame"
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Text to be typed, such as commands."""

    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what follows it: paragraphs, figures, tables, commands."""

    title: str
    parts: Sequence["str | go.Figure | Table | Code"] = field(default_factory=list)


def page(sections: Sequence[Section], *, title: str, text: str = "") -> str:
    """The page as HTML with plotly.js inline; all text is escaped.

    Args:
        sections: From top to bottom.
        title: Of the page.
        text: Below the title.
    """
    body = []
    drawn = False  # whether plotly.js is in the page already
    for section in sections:
        if section.title:
            body.append(f"<h2>{html.escape(section.title)}</h2>")
        for part in section.parts:
            if isinstance(part, go.Figure):
                body.append(
                    part.to_html(
                        full_html=False,
                        include_plotlyjs=False if drawn else "inline",
                        config=CONFIG,
                    )
                )
                drawn = True
            else:
                body.append(_words(part))
    heading = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{STYLE}</style></head><body><h1>{heading}</h1>"
        f'<p class="soft">{html.escape(text)}</p>{"".join(body)}</body></html>'
    )


def _words(part: str | Table | Code) -> str:
    if isinstance(part, str):
        return f"<p>{html.escape(part)}</p>"
    if isinstance(part, Code):
        return f"<pre>{html.escape(part.text)}</pre>"
    body = part.frame.to_html(
        index=False, border=0, na_rep="", float_format=lambda x: f"{x + 0:.4g}", escape=True
    )
    caption = f"<caption>{html.escape(part.caption)}</caption>" if part.caption else ""
    start = body.index(">", body.index("<table")) + 1
    return f'<div class="table">{body[:start]}{caption}{body[start:]}</div>'


def to_html(figures: Sequence[go.Figure], *, title: str, text: str = "") -> str:
    """A page as HTML: title, text, and the figures below each other.

    Args:
        figures: From top to bottom.
        title: Of the page.
        text: Below the title.
    """
    return page([Section("", list(figures))], title=title, text=text)


def write_html(
    figures: Sequence[go.Figure], path: str | Path, *, title: str, text: str = ""
) -> Path:
    """Write the page of `to_html` and return the path; the file is written whole or not at all.

    Args:
        figures: From top to bottom.
        path: Of the file.
        title: Of the page.
        text: Below the title.
    """
    return write_page(to_html(figures, title=title, text=text), path)


def write_page(text: str, path: str | Path) -> Path:
    """Write a page and return the path; the file is written whole or not at all."""
    path = Path(path).expanduser()
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
