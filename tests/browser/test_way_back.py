"""What a page keeps, and that Back shows the page before as it was."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, urlparse

import pytest
from playwright.sync_api import Locator, Page, expect

from workbench.store import Store

pytestmark = pytest.mark.browser
ROW = 35
"""Pixels of a row of a table."""


def asked(page: Page) -> dict[str, str]:
    """The parameters of the page's URL."""
    return {key: values[-1] for key, values in parse_qs(urlparse(page.url).query).items()}


def box(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMain").get_by_role("combobox", name=label, exact=True)


def choose(page: Page, label: str, value: str) -> None:
    box(page, label).click()
    box(page, label).fill(value)
    box(page, label).press("Enter")


def aside(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()


def test_back_from_a_samples_mechanism_shows_the_sample_again(
    open_page: Callable[..., Page],
    settle: Callable[[], None],
    app_home: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    open_page()  # the app brings its shipped evaluation
    monkeypatch.setenv("WORKBENCH_HOME", str(app_home))
    (shipped,) = Store().list("eval", search="(shipped)")
    shown = {"benchmarks_view": "Samples", "task": "agreement", "run": shipped.id}
    page = open_page("benchmarks", models="shelf-tuned", limit="70", **shown)
    main = page.get_by_test_id("stMain")
    main.get_by_text("both right").first.click()
    settle()
    page.wait_for_timeout(1000)  # the table draws itself once more
    table = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert table is not None
    page.mouse.click(table["x"] + 16, table["y"] + ROW * 4.5)
    expect(page).to_have_url(re.compile("sample="))
    before = asked(page)
    caption = f"Sample {before['sample']}: the prompt"
    expect(main.get_by_text(caption)).to_be_visible()
    assert before["answers"] == "both right"
    main.get_by_role("link").last.click()
    expect(page.get_by_role("heading", name="Where does the answer come from?")).to_be_visible()
    settle()
    page.go_back()
    expect(main.get_by_text(caption)).to_be_visible()
    settle()
    assert asked(page) == before
    expect(page.get_by_role("spinbutton", name="Items per task")).to_have_value("70")


def test_a_chosen_model_stays_from_page_to_page_and_back(
    open_page: Callable[..., Page], settle: Callable[[], None]
):
    page = open_page("patching", model="shelf-tuned")
    aside(page, "Lens")
    expect(
        page.get_by_role("heading", name="What does each layer already believe?")
    ).to_be_visible()
    settle()
    expect(box(page, "Model")).to_have_value("shelf-tuned")
    assert asked(page)["model"] == "shelf-tuned"
    choose(page, "Model", "shelf-base")
    page.wait_for_url(lambda url: "model=" not in url)  # shelf-base is the default
    settle()
    page.go_back()
    expect(page.get_by_role("heading", name="Where does the answer come from?")).to_be_visible()
    settle()
    expect(box(page, "Model")).to_have_value("shelf-tuned")


def test_a_page_that_is_drawn_already_takes_what_a_link_carries(
    open_page: Callable[..., Page], settle: Callable[[], None]
):
    page = open_page("patching", model="shelf-tuned")
    link = f"/patching?show={quote(json.dumps({'model': 'shelf-english'}))}"
    page.evaluate(
        "link => { history.replaceState(history.state, '', link);"
        " dispatchEvent(new PopStateEvent('popstate', { state: history.state })) }",
        link,
    )
    expect(box(page, "Model")).to_have_value("shelf-english")
    settle()
    assert asked(page) == {"model": "shelf-english"}


def test_a_head_stays_for_a_model_of_the_same_shape_only(
    open_page: Callable[..., Page], settle: Callable[[], None]
):
    page = open_page("heads", model="shelf-base", head="L2H1")
    expect(box(page, "Head")).to_have_value("L2H1")
    choose(page, "Model", "shelf-tuned")
    settle()
    expect(box(page, "Head")).to_have_value("L2H1")
    choose(page, "Model", "shelf-positions/alibi")
    settle()
    expect(box(page, "Head")).not_to_have_value("L2H1")


def test_a_position_does_not_outlive_its_prompt(
    open_page: Callable[..., Page], settle: Callable[[], None]
):
    page = open_page("attention", prompt="The old house and the sea")
    choose(page, "Output at", "(1)")
    settle()
    expect(box(page, "Output at")).to_have_value("·old (1)")
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("The long day")
    prompt.press("Control+Enter")
    expect(box(page, "Output at")).to_have_value("·day (2)")


def test_answers_that_nobody_typed_are_the_models_own(open_page: Callable[..., Page]):
    page = open_page("lens", prompt="The cat sat on the")
    expect(page.get_by_text("the two most likely next tokens")).to_be_visible()
    page = open_page("lens", prompt="The cat sat on the", answer=" mat", wrong=" dog")
    expect(page.get_by_text("the two most likely next tokens")).to_have_count(0)
