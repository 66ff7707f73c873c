"""What the app's memory is after many visits with long prompts, and with eight sessions at once.

`pytest -m slow -s tests/browser/test_memory.py` prints a line a visit. What is measured is the
resident memory of the app's process, as its `/metrics` says.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import FAULTS, PATIENCE

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS = 0.54e9
"""Bytes of its weights in float32."""
BUDGET = 2e9
"""Bytes that all caches may hold, as `WORKBENCH_MEMORY` says by default."""
LIBRARIES = 0.75e9
"""Bytes of the process with torch, transformers and the pages' modules, and one model's run."""
SESSIONS = 8
WORDS = (
    "the old man saw a small dog near the river and told his son about it when they came home "
    "in the evening because the dog had no name and nobody knew where it lived"
).split()


def text(n_words: int, seed: int) -> str:
    """A text of so many words, another one for each seed."""
    return " ".join(WORDS[(i * (seed + 3) + i // 7 + seed) % len(WORDS)] for i in range(n_words))


def resident(url: str) -> float:
    """Bytes of the app's process that are in memory."""
    with urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode()
    return float(re.findall(r"^\S*process_resident_bytes (\S+)$", lines, re.M)[0])


def visits(rounds: int) -> list[tuple[str, dict[str, str]]]:
    """The pages to visit with their query: six pages a round, every time with another prompt."""
    chosen = []
    for turn in range(rounds):
        for at, page in enumerate(
            ("attention", "lens", "attention", "anatomy", "attention", "heads")
        ):
            words = text((600, 320, 480, 280, 560, 1)[at], 10 * turn + at)
            field = "text" if page == "lens" else "prompt"
            query = {"model": MODEL if page != "heads" else "shelf-base"}
            chosen.append((page, query if page == "heads" else {**query, field: words}))
    return chosen


@pytest.mark.timeout(3600)
def test_memory_stays_below_the_budget_over_24_visits(page, app_url, capsys):
    folder = os.environ.get("WORKBENCH_MODELS")
    if folder is None or not (Path(folder) / MODEL).is_file():
        pytest.skip(f"needs {MODEL} below WORKBENCH_MODELS")
    page.set_default_timeout(5 * PATIENCE)
    highest = 0.0
    for number, (name, query) in enumerate(visits(4)):
        page.goto(f"{app_url}/{name}?{urlencode(query)}")
        _wait(page)
        page.wait_for_timeout(1500)
        now = resident(app_url)
        highest = max(highest, now)
        with capsys.disabled():
            print(f"\n{number + 1:2} {name:10} {now / 1e9:.2f} GB", end="")
    assert highest < LIBRARIES + WEIGHTS + BUDGET


@pytest.mark.timeout(1800)
def test_eight_sessions_share_models(browser, app_url, capsys):
    pages = []
    contexts = []
    sizes = []
    for _ in range(SESSIONS):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        contexts.append(context)
        pages.append(context.new_page())
    try:
        for number, page in enumerate(pages):
            page.set_default_timeout(5 * PATIENCE)
            page.goto(f"{app_url}/lens?model={MODEL}")
            if number == 0:
                _wait(page)
                sizes.append(resident(app_url))
        for page in pages:
            _wait(page)
        sizes.append(resident(app_url))
    finally:
        for context in contexts:
            context.close()
    with capsys.disabled():
        print(f"\none session {sizes[0] / 1e9:.2f} GB, {SESSIONS} {sizes[1] / 1e9:.2f} GB", end="")
    assert sizes[1] - sizes[0] < WEIGHTS / 2  # not one copy more, and eight would be seven more


def _wait(page) -> None:
    """Wait until the script has ended and the page shows no fault."""
    page.locator("h1").first.wait_for()
    app = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(app).to_have_count(1, timeout=5 * PATIENCE)
    expect(page.locator('[data-testid="stSpinner"]')).to_have_count(0, timeout=5 * PATIENCE)
    assert page.locator(FAULTS).count() == 0
