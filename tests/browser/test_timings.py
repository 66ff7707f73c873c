"""How long a reader waits on the Attention page with SmolLM2; on a quiet machine, `pytest -s -m slow tests/browser`."""

import statistics
import time

import pytest

from tests.browser.test_inside_pages import CENTRE, plot
from workbench.interp.texts import TEXTS

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HEADS = ((1, 1), (2, 1), (3, 1), (0, 2), (2, 2), (4, 3), (5, 3), (1, 3))


def atlas_after(page, settle, prompt):
    """Seconds from a new prompt to its pictures, in a warm app."""
    box = page.get_by_label("Prompt")
    title = page.locator(".st-key-head_map .xtick").first.inner_text()
    start = time.perf_counter()
    box.fill(prompt)
    box.press("Control+Enter")
    page.wait_for_function(
        "old => document.querySelector('.st-key-head_map .xtick')?.textContent !== old", arg=title, timeout=120_000
    )
    took = time.perf_counter() - start
    settle()
    return took


@pytest.mark.parametrize(("n_tokens", "most"), [(64, 2.0), (512, 10.0)])
def test_the_atlas_of_every_head_and_another_head_come_soon(open_page, settle, smollm, record_property, n_tokens, most):
    from workbench.subjects import load

    tokenizer = load(smollm).tokenizer
    ids = tokenizer("\n\n".join(TEXTS))["input_ids"]
    page = open_page("attention", model=smollm, prompt="Once upon a time there was")
    plot(page, "head_map")
    took = atlas_after(page, settle, tokenizer.decode(ids[:n_tokens]))
    switches = []
    for x, y in HEADS:
        x0, y0 = plot(page, "atlas").evaluate(CENTRE, [x, y])
        start = time.perf_counter()
        page.mouse.click(x0, y0)
        page.locator(".st-key-head_map .gtitle").filter(has_text=f"L{y}H{x}:").wait_for()
        switches.append(time.perf_counter() - start)
        settle()
    median = statistics.median(switches)
    record_property("atlas_s", took)
    record_property("head_switch_s", sorted(switches))
    print(f"\n{n_tokens} tokens: atlas {took:.2f} s, another head {median:.2f} s (median of {len(switches)})")
    assert took < 3 * most and median < 3 * 0.3, "three times the goal: something is broken, not just busy"
