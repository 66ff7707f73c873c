"""The Runs page in a browser: a run is named, tagged, compared and deleted, and found elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_work_pages import RECIPE

pytestmark = pytest.mark.browser
ROW = 35
"""Pixels of a row of a table."""


@pytest.fixture
def two_runs(app_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of two runs in the app's home, older one first, which differ in their steps."""
    from workbench.training.start import train

    monkeypatch.setenv("WORKBENCH_HOME", str(app_home))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"{n}. The bell rang {n} times." for n in range(900)))
    ids = []
    for steps in (2, 3):
        path = tmp_path / f"{steps}.toml"
        path.write_text(RECIPE.format(title=f"Bells for {steps} steps", corpus=corpus, steps=steps))
        ids.append(train(path).id)
    return ids


def click_row(page: Page, row: int) -> None:
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 16, box["y"] + ROW * (row + 1.5))


def test_runs_are_named_tagged_compared_and_deleted(
    open_page: Callable[..., Page], settle: Callable[[], None], two_runs: list[str]
):
    newest = two_runs[1]
    page = open_page("runs", search="Bells")
    click_row(page, 0)
    title = page.get_by_label("Title", exact=True)
    expect(title).to_have_value("Bells for 3 steps")
    title.fill("Evening bells")
    title.press("Enter")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Evening bells")).to_be_visible()
    tags = page.get_by_role("combobox", name=re.compile("Tags"))
    tags.fill("paper")
    tags.press("Enter")
    settle()

    page = open_page("attention", model=f"run:{newest}")
    model = page.get_by_role("combobox", name=re.compile("Model"))
    expect(model).to_have_value(f"Evening bells · run:{newest}")

    page = open_page("runs", search="bells")
    click_row(page, 0)
    click_row(page, 1)
    expect(page.get_by_role("heading", name="2 runs")).to_be_visible()
    settle()

    page = open_page("runs", tag="paper")
    click_row(page, 0)
    expect(page.get_by_role("heading", name="Evening bells")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="Evening bells")).to_have_count(0)
    page = open_page("runs", search=newest)
    expect(page.get_by_text("No run matches.")).to_be_visible()
