"""The schema of recipes: everything that is wrong is told at once, and before anything begins."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from typer.testing import CliRunner

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects.gpt import WorkbenchGPTConfig
from workbench.training import Recipe, recipe_docs, schema
from workbench.training.recipe import names
from workbench.training.recipe_tables import Shape
from workbench.training.tasks import KINDS
from workbench.training.tasks.task import COMMON

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parent.parent
GOOD = {
    "title": "x",
    "model": {"n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16},
    "tokenizer": {"kind": "char"},
    "corpus": {"sources": ["generated"], "validation": 0.1},
    "train": {"steps": 2, "batch_size": 2, "eval_every": 1, "checkpoint_every": 1},
}
FAULTS = [
    ("train", "batch_size", 0, "a whole number at least 1"),
    ("train", "steps", 0, "a whole number"),
    ("train", "steps", -5, "a whole number"),
    ("train", "steps", 2.5, "a whole number"),
    ("train", "steps", True, "a whole number"),
    ("train", "eval_every", 0, "a whole number"),
    ("train", "lr", "0.001", "a number above 0"),
    ("train", "lr", float("nan"), "a number above 0"),
    ("train", "lr", True, "a number above 0"),
    ("train", "seed", -1, "a whole number at least 0"),
    ("train", "optimizer", "sgd", "muon or adamw"),
    ("train", "compile", 1, "true or false"),
    ("corpus", "validation", 1.5, "a number at least 0 and below 1"),
    ("corpus", "sources", 3, "a list of texts"),
    ("model", "n_ctx", 0, "a whole number"),
    ("model", "n_layers", 0, "a whole number"),
    ("model", "d_model", 1_000_000, "a whole number at least 1 and at most 131,072"),
    ("tokenizer", "d_vocab", 10, "a whole number at least 257"),
    ("lora", "dropout", 1.0, "a number at least 0 and below 1"),
    ("task", "kind", "poetry", "classification, entities, questions, chat or rewriting"),
]


def with_value(table: str, key: str, value) -> dict:
    return {**GOOD, table: {**GOOD.get(table, {}), key: value}}


@pytest.mark.parametrize(("table", "key", "value", "takes"), FAULTS)
def test_a_wrong_value_is_told_with_its_key_and_what_it_takes(table, key, value, takes):
    with pytest.raises(WorkbenchError) as caught:
        Recipe.from_dict(with_value(table, key, value))
    assert f"[{table}] {key} is {value!r}; it must be {takes}" in str(caught.value)


def test_all_faults_are_told_at_once():
    values = {**GOOD}
    for table, key, value, _ in FAULTS:
        values = {**values, table: {**values.get(table, {}), key: value}}
    with pytest.raises(WorkbenchError) as caught:
        Recipe.from_dict(values)
    for table, key in {(table, key) for table, key, *_ in FAULTS}:
        assert f"- [{table}] {key} is " in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": {"stepz": 1, "learning_rate": 1}},
            r"not know stepz, learning_rate; .* steps for stepz\? .* lr for",
        ),
        ({"model": {"d_vocab": 300}}, r"d_vocab belongs into \[tokenizer\]"),
        (
            {"model": {"n_heads": 4, "n_kv_heads": 3}},
            "n_heads 4 must be a multiple of n_kv_heads 3",
        ),
        ({"model": {"d_model": 12, "n_heads": 4}}, "need an even d_head .* it is 3"),
        ({"model": {"d_model": 2, "n_heads": 4}}, "d_model is 2; it must be at least n_heads, 4"),
        ({"tokenizer": {"kind": "char", "d_vocab": 300}}, 'd_vocab goes with kind = "bpe"'),
        ({"corpus": {"sources": ["generated"], "validation": 0}}, "validation is 0"),
        (
            {"model": {"n_ctx": 4}, "corpus": {"sources": ["generated"], "repeated": 0.5}},
            "8 tokens or more",
        ),
        ({"train": 3}, r"\[train\] of the recipe is 3; it must be a table"),
        ({"corpus": {"sources": ["generated", 3]}}, "an entry of sources is 3"),
    ],
)
def test_what_belongs_together_is_checked_together(changes, message):
    with pytest.raises(WorkbenchError, match=message):
        Recipe.from_dict({**GOOD, **changes})


def test_one_source_may_be_written_without_brackets():
    assert Recipe.from_dict(with_value("corpus", "sources", "generated")).corpus.sources == [
        "generated"
    ]


def test_a_missing_file_is_told_before_a_run_is_recorded(tmp_path):
    before = len(Store().list(limit=1000))
    with pytest.raises(WorkbenchError, match=r"No text found for corpus source '.*gone.txt'"):
        wb.train(Recipe.from_dict(with_value("corpus", "sources", [str(tmp_path / "gone.txt")])))
    tuned = {
        "title": "x",
        "kind": "finetune",
        "base": "shelf-base",
        "task": {"data": str(tmp_path / "gone.csv")},
    }
    with pytest.raises(WorkbenchError, match=r"gone.csv"):
        wb.train(Recipe.from_dict(tuned))
    with pytest.raises(WorkbenchError, match=r"gone-model"):
        wb.train(
            Recipe.from_dict(
                {**tuned, "base": str(tmp_path / "gone-model"), "task": {"data": "banking77"}}
            )
        )
    with pytest.raises(WorkbenchError, match="steps is -1"):
        wb.train(Recipe.from_dict(GOOD), steps=-1)
    good = Recipe.from_dict(GOOD)
    with pytest.raises(WorkbenchError, match="batch_size is 0"):
        wb.train(replace(good, train=replace(good.train, batch_size=0)))
    assert len(Store().list(limit=1000)) == before


def test_the_schemas_defaults_are_those_of_the_code():
    config = WorkbenchGPTConfig()
    defaults = {key: getattr(Shape, key) for key in schema.properties(Shape)}
    derived = {"n_kv_heads", "d_head", "d_mlp"}
    assert {k: v for k, v in defaults.items() if k not in derived} == {
        k: getattr(config, k) for k in defaults.keys() - derived
    }
    words = {word for kind in KINDS.values() for word in (*COMMON, *kind.words, *kind.parts)}
    assert words == set(schema.properties(schema.TABLES["task"]))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("d_model", [2, 4, 12, 16])
@pytest.mark.parametrize("n_heads", [1, 3, 4])
@pytest.mark.parametrize("n_kv_heads", [None, 2, 3])
def test_a_shape_that_the_schema_takes_can_be_built_and_no_other(
    positions, d_model, n_heads, n_kv_heads
):
    import torch

    from workbench.subjects.gpt import WorkbenchGPTForCausalLM

    shape = {
        "n_ctx": 8,
        "n_layers": 1,
        "d_model": d_model,
        "n_heads": n_heads,
        "positions": positions,
    }
    shape |= {"n_kv_heads": n_kv_heads} if n_kv_heads else {}
    try:
        Recipe.from_dict({**GOOD, "model": shape})
        taken = True
    except WorkbenchError:
        taken = False
    try:
        model = WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**shape, d_vocab=9))
        builds = bool(model(torch.tensor([[1, 2, 3]])).logits.isfinite().all())
    except Exception:
        builds = False
    assert taken == builds


def test_pages_for_people_and_editors_are_made_from_the_schema():
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == recipe_docs.markdown()
    text = (ROOT / "models" / "recipe.schema.json").read_text(encoding="utf-8")
    assert text == recipe_docs.json_schema()
    validator = Draft7Validator(json.loads(text))
    for name in names():
        assert not list(
            validator.iter_errors(
                {k: v for k, v in Recipe.read(name).to_dict().items() if v is not None}
            )
        )
    for table, key, value, _ in FAULTS:
        if value == value and value is not True:
            assert list(validator.iter_errors(with_value(table, key, value))), (table, key, value)


def test_the_command_checks_a_recipe_and_lists_the_keys(tmp_path):
    from workbench.cli.app import app

    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\n[train]\nsteps = 0\nlr = "a"\n[corpus]\nsources = "generated"\n')
    caught = CliRunner().invoke(app, ["recipe", "check", str(path)]).exception
    assert isinstance(caught, WorkbenchError) and "2 faults" in str(caught)
    assert "right: tiny, pretrain" in CliRunner().invoke(app, ["recipe", "check", "tiny"]).output
    listed = json.loads(CliRunner().invoke(app, ["recipe", "keys", "--json"]).output)
    assert {"key": "keep", "takes": "a whole number at least 1", "default": "3"}.items() <= next(
        row.items() for row in listed["train"] if row["key"] == "keep"
    )
