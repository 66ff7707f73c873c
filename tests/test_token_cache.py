"""Tokens that are kept between runs: damage is seen and mended, other data is refused, nothing is
left unmeasured.
"""

import copy
import json
import math
import shutil
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import workbench as wb
from tests.test_training import recipe, text  # noqa: F401 (a fixture)
from workbench import paths
from workbench.errors import WorkbenchError
from workbench.store import Run, Store
from workbench.store.runs import runs
from workbench.training import checkpoints, corpus
from workbench.training.pretrain import run_recipe, setup
from workbench.training.rows import Row
from workbench.training.same_data import fingerprint, require_same


def result_of(run: Run) -> dict[str, Any]:
    """What a finished run found."""
    assert run.result is not None
    return run.result


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
            now = {path.name: path.read_bytes() for path in folder.iterdir()}
            assert now.keys() == whole.keys()
            assert all(now[file] == whole[file] for file in ("train.bin", "validation.bin")), (
                name,
                damage,
            )
            # The sources may be named otherwise: another path may have held the same text.
            metas = [json.loads(files["meta.json"]) | {"sources": []} for files in (now, whole)]
            assert metas[0] == metas[1]
            assert again.train.tobytes() == whole["train.bin"]
            assert name in again.notes.remarks[-1] and "damaged" in again.notes.remarks[-1], (
                name,
                damage,
            )
    for meta in ("", "{", "[]", "{}", '{"dtype": "uint16"}'):
        (folder / "meta.json").write_text(meta)
        again = corpus.prepare(recipe(text).corpus, trainee.tokenizer, 32)
        assert "no checksums" in again.notes.remarks[-1]
        assert set(json.loads((folder / "meta.json").read_text())["sha256"]) == {
            "train",
            "validation",
        }
    assert corpus.prepare(recipe(text).corpus, trainee.tokenizer, 32).notes.remarks == []


def test_tokenizers_of_one_vocabulary_and_other_merges_have_tokens_of_their_own(text):  # noqa: F811
    trainee, tokens = setup(recipe(text))
    other = copy.deepcopy(trainee.tokenizer)
    assert isinstance(other, PreTrainedTokenizerFast)
    rules = json.loads(other.backend_tokenizer.to_str())
    rules["model"]["merges"] = rules["model"]["merges"][:20]
    other._tokenizer = Tokenizer.from_str(json.dumps(rules))
    assert other.get_vocab() == trainee.tokenizer.get_vocab()
    retokenized = corpus.prepare(recipe(text).corpus, other, 32)
    assert retokenized.data_hash != tokens.data_hash and len(retokenized.train) > len(tokens.train)
    # What a call leaves behind changes no tokens.
    trainee.tokenizer("a b", truncation=True, max_length=1)
    assert corpus.prepare(recipe(text).corpus, trainee.tokenizer, 32).data_hash == tokens.data_hash


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
    expected = result_of(run)["validation_loss"]
    cut_short(run.id, 20)
    again = wb.resume(run.id)
    assert again.status == "done" and not math.isnan(result_of(again)["validation_loss"])
    assert result_of(again)["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert result_of(again)["best_validation_loss"] == pytest.approx(
        result_of(run)["best_validation_loss"], rel=1e-5
    )


def test_a_run_whose_texts_have_changed_is_not_resumed(text, tmp_path):  # noqa: F811
    own = tmp_path / "own.txt"
    shutil.copy(text, own)
    run = wb.train(recipe(own, steps=20))
    cut_short(run.id, 20)
    own.write_text(
        own.read_text()
        + "\n\nOne more text that was not there before, and is long enough to count."
    )
    with pytest.raises(WorkbenchError, match=r"With this corpus .*no longer .*start a new run"):
        wb.resume(run.id)
    shutil.copy(text, own)
    assert Store().get(run.id).status != "done"
    assert wb.resume(run.id).status == "done"


def test_a_run_that_goes_on_with_a_damaged_cache_learns_the_same_and_says_so(text):  # noqa: F811
    whole = wb.train(recipe(text, steps=20, decay=0.0))
    assert result_of(whole)["remarks"] == [] and result_of(whole)["left_out"] == {}
    store = Store()
    with store.record("train", "two halves", {}) as tracker:
        run_recipe(recipe(text, steps=10, decay=0.0).to_dict(), tracker)
        truncate(paths.home() / "corpora" / result_of(whole)["data_hash"][:16] / "train.bin")
        result = run_recipe(recipe(text, steps=20, decay=0.0).to_dict(), tracker)
    losses = [
        store.metrics(i).query("name == 'loss'").set_index("step")["value"]
        for i in (whole.id, tracker.run_id)
    ]
    assert losses[0].to_dict() == losses[1].to_dict() and len(losses[0]) == 20
    assert "train.bin has" in result["remarks"][0] and "made anew" in result["remarks"][0]


def test_what_a_corpus_left_out_is_in_the_runs_result_and_on_the_train_page(
    text,  # noqa: F811
    tmp_path,
):
    lines = [json.dumps({"text": part}) for part in text.read_text().split("\n\n")[:800]]
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join([*lines, '{"text": null}', '{"text": ""}', lines[0], lines[1]]))
    run = wb.train(recipe(own, steps=1))
    assert result_of(run)["left_out"] == {
        "rows dropped: no text": 2,
        "documents dropped: given twice": 2,
    }
    page = AppTest.from_function(show_outcome, args=(run.id,), default_timeout=60).run()
    assert not page.exception
    (caption,) = [words.value for words in page.caption]
    assert (
        "rows dropped: no text: 2." in caption and "documents dropped: given twice: 2." in caption
    )


def show_outcome(run_id):
    from workbench.store import Store
    from workbench.ui.views.train_outcome import outcome

    outcome(Store().get(run_id))


def test_a_fine_tune_whose_examples_or_base_have_changed_is_not_resumed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [Row([1, 2, 3], [False, True, True]), Row([4, 5], [False, True])]
    other = [rows[0], Row([4, 6], [False, True])]
    require_same(folder, going_on=True, writes=True, base="a" * 64, examples=fingerprint(rows))
    require_same(folder, going_on=True, writes=True, base="a" * 64, examples=fingerprint(rows))
    for base, examples, name in (
        ("a", other, "examples"),
        ("b", rows, "base"),
        ("a", rows[::-1], "examples"),
    ):
        with pytest.raises(WorkbenchError, match=f"put the old {name} back"):
            require_same(
                folder, going_on=True, writes=True, base=base * 64, examples=fingerprint(examples)
            )
    require_same(folder, going_on=False, writes=True, base="b" * 64, examples=fingerprint(other))
    require_same(folder, going_on=True, writes=False, base="b" * 64, examples=fingerprint(other))
