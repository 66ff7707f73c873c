"""Recipes, corpora and the loop, on a corpus of a few kilobytes."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training import Recipe, checkpoints
from workbench.training.corpus import held_out, prepare, split, training_texts
from workbench.training.muon import Muon, orthogonal
from workbench.training.optim import learning_rate, optimizers, set_rate
from workbench.training.recipe import Corpus, Optimisation, names
from workbench.training.texts import documents, prose


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A corpus with something to learn: counting sentences."""
    path = tmp_path_factory.mktemp("corpus") / "counting.txt"
    lines = [
        f"The cat number {i} sat on mat number {i + 1} and saw dog number {i + 2}."
        for i in range(3000)
    ]
    path.write_text("\n\n".join(lines))
    return path


def recipe(text, **train) -> Recipe:
    shape = {"n_ctx": 32, "n_layers": 2, "n_heads": 2, "d_model": 32}
    settings = {
        "steps": 30,
        "batch_size": 8,
        "eval_every": 10,
        "checkpoint_every": 10,
        "warmup": 5,
        "precision": "no",
    }
    return Recipe.from_dict(
        {
            "title": "tiny",
            "model": shape,
            "tokenizer": {"kind": "bpe", "d_vocab": 300},
            "corpus": {"sources": [str(text)], "validation": 0.2, "repeated": 0.25},
            "train": {**settings, **train},
        }
    )


def test_every_recipe_on_the_shelf_parses():
    assert {"shelf-base", "shelf-tuned"} <= set(names())
    for name in names():
        assert Recipe.read(name).title == name


def test_a_recipe_survives_being_written_down(text):
    one = recipe(text)
    assert Recipe.from_dict(one.to_dict()) == one


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no title"),
        ({"title": "x", "kind": "magic"}, "kind is 'magic'"),
        ({"title": "x", "train": {"stepz": 3}}, r"\[train\] does not know stepz; it knows .*steps"),
        ({"title": "x", "colour": 1}, "does not know colour"),
    ],
)
def test_a_wrong_recipe_names_the_word(values, message):
    with pytest.raises(WorkbenchError, match=message):
        Recipe.from_dict(values)


def test_training_learns_writes_checkpoints_and_loads_as_a_subject(text):
    run = wb.train(recipe(text))
    assert run.status == "done" and run.result is not None
    metrics = Store().metrics(run.id).pivot(index="step", columns="name", values="value")
    assert (
        metrics["validation_loss"].dropna().iloc[-1] < metrics["validation_loss"].dropna().iloc[0]
    )
    assert len(metrics) == 30 and {"loss", "lr", "grad_norm", "tokens_per_s"} <= set(metrics)
    assert [p.name for p in checkpoints.saved(run.folder)] == [
        "step-0000010",
        "step-0000020",
        "step-0000030",
    ]
    subject = wb.load(f"run:{run.id}")
    assert subject.card.n_layers == 2 and wb.load(f"run:{run.id}@10").hash != subject.hash
    with pytest.raises(WorkbenchError, match="has no checkpoint 7; it has 10, 20, 30"):
        wb.load(f"run:{run.id}@7")


def test_a_run_that_is_taken_up_again_ends_as_if_it_had_never_stopped(text):
    """Ten steps, then on to thirty from the checkpoint: the very losses of thirty in one go."""
    from workbench.training.pretrain import run_recipe

    whole = wb.train(recipe(text, decay=0.0))
    store = Store()
    with store.record("train", "two halves", {}) as tracker:
        run_recipe(recipe(text, decay=0.0, steps=10).to_dict(), tracker)
        run_recipe(recipe(text, decay=0.0).to_dict(), tracker)
    losses = [
        store.metrics(i).query("name == 'loss'").set_index("step")["value"]
        for i in (whole.id, tracker.run_id)
    ]
    assert losses[0].to_dict() == losses[1].to_dict()


def test_batches_are_a_function_of_seed_and_step(text):
    r = recipe(text)
    tokens = prepare(r.corpus, train_tokenizer(training_texts(r.corpus), "bpe", 300), 32)
    one, again, other = (tokens.batch(s, size=8, n_ctx=32, seed=0, repeated=0.5) for s in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == (8, 33)


def test_a_document_is_in_one_split_only_and_stays_there(text):
    # The second time duplicates.
    assigned = [pair[:2] for pair in split(Corpus([str(text), str(text)], validation=0.2))]
    docs = list(documents([str(text)]))
    assert [d for _, d in assigned] == docs and len(docs) > 20
    assert all((name == "validation") == held_out(d, 0.2) for name, d in assigned)
    assert 0.05 < sum(name == "validation" for name, _ in assigned) / len(assigned) < 0.4


def test_hard_wrapped_prose_is_unwrapped_and_verse_is_not():
    lines = "\n".join(["the quick brown fox jumps over the lazy dog and then runs far away"] * 3)
    assert list(prose([lines], unwrap=True)) == [lines.replace("\n", " ")]
    assert list(prose([lines])) == [lines]
    verse = "To be,\nor not to be"
    assert list(prose([verse], unwrap=True)) == [verse]


def test_texts_come_from_jsonl_parquet_and_end_marks(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n"two"\n')
    pd.DataFrame({"id": [1, 2], "content": ["three", "one"]}).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("four\n<|endoftext|>\nfi\x00ve\n")
    assert list(documents([str(tmp_path)])) == ["one\n", "two\n", "three\n", "four\n", "five\n"]
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text"\n')
    with pytest.raises(WorkbenchError, match=r"a.jsonl, line 2, is not JSON"):
        list(documents([str(tmp_path / "a.jsonl")]))


def test_one_text_is_split_at_its_tail(tmp_path):
    (tmp_path / "play.txt").write_text("abcdefghij")
    texts = list(split(Corpus([str(tmp_path)], validation=0.2, split="tail")))
    assert texts == [("train", "abcdefgh", True), ("validation", "ij", True)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"too short", "fewer than one row"),
        (b"one line of words " * 90, 'is one document; give more text, or set split = "tail"'),
        (bytes(range(256)) * 9, "is not text"),
    ],
)
def test_a_corpus_that_cannot_be_used_says_why(tmp_path, content, message):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(WorkbenchError, match=message):
        wb.train(recipe(tmp_path / "bad.txt"))
    with pytest.raises(WorkbenchError, match="No text found for corpus source"):
        wb.train(recipe(tmp_path / "nowhere"))


