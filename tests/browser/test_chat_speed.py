"""How long the Chat page takes to its first token, and to the causes of a clicked one.

`pytest -m slow -s tests/browser/test_chat_speed.py` prints a line a model. Times are taken inside
the browser, of the second and later turns, when the model is loaded.
"""

import statistics

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FIRST = 0.3
"""The aim for the seconds from sending to the first token, with the bundled model."""
PANEL = {"shelf-base": 0.5, "smollm": 2.0}
"""The aim for the seconds from a click on a token to its causes."""
UNTIL = """([words, count]) => new Promise((done) => {
  const start = performance.now();
  const pieces = () => [...document.querySelectorAll("*")]  // components have shadow roots
    .reduce((sum, part) => sum + (part.shadowRoot?.querySelectorAll(".piece").length ?? 0), 0);
  const there = () => words
    ? document.body.innerText.includes(words)
    : pieces() > count;
  const look = () => there() ? done((performance.now() - start) / 1000)
    : requestAnimationFrame(look);
  look();
})"""
TURNS = ("The king said to the", "Once upon a time", "What is a horse?", "She had a sister and")


@pytest.mark.parametrize("name", PANEL)
def test_first_token_and_panel(open_page, settle, smollm, name, capsys):
    model = smollm if name == "smollm" else name
    page = open_page("chat", mode="Chat", models=model, n="24")
    box = page.get_by_test_id("stChatInputTextArea")
    pieces = page.locator(".piece")
    first = []
    for turn in TURNS:
        count = pieces.count()
        box.fill(turn)
        box.press("Enter")
        first.append(page.evaluate(UNTIL, ["", count]))
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        settle()
        page.wait_for_timeout(1000)
    panel = []
    for number in (2, 5, 8, 11, 14):
        pieces.nth(number).click()
        panel.append(page.evaluate(UNTIL, ["Which heads wrote it", 0]))
        settle()
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_text("Which heads wrote it")).to_have_count(0)
        settle()
        page.wait_for_timeout(700)
    with capsys.disabled():
        print(
            f"\n{name}: first token after {statistics.median(first[1:]):.2f} s "
            f"({', '.join(f'{s:.2f}' for s in first)}); "
            f"causes after {statistics.median(panel):.2f} s "
            f"({', '.join(f'{s:.2f}' for s in panel)})"
        )
    if name == "shelf-base":
        assert statistics.median(first[1:]) < 4 * FIRST  # machines are noisy
    assert statistics.median(panel) < 4 * PANEL[name]
