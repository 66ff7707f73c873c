"""Long work on a page: its cost before it starts, a Start button, and the time left."""

import pytest
from streamlit.testing.v1 import AppTest
from transformers import PreTrainedTokenizerFast

import workbench as wb
from tests.conftest import tiny_gpt
from workbench import paths
from workbench.subjects.save import save
from workbench.ui.parts.progress import time_left
from workbench.ui.parts.words import roughly


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (8.4, "8 s"),
        (12, "10 s"),
        (61, "60 s"),
        (91, "2 min"),
        (1800, "30 min"),
        (9000, "2 h"),
    ],
)
def test_seconds_in_words(seconds, words):
    assert roughly(seconds) == words


@pytest.mark.parametrize(
    ("fraction", "passed", "words"),
    [
        (0.5, 1.0, ""),  # too early to say
        (0.01, 10.0, ""),  # too little is done
        (0.25, 10.0, ", about 30 s left"),
        (0.5, 300.0, ", about 5 min left"),
        (1.0, 300.0, ""),
    ],
)
def test_the_time_left_is_in_step_with_what_is_done(fraction, passed, words):
    assert time_left(fraction, passed) == words


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> str:
    """The folder of a GPT with 26 million parameters, nearly all in the embedding."""
    folder = tmp_path_factory.mktemp("models") / "large"
    tokenizer = wb.load("shelf-base").tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    save(folder, tiny_gpt(d_vocab=400_000, d_model=64), tokenizer)
    return str(folder)


@pytest.mark.parametrize("page", ["circuits", "attribution"])
def test_a_large_model_waits_for_a_click_and_says_what_it_costs(page, large, home):
    app = AppTest.from_file(str(paths.shelf("pages") / f"{page}.py"), default_timeout=120)
    app.query_params["model"] = large
    app.run()
    assert not app.exception
    [cost] = [info.value for info in app.info if "at most about" in info.value]
    assert "large" in cost
    assert not app.dataframe and not app.metric
    [start] = [button for button in app.button if button.label == "Start"]
    start.click().run()
    assert not app.exception
    assert not [info for info in app.info if "at most about" in info.value]