def test_the_learning_rate_is_a_trapezoid():
    settings = Optimisation(steps=100, warmup=10, decay=0.5, lr=1.0)
    rates = [learning_rate(s, settings) for s in range(100)]
    assert (
        rates[:2] == [0.1, 0.2] and rates[9:51] == [1.0] * 42 and rates[-1] == pytest.approx(0.02)
    )


def test_muon_gets_the_blocks_matrices_and_adamw_the_rest(tiny):
    tiny.model.requires_grad_(True)
    adamw, muon = optimizers(tiny.model, Optimisation())
    inside = {id(p) for n, p in tiny.model.named_parameters() if ".layers." in n and p.ndim == 2}
    assert {id(p) for g in muon.param_groups for p in g["params"]} == inside
    assert sum(len(g["params"]) for o in (adamw, muon) for g in o.param_groups) == len(
        list(tiny.model.parameters())
    )
    with pytest.raises(WorkbenchError, match="must be muon or adamw"):
        optimizers(tiny.model, Optimisation(optimizer=cast("Any", "sgd")))


def test_embeddings_learn_at_a_rate_of_their_own_beside_muon(tiny):
    tiny.model.requires_grad_(True)
    settings = Optimisation(steps=100, warmup=10, lr=0.5, embedding_lr=3.0)
    adamw, muon = optimizers(tiny.model, settings)
    set_rate([adamw, muon], 4, settings)
    assert {group["lr"] for group in adamw.param_groups} == {0.75}
    assert {group["lr"] for group in muon.param_groups} == {0.25}
    # A checkpoint from before the setting existed has no share in its groups.
    earlier = adamw.state_dict()
    for group in earlier["param_groups"]:
        del group["share"]
    adamw.load_state_dict(earlier)
    set_rate([adamw], 4, settings)
    assert {group["lr"] for group in adamw.param_groups} == {0.25}
    # AdamW alone trains the matrices too, so nothing is set apart.
    (alone,) = optimizers(tiny.model, replace(settings, optimizer="adamw"))
    set_rate([alone], 4, settings)
    assert {group["lr"] for group in alone.param_groups} == {0.25}


def test_the_bundled_pairs_cards_tell_where_they_come_from():
    base = wb.load("shelf-base").card
    tuned = wb.load("shelf-tuned").card
    for card in (base, tuned):
        assert card.licence and card.data and card.command and card.created and card.metrics
    assert tuned.parent == "shelf-base" and base.n_params < 6e6


def test_an_unusable_precision_is_named(text):
    with pytest.raises(WorkbenchError, match="precision is 'fp7'"):
        wb.train(recipe(text, precision="fp7"))


def test_the_corpus_is_tokenised_once(text):
    r = recipe(text)
    train = list(training_texts(r.corpus))
    tokenizer = train_tokenizer(train, "bpe", 300)
    first = prepare(Corpus([str(text)], 0.2), tokenizer, 32)
    second = prepare(Corpus([str(text)], 0.2), tokenizer, 32)
    assert first.data_hash == second.data_hash and np.array_equal(first.train, second.train)
    decoded = str(tokenizer.decode(first.train[:200].tolist()))
    assert decoded.replace("<|endoftext|>", "")[:40] in "".join(train)


def test_a_recipe_may_take_a_models_tokenizer(text):
    values = recipe(text, steps=1).to_dict()
    run = wb.train(
        Recipe.from_dict({**values, "tokenizer": {"kind": "model", "source": "shelf-base"}})
    )
    taken = wb.load(f"run:{run.id}").tokenizer
    assert taken.get_vocab() == wb.load("shelf-base").tokenizer.get_vocab()
    for words, message in (
        ({"kind": "model"}, "needs a source"),
        ({"kind": "bpe", "size": 3}, "size"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            wb.train(Recipe.from_dict({**values, "tokenizer": words}))


def test_the_tiny_recipe_needs_no_data_folder(monkeypatch):
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    run = wb.train("tiny", steps=3)
    assert run.status == "done" and run.result is not None and run.result["corpus_tokens"] > 300_000


def test_characters_round_trip():
    tokenizer = train_tokenizer(["to be or not"], "char")
    ids = tokenizer("not to be")["input_ids"]
    assert len(ids) == 9 and tokenizer.decode(ids) == "not to be"
    with pytest.raises(WorkbenchError, match="bpe, char or word"):
        train_tokenizer(["x"], "words")


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 24)])
def test_muon_agrees_with_torchs_up_to_its_bfloat16(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    grads = torch.randn(3, *shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimisers = (
        Muon([ours], lr=0.1, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for grad in grads:
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = grad.clone()
            optimiser.step()
    assert (ours - theirs).abs().max() < 0.03 * (ours - start).abs().max()
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, *shape)))
    assert values.min() > 0.3 and values.max() < 1.3


@pytest.mark.parametrize("name", names())
def test_a_recipe_is_the_same_written_out_and_read_again(name, tmp_path):
    recipe = Recipe.read(name)
    (tmp_path / "again.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "again.toml") == recipe
