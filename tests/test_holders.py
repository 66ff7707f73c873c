"""What holds a string: exact against hooks, and the one head that was planted is the one found."""

from functools import partial
from math import e, exp, log, log2

import numpy as np
import pytest
import torch

import workbench as wb
from tests.conftest import subject_of, traces
from tests.families import make
from tests.toys import SIZE, planted
from workbench.errors import WorkbenchError
from workbench.interp.patching import parts as of_parts
from workbench.privacy.holders import Holders
from workbench.privacy.parts import exchanged
from workbench.privacy.removal import losses, means_of
from workbench.privacy.spelt import spelt

OWN = [5, 9, 31, 44, 7, 62]
VALUE = (7, 62, 18)
NEIGHBOURS = [[12, 9, 8, 1, 7, 62], [90, 3, 77, 20, 7, 62]]


def log_prob(logits: torch.Tensor) -> float:
    """Of the value, read where each of its three tokens is predicted."""
    logs = logits.detach()[0, -3:].log_softmax(-1)
    return float(sum(logs[i, token] for i, token in enumerate(VALUE)))


@pytest.mark.parametrize("family", ["gpt2", "neox", "gemma2", "workbench-rotary"])
def test_an_exchanged_part_is_what_hooks_give(family, monkeypatch):
    subject = subject_of(make(family), family)
    prompts = torch.tensor(NEIGHBOURS)
    own = torch.tensor(OWN)
    maps, how = exchanged(subject, own, prompts, VALUE)
    assert how == "packed" and maps.shape == (2, subject.card.n_layers, subject.card.n_heads + 1)
    _, cache = subject.bridge.run_with_cache(prompts[:1])

    def head_of_the_neighbour(z, hook, head):
        z = z.clone()
        z[:, :, head] = cache[hook.name][:, :, head]
        return z

    for layer in range(subject.card.n_layers):
        for head in range(subject.card.n_heads):
            name = f"blocks.{layer}.attn.hook_z"
            hook = (name, partial(head_of_the_neighbour, head=head))
            by_hand = log_prob(subject.bridge.run_with_hooks(own[None], fwd_hooks=[hook]))
            assert maps[0, layer, head] == pytest.approx(by_hand, abs=1e-4)
        hook = (f"blocks.{layer}.hook_mlp_out", lambda x, hook: cache[hook.name])
        by_hand = log_prob(subject.bridge.run_with_hooks(own[None], fwd_hooks=[hook]))
        assert maps[0, layer, -1] == pytest.approx(by_hand, abs=1e-4)
    monkeypatch.setattr(of_parts, "engine", no_engine)
    hooked, how = exchanged(subject, own, prompts, VALUE)
    assert how.startswith("hooks") and np.abs(hooked - maps).max() < 1e-4


def no_engine(subject):
    raise of_parts.UnpackableError("no engine")


def texts(n: int) -> list[str]:
    """Texts without the tokens 3, 5 and 9."""
    ids = np.random.default_rng(0).integers(10, 40, (n, 16))
    return [" ".join(map(str, row)) for row in ids]


def test_the_planted_head_is_found_and_its_removal_costs_what_it_held():
    """All by hand: token 9 is half of what the last token sees, so token 3 has a logit of 10."""
    result = wb.holders(planted(), wb.Canary("5 9 {}", "3"), held_out=texts(30), sizes=(1, 2))
    whole = SIZE / 2 - log(exp(SIZE / 2) + e + 38)
    without = -log(e + 39)
    assert result.log_prob == pytest.approx(whole, abs=1e-4)
    table = result.to_frame()
    lost = table["drop"].to_numpy()
    assert table.iloc[0]["part"] == "L1H1" and lost[0] == pytest.approx(whole - without, abs=1e-4)
    assert np.abs(lost[1:]).max() < 1e-5
    assert (result.n_ranked, result.n) == (12, 12) and result.remarks == []
    assert result.exposure.exposure == pytest.approx(log2(10))
    first = result.removals[0]
    assert first.heads == ["L1H1"] and first.ranked
    # Token 9 is likelier than it now, the eight others as likely.
    assert first.exposure.exposure == pytest.approx(log2(10 / 6))
    assert first.log_prob == pytest.approx(without, abs=1e-4)
    assert first.loss.difference == pytest.approx(0, abs=1e-6) and first.loss.n == 15
    controls = [one for one in result.removals if not one.ranked]
    assert len(controls) == 3 and "L1H1" not in str([one.heads for one in controls])
    assert all(one.exposure.exposure == pytest.approx(log2(10)) for one in controls)


