"""Home, Models, Attention, Positions and Patching in a real browser."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from transformers import BertConfig, BertForMaskedLM

from tests.encoders import bert_folder

pytestmark = pytest.mark.browser
LONG = 180_000
"""Milliseconds that a page may take to measure something, on a busy machine."""

# Scrolled and measured in one go: Streamlit may put a new element in its place at any moment.
CENTRE = """(plot, place) => {
  plot.scrollIntoView({ block: "center" });
  const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
  return [box.x + xaxis._offset + xaxis.d2p(place[0]), box.y + yaxis._offset + yaxis.d2p(place[1])];
}"""


def plot(page: Page, key: str) -> Locator:
    """A figure of the page, drawn."""
    figure = page.locator(f".st-key-{key} .js-plotly-plot")
    figure.locator(".main-svg").first.wait_for()
    return figure


def click(page: Page, key: str, x: float, y: float) -> None:
    """Click a figure at a place of its axes, once the panel beside it listens, if it has one."""
    panel = page.locator(".panel")
    if panel.count():
        expect(panel.and_(page.locator("[data-listens]")).first).to_be_attached()
    page.mouse.click(*plot(page, key).evaluate(CENTRE, [x, y]))


def test_home_answers_what_can_be_asked_and_every_question_leads_to_a_page(open_page, settle):
    page = open_page("")
    expect(page.get_by_text("Continue", exact=True)).to_be_visible()
    cards = page.locator('[data-testid="stMain"] [data-testid="stPageLink"]')
    expect(cards.nth(5)).to_be_visible()
    page.get_by_text("Where does the answer come from?").click()
    expect(page.locator("h1")).to_have_text("Where does the answer come from?")
    settle()
    page.go_back()
    expect(page.locator("h1")).to_have_text("What can I ask here?")


def test_home_shows_the_heads_of_the_default_model_once_it_is_loaded(open_page):
    page = open_page("")
    assert plot(page, "home_atlas").is_visible()


def test_models_lists_what_can_be_loaded_and_continues_a_text(open_page, settle):
    page = open_page("models")
    expect(page.get_by_text("sha256")).to_be_visible()
    assert plot(page, "parameters").is_visible()
    page.get_by_label("Prompt").fill("The")
    page.get_by_label("Prompt").press("Enter")
    settle()
    expect(page.get_by_test_id("stText")).to_contain_text("The ")


@pytest.mark.parametrize(
    "prompt",
    [
        "a",
        "<img src=x onerror=alert(1)> & $x^2$ </script>",
        "👩‍👩‍👧 é é",
        "שלום עולם",
        "two\n\nlines\tand $ signs $",
    ],
)
def test_odd_prompts_are_shown_as_they_are(open_page, prompt):
    page = open_page("attention", prompt=prompt)
    page.locator(".explorer .token").first.wait_for()
    assert page.locator(".explorer .stack.one .under").is_visible()
    assert page.locator(".explorer img").count() == 0


def test_a_character_of_several_tokens_can_be_read_in_each(open_page):
    page = open_page("attention", prompt="שלום")
    expect(page.locator(".explorer .token").first).to_have_text("ש⟨1/2⟩")


@pytest.mark.parametrize(
    ("path", "most", "picture", "prompt"),
    [
        ("attention", 256, ".explorer .stack.one .under", "👩‍👩‍👧" * 10_000),
        ("anatomy", 64, ".st-key-step_9 .main-svg >> nth=0", "word " * 10_000),
    ],
    ids=["attention", "anatomy"],
)
def test_fifty_thousand_characters_are_cut_and_the_page_says_so(
    open_page, settle, path, most, picture, prompt
):
    page = open_page(path)  # typed, since no URL is that long
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_label("Prompt").press("Control+Enter")
    expect(page.get_by_test_id("stAlert")).to_contain_text(f"more than {most} tokens")
    settle()
    expect(page.locator(picture)).to_be_visible()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a tiny BERT, whose tokens are its ids."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def gap_filler(tmp_path_factory):
    """A folder with a tiny BERT that reads words."""
    return str(bert_folder(tmp_path_factory.mktemp("models") / "tiny-words"))


@pytest.mark.parametrize("path", ["anatomy", "positions", "attribution", "circuits"])
def test_a_model_that_fills_gaps_gets_a_sentence_where_it_has_no_place(open_page, encoder, path):
    page = open_page(path, model=encoder)
    expect(page.get_by_test_id("stAlert")).to_contain_text("is an encoder-only model")
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()


def test_anatomy_works_every_step_out_and_says_how_near_it_is_to_the_model(open_page):
    page = open_page("anatomy", head="L3H1", prompt="One two one two")
    expect(page.get_by_text("steps match the model to")).to_be_visible()
    small = page.locator(".steps")
    assert small.locator("li img").count() == 18
    expect(small.locator("section.open")).to_contain_text("Softmax")
    assert plot(page, "step_11").is_visible()
    page.get_by_text("Into the layer").last.click()
    assert plot(page, "step_1").is_visible()
    expect(small.locator("section.open")).to_contain_text("1. Embedding")
    page.wait_for_url("**stage=Into+the+layer*")
    page.get_by_text("Back into the stream").last.click()
    expect(page.get_by_text("Next token", exact=True)).to_be_visible()


def test_the_framed_token_is_in_the_url(open_page, settle):
    page = open_page("anatomy", prompt="One two one two", position="·two (2)")
    box = page.get_by_role("combobox", name="Token (framed")
    assert box.input_value() == "·two (2)"
    box.fill("·one (3)")
    box.press("Enter")
    settle()
    page.wait_for_url("**position=*one*")


@pytest.mark.parametrize(
    ("part", "step"),
    [("encoder", "Position bias"), ("decoder", "Mask"), ("cross", "Encoder output")],
)
def test_anatomy_shows_each_attention_of_an_encoder_decoder_model(open_page, part, step):
    page = open_page("anatomy", model="shelf-reverse", part=part, text="stressed")
    expect(page.get_by_text("steps match the model to")).to_be_visible()
    expect(page.get_by_text(step, exact=False).first).to_be_visible()


def test_pages_for_decoders_say_that_an_encoder_decoder_model_is_none(open_page):
    page = open_page("attribution", model="shelf-reverse")
    expect(page.get_by_test_id("stAlert")).to_contain_text(
        "is an encoder-decoder model; Anatomy, Attention"
    )


def test_an_encoders_attention_is_a_square_and_its_own_text_has_a_gap(open_page, gap_filler):
    page = open_page("attention", model=gap_filler)
    expect(page.get_by_text("the text attends to itself, both ways")).to_be_visible()
    expect(page.locator(".explorer .token", has_text="[MASK]")).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_have_count(0)


@pytest.mark.parametrize("part", ["encoder", "decoder", "cross"])
def test_each_attention_of_an_encoder_decoder_is_explored(open_page, part):
    page = open_page("attention", model="shelf-reverse", part=part, text="stressed")
    expect(page.locator(".explorer .token").first).to_be_visible()
    tokens = page.locator(".explorer .token")
    assert tokens.count() == {"encoder": 9, "decoder": 9, "cross": 18}[part]
    paths = page.get_by_role("button", name="Path")
    assert paths.count() == (0 if part == "cross" else 1)


def test_a_reversed_letter_is_patched_in_the_cross_attention(open_page):
    page = open_page("patching", model="shelf-reverse", site="v")
    expect(page.get_by_text("denoising cross v", exact=False).first).to_be_visible()
    expect(page.get_by_text("patching everything gives the other run")).to_be_visible()


def test_a_gap_is_patched_read_by_the_lens_and_its_heads_scored(open_page, gap_filler):
    page = open_page(
        "patching",
        model=gap_filler,
        gap_clean="the cat sat on the [MASK] .",
        gap_corrupted="the dog sat on the [MASK] .",
        gap_answer="mat",
        gap_wrong="tree",
    )
    expect(page.get_by_text("denoising encoder resid_pre", exact=False).first).to_be_visible()
    page = open_page("lens", model=gap_filler, text="the cat sat on the [MASK] .", follow="mat")
    expect(page.get_by_text("Read at [MASK] (6).")).to_be_visible()
    page = open_page("heads", model=gap_filler)
    expect(page.get_by_text("There is no induction without a causal mask")).to_be_visible()


def test_an_unknown_model_gets_a_sentence_and_the_choice_stays(open_page):
    page = open_page("attention", model="./no-such-folder")
    expect(page.get_by_test_id("stAlert")).to_contain_text("no-such-folder")
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()


def test_the_strongest_pairs_of_a_head_are_listed(open_page):
    page = open_page("attention", head="L5H4")
    page.get_by_text("Strongest pairs").click()
    rows = page.locator(".explorer .pairs tbody tr")
    expect(rows).to_have_count(50)
    rows.first.click()
    expect(page).to_have_url(re.compile("pin="))


def test_heads_are_scored_labelled_and_their_circuits_drawn_as_the_url_says(open_page):
    page = open_page("heads", score="previous token", head="L1H3", kinds="Q")
    expect(plot(page, "score_map").locator(".gtitle")).to_contain_text("Previous token")
    expect(page.get_by_text("L1H3:")).to_be_visible()
    assert plot(page, "composition").is_visible()
    expect(page.get_by_test_id("stDataFrame")).to_have_count(5)


def test_positions_show_the_encoding_and_attention_by_distance(open_page):
    page = open_page("positions")
    for key in ("wavelengths", "turns", "lines"):
        assert plot(page, key).is_visible()


def test_patching_runs_its_default_example_and_a_click_gives_the_numbers(open_page, settle):
    page = open_page("patching")
    expect(page.get_by_text("Can this be trusted?")).to_be_visible()
    expect(page.get_by_text("random cells against hooks")).to_be_visible()
    expect(page.get_by_text("Do not believe this map")).to_have_count(0)
    click(page, "effects", 4, 0)
    expect(page.get_by_text("Layer 0, position 4")).to_be_visible()
    settle()


def test_a_map_answers_the_mouse_and_the_keys_without_the_server(open_page, settle):
    page = open_page("patching")
    plot(page, "effects").wait_for()
    settle()
    page.evaluate("window.stale = 0")
    page.evaluate(
        "new MutationObserver(() => window.stale++).observe("
        "document.querySelector('[data-test-script-state]'),"
        "{attributeFilter: ['data-test-script-state']})"
    )
    click(page, "effects", 1, 2)
    panel = page.get_by_role("group", name=re.compile("The chosen cell"))
    expect(panel).to_contain_text("Layer 2, position 1")
    expect(panel).to_contain_text("clean ·plants, corrupted ·plant")
    assert "cell=2%2C1" in page.url
    panel.press("ArrowDown")
    panel.press("ArrowRight")
    expect(panel).to_contain_text("Layer 3, position 2")
    expect(panel).to_contain_text("·of in both prompts")
    assert page.evaluate("window.stale") == 0, "a script of the page ran"
    shown = panel.locator("dd").first.inner_text()
    page = open_page("patching", cell="3,2")
    panel = page.get_by_role("group", name=re.compile("The chosen cell"))
    expect(panel.locator("dd").first).to_have_text(shown)
    page.get_by_role("button", name="Induction").click()
    expect(panel).to_contain_text("Move over the map")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("anatomy", {}),
        ("benchmarks", {"benchmarks_view": "Samples"}),
        ("compare", {"compare_view": "Heads"}),
    ],
)
def test_other_pages_open_every_head_on_their_text(open_page, settle, path, query):
    page = open_page(path, **query)
    switch = page.get_by_text("All heads on this text")
    expect(switch).to_be_visible(timeout=180_000)
    switch.click()
    expect(page.get_by_text("All 36 heads")).to_be_visible()
    less = page.get_by_role("combobox", name="Minus", exact=True)
    if path != "anatomy":
        expect(less).to_have_value("other")
    settle()


def test_a_probe_leads_from_the_heads_it_needs_to_a_model_without_them(open_page, settle):
    page = open_page("circuits", model="shelf-base", probe="induction")
    expect(page.get_by_text("Most needed heads")).to_be_visible()
    assert plot(page, "needed").is_visible()
    page.get_by_role("button", name="Make and measure").click()
    expect(page.get_by_text("edit:shelf-base-induction-cut")).to_be_visible()
    settle()


def test_what_a_model_knows_by_heart_and_which_heads_hold_it(open_page, settle):
    page = open_page("privacy", privacy_view="A model", canaries="The code of Anna is {}=31")
    assert plot(page, "exposures").is_visible()
    expect(page.get_by_text("was trained on are unknown here")).to_be_visible()
    page.get_by_role("button", name="Find the heads").click()
    assert plot(page, "holders").is_visible()
    expect(page.get_by_text("What removing them costs")).to_be_visible(timeout=LONG)
    settle()


def test_stereotypes_by_category_and_the_heads_that_carry_them(open_page, settle):
    page = open_page("fairness", task="crows_pairs_rest", limit="12", pairs="12")
    assert plot(page, "by-category").is_visible()
    expect(page.get_by_text("three of four")).to_be_visible()
    page.get_by_role("button", name="Find the heads").click()
    assert plot(page, "carriers").is_visible()
    expect(page.get_by_text("What else is lost")).to_be_visible(timeout=LONG)
    settle()


def test_an_example_fills_the_prompts(open_page, settle):
    page = open_page("patching")
    page.get_by_role("button", name="Subject and verb").click()
    expect(page.get_by_label("Corrupted prompt")).to_have_value("The plant of the garden")
    settle()
    assert plot(page, "effects").is_visible()


def test_a_link_takes_the_model_along(open_page, settle):
    page = open_page("attention", model="shelf-tuned")
    page.get_by_text("What each head does in general").click()
    expect(page).to_have_url(re.compile(r"/heads\?model=shelf-tuned"))
    settle()
    expect(page.get_by_role("combobox", name="Model")).to_have_value("shelf-tuned")


def test_long_work_is_stopped_and_started_again(open_page, settle):
    page = open_page("lens", lens="tuned", model="shelf-tuned")
    main = page.get_by_test_id("stMain")
    main.get_by_role("button", name="Train the tuned lens").click()
    # Streamlit's own Stop, at the top, ends the script without a word.
    main.get_by_role("button", name="Stop").click()
    settle()
    expect(main.get_by_role("button", name="Stop")).to_have_count(0)
    main.get_by_role("button", name="Train the tuned lens").click()
    expect(page.get_by_test_id("stProgress").filter(has_text="left")).to_be_visible()
    main.get_by_role("button", name="Stop").click()
    settle()


@pytest.mark.slow
def test_a_whole_phrase_can_be_the_answer(open_page, settle):
    page = open_page("patching", site="z")
    page.get_by_role("button", name="Whole phrase").click()
    expect(page.get_by_text("Answers of several tokens")).to_be_visible()
    expect(page.get_by_text("Do not believe this map")).to_have_count(0)
    settle()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"corrupted": "short"}, "must be equal"),
        ({"answer": " extraordinarily", "metric": "rank"}, "give answers of a single token"),
        ({"clean": "same", "corrupted": "same"}, "are the same"),
    ],
)
def test_a_pair_that_cannot_be_patched_gets_a_sentence(open_page, field, words):
    page = open_page("patching", **field)
    expect(page.get_by_test_id("stAlert")).to_contain_text(words)


def test_the_python_on_the_page_unfolds_and_runs_as_it_stands(open_page, tmp_path, monkeypatch):
    page = open_page("attention", head="L3H2")  # that of all pages: tests/test_pages.py
    page.get_by_text("Same in Python").click()
    code = page.get_by_test_id("stCode").locator("code").inner_text()
    assert "layer=3, head=2" in code
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "attention", "exec"), {})
    assert (tmp_path / "attention.html").is_file()


def test_heads_can_be_patched_too(open_page):
    page = open_page("patching", site="z", direction="noising")
    title = plot(page, "effects").locator(".gtitle")
    expect(title).to_contain_text("noising z")


def test_the_lens_page_reads_every_layer_splits_the_answer_and_weighs_the_tokens(open_page, settle):
    page = open_page("lens", model="shelf-base")
    assert plot(page, "table").is_visible() and plot(page, "answers_rank").is_visible()
    expect(page.get_by_text("the lens gives the model's own logits")).to_be_visible()
    page = open_page("lens", model="shelf-base", lens_view="By part")
    assert plot(page, "waterfall").is_visible() and plot(page, "neurons").is_visible()
    page = open_page("lens", model="shelf-base", lens_view="By token", baseline="mean")
    assert page.locator(".coloured span").count() == 20  # the tokens of the prompt
    assert "lens_view=By+token" in page.url.replace("%20", "+")
    page.get_by_role("textbox", name="Answer", exact=True).fill(" fire")
    page.get_by_role("textbox", name="Answer", exact=True).press("Enter")
    settle()
    expect(page.get_by_text("What each token adds to the log prob")).to_be_visible()


@pytest.mark.slow
def test_a_tuned_lens_is_trained_on_the_page_and_kept(open_page, settle):
    page = open_page("lens", model="shelf-base", lens="tuned")
    page.get_by_role("button", name="Train the tuned lens").click()
    measured = page.get_by_text("held out from the training text")
    expect(measured).to_be_visible(timeout=240_000)  # trained; the figure itself has less time
    plot(page, "nearness").wait_for()
    expect(page.get_by_role("button", name="Train the tuned lens")).to_have_count(0)


def test_estimates_stand_beside_the_exact_map_with_their_correlation(open_page):
    page = open_page(
        "attribution", model="shelf-base", probe="induction", site="resid_pre", pairs="10"
    )
    for key in ("estimate", "exact", "scatter"):
        assert plot(page, key).is_visible()
    expect(page.get_by_test_id("stMetricValue").nth(1)).to_contain_text(" of 60")


def test_prompts_of_unequal_length_are_shown_aligned_and_a_click_mends_them(open_page, settle):
    clean = "The red horse, the old dog. The red"
    corrupted = "The red hippopotamus, the old horse. The red"
    page = open_page("patching", clean=clean, corrupted=corrupted)
    expect(page.get_by_text("they must be equal")).to_be_visible()
    expect(page.locator(".pair td", has_text="ipp").first).to_be_visible()
    page.locator('[data-testid="stMain"] .stButton button').last.click()
    expect(page.get_by_text("Can this be trusted?")).to_be_visible()
    settle()


def test_linear_probes_read_a_label_off_every_layer_and_steer_along_it(open_page, settle):
    page = open_page("linear", n="300")
    assert plot(page, "accuracy").is_visible() and plot(page, "bits").is_visible()
    page.get_by_test_id("stFormSubmitButton").locator("button").click()
    expect(page.get_by_text("Saved as")).to_be_visible()
    settle()


def test_contrasting_prompts_steer_a_model_and_the_page_says_what_it_costs(open_page, settle):
    page = open_page("steering")
    page.get_by_role("button", name="Steer", exact=True).click()
    expect(page.get_by_text("Saved as")).to_be_visible()
    expect(page.get_by_text("n = 8 paragraphs")).to_be_visible()
    settle()


@pytest.mark.slow  # the task is scored twice, with and without the heads
def test_a_benchmark_task_is_asked_again_without_named_heads(open_page, settle):
    page = open_page("circuits")
    page.get_by_text("a benchmark task").first.click()
    page.get_by_label("Heads", exact=True).fill("L0H0, L1H1")
    page.get_by_test_id("stFormSubmitButton").locator("button").first.click()
    # The task is run again without each head, which a busy machine does not do in a minute.
    expect(page.get_by_text("One head at a time")).to_be_visible(timeout=LONG)
    settle()
