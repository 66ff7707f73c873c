"""The documentation builds without a warning and without the network, and what it shows is small
and used.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
LARGEST = 150_000
"""Bytes of a picture."""
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe)[^>]*\ssrc"""
    r"""|<link[^>]*rel="?(?:stylesheet|preload)"?[^>]*\shref)=["']?https?:"""
)
"""What a browser would fetch from elsewhere; a link that a person may follow is none of it."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; the build fails at the first warning."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_page_of_the_site_fetches_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", style.read_text(encoding="utf-8")), (
            style
        )


def test_every_public_name_has_its_place_in_the_reference(site):
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in wb.__all__:
        thing = getattr(wb, name)
        home = thing.__module__ if hasattr(thing, "__module__") else vars(wb)["_HOMES"][name]
        assert f'id="{home}.{name}"' in text, name


def test_formulas_are_drawn_by_the_browser_alone(site):
    text = (site / "concepts" / "positions.html").read_text(encoding="utf-8")
    assert text.count("<math") == 5 and "```math" not in text and "\\frac" not in text


def test_pictures_are_small_and_each_is_shown():
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    shown = {
        name
        for page in pages
        for name in re.findall(r"pictures/([\w-]+\.png)", page.read_text(encoding="utf-8"))
    }
    files = {file.name: file.stat().st_size for file in PICTURES.glob("*.png")}
    assert shown == set(files) and max(files.values()) <= LARGEST
