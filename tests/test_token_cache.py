"""Tokens that are kept between runs: damage is seen and mended, other data is refused, nothing is left unmeasured."""

import json
import math
import shutil

import pytest

import workbench as wb
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench import paths
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.store.runs import runs
from workbench.training import checkpoints, corpus
from workbench.training.pretrain import setup


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def zero_half(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def flip_bit(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def grow(path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def remove(path) -> None:
    path.unlink()


def test_damaged_tokens_are_made_anew(text):  # noqa: F811
    trainee, tokens = setup(recipe(text))
    folder = paths.home() / "corpora" / tokens.data_hash[:16]
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("train.bin", "validation.bin"):
        for damage in (truncate, zero_half, flip_bit, grow, remove):
            damage(folder / name)
            again = corpus.prepare(recipe(text).corpus, trainee.tokenizer, 32)
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole, (name, damage)
            assert again.train.tobytes() == whole["train.bin"]
    for meta in ("", "{", "[]", "{}", '{"dtype": "uint16"}'):
        (folder / "meta.json").write_text(meta)
        corpus.prepare(recipe(text).corpus, trainee.tokenizer, 32)
        assert set(json.loads((folder / "meta.json").read_text())["sha256"]) == {"train", "validation"}


def cut_short(run_id: str, step: int) -> None:
    """The run as it would be, had it been killed after the checkpoint of this step."""
    store = Store()
    folder = store.get(run_id).folder
    for path in checkpoints.saved(folder):
        if checkpoints.step_of(path) > step:
            shutil.rmtree(path)
    store.set(run_id, runs.c.status == "done", status="interrupted")


def test_a_run_killed_after_its_last_checkpoint_is_measured_again(text):  # noqa: F811
    run = wb.train(recipe(text, steps=20))
    expected = run.result["validation_loss"]
    cut_short(run.id, 20)
    again = wb.resume(run.id)
    assert again.status == "done" and not math.isnan(again.result["validation_loss"])
    assert again.result["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert again.result["best_validation_loss"] == pytest.approx(run.result["best_validation_loss"], rel=1e-5)


def test_a_run_whose_texts_have_changed_is_not_resumed(text, tmp_path):  # noqa: F811
    own = tmp_path / "own.txt"
    shutil.copy(text, own)
    run = wb.train(recipe(own, steps=20))
    cut_short(run.id, 20)
    own.write_text(own.read_text() + "\n\nOne more text that was not there before, and is long enough to count.")
    with pytest.raises(WorkbenchError, match=r"no longer what this run learned from .*start a new run"):
        wb.resume(run.id)
    shutil.copy(text, own)
    assert Store().get(run.id).status != "done"
    assert wb.resume(run.id).status == "done"
