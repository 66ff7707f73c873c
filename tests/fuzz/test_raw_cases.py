"""Single cases that once ended in a traceback: names of 5,000 characters, busy stores, full disks,
vast shapes.
"""

import json
import math
import multiprocessing
import os
import resource
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import workbench as wb
from tests.fuzz.model_doors import folder_of, gpt, gpt2
from workbench import paths
from workbench.benchmarks.results.record import Results
from workbench.benchmarks.suites import find_suite
from workbench.cli import doctor
from workbench.cli.app import app
from workbench.data import files, sets
from workbench.errors import WorkbenchError
from workbench.interp.patching.pair_maps import Patching
from workbench.interp.prompts.probes import read_probe
from workbench.store import Store, answers, tables
from workbench.subjects import spelling
from workbench.training import Recipe
from workbench.training.checks import check
from workbench.training.tasks import make
from workbench.training.texts import documents

PROBES = Path(__file__).parents[2] / "probes"
READERS = {
    "a model": wb.load,
    "a model of a run": lambda name: wb.load(f"run:{name}"),
    "an edited model": lambda name: wb.load(f"edit:{name}"),
    "an edit": wb.read_intervention,
    "a recipe": Recipe.read,
    "a probe": read_probe,
    "a suite": lambda name: find_suite(f"{name}.yaml"),
    "a task": lambda name: wb.evaluate("shelf-base", name, limit=1),
    "a corpus": lambda name: list(documents([name])),
    "a data set": lambda name: sets.records(name),
    "a fine-tuning set": lambda name: make({"data": name}).read(0.1, 0),
    "a table": lambda name: files.read(Path(name)),
    "results": Results.read,
    "a record": Patching.read,
    "a run": lambda name: Store().get(name),
}
NAMES = {
    "long": "x" * 5000,
    "long parts": "x/" * 2500 + "y",
    "a null": "a\0b",
    "a person": "~nobody-here/x",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_nothing_has_is_refused_in_a_short_sentence(reader, kind):
    with pytest.raises(WorkbenchError) as caught:
        READERS[reader](NAMES[kind])
    assert len(str(caught.value)) < 3000


@pytest.fixture
def file_as_home(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))


def test_a_home_that_is_a_file_is_said(file_as_home):
    for call in (
        Store,
        wb.available,
        lambda: wb.load("edit:x"),
        lambda: wb.load("run:x"),
        wb.available_probes,
    ):
        with pytest.raises(WorkbenchError, match=r"home.*WORKBENCH_HOME"):
            call()


def test_doctor_lists_the_failed_checks_of_a_home_that_cannot_be_used(file_as_home):
    rows = {row["check"]: row for row in doctor.checks()}
    assert [name for name, row in rows.items() if not row["ok"]] == [
        "home",
        "bundled models",
        "background runs",
        "speed",
    ]
    assert "WORKBENCH_HOME" in rows["home"]["found"] and rows["device"]["ok"]


def test_a_store_that_another_program_keeps_locked_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PATIENCE", 0.1)
    store = Store(tmp_path / "small.sqlite")
    run = store.create("train", "small", {})
    with sqlite3.connect(tmp_path / "small.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (
            lambda: store.finish(run.id, "done"),
            lambda: store.create("train", "second", {}),
        ):
            with pytest.raises(WorkbenchError, match=r"small.sqlite.*locked.*try again"):
                call()
    store.finish(run.id, "done")
    assert [entry.title for entry in store.list()] == ["small"]


