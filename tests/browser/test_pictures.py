"""The pictures of the docs, taken from the real pages: `make pictures` makes them anew, the slow
tests compare them.

What is compared is a coarse copy: fonts and a pixel here or there may differ from machine to
    machine, a page that shows
something else may not.
"""

import io
import os
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
LARGEST = 150_000
"""Bytes of a picture."""
COARSE = (32, 20)
APART = 12.0
"""Of 255: how far a coarse copy may be from the picture that is kept, on average."""
PATIENCE = 240_000

STORY = "She had a sister, a horse and a fire. He had a sister, a horse and a"
SHOTS = {
    "home": ("", {}, 900, "home_atlas"),
    "attention": ("attention", {"head": "L5H4", "prompt": STORY}, 870, ".explorer .token"),
    "heads": ("heads", {"head": "L5H4"}, 1200, None),
    "patching": ("patching", {}, 1180, None),
    "patching-heads": ("patching", {"site": "z"}, 1180, None),
    "benchmarks": ("benchmarks", {}, 1150, None),
    "differences": ("benchmarks", {"view": "Differences"}, 1150, None),
    "samples": ("benchmarks", {"view": "Samples"}, 1150, ""),
    "compare-text": ("compare", {"view": "Text"}, 1000, ""),
    "compare-heads": ("compare", {"view": "Heads"}, 1000, None),
    "compare-weights": ("compare", {"view": "Weights"}, 1000, None),
    "transplant": ("transplant", {"n": "8", "on": "intents"}, 1200, "parts"),
    "positions": ("positions", {"model": "shelf-positions/sinusoidal"}, 1000, None),
}
"""A picture's name, the page, what its URL asks for, the height in pixels, the figure (its key,
or a selector) that is waited for.
"""
WIDTH, SIDEBAR = 1440, 300
FRONT = {"attention": (235, 870), "patching-heads": (525, 1160), "differences": (515, 1150)}
"""Pictures of which a part stands in the README, as `front-NAME.png`: from which row of pixels to
which.
"""


def small(png: bytes) -> bytes:
    """The picture packed well; in 256 colours only where it would be too large."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for form in (image, image.quantize(256, dither=Image.Dither.NONE)):
        out = io.BytesIO()
        form.save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST:
            break
    return out.getvalue()


def part(png: bytes, top: int, bottom: int) -> bytes:
    """Some rows of a picture."""
    image, out = Image.open(io.BytesIO(png)), io.BytesIO()
    image.crop((0, top, image.width, bottom)).save(out, "PNG", optimize=True)
    return out.getvalue()


def coarse(png: bytes) -> np.ndarray:
    """The picture as a few grey squares."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L").resize(COARSE), dtype=float)


@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_shows_what_its_page_shows(name: str, page: Page, app_url: str) -> None:
    path, query, height, key = SHOTS[name]
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(f"{app_url}/{path}?{urlencode(query)}")
    page.locator("h1").first.wait_for()
    if key != "":
        figures = page.locator(
            ".js-plotly-plot .main-svg"
            if key is None
            else key
            if key.startswith(".")
            else f".st-key-{key} .main-svg"
        )
        figures.first.wait_for(timeout=PATIENCE)
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
    kept = (FOLDER / f"{name}.png").read_bytes()
    assert np.abs(coarse(png) - coarse(kept)).mean() <= APART, (
        f"make pictures: {name}.png is no longer so"
    )
