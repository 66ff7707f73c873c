"""Every page at the widths of a phone, a tablet and a desk: nothing is cut off or squeezed."""

import pytest
from playwright.sync_api import Browser, expect

from workbench import paths

pytestmark = pytest.mark.browser
PAGES = sorted(path.stem for path in paths.shelf("pages").glob("*.py"))
FAULTS = """() => {
  const main = document.querySelector('[data-testid="stMain"]');
  const faults = [];
  if (main.scrollWidth > main.clientWidth + 1) faults.push("the page scrolls sideways");
  const seen = (part) => {
    const box = part.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && getComputedStyle(part).visibility !== "hidden";
  };
  const words = (part) => (part.innerText || part.ariaLabel || part.tagName).slice(0, 40);
  const whole = "button, textarea, h1, h2, h3, label, .gtitle, .xtitle";
  for (const part of main.querySelectorAll(whole)) {
    const box = part.getBoundingClientRect();
    if (!seen(part) || part.closest(".modebar-container, .st-key-scrolled")) continue;
    if (box.right > innerWidth + 2) faults.push(`beyond the edge: ${words(part)}`);
  }
  for (const box of main.querySelectorAll('[data-baseweb="select"]'))
    if (seen(box) && box.clientWidth < 100) faults.push(`squeezed: ${words(box)}`);
  for (const cell of main.querySelectorAll("td, p"))
    if (seen(cell) && cell.getBoundingClientRect().width < 24 && cell.innerText.length > 4)
      faults.push(`a letter a line: ${words(cell)}`);
  return faults;
}"""


def faults(browser: Browser, app_url: str, page: str, width: int, theme: str) -> list[str]:
    """What is wrong with a page as it opens, in words."""
    phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        has_touch=phone,
        is_mobile=phone,
    )
    try:
        window = context.new_page()
        window.goto(f"{app_url}/{'' if page == 'home' else page}")
        window.locator("h1").first.wait_for()
        ended = window.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(ended).to_have_count(1, timeout=120_000)
        window.wait_for_timeout(800)  # charts are fitted to their places
        return [f"{page} at {width} px: {fault}" for fault in window.evaluate(FAULTS)]
    finally:
        context.close()


@pytest.mark.parametrize("page", ["lens", "models"])
def test_a_phone_shows_a_page_whole(browser, app_url, page):
    assert faults(browser, app_url, page, 390, "dark") == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1024, 1280, 1440])
def test_every_page_is_whole_at_every_width(browser, app_url, width, theme):
    wrong = [fault for page in PAGES for fault in faults(browser, app_url, page, width, theme)]
    assert not wrong, "\n".join(wrong)
