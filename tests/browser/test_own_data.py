"""People's own data in common formats: from an upload on the Train page to a measured model."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser]
LONG = 500_000
"""Milliseconds a short fine-tune may take on a busy machine."""
TOWNS = ("Oslo", "Berlin", "Madrid", "Rome", "Paris", "Vienna")
NAMES = ("Anna", "Ben", "Clara", "David", "Eva")


def reviews(folder: Path) -> list[Path]:
    """A CSV whose columns are called review and sentiment, beside an id."""
    words = {"positive": ("warm", "funny", "lovely"), "negative": ("cold", "dull", "grim")}
    rows = [
        f'{i},"The film was {words[label][i % 3]} and {words[label][i // 2 % 3]}, take {i}",{label}'
        for i in range(120)
        for label in [("positive", "negative")[i % 2]]
    ]
    path = folder / "reviews.csv"
    path.write_text("id,review,sentiment\n" + "\n".join(rows) + "\n")
    return [path]


def chats(folder: Path) -> list[Path]:
    """ShareGPT's JSON: conversations of from and value."""
    talks = [
        {
            "id": f"{town}{n}",
            "conversations": [
                {"from": "human", "value": f"Tell me {n} things about {town}."},
                {"from": "gpt", "value": f"{town} is a town with {n} old streets."},
            ],
        }
        for town in TOWNS
        for n in range(2, 12)
    ]
    path = folder / "sharegpt.json"
    path.write_text(json.dumps(talks))
    return [path]


def entities(folder: Path) -> list[Path]:
    """CoNLL with three columns: word, part of speech, tag."""
    sentences = [
        f"Yesterday RB O\n{name} NNP B-PER\nleft VBD O\n{town} NNP B-LOC\n. . O\n"
        for name in NAMES
        for town in TOWNS
    ]
    path = folder / "entities.conll"
    path.write_text("-DOCSTART- -X- O\n\n" + "\n".join(sentences))
    return [path]


def markdown(folder: Path) -> list[Path]:
    """A folder of Markdown files."""
    paths = []
    for town in TOWNS:
        path = folder / f"{town}.md"
        lines = [
            f"- {name} lives in {town} and has {n} books." for name in NAMES for n in range(40)
        ]
        path.write_text(f"# {town}\n\n" + "\n".join(lines) + "\n")
        paths.append(path)
    return paths


CASES = {
    "reviews": (reviews, "finetune-intents", "Review: {text}\nSentiment:", "The film was"),
    "chats": (chats, "finetune-chat", "", "user: Tell me"),
    "entities": (entities, "finetune-entities", "", "Yesterday"),
    "markdown": (markdown, "tiny", "", "lives in"),
}


def upload(open_page: Callable[..., Page], files: list[Path], recipe: str) -> Page:
    """Open the Train page at a recipe and give it the files."""
    page = open_page("train", recipe=recipe)
    page.get_by_text("Use your own data").click()
    page.locator("input[type=file]").first.set_input_files(files)
    expect(page.get_by_role("button", name="Use this data")).to_be_visible()
    return page


def test_an_uploaded_conversation_is_shown_as_it_will_be_read(
    open_page: Callable[..., Page], settle: Callable[[], None], tmp_path: Path
) -> None:
    page = upload(open_page, chats(tmp_path), "finetune-chat")
    expect(page.get_by_text(re.compile(r"The first of \d+ examples"))).to_be_visible()
    page.get_by_role("button", name="Use this data").click()
    expect(page.get_by_text("The form below uses it.")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_own_data_goes_from_an_upload_to_a_measured_model(
    open_page: Callable[..., Page], settle: Callable[[], None], tmp_path: Path, name: str
) -> None:
    make, recipe, prompt, _ = CASES[name]
    page = upload(open_page, make(tmp_path), recipe)
    page.get_by_role("button", name="Use this data").click()
    expect(page.get_by_text("The form below uses it.")).to_be_visible()
    steps = page.get_by_role("spinbutton", name="Steps")
    steps.fill("30")
    steps.press("Tab")
    settle()
    if prompt:
        box = page.get_by_role("textbox", name="Prompt")
        box.fill(prompt)
        box.press("Tab")
        settle()
    page.get_by_role("button", name="Start", exact=True).first.click()
    expect(page.locator("strong", has_text=re.compile(f"^{recipe}$"))).to_be_visible()
    done = page.locator(".stMarkdownBadge").filter(has_text="done").first
    expect(done).to_be_visible(timeout=LONG)
    settle()
    done.scroll_into_view_if_needed()
    if recipe == "tiny":
        expect(page.get_by_text(re.compile("Held-out")).first).to_be_visible()
    else:
        expect(page.get_by_text(re.compile(r"\[[−+]\d\.\d+, [−+]\d\.\d+\]")).first).to_be_visible()
