"""Fine-tunes with added tokens: what both models have is compared, and what is new is named and
counted.
"""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from tests.test_spelling import TEXT, kept, llama
from workbench.comparison import compare, locate, obstacles, text_shift, transplant, weight_shift
from workbench.comparison.head_scores import score_shift
from workbench.comparison.matching import same_tokenizer, whats_new
from workbench.comparison.measures import measure_of
from workbench.subjects import Subject
from workbench.subjects.card import make_card
from workbench.subjects.intervention import apply
from workbench.subjects.tokenizer import train_tokenizer

NEW = ["<|user|>", "<|end|>"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A base, and the same with two tokens more, another head L1H2, and an embedding that moved."""
    tokenizer = train_tokenizer([TEXT], "bpe", 300)
    base = llama(tokenizer, "base")
    larger = deepcopy(tokenizer)
    larger.add_tokens(NEW)
    model = deepcopy(base.model)
    torch.manual_seed(1)
    model.model.layers[1].self_attn.q_proj.weight[16:24] *= -1  # 8 rows a head
    model.model.embed_tokens.weight[7] += 1
    for module in (model.model.embed_tokens, model.lm_head):
        module.weight = nn.Parameter(
            torch.cat([module.weight, torch.randn(2, 32).double()]), requires_grad=False
        )
    model.config.vocab_size = 302
    tuned = Subject(
        "tuned", model, larger, make_card(model, "tuned", "made by a test", "1" * 64, {})
    )
    return tuple(kept(s, tmp_path_factory.mktemp("models") / s.name) for s in (base, tuned))


def weights(subject):
    return {name: p.detach().clone() for name, p in subject.model.named_parameters()}


def test_what_is_new_is_named_and_nothing_is_refused(pair):
    base, tuned = pair
    for one, other in (pair, pair[::-1]):
        assert same_tokenizer(one, other) and not obstacles(one, other)
        assert "Only tuned has 2 tokens more ('<|user|>', '<|end|>')" in whats_new(one, other)
    assert "base has 300 rows and that of tuned 302" in whats_new(base, tuned)
    assert whats_new(base, base) == ""
    comparison = compare(base, tuned, parts=["text", "weights"])
    assert (
        comparison.text is not None
        and comparison.weights is not None
        and comparison.notes == [whats_new(base, tuned)]
    )
    unlike = llama(train_tokenizer([TEXT[::-1]], "bpe", 302), "unlike")
    assert not same_tokenizer(base, unlike) and "split text" in obstacles(base, unlike)["text"]
    # A vocabulary that goes on is no added token.
    grown = llama(train_tokenizer([TEXT], "bpe", 310), "grown")
    assert not same_tokenizer(base, grown)


def test_divergence_is_over_the_tokens_that_both_have(pair):
    for one, other in (pair, pair[::-1]):
        [shift] = text_shift(one, other, [TEXT[:60]]).texts
        ids = one.encode(TEXT[:60])
        p, q = (s.model(ids).logits[0, :-1] for s in (one, other))
        ours, theirs = (x[:, :300].softmax(-1) for x in (p, q))
        expected = (theirs * (theirs / ours).log()).sum(-1)
        torch.testing.assert_close(
            torch.tensor(shift.kl), expected, atol=1e-4, rtol=1e-4, check_dtype=False
        )
        # A model's loss is its own.
        loss = nn.functional.cross_entropy(q, ids[0, 1:], reduction="none")
        torch.testing.assert_close(
            torch.tensor(shift.loss_tuned), loss, atol=1e-4, rtol=1e-4, check_dtype=False
        )


def test_the_weights_table_has_embeddings_and_counts_their_new_rows(pair):
    for (one, other), new in ((pair, 2), (pair[::-1], -2)):
        shift = weight_shift(one, other)
        table = shift.table.set_index("matrix")
        assert table.loc["W_E", "new_rows"] == table.loc["W_U", "new_rows"] == new
        assert np.all(table.drop(["W_E", "W_U"])["new_rows"] == 0)
        ours, theirs = (s.model.get_input_embeddings().weight[:300] for s in (one, other))
        assert table.loc["W_E", "relative"] == pytest.approx(
            float((theirs - ours).norm() / ours.norm()), rel=1e-6
        )
        assert table.loc["W_E", "rank"] == 1 and table.loc["W_U", "norm"] == 0
        assert "2 tokens more" in shift.news and shift.to_dict()["news"] == shift.news


def test_both_are_scored_on_the_same_random_sequences(pair):
    base, tuned = pair
    model = deepcopy(tuned.model)
    for module in (model.model.embed_tokens, model.lm_head):
        module.weight = nn.Parameter(module.weight[:300].clone(), requires_grad=False)
    without = Subject("tuned", model, base.tokenizer, tuned.card)
    scores, expected = (score_shift(base, other, n=3, length=40).mean for other in (tuned, without))
    for score, values in expected.items():
        np.testing.assert_array_equal(scores[score], values)
    assert scores["attention_entropy"].any()


def test_a_transplant_brings_what_both_have(pair):
    for host, donor in (pair, pair[::-1]):
        edited = weights(apply(host, transplant(host, donor, "embed, L1H2"), donor))
        own = weights(host)
        given = weights(donor)
        name = "model.embed_tokens.weight"
        assert torch.equal(edited[name][:300], given[name][:300]) and torch.equal(
            edited[name][300:], own[name][300:]
        )
        query = "model.layers.1.self_attn.q_proj.weight"
        assert torch.equal(edited[query], given[query]) and torch.equal(
            edited["lm_head.weight"], own["lm_head.weight"]
        )


def test_locating_is_exact_and_says_what_it_leaves_out(pair):
    base, tuned = pair
    for one, other in (pair, pair[::-1]):
        location = locate(one, other, measure_of(one, "text", n=3), grain="heads", draws=1)
        assert max(location.checks.values()) == 0 and location.notes == [whats_new(one, other)]
        assert len(location.best("layer", "base")) == 2 and location.n_changed == 32 + 8 * 32
    assert base.d_embed == 300 and tuned.d_embed == 302  # neither was changed by it
