"""The explorer's script, style sheet and page, put together from the files beside this one."""

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
    "svg",
    "save",
    "words",
    "hands",
    "drawing",
    "frame",
    "main",
)
"""The explorer's ES modules; each stands after those that it imports."""
HEIGHT = 860
"""Height in pixels of the frame in a notebook."""


@cache
def script() -> str:
    """All modules as one ES module, without their imports of each other."""
    modules = []
    for name in MODULES:
        text = (HERE / f"{name}.js").read_text(encoding="utf-8")
        text = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
        modules.append(re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE))
    return "\n".join(modules)


@cache
def style() -> str:
    """The explorer's style sheet, as CSS."""
    return (HERE / "explorer.css").read_text(encoding="utf-8")


def page(block: bytes, *, title: str, text: str = "") -> str:
    """An HTML page that shows a payload by itself: one file, which needs no server and no network.

    Args:
        block: The payload, as `payload` returns it; it is compressed for the file.
        title: The page's heading; "" for none.
        text: A paragraph below the heading, such as the prompt; "" for none.
    """
    code = script().replace("export default function", "function")
    data = base64.b64encode(gzip.compress(block, 6, mtime=0)).decode()
    heading = f"<h1>{html.escape(title)}</h1>" if title else ""
    paragraph = f'<p class="prompt">{html.escape(text)}</p>' if text else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title or 'Attention')}</title><style>{style()}</style></head>"
        f'<body class="alone">{heading}{paragraph}<div class="explorer"></div>'
        f'<script type="application/octet-stream" id="data">{data}</script>'
        f'<script type="module">{code}\nopenPage(document.querySelector(".explorer"), '
        'document.getElementById("data").textContent);</script></body></html>'
    )


def frame(block: bytes, *, title: str) -> str:
    """The page in an HTML frame for a notebook, whose styles cannot reach into it."""
    document = html.escape(page(block, title=""), quote=True)
    return (
        f'<iframe title="{html.escape(title, quote=True)}" srcdoc="{document}" '
        f'style="width:100%;height:{HEIGHT}px;border:0" loading="lazy"></iframe>'
    )