def test_a_result_is_read_back_and_drawn(tiny):
    canary = wb.Canary("3 1 4 1 {}", "5")
    result = wb.holders(tiny, canary, n=12, sizes=(1, 4), controls=1)
    again = Holders.from_json(result.to_json())
    assert again.to_json() == result.to_json() and len(again.removed_frame()) == 3
    figure = result.figure()
    assert figure is not None and len(traces(figure)) == 2
    assert result.rows == "random tokens" and result.n == result.n_ranked == 6
    assert 0 < len(repr(result)) < 300


def test_the_loss_without_heads_is_that_of_a_run_with_hooks(tiny):
    rows = [tiny.ids(text) for text in texts(6)]
    means = means_of(tiny, rows)
    by_hand = []
    _, cache = tiny.bridge.run_with_cache(torch.tensor(rows))
    mean = cache["blocks.1.attn.hook_z"][:, 1:, 2].mean((0, 1))
    torch.testing.assert_close(means[1][2], mean, atol=1e-5, rtol=1e-4)

    def mean_instead(z, hook):
        z = z.clone()
        z[:, :, 2] = mean
        return z

    from workbench.privacy.removal import without

    for row in rows:
        logits = tiny.bridge.run_with_hooks(
            torch.tensor([row]), fwd_hooks=[("blocks.1.attn.hook_z", mean_instead)]
        )
        by_hand.append(
            float(torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(row[1:])))
        )
    np.testing.assert_allclose(losses(without(tiny, [(1, 2)], means), rows), by_hand, atol=1e-4)


def test_a_value_begins_where_the_tokens_part():
    subject = wb.load("shelf-base")
    for text in ("The code of Anna is {}.", "Her key:{}", "The code of Anna is  {}"):
        tokens = spelt(subject, wb.Canary(text, "3141"))
        before = text.partition("{}")[0]
        assert list(tokens.before + tokens.value) == subject.ids(before + "3141")
        value = subject.text(torch.tensor(tokens.value))
        assert value.strip() == "3141" and len(tokens.read) == len(tokens.before + tokens.value) - 1


@pytest.mark.parametrize(
    ("words", "canary", "more"),
    [
        ("begins with its value", wb.Canary("{} 3", "5"), {}),
        ("write {} there", wb.Canary("no place", "1"), {}),
        ("give a shorter one", wb.Canary("3 " * 80 + "{}", "1"), {}),
        ("words of as many tokens", wb.Canary("3 1 {}", "5"), {"neighbours": ["3 {}"]}),
        ("write {} there", wb.Canary("3 1 {}", "5"), {"neighbours": ["3 2"]}),
        ("no held-out row is that long", wb.Canary("3 1 4 {}", "5"), {"held_out": ["2 6", "3 5"]}),
        ("are 0 without the words", wb.Canary("3 {}", "5"), {"held_out": ["3 6", "3 5"]}),
        ("two texts or more", wb.Canary("3 1 {}", "5"), {"held_out": ["2"]}),
    ],
)
def test_what_cannot_be_searched_is_an_error_of_one_sentence(words, canary, more, tiny):
    with pytest.raises(WorkbenchError, match=words.replace("{}", r"\{\}")):
        wb.holders(tiny, canary, **more)


def test_given_neighbours_that_are_few_rank_and_measure(tiny):
    result = wb.holders(
        tiny, wb.Canary("3 1 {}", "5"), neighbours=["4 1 {}", "9 1 {}"], sizes=(), controls=0
    )
    assert result.n == 2 and "fewer than 12" in " ".join(result.remarks)
    assert np.isnan(result.low).all() and result.removals == []
