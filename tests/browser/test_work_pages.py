"""The pages that start runs: a run goes on by itself, is watched, stopped and read at its end."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.subjects.save import save
from workbench.subjects.tokenizer import train_tokenizer

pytestmark = pytest.mark.browser
LONG = 180_000
"""Milliseconds a run may take: its process first imports torch, and the machine may be busy."""

SENTENCES = (
    "The keeper of the lighthouse counted the ships.",
    "Every evening the bell rang twice and the harbour grew quiet.",
    "Anna gave the letter to Peter, and Peter read it aloud.",
    "When the rain stopped, the children ran down to the water.",
)

RECIPE = """
title = "{title}"
[model]
n_ctx = 32
n_layers = 1
n_heads = 2
d_model = 16
[tokenizer]
kind = "char"
[corpus]
sources = ["{corpus}"]
validation = 0.3
[train]
steps = {steps}
batch_size = 4
warmup = 2
eval_every = 10
eval_tokens = 512
checkpoint_every = {steps}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 900 paragraphs."""
    path = tmp_path_factory.mktemp("corpus") / "harbour.txt"
    lines = [f"{number}. {' '.join(SENTENCES[number % 4 :])}" for number in range(900)]
    path.write_text("\n\n".join(lines))
    return path


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The folders of two GPT-2 models of one shape and tokenizer, with different random weights."""
    import torch

    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(SENTENCES, d_vocab=300)
    shape = GPT2Config(
        n_layer=2, n_head=2, n_embd=16, n_positions=256, vocab_size=len(tokenizer), bos_token_id=0
    )
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        save(folder / name, GPT2LMHeadModel(shape), tokenizer)
    return str(folder / "first"), str(folder / "second")


def start_training(page: Page, title: str, corpus: Path, steps: int) -> None:
    """Start a recipe typed as TOML on the Train page."""
    type_recipe(page, RECIPE.format(title=title, corpus=corpus, steps=steps))
    expect(status(page, title)).to_be_visible()


def type_recipe(page: Page, toml: str) -> None:
    """Put a recipe into the form of the Train page and press Start."""
    page.get_by_text("As TOML", exact=True).click()
    page.locator("textarea[aria-label='Recipe']").fill(toml)
    expect(page.get_by_label("Title")).to_have_count(0)
    page.get_by_role("button", name="Start").click()


def status(page: Page, title: str) -> Locator:
    """The title of a run above its state."""
    return page.locator("strong", has_text=re.compile(f"^{re.escape(title)}$"))


def badge(page: Page, word: str) -> Locator:
    """The first badge that ends with a word, such as a run's state."""
    return page.locator(".stMarkdownBadge").filter(has_text=re.compile(f"{word}$")).first


def choose(page: Page, label: str, option: str) -> None:
    """Type an option that may not be listed into a select box."""
    box = page.get_by_role("combobox", name=re.compile(label))
    box.fill(option)
    box.press("Enter")


def test_a_training_run_goes_on_while_another_page_is_read(
    open_page: Callable[..., Page], settle: Callable[[], None], corpus: Path
) -> None:
    page = open_page("train")
    start_training(page, "thirty steps", corpus, 30)
    expect(page).to_have_url(re.compile(r"run=\d{8}-\d{6}-"))
    url = page.url
    page.get_by_role("link", name="Home").click()
    settle()
    page.goto(url)
    expect(badge(page, "done")).to_be_visible(timeout=LONG)
    expect(page.get_by_text("30 / 30")).to_be_visible()
    expect(page.get_by_role("figure", name="Loss against step").last).to_contain_text("validation")
    expect(page.get_by_role("link", name="Attention").last).to_have_attribute(
        "href", re.compile("model.*run%3A")
    )


def test_a_run_survives_a_reload_stops_and_is_resumed(
    open_page: Callable[..., Page], corpus: Path
) -> None:
    page = open_page("train")
    start_training(page, "without end", corpus, 50_000)
    expect(page.get_by_test_id("stProgress").get_by_text("step")).to_be_visible(timeout=LONG)
    page.reload()
    expect(status(page, "without end")).to_be_visible()
    expect(badge(page, "running")).to_be_visible()
    before = page.get_by_test_id("stProgress").inner_text()
    expect(page.get_by_test_id("stProgress")).not_to_have_text(before)
    page.get_by_role("button", name="Stop run").click()
    expect(badge(page, "cancelled")).to_be_visible(timeout=LONG)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_test_id("stProgress").get_by_text("step")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Stop run").click()
    expect(badge(page, "cancelled")).to_be_visible(timeout=LONG)


def test_the_cost_of_a_recipe_is_measured_before_it_starts(open_page: Callable[..., Page]) -> None:
    page = open_page("train", recipe="tiny")
    page.get_by_role("button", name="What will it cost?").click()
    expect(page.get_by_role("cell", name="peak memory")).to_be_visible(timeout=LONG)
    expect(page.get_by_test_id("stAlert").filter(has_text="error")).to_have_count(0)


