"""Lenses: the last row is the model itself, training brings the others nearer, a lens is kept and
taken up again.
"""

import json
import math

import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from workbench.errors import WorkbenchError
from workbench.interp.lenses.lens import lens
from workbench.interp.lenses.texts import corpus_of
from workbench.interp.lenses.tuned import lens_file, sampled_tokens, stored_lens, tuned_lens
from workbench.interp.patching.direct import direct

pytestmark = pytest.mark.quick

PROMPT = "5 9 31 44 7 62 18 77 23"


@pytest.fixture
def subject(monkeypatch):
    """A tiny model that has to write its own text, and has no lens yet."""
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    fresh = subject_of(tiny_gpt(n_ctx=32))
    for ending in (".safetensors", ".partial"):
        lens_file(fresh.hash).with_suffix(ending).unlink(missing_ok=True)
    return fresh


def test_a_tuned_lens_is_nearer_to_the_model_and_the_model_itself_after_the_last_layer(subject):
    with pytest.raises(WorkbenchError, match="no tuned lens yet"):
        lens(subject, PROMPT, kind="tuned")
    trained = tuned_lens(subject, steps=20)
    assert trained.source == "written by the model itself" and trained.error.n == 16
    assert (
        min(trained.error.gain_low[:-1]) > 0
        and trained.error.gain[-1] == 0
        and math.isnan(trained.error.gain_low[-1])
    )
    assert abs(trained.error.tuned[-1]) < 1e-5
    x = torch.randn(3, 32)
    assert trained.translate(2, x) is x and not torch.equal(trained.translate(1, x), x)
    plain, tuned = (
        lens(subject, PROMPT, kind=kind, answer=["7", "8"]) for kind in ("logit", "tuned")
    )
    assert tuned.checks["lens"] == plain.checks["lens"] < 1e-4 and (tuned.rank[-1] == 0).all()
    assert tuned.kl[:-1, 1:].mean() < plain.kl[:-1, 1:].mean()
    logits = subject.model(subject.encode(PROMPT)).logits[0]
    torch.testing.assert_close(
        torch.tensor(tuned.answer_prob[:, -1]), logits.softmax(-1)[:, [7, 8]].T
    )
    assert tuned.answer_rank[0, -1, -1] == int((logits[-1] > logits[-1, 7]).sum())
    assert len(tuned.to_frame()) == 3 * 9 and "rank of '8'" in tuned.to_frame()
    stored = stored_lens(subject)
    assert stored is not None and torch.equal(stored.weight, trained.weight)
    # NaN, where there is no interval, included.
    assert json.dumps(vars(stored.error)) == json.dumps(vars(trained.error))
    assert tuned_lens(subject, steps=5).steps == 20  # the one that is kept


def test_training_cut_short_goes_on_where_it_was_and_ends_the_same(subject):
    whole = tuned_lens(subject, steps=12, again=True)
    messages = []

    def stop(share, words):
        messages.append(words)
        if words.startswith("step 7 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned_lens(subject, steps=12, again=True, progress=stop)
    messages.clear()
    resumed = tuned_lens(
        subject, steps=12, again=True, progress=lambda share, words: messages.append(words)
    )
    assert messages[0].startswith("step 8 of 12") and torch.equal(resumed.weight, whole.weight)
    assert not lens_file(subject.hash).with_suffix(".partial").exists()


def test_sampled_tokens_give_the_divergence_over_the_whole_vocabulary():
    torch.manual_seed(0)
    final, read = torch.randn(2, 40, 30_000) * 2
    exact = (final.softmax(-1) * (final.log_softmax(-1) - read.log_softmax(-1))).sum(-1).mean()
    estimates = []
    for seed in range(8):
        tokens, stands_for = sampled_tokens(final, seed)
        p, q = ((side[:, tokens] + stands_for).log_softmax(-1) for side in (final, read))
        estimates.append((p.exp() * (p - q)).sum(-1).mean())
    assert float(torch.stack(estimates).mean()) == pytest.approx(float(exact), rel=0.05)


def test_text_is_cut_into_rows_and_what_is_held_out_is_not_trained_on(subject, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(" ".join(str(i % 90) for i in range(9000)) + " 95" * 963)
    corpus = corpus_of(subject, str(file), seed=0)
    assert (
        corpus.rows.shape == (256, 32)
        and corpus.held_out.shape == (16, 32)
        and corpus.source == "text.txt"
    )
    assert int(corpus.rows.max()) < 95 and int(corpus.held_out.min()) == 95
    with pytest.raises(WorkbenchError, match="too short"):
        corpus_of(subject, ["1 2 3"], seed=0)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        corpus_of(subject, str(tmp_path / "none.txt"), seed=0)


def test_a_broken_lens_is_one_sentence(subject):
    lens_file(subject.hash).write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="delete it and train again"):
        stored_lens(subject)
    lens_file(subject.hash).unlink()


def test_direct_contributions_go_from_the_embedding_to_the_answer_and_down_to_neurons(subject):
    contributions = direct(subject, PROMPT, answer="7", wrong="8")
    total = sum(contributions.layers()["contribution"])
    assert total == pytest.approx(contributions.total, abs=1e-5)
    assert list(contributions.layers()["part"][:3]) == ["embedding", "attention 0", "MLP 0"]
    assert max(contributions.checks.values()) < 1e-4 and contributions.neurons.shape == (2, 96)
    first = contributions.top_neurons(3).iloc[0]
    assert abs(first["contribution"]) == abs(contributions.neurons).max()
    with pytest.raises(WorkbenchError, match="two sides"):
        direct(subject, PROMPT, answer="7", wrong="")
