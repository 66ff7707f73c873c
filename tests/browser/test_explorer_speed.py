"""How fast the explorer answers: redraws at 64 and 512 tokens of SmolLM2, bytes, time to first sight.

Run with `pytest -m slow -s tests/browser/test_explorer_speed.py`; it prints a table. Times are
taken inside the page, from the key to the frame that shows the other head, and hovers likewise.
"""

import time

import pytest

import workbench as wb
from workbench.data.passages import TEXTS
from workbench.figures.explorer.payload import Heads, payload, striking

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LIMITS = {64: 50, 512: 100}
"""Milliseconds from a key to the next head's picture."""
MEASURE = """async ([selector, kind, count]) => {
  const explorer = document.querySelector(selector).shadowRoot?.querySelector(".explorer")
    ?? document.querySelector(".explorer");
  const box = explorer.querySelector(".stack." + (kind === "key" ? "heads" : "one"));
  const at = explorer.querySelector(".stack.one").getBoundingClientRect();
  const frame = () => new Promise((done) => requestAnimationFrame(() => done()));
  const took = [];
  for (let i = 0; i < count; i++) {
    await frame();
    const start = performance.now();
    if (kind === "key") box.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    else {
      const place = { clientX: at.x + 130 + 3 * i, clientY: at.y + 300 + 5 * i };
      box.dispatchEvent(new PointerEvent("pointermove", { ...place, pointerType: "mouse", bubbles: true }));
    }
    const handler = performance.now() - start;
    await frame();
    took.push([handler, performance.now() - start]);
    await new Promise((done) => setTimeout(done, 120));
  }
  return took;
}"""


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("length", LIMITS)
def test_redraws_and_first_sight(open_page, smollm, length, capsys):
    subject = wb.load(smollm)
    ids = subject.ids("\n\n".join(TEXTS))
    prompt = subject.tokenizer.decode(ids[:length])
    found = wb.attention(subject, prompt)
    shown = Heads(found.pattern, found.tokens, found.subject, found.value_norms)
    start = time.perf_counter()
    block = payload(shown, chosen=striking(found.pattern))
    packed = time.perf_counter() - start
    page = open_page("attention", model=smollm)  # warm: the model is loaded, its clone checked
    before = page.locator(".explorer").get_attribute("data-id")
    page.get_by_label("Prompt").fill(prompt)
    start = time.perf_counter()
    page.get_by_label("Prompt").press("Control+Enter")
    page.wait_for_function(
        """([id]) => {
          const all = [...document.querySelectorAll("*")].flatMap((e) => e.shadowRoot ? [...e.shadowRoot.querySelectorAll(".explorer")] : []);
          return all.some((e) => e.dataset.id && e.dataset.id !== id);
        }""",
        arg=[before],
    )
    first = time.perf_counter() - start
    page.wait_for_timeout(2000)
    host = ".st-key-explorer div:has(> template), .st-key-explorer *"
    selector = page.evaluate(
        """(host) => {
          const found = [...document.querySelectorAll(host)].find((e) => e.shadowRoot);
          found.id = "explorer-host";
          return "#explorer-host";
        }""",
        host,
    )
    keys = page.evaluate(MEASURE, [selector, "key", 12])
    hovers = page.evaluate(MEASURE, [selector, "hover", 20])
    head = median([total for _, total in keys])
    with capsys.disabled():
        print(
            f"\n{len(found.tokens)} tokens, {found.pattern[:, :, 0, 0].size} heads: "
            f"{len(block) / 1e6:.2f} MB made in {packed:.2f} s; first sight {first:.2f} s; head "
            f"{median([h for h, _ in keys]):.0f} ms in the handler, {head:.0f} ms to the frame; hover "
            f"{median([h for h, _ in hovers]):.1f} ms in the handler"
        )
    assert len(block) <= 3_000_000
    assert head <= 3 * LIMITS[length]  # the aim is LIMITS; machines are noisy
