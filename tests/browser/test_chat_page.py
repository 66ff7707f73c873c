"""The Chat page in a real browser: a token's causes, two models side by side, links onwards."""

import re
import time

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_token_is_clicked_through_to_its_causes_and_on_to_patching(
    open_page, settle, record_property
):
    page = open_page("chat", mode="Chat", models="shelf-base", n="12")
    expect(page.get_by_text("No messages yet")).to_be_visible()
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("The king said to the")
    began = time.perf_counter()
    box.press("Enter")
    page.locator(".piece").first.wait_for()
    # Recorded but not judged: machines are noisy.
    record_property("first_token_s", time.perf_counter() - began)
    expect(page.get_by_test_id("stText")).to_have_text("The king said to the")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    settle()
    began = time.perf_counter()
    page.locator(".piece").nth(4).click()
    expect(page.get_by_text("Which heads wrote it")).to_be_visible()
    record_property("panel_s", time.perf_counter() - began)
    expect(page.locator(".piece.chosen")).to_have_count(1)
    page.get_by_text("Patching: what if").click()
    expect(page.locator("h1")).to_have_text("Where does the answer come from?")
    expect(page.get_by_label("Clean prompt")).to_have_value(re.compile("User: The king"))
    expect(page.get_by_text("Can this be trusted?")).to_be_visible()
    settle()


def test_base_and_tuned_go_on_side_by_side_and_the_url_keeps_the_question(open_page, settle):
    page = open_page("chat", prompt="Once upon a time", n="8")
    expect(page.get_by_text("greedy decoding")).to_have_count(1)
    settle()
    page.get_by_role("combobox", name="Models, side by side").click()
    page.get_by_role("option", name="shelf-tuned", exact=True).click()
    expect(page.get_by_text("greedy decoding")).to_have_count(2)
    settle()
    assert "shelf-tuned" in page.url
    page.get_by_text("Passage", exact=True).first.click()
    expect(page.get_by_label("Question")).to_be_visible()
    expect(
        page.get_by_text("Which heads copied it").or_(page.get_by_text("does not occur")).first
    ).to_be_visible()
    settle()
    assert "mode=Passage" in page.url
