"""The explorer's own files, put together: a script, a style sheet, a page without a network."""

import base64
import gzip
import html
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MODULES = (
    "block",
    "colours",
    "store",
    "atlas",
    "legend",
    "map",
    "lines",
    "path",
    "text",
    "address",
    "bar",
    "save",
    "words",
    "hands",
    "drawing",
    "frame",
    "main",
)
"""The ES modules, each after those that it imports."""
HEIGHT = 860
"""Pixels of the frame in a notebook."""


@cache
def script() -> str:
    """All modules as one: what they import of each other is there already."""
    whole = []
    for name in MODULES:
        text = (HERE / f"{name}.js").read_text(encoding="utf-8")
        text = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
        whole.append(re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE))
    return "\n".join(whole)


@cache
def style() -> str:
    """The style sheet."""
    return (HERE / "explorer.css").read_text(encoding="utf-8")


def page(block: bytes, *, title: str, text: str = "") -> str:
    """A page of its own that shows a payload: no network, no server, one file.

    Args:
        block: What `payload` gave; it is packed once more for the file.
        title: The page's heading.
        text: What stands under it, such as the prompt.
    """
    code = script().replace("export default function", "function")
    data = base64.b64encode(gzip.compress(block, 6, mtime=0)).decode()
    heading = f"<h1>{html.escape(title)}</h1>" if title else ""
    words = f'<p class="prompt">{html.escape(text)}</p>' if text else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title or 'Attention')}</title><style>{style()}</style></head>"
        f'<body class="alone">{heading}{words}<div class="explorer"></div>'
        f'<script type="application/octet-stream" id="data">{data}</script>'
        f'<script type="module">{code}\nopenPage(document.querySelector(".explorer"), '
        'document.getElementById("data").textContent);</script></body></html>'
    )


def frame(block: bytes, *, title: str) -> str:
    """The page in a frame, as a notebook shows it, out of reach of the notebook's own styles."""
    inside = html.escape(page(block, title=""), quote=True)
    return (
        f'<iframe title="{html.escape(title, quote=True)}" srcdoc="{inside}" '
        f'style="width:100%;height:{HEIGHT}px;border:0" loading="lazy"></iframe>'
    )
