"""The Transplant page in a real browser: maps of the bundled pair, a saved model, a report."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_the_page_shows_where_the_change_lives_and_both_directions(open_page):
    page = open_page("transplant", n="8", on="intents")
    page.locator(".st-key-parts .js-plotly-plot .main-svg").first.wait_for()
    expect(page.locator(".st-key-parts")).to_contain_text("put back in the tuned model")
    expect(page.get_by_text("to the last bit")).to_be_visible()
    page = open_page("transplant", n="8", on="intents", transplant_view="Activations")
    page.locator(".st-key-activations_tuned .js-plotly-plot .main-svg").first.wait_for()


def test_a_model_against_itself_says_that_there_is_nothing_to_share(open_page):
    page = open_page("transplant", n="4", on="intents", base="shelf-base", tuned="shelf-base")
    expect(page.get_by_text("no gain to have a share of")).to_be_visible()


def test_a_transplant_is_saved_and_chosen_like_any_model(open_page, settle):
    page = open_page("transplant", transplant_view="Make one")
    page.get_by_role("textbox", name="Parts").fill("L1.mlp, L2H0")
    page.get_by_role("textbox", name="Name").fill("by-hand")
    page.get_by_role("button", name="Save it").click()
    settle()
    expect(page.get_by_text("edit:by-hand").first).to_be_visible()
    page = open_page("models", model="edit:by-hand")
    expect(page.get_by_text("shelf-base with L1.mlp, L2H0 of shelf-tuned").first).to_be_visible()


def test_the_report_is_downloaded_as_one_page(open_page, settle, tmp_path):
    page = open_page(
        "transplant", transplant_view="Report", n="4", on="intents", suite="core", limit="4"
    )
    page.get_by_role("button", name="Write the report").click()
    page.get_by_role("button", name="Download the report").wait_for(timeout=180_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    download.value.save_as(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "To make this page again" in text and "Activations exchanged" in text
