"""The attention explorer in a real browser: what it shows against Python, without the server."""

import base64
import re
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect
from transformers import LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.interp.patterns.attention import Attention
from workbench.ui.parts.look import PROMPT

pytestmark = pytest.mark.browser
SHORT = "One two three one two three one"
SIZES = {"wide": (1440, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def attention() -> Attention:
    """The attention that the page shows by default, as Python reads it."""
    return wb.attention(wb.load("shelf-base"), PROMPT)


@pytest.fixture
def sent(page: Page) -> list[int]:
    """The lengths of the messages that the page has sent to the server so far."""
    lengths: list[int] = []
    page.on(
        "websocket", lambda ws: ws.on("framesent", lambda data: lengths.append(len(data or "")))
    )
    return lengths


def line_below(page: Page) -> tuple[list[tuple[str, int]], list[float]]:
    """The tokens and the numbers of the line below the pictures."""
    line = page.locator(".explorer .says").inner_text()
    values = [float(v) for v in page.locator(".explorer .says .value").all_inner_texts()]
    return [(t, int(i)) for t, i in re.findall(r"(\S+) \((\d+)\)", line)], values


def cell(page: Page, query: int, key: int) -> tuple[float, float]:
    """Where a weight is on the screen, by the place of the map's axes that its drawing gives."""
    box = page.locator(".explorer .stack.one")
    box.scroll_into_view_if_needed()
    at = box.bounding_box()
    assert at is not None
    left, top, side, n = (float(v) for v in str(box.get_attribute("data-plot")).split())
    step = side / n
    return at["x"] + left + (key + 0.5) * step, at["y"] + top + (query + 0.5) * step


def head_at(page: Page, layer: int, head: int) -> tuple[float, float]:
    """The middle of a head's small picture."""
    box = page.locator(".explorer .stack.heads")
    box.scroll_into_view_if_needed()
    at = box.bounding_box()
    assert at is not None
    left, top, step = (float(v) for v in str(box.get_attribute("data-plot")).split())
    return at["x"] + left + (head + 0.5) * step, at["y"] + top + (layer + 0.5) * step


@pytest.mark.parametrize("size", SIZES)
def test_clicks_keys_and_hovers_show_the_weights_of_python(
    open_page, settle, sent, attention, size
):
    page = open_page("attention", head="L3H2")
    page.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
    page.locator(".explorer .token").first.wait_for()
    settle()
    page.wait_for_timeout(1000)
    before = len(sent)
    page.mouse.click(*head_at(page, 2, 1))
    expect(page.locator(".explorer .says .name")).to_have_text("L2H1")
    page.locator(".explorer .stack.heads").press("ArrowRight")
    page.locator(".explorer .stack.heads").press("ArrowDown")
    expect(page.locator(".explorer .step select")).to_have_value("L3H2")
    for query, key in ((5, 3), (33, 0), (20, 20), (12, 9)):
        page.mouse.move(*cell(page, query, key))
        tokens, values = line_below(page)
        assert [i for _, i in tokens] == [query, key]
        assert values[0] == pytest.approx(attention.head(3, 2)[query, key], abs=6e-5)
    expect(page).to_have_url(re.compile("head=L3H2"))
    assert len(sent) == before, "the server was asked"


def test_a_token_tells_what_it_looks_at_and_what_looks_at_it(open_page, attention):
    page = open_page("attention", head="L5H4")
    token = page.locator(".explorer .token").nth(20)
    token.click()
    page.mouse.move(0, 0)
    expect(token).to_have_attribute("aria-pressed", "true")
    row = attention.head(5, 4)[20]
    tokens, values = line_below(page)
    best = int(row.argmax())
    assert tokens[0][1] == 20 and tokens[1][1] == best
    assert values[0] == pytest.approx(row[best], abs=6e-5)
    page.get_by_role("button", name="is looked at by").click()
    tokens, values = line_below(page)
    column = attention.head(5, 4)[:, 20]
    assert tokens[1][1] == int(column.argmax())
    assert values[0] == pytest.approx(column.max(), abs=6e-5)
    expect(page).to_have_url(re.compile("pin=20&flip=1"))
    page.keyboard.press("Escape")
    expect(token).to_have_attribute("aria-pressed", "false")
    expect(page).not_to_have_url(re.compile("pin="))


def test_a_link_shows_the_same_view_and_a_rerun_keeps_it(open_page, settle):
    page = open_page("attention", head="L4H1", pin="7", flip="1", by="weighted")
    expect(page.locator(".explorer .step select")).to_have_value("L4H1")
    expect(page.locator(".explorer .token").nth(7)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="is looked at by")).to_have_attribute(
        "aria-pressed", "true"
    )
    page.locator(".explorer .stack.heads").press("ArrowRight")
    page.get_by_label("Next token").fill(" the")
    page.get_by_label("Next token").press("Enter")
    settle()
    page.wait_for_timeout(500)
    expect(page.locator(".explorer .step select")).to_have_value("L4H2")
    expect(page).to_have_url(re.compile("head=L4H2.*pin=7"))
    page.reload()
    expect(page.locator(".explorer .step select")).to_have_value("L4H2")


def test_weighting_difference_and_mean_are_those_of_python(open_page, attention):
    page = open_page("attention", head="L5H4", pin="33")
    rows = {
        "by": attention.value_weighted(5, 4)[33],
        "minus": attention.head(5, 4)[33] - attention.head(3, 0)[33],
        "mean": attention.pattern[5].mean(0)[33],
    }
    for label, option, name in (
        ("Weight", "weighted", "by"),
        ("Minus", "L3H0", "minus"),
        ("Over", "layer", "mean"),
    ):
        page.locator(".explorer").get_by_label(label, exact=True).select_option(option)
        page.mouse.move(0, 0)
        tokens, values = line_below(page)
        row = rows[name]
        best = int(abs(row).argmax())
        assert tokens[1][1] == best, name
        assert values[0] == pytest.approx(row[best], rel=1e-3, abs=1e-4), name
        page.locator(".explorer").get_by_label(label, exact=True).select_option(
            {"by": "attention"}.get(name, "")
        )


def test_several_heads_lines_and_paths_are_drawn_and_saved(open_page, tmp_path):
    page = open_page("attention", head="L5H4", prompt=SHORT)
    page.locator(".explorer .token").first.wait_for()
    page.get_by_role("button", name="Choose several heads").click()
    page.mouse.click(*head_at(page, 2, 1))
    page.mouse.move(0, 0)
    expect(page).to_have_url(re.compile(r"over=L5H4\+L2H1"))
    expect(page.locator(".explorer .says .name")).to_have_count(2)
    for name in ("Lines", "Path", "Map"):
        page.locator(".explorer").get_by_role("button", name=name, exact=True).click()
        box = page.locator(".explorer .stack.one .under").bounding_box()
        assert box is not None and box["height"] > 100
    page.get_by_role("button", name="Choose several heads").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the shown weights").click()
    saved.value.save_as(tmp_path / "head.csv")
    rows = (tmp_path / "head.csv").read_text().splitlines()
    assert rows[0] == "query,key,query_token,key_token,weight"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the picture as pixels").click()
    assert saved.value.suggested_filename.endswith(".png")


DIFFERENCE = """async (drawn, address) => {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const pixels = (source) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [drawn.width, drawn.height];
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  };
  const [one, other] = [pixels(drawn), pixels(picture)];
  let far = 0, inked = 0;
  for (let i = 0; i < one.length; i += 4) {
    // Weights are blue; letters are not, and an SVG has no web fonts.
    if (one[i + 2] - one[i] < 60) continue;
    inked++;
    if (Math.abs(one[i] - other[i]) + Math.abs(one[i + 1] - other[i + 1]) > 60) far++;
  }
  return [picture.naturalWidth, inked, far];
}"""
"""An SVG's width, how many pixels of the canvas are blue, and how many of them differ in it."""


@pytest.mark.parametrize("shown", ["map", "lines", "path"])
def test_the_picture_as_shapes_is_the_picture_on_the_screen(open_page, tmp_path, shown):
    page = open_page("attention", head="L3H2", prompt=SHORT, shown=shown)
    page.locator(".explorer .token").first.wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the picture as shapes").click()
    saved.value.save_as(tmp_path / "head.svg")
    written = (tmp_path / "head.svg").read_text()
    root = ElementTree.fromstring(written)
    assert root.tag.endswith("svg") and "<image" not in written
    address = "data:image/svg+xml;base64," + base64.b64encode(written.encode()).decode()
    width, inked, far = page.locator(".explorer .stack.one .under").evaluate(DIFFERENCE, address)
    assert width == int(root.attrib["width"]) > 200
    assert inked > 500 and far < 0.05 * inked, (inked, far)


@pytest.fixture(scope="module")
def long_context(tmp_path_factory):
    """A folder with a tiny model of 64 heads, whose tokens are its ids."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def test_a_long_prompt_is_pooled_and_an_opened_head_is_fetched(open_page, sent, long_context):
    prompt = " ".join(str(3 + i * 7 % 90) for i in range(300))
    exact = wb.attention(wb.load(long_context), prompt)
    page = open_page("attention", head="L1H1", model=long_context, prompt=prompt)
    explorer = page.locator(".explorer")
    expect(explorer).to_have_attribute("data-whole", "true")  # the head of the link comes whole
    page.wait_for_timeout(1000)
    before = len(sent)
    page.mouse.click(*head_at(page, 2, 5))
    expect(explorer).to_have_attribute("data-whole", "true")
    expect(page.locator(".explorer .step select")).to_have_value("L2H5")
    row = exact.head(2, 5)[299]
    page.mouse.move(0, 0)
    tokens, values = line_below(page)
    assert tokens[0][1] == 299 and tokens[1][1] == int(row.argmax())
    assert values[0] == pytest.approx(row.max(), abs=6e-5)
    assert len(sent) == before, "the page's script ran"
    page.route("**/explorer/**", lambda route: route.abort())
    page.mouse.click(*head_at(page, 3, 15))
    expect(page.locator(".explorer .note")).to_contain_text("could not be fetched")
    expect(explorer).to_have_attribute("data-whole", "false")
    page.mouse.move(0, 0)
    expect(page.locator(".explorer .says")).to_contain_text("looks most at")


def test_a_finger_opens_heads_and_pins_tokens(browser, app_url):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(f"{app_url}/attention?head=L3H2")
    page.locator(".explorer .token").first.wait_for(timeout=60_000)
    page.touchscreen.tap(*head_at(page, 4, 3))
    expect(page.locator(".explorer .step select")).to_have_value("L4H3")
    page.touchscreen.tap(*cell(page, 25, 4))
    assert [i for _, i in line_below(page)[0]] == [25, 4]
    expect(page.locator(".explorer .token").nth(25)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_file_works_without_a_server(page, attention, tmp_path):
    path = attention.to_html(tmp_path / "page.html", layer=5, head=4)
    page.goto(f"file://{path}?pin=33")
    page.locator(".explorer .token").first.wait_for()
    tokens, values = line_below(page)
    row = attention.head(5, 4)[33]
    assert tokens[0][1] == 33 and tokens[1][1] == int(row.argmax())
    assert values[0] == pytest.approx(row.max(), abs=6e-5)
    page.locator(".explorer .stack.heads").press("ArrowLeft")
    expect(page.locator(".explorer .step select")).to_have_value("L5H3")
