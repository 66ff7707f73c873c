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
  return [...faults, ...faint(main), ...piled(main)];
}"""
FAINT = """const channels = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
const light = (colour) => {
  const [r, g, b] = channels(colour).slice(0, 3).map((c) => {
    const share = c / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (part) => {
  for (let at = part; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.backgroundImage !== "none") return null;  // a gradient has no one colour
    const colour = style.backgroundColor;
    const alpha = channels(colour)[3] ?? 1;
    if (alpha > 0.95) return colour;
    if (alpha > 0.05) return null;  // mixed with what lies below
  }
  return "rgb(255, 255, 255)";
};
const contrast = (ink, paper) => {
  const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const faint = (main) => {
  const paper = getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor;
  const faults = new Set();
  const look = (part, ink, ground) => {
    const box = part.getBoundingClientRect();
    if (!ground || box.width < 2 || !(part.textContent || "").trim()) return;
    if ((channels(ink)[3] ?? 1) < 0.99) return;
    const ratio = contrast(ink, ground);
    if (ratio < 3) faults.add(`${ratio.toFixed(1)} to 1: ${part.textContent.trim().slice(0, 40)}`);
  };
  for (const part of main.querySelectorAll("p, h1, h2, h3, h4, h5, label, button, td, th, span"))
    if ([...part.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
        && !part.closest("[disabled], .katex, .token")
        && !part.closest("[data-testid=stIconMaterial], [data-testid=stSlider]"))
      look(part, getComputedStyle(part).color, behind(part));
  for (const part of main.querySelectorAll(".xtick text, .ytick text, .gtitle, .legendtext"))
    look(part, getComputedStyle(part).fill, paper);
  return [...faults];
};"""
PILED = """const piled = (main) => {
  const faults = [];
  for (const axis of main.querySelectorAll(".xaxislayer-above, .yaxislayer-above")) {
    const ticks = [...axis.querySelectorAll(".xtick text, .ytick text")];
    if (!ticks.length || ticks.some((t) => /rotate\\((?!0[,)])/.test(t.getAttribute("transform"))))
      continue;  // turned words: their boxes overlap, their letters do not
    const boxes = ticks.map((t) => t.getBoundingClientRect()).filter((b) => b.width > 0);
    const meet = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right
      && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
    const over = boxes.some((a, i) => boxes.slice(i + 1).some((b) => meet(a, b)));
    if (over) faults.push(`ticks over each other: ${ticks.slice(0, 4).map((t) => t.textContent)}`);
  }
  return faults;
};"""
EVERY = f"() => {{ {FAINT}\n{PILED}\nreturn ({FAULTS})(); }}"


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
        return [f"{page} at {width} px: {fault}" for fault in window.evaluate(EVERY)]
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
