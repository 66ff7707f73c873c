"""The pictures of the docs, taken from the real pages.

`make pictures` takes them anew. The slow tests compare a coarse copy of each with the page: fonts
and single pixels may differ between machines; what the page shows may not.
"""

import io
import os
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from workbench.ui.parts.own_prompts import EXAMPLES, FIELDS

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
LARGEST = 150_000
"""Bytes of a picture."""
COARSE = (32, 20)
"""Squares across and down in a coarse copy."""
LARGEST_DIFFERENCE = 12.0
"""Of 255: how far a coarse copy may be from that of the stored picture, on average."""
PATIENCE = 240_000

STORY = "She had a sister, a horse and a fire. He had a sister, a horse and a"
INDUCTION = dict(zip(FIELDS, EXAMPLES["Induction"], strict=True))
SHOTS = {
    "home": ("", {}, 900, "home_atlas"),
    "attention": ("attention", {"head": "L5H4", "prompt": STORY}, 870, ".explorer .token"),
    "heads": ("heads", {"head": "L5H4"}, 1200, None),
    "patching": ("patching", {}, 1180, None),
    "patching-heads": ("patching", {"site": "z", **INDUCTION}, 1180, None),
    "benchmarks": ("benchmarks", {}, 1150, None),
    "differences": ("benchmarks", {"benchmarks_view": "Differences"}, 1150, None),
    "samples": ("benchmarks", {"benchmarks_view": "Samples"}, 1150, ""),
    "compare-text": ("compare", {"compare_view": "Text"}, 1000, ""),
    "compare-heads": ("compare", {"compare_view": "Heads"}, 1000, None),
    "compare-weights": ("compare", {"compare_view": "Weights"}, 1000, None),
    "transplant": ("transplant", {"n": "8", "on": "intents"}, 1200, "parts"),
    "positions": ("positions", {"model": "shelf-positions/sinusoidal"}, 1000, None),
    "pictures": ("pictures", {"head": "L1H2"}, 900, "on_picture"),
    "patches": (
        "pictures",
        {
            "picture_model": "shelf-vit",
            "pictures_view": "Patch",
            "pairs": "many pairs of these two digits",
        },
        1200,
        "patched",
    ),
}
"""By a picture's name: its page, the query of its URL, its height in pixels, and what to wait for.

The test waits for the figure of this key, the element of this selector (from "."), any figure
(None) or nothing ("").
"""
WIDTH = 1440
"""Pixels of the window."""
SIDEBAR = 300
"""Pixels that the sidebar takes at the left; all pictures but Home's are without it."""
FRONT = {"attention": (235, 870), "patching-heads": (525, 1160), "differences": (515, 1150)}
"""Pictures of which the README shows a part, `front-NAME.png`: its top and bottom in pixels."""


def small(png: bytes) -> bytes:
    """The picture as a small PNG, in 256 colours only where it would be too large."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for form in (image, image.quantize(256, dither=Image.Dither.NONE)):
        stream = io.BytesIO()
        form.save(stream, "PNG", optimize=True)
        if stream.tell() <= LARGEST:
            break
    return stream.getvalue()


def part(png: bytes, top: int, bottom: int) -> bytes:
    """Some rows of a picture."""
    image = Image.open(io.BytesIO(png))
    stream = io.BytesIO()
    image.crop((0, top, image.width, bottom)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def coarse(png: bytes) -> np.ndarray:
    """The picture as a few grey squares."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L").resize(COARSE), dtype=float)


def selector(key: str | None) -> str:
    """The CSS selector of what a picture waits for; None stands for any figure."""
    if key is None:
        return ".js-plotly-plot .main-svg"
    return key if key.startswith(".") else f".st-key-{key} .main-svg"


@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_shows_what_its_page_shows(name: str, page: Page, app_url: str) -> None:
    path, query, height, key = SHOTS[name]
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(f"{app_url}/{path}?{urlencode(query)}")
    page.locator("h1").first.wait_for()
    if key != "":
        page.locator(selector(key)).first.wait_for(timeout=PATIENCE)
    done = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(done).to_have_count(1, timeout=PATIENCE)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)  # figures grow into their places
    left = 0 if name == "home" else SIDEBAR
    png = small(page.screenshot(clip={"x": left, "y": 0, "width": WIDTH - left, "height": height}))
    assert len(png) <= LARGEST
    if os.environ.get("WORKBENCH_PICTURES"):
        (FOLDER / f"{name}.png").write_bytes(png)
        if name in FRONT:
            (FOLDER / f"front-{name}.png").write_bytes(part(png, *FRONT[name]))
        return
    stored = (FOLDER / f"{name}.png").read_bytes()
    difference = np.abs(coarse(png) - coarse(stored)).mean()
    assert difference <= LARGEST_DIFFERENCE, (
        f"the page no longer looks like {name}.png; run `make pictures`"
    )
