"""`workbench pictures`: every command, in words and as JSON, and bad input in one sentence."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.signals import folder_of, tiny_ast, wav
from workbench.cli.app import app
from workbench.cli.pictures import app as pictures
from workbench.data.digits import digits
from workbench.data.tones import tone
from workbench.errors import WorkbenchError


def run(*words: str):
    result = CliRunner().invoke(app, ["pictures", *words], catch_exceptions=True)
    if isinstance(result.exception, WorkbenchError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> str:
    """A held-out digit as a PNG, ten pixels a pixel."""
    path = tmp_path_factory.mktemp("pngs") / "digit.png"
    image = 255 - np.kron(digits("test").images[0], np.ones((10, 10))) / 16 * 255
    Image.fromarray(image.astype(np.uint8)).save(path)
    return str(path)


COMMANDS = [getattr(c.callback, "__name__", "") for c in pictures.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert "--json" in run(command, "--help").output


def test_classes_of_files_and_of_all_held_out_digits(png):
    label = str(digits("test").labels[0])
    for model in ("shelf-vit", "shelf-digits"):
        records = json.loads(run("classify", png, "digits:0", "--model", model, "--json").stdout)
        assert [record["file"] for record in records] == [png, "digits:0"]
        named = np.argmax(np.ravel(records[1]["probability"]))
        assert str(named) == label
    assert "accuracy 0.988" in run("classify").stdout
    assert label in run("classify", png).stdout


def test_digits_are_drawn_and_completed(png, tmp_path):
    page = tmp_path / "drawn.html"
    record = json.loads(run("draw", "3", "-n", "2", "--out", str(page), "--json").stdout)
    assert np.shape(record["images"]) == (2, 8, 8) and page.stat().st_size > 1000
    text = run("complete", "digits:4", "--rows", "6", "-n", "1").stdout
    first = digits("test").images[4][0]
    inked = [len(word) for word in text.splitlines()[1].split()]
    assert sum(inked) == 2 * int((first * 9 // 16 > 0).sum())


def test_attention_lens_attribution_and_patching_of_digits(tmp_path):
    page = tmp_path / "seen.html"
    record = json.loads(run("attention", "digits:0", "--out", str(page), "--json").stdout)
    assert np.shape(record["pattern"]) == (4, 4, 17, 17) and "plotly" in page.read_text("utf-8")
    record = json.loads(run("attention", "digits:0", "--model", "shelf-digits", "--json").stdout)
    assert np.shape(record["pattern"]) == (3, 4, 65, 65)
    record = json.loads(run("lens", "digits:0", "--json").stdout)
    assert np.shape(record["probability"]) == (5, 10)
    record = json.loads(run("attribute", "digits:0", "--json").stdout)
    assert np.sum(record["scores"]) == pytest.approx(record["value"] - record["start"], abs=2e-3)
    labels = digits("test").labels
    other = int(np.flatnonzero(labels != labels[0])[0])
    text = run("patch", "digits:0", f"digits:{other}").stdout
    assert "denoising" in text and "class" in text


def test_a_sound_is_heard(tmp_path):
    folder = folder_of(tiny_ast(), tmp_path / "ears")
    path = tmp_path / "a.wav"
    path.write_bytes(wav(tone(440)))
    seen = json.loads(run("attention", str(path), "--model", str(folder), "--json").stdout)
    assert np.shape(seen["pattern"]) == (2, 2, 18, 18) and seen["grid"] == [4, 4]
    run("classify", str(path), "--model", str(folder))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "digits:999"], "names no held-out digit"),
        (["attention", "nowhere.png"], "nowhere.png cannot be read"),
        (["draw", "11"], "11 is no class"),
        (["lens", "digits:1", "--model", "shelf-digits"], "models of text are loaded with load"),
        (["patch", "digits:1", "digits:1"], "on both sides"),
        (["attribute", "digits:1", "--answer", "x"], "has no class 'x'"),
        (["draw", "3", "--out", "/nowhere/a.html"], "there is no folder"),
    ],
)
def test_bad_input_is_a_sentence(words, message):
    with pytest.raises(WorkbenchError, match=message):
        run(*words)