def test_cached_answers_that_another_program_keeps_locked_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "PATIENCE", 0.1)
    cache = answers.Answers("m", origin="a", path=tmp_path / "answers.sqlite")
    with sqlite3.connect(tmp_path / "answers.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WorkbenchError, match=r"answers.sqlite.*locked"):
            cache.put([(cache.key("q"), 1.0)])
    cache.put([(cache.key("q"), 1.0)])
    assert cache.get([cache.key("q")]) == {cache.key("q"): (1.0, True)}


def limited(command: list[str], largest: int) -> str:
    """What a command says, in a process that may write files of so many bytes only, as if the disk
    were full.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    if not (child := os.fork()):
        try:
            torch.set_num_threads(1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            done = CliRunner().invoke(app, command)
            sender.send(f"{type(done.exception).__name__}: {done.exception}")
        finally:
            os._exit(0)
    sender.close()
    message = receiver.recv()
    os.waitpid(child, 0)
    return message


def test_a_full_disk_in_ablate_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    folder_of(tmp_path / "model", gpt())
    message = limited(
        ["ablate", str(tmp_path / "model"), "L0H1", "--name", "small", "--kind", "zero"], 64
    )
    assert message.startswith("WorkbenchError: "), message
    assert "small.json cannot be written (File too large); free some space" in message
    assert not list((tmp_path / "home" / "interventions").iterdir())


@pytest.mark.parametrize(
    "shape",
    [
        {"d_model": 1_000_000},
        {"d_model": 131_072, "n_layers": 1000},
        {"n_layers": 1000, "d_mlp": 131_072},
    ],
)
def test_a_vast_shape_is_refused_before_anything_is_allocated(shape):
    recipe = {
        "title": "vast",
        "model": shape,
        "corpus": {"sources": ["generated"], "validation": 0.1},
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WorkbenchError, match=r"\[model\].*(at most|GB)"):
        check(Recipe.from_dict(recipe))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"d_model": 1_000_000}, r"numbers, and its files hold"),
        ({"n_layers": 10**9}, r"1,000,000,000 layers, and its files hold 20 tensors"),
        ({"d_vocab": 10**12}, r"numbers, and its files hold"),
        ({"d_mlp": 2**31}, r"numbers, and its files hold"),
        ({"n_ctx": 10**10, "positions": "learned"}, r"numbers, and its files hold"),
        ({"d_model": -1}, r"d_model is -1"),
        ({"norm_eps": "small"}, r"norm_eps is 'small'"),
        ({"bias": 3}, r"bias is 3"),
    ],
)
def test_a_config_that_claims_more_than_its_files_hold_is_refused(tmp_path, words, sentence):
    path = folder_of(tmp_path / "model", gpt())
    path.write_text(json.dumps({**json.loads(path.read_text()), **words}))
    with pytest.raises(WorkbenchError, match=sentence):
        wb.load(path.parent)


def test_an_index_that_names_a_pickle_or_a_file_elsewhere_is_refused(tmp_path):
    index = folder_of(
        tmp_path / "model", gpt(), "model.safetensors.index.json", max_shard_size="10KB"
    )
    whole = json.loads(index.read_text())
    torch.save({}, index.parent / "pytorch_model.bin")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in (
        "pytorch_model.bin",
        "../other.safetensors",
        str(tmp_path / "other.safetensors"),
        5,
    ):
        first = next(iter(whole["weight_map"]))
        index.write_text(json.dumps({**whole, "weight_map": {**whole["weight_map"], first: name}}))
        with pytest.raises(WorkbenchError, match=r"only safetensors files beside it"):
            wb.load(index.parent)
    index.write_text(json.dumps(whole))
    assert wb.load(index.parent).hash


def test_a_damaged_task_in_the_home_folder_leaves_the_other_tasks_alone(home):
    folder = home / "tasks"
    folder.mkdir(exist_ok=True)
    try:
        for number, text in enumerate(
            ("task: [", "[" * 5000, "\xff", "task: broken\ndoc_to_text: 5", "x" * 5000)
        ):
            (folder / f"broken{number}.yaml").write_bytes(text.encode("latin1"))
        assert len(wb.evaluate("shelf-base", "repeat", limit=2).rows)
    finally:
        shutil.rmtree(folder)


def test_a_task_of_a_format_without_files_is_refused(tmp_path):
    """`datasets` would read every file of the format below the current folder."""
    task = tmp_path / "mine.yaml"
    settings = "task: mine\ndoc_to_text: a\ndoc_to_target: b\ntest_split: test\n"
    for form in ("json", "csv", "text"):
        task.write_text(f"{settings}dataset_path: {form}\ndataset_kwargs: {{}}\n")
        with pytest.raises(WorkbenchError, match=rf"dataset_path: {form} names a format and no"):
            wb.evaluate("shelf-base", str(task), limit=1)


def test_a_probe_whose_slot_names_no_list_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    whole = (PROBES / "successor.toml").read_text("utf-8")
    head, _, rest = whole.partition("slots = {")
    file.write_text(f"{head}slots = {{ Z = 1, {rest}")
    with pytest.raises(WorkbenchError, match="the slot Z is filled from 1, which is no list"):
        read_probe(str(file))


def test_a_record_whose_parts_contradict_each_other_is_refused(tmp_path):
    record = wb.patch("shelf-base", "The cat sat", "The dog sat", answer=" on", wrong=" in")
    whole = json.loads(record.to_json())
    assert Patching.from_dict(whole).figure() is not None
    for name, value in (("clean_tokens", ["The", " cat"]), ("effect", [[0.5]]), ("site", None)):
        with pytest.raises(WorkbenchError, match="is no whole Patching"):
            Patching.from_dict({**whole, name: value})


def test_results_without_their_list_of_skipped_tasks_are_refused(tmp_path):
    file = wb.evaluate("shelf-base", "repeat", limit=2).save(tmp_path / "kept") / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "skipped": None}))
    with pytest.raises(WorkbenchError, match="there is nothing where a list belongs"):
        Results.read(file.parent)


def changed(words: str, key: str, value: float) -> str:
    """A JSON file with another value."""
    return json.dumps({**json.loads(words), key: value})


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("tokenizer_config.json", lambda words: "[" * 100_000, "tokenizer"),
        (
            "config.json",
            lambda words: json.dumps({**json.loads(words), "pad_token_id": -(10**30)}),
            "pad_token_id is",
        ),
        ("config.json", partial(changed, key="attn_pdrop", value=math.nan), "attn_pdrop is nan"),
        ("config.json", partial(changed, key="attn_pdrop", value=1.5), "attn_pdrop is 1.5"),
        ("config.json", partial(changed, key="resid_pdrop", value=-0.5), "resid_pdrop is -0.5"),
        ("config.json", partial(changed, key="n_head", value=-4), "n_head is -4"),
        ("card.json", lambda words: '{"licence": "half \\ude00"}', "cannot be read"),
        ("config.json", partial(changed, key="layer_norm_epsilon", value=math.nan), "is nan"),
    ],
)
def test_a_file_of_a_model_that_no_reader_expects_is_refused(tmp_path, file, change, sentence):
    config = folder_of(tmp_path, gpt2())
    path = config.parent / file
    path.write_text(change(path.read_text()))
    with pytest.raises(WorkbenchError, match=sentence):
        wb.load(config.parent)


def test_stored_answers_that_are_not_utf8_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from workbench.doors import UnreadableError, read_frame, reading

    broken = pa.array([b"fine", b"\xff\xfe"]).view(pa.utf8())
    pq.write_table(pa.table({"prediction": broken}), tmp_path / "answers.parquet")
    with (
        pytest.raises(UnreadableError, match=r"answers\.parquet cannot be read"),
        reading(tmp_path / "answers.parquet", "delete it"),
    ):
        read_frame(tmp_path / "answers.parquet")
    pq.write_table(pa.table({"prediction": ["fine", None]}), tmp_path / "answers.parquet")
    assert read_frame(tmp_path / "answers.parquet")["prediction"].isna().tolist() == [False, True]


def test_a_store_whose_fault_is_no_text_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    Store(path)._engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    damaged = path.read_bytes().replace(b"CREATE TABLE metrics", b"CR\xffATE TABLE metrics")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(WorkbenchError, match=r"store\.sqlite is damaged"):
        Store(path).list()


def test_a_run_whose_stored_settings_are_no_json_is_refused(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    run = store.create("train", "small", {"title": "small"})
    with store._engine.begin() as connection:
        connection.execute(tables.runs.update().values(config='{"title"'))
    with pytest.raises(WorkbenchError, match=f"the config of run {run.id} is not JSON"):
        store.list()


def test_a_record_under_a_vast_name_is_refused_in_a_short_sentence():
    with pytest.raises(WorkbenchError, match="This is a ") as caught:
        Patching.from_dict({"record": ["x" * 10**6]})
    assert len(str(caught.value)) < 200


def test_samples_without_a_metric_are_refused(tmp_path):
    shipped = paths.shelf("models") / "shelf-evaluation" / "shelf-base"
    shutil.copytree(shipped, tmp_path / "results")
    path = tmp_path / "results" / "samples.parquet"
    samples = pd.read_parquet(path)
    samples.loc[3, "metric"] = None
    samples.to_parquet(path)
    with pytest.raises(WorkbenchError, match="by which metric"):
        Results.read(tmp_path / "results")


def test_a_task_that_wants_endless_text_is_left_out_in_a_sentence(tmp_path):
    (tmp_path / "endless.jsonl").write_text('{"q": "One", "a": "two"}\n' * 3)
    task = tmp_path / "endless.yaml"
    task.write_text(
        f"task: endless\ndataset_path: json\ndataset_kwargs: {{data_files: "
        f"{tmp_path}/endless.jsonl}}\ntest_split: train\noutput_type: generate_until\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        "generation_kwargs: {until: ['.'], max_gen_toks: .inf}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    with pytest.raises(WorkbenchError, match="generation_kwargs cannot be used"):
        wb.evaluate("shelf-base", str(task), limit=2)


def test_a_tokenizer_without_its_own_unknown_token_is_refused():
    backend = Tokenizer(WordLevel({"one": 0, "two": 1}, unk_token=""))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert spelling.bare(tokenizer, "two one") == [1, 0]
    with pytest.raises(WorkbenchError, match="The tokenizer cannot read a text"):
        spelling.bare(tokenizer, "three")
    with pytest.raises(WorkbenchError, match="The tokenizer cannot read a text"):
        spelling.misses(tokenizer)
