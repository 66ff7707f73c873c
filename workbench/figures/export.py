"""Figures as one self-contained HTML page: no network, no server."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import plotly.graph_objects as go

from workbench.figures.style import FONT, INK, SOFT

CONFIG = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "svg"}}


def to_html(figures: Sequence[go.Figure], *, title: str, text: str = "") -> str:
    """The page as a string: title, text, the figures below each other, plotly.js once and inline."""
    drawn = [
        f.to_html(full_html=False, include_plotlyjs="inline" if i == 0 else False, config=CONFIG)
        for i, f in enumerate(figures)
    ]
    style = (
        f"body{{font-family:{FONT};color:{INK};max-width:1100px;margin:2rem auto;padding:0 1rem}}"
        f"p{{color:{SOFT};white-space:pre-wrap}}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head><body><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        f"{''.join(drawn)}</body></html>"
    )


def write_html(figures: Sequence[go.Figure], path: str | Path, *, title: str, text: str = "") -> Path:
    """Write the page; the file appears whole or not at all."""
    path = Path(path).expanduser()
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".html", delete=False) as stream:
        try:
            stream.write(to_html(figures, title=title, text=text))
            stream.flush()
            os.fsync(stream.fileno())
            Path(stream.name).replace(path)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise
    return path