def test_a_corpus_that_is_not_there_is_a_sentence_and_starts_nothing(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("train")
    type_recipe(page, RECIPE.format(title="no text", corpus="/no/such/text.txt", steps=10))
    expect(page.get_by_test_id("stAlert")).to_contain_text(
        "No text found for corpus source '/no/such/text.txt'"
    )
    expect(status(page, "no text")).to_have_count(0)


def test_a_recipe_that_cannot_be_built_starts_nothing(
    open_page: Callable[..., Page], corpus: Path
) -> None:
    page = open_page("train")
    type_recipe(page, 'title = "x"\nstepz = 3\n')
    expect(page.get_by_test_id("stAlert").filter(has_text="does not know stepz")).to_be_visible()


def test_models_are_evaluated_and_two_of_them_compared(
    open_page: Callable[..., Page],
    settle: Callable[[], None],
    two_models: tuple[str, str],
    page: Page,
    app_url: str,
) -> None:
    open_page("benchmarks", models="shelf-base", limit="8")
    for other in two_models:
        choose(page, "Models", other)
    page.keyboard.press("Escape")
    settle()
    page.get_by_role("button", name="Start").click()
    # The run that comes with the package is no longer shown.
    expect(status(page, "core: shelf-base, first, second")).to_be_visible(timeout=LONG)
    expect(badge(page, "done")).to_be_visible(timeout=LONG)
    settle()
    table = page.get_by_role("table")
    expect(table.get_by_role("cell", name="agreement")).to_have_count(1)
    expect(
        table.get_by_role("cell", name=re.compile(r"^0\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]$"))
    ).to_have_count(12)
    page.get_by_text("Differences", exact=True).click()
    expect(page.get_by_role("listitem").filter(has_text="95 % interval")).to_have_count(5)
    page.get_by_text("Samples", exact=True).click()
    expect(page.get_by_text("Sample", exact=False).first).to_be_visible()
    expect(page.locator("a[href*='attention'][href*='prompt']").first).to_be_visible()
    patching = page.locator("a[href*='patching'][href*='corrupted']").first
    expect(patching).to_have_attribute("href", re.compile("clean.*corrupted.*answer.*wrong"))
    page.get_by_text("Reliability", exact=True).click()
    expect(
        page.get_by_role("paragraph").filter(has_text="expected calibration error")
    ).to_have_count(3)


def test_compare_shows_the_difference_and_a_head_map(
    open_page: Callable[..., Page], settle: Callable[[], None], two_models: tuple[str, str]
) -> None:
    page = open_page("compare", base=two_models[0], tuned=two_models[1], limit="8")
    if page.get_by_role("button", name="Measure", exact=True).count():
        page.get_by_role("button", name="Measure", exact=True).click()
    expect(badge(page, "done")).to_be_visible(timeout=LONG)
    expect(page.get_by_role("listitem").filter(has_text="95 % interval")).to_have_count(5)
    samples = page.locator("a[href*='attention'][href*='prompt']")
    expect(samples.first).to_be_visible()
    page.get_by_test_id("stMain").get_by_text("Heads", exact=True).click()
    heads = page.get_by_test_id("stPlotlyChart").filter(has_text="Jensen-Shannon distance")
    expect(heads).to_be_visible(timeout=LONG)
    settle()
    heads.scroll_into_view_if_needed()
    square = heads.locator(".nsewdrag").bounding_box()
    assert square is not None
    page.mouse.click(square["x"] + square["width"] * 0.25, square["y"] + square["height"] * 0.75)
    expect(page).to_have_url(re.compile("head=L1H0"))
    settle()
    expect(page.get_by_test_id("stPlotlyChart").filter(has_text="first, L1H0")).to_be_visible()


def test_models_of_other_shapes_keep_their_benchmark_view(
    open_page: Callable[..., Page], two_models: tuple[str, str], tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(SENTENCES, d_vocab=300)
    shape = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, n_positions=256, vocab_size=len(tokenizer), bos_token_id=0
    )
    save(tmp_path / "flat", GPT2LMHeadModel(shape), tokenizer)
    page = open_page(
        "compare", base=two_models[0], tuned=str(tmp_path / "flat"), compare_view="Heads"
    )
    alert = page.get_by_test_id("stAlert").filter(has_text="parts cannot be compared one to one")
    expect(alert).to_be_visible()
    expect(alert).to_contain_text("What remains: behaviour")


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("Text", "identical tokens before they diverge"),
        ("Layers", "linear CKA"),
        ("Weights", "Roy & Vetterli 2007"),
    ],
)
def test_every_view_of_a_comparison_draws(
    open_page: Callable[..., Page], two_models: tuple[str, str], view: str, shown: str
) -> None:
    page = open_page("compare", base=two_models[0], tuned=two_models[1], compare_view=view)
    expect(page.get_by_text(shown).first).to_be_visible(timeout=LONG)


def test_an_unknown_run_is_a_sentence(open_page: Callable[..., Page]) -> None:
    page = open_page("benchmarks", run="19990101-000000-dead")
    alert = page.get_by_test_id("stAlert").filter(has_text="there is no run '19990101-000000-dead'")
    expect(alert).to_be_visible()


@pytest.mark.slow
def test_the_page_answers_while_a_run_is_going(
    open_page: Callable[..., Page], settle: Callable[[], None], corpus: Path
) -> None:
    page = open_page("train")
    start_training(page, "in the background", corpus, 50_000)
    expect(page.get_by_test_id("stProgress").get_by_text("step")).to_be_visible(timeout=LONG)
    began = time.monotonic()
    page.get_by_role("combobox", name=re.compile("Metric")).click()
    page.get_by_role("option", name="Learning rate").click()
    expect(page.get_by_role("figure", name="Learning rate against step").last).to_be_visible()
    assert time.monotonic() - began < 5
    page.get_by_role("button", name="Stop run").click()
    expect(badge(page, "cancelled")).to_be_visible(timeout=LONG)
