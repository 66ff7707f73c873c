"""What was chosen is judged on other samples: a planted circuit passes whole, and heads that do
nothing fail there.
"""

import json

import numpy as np
import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt, weight_of
from workbench.benchmarks.needs import _choosing, task_needs
from workbench.errors import WorkbenchError
from workbench.interp import circuit, needed_heads
from workbench.interp.prompts.held_out import n_choosing

D_VOCAB = 40
N_CTX = 16
D_HEAD = 48
N_HEADS = 3
SHARP = 14.0
"""Logits by which a planted key is above the others."""
LOUD = 20.0


@pytest.fixture(scope="module")
def planted():
    """Two layers that do induction by two heads alone: L0H1 looks at the token before, L1H2 for
    what followed.

    The stream has a place for the token, one for the token before, one for the answer, and one for
    the position.
    """
    d_model = D_HEAD * N_HEADS
    token, before, answer = (slice(i * D_VOCAB, (i + 1) * D_VOCAB) for i in range(3))
    place = slice(3 * D_VOCAB, 3 * D_VOCAB + N_CTX)
    shape = {
        "n_layers": 2,
        "n_heads": N_HEADS,
        "d_model": d_model,
        "d_vocab": D_VOCAB,
        "n_ctx": N_CTX,
        "d_mlp": 8,
    }
    fixed = {
        "norm": "rmsnorm",
        "norm_eps": 1e20,
        "bias": True,
        "tie_word_embeddings": False,
        "positions": "learned",
    }
    model = tiny_gpt(**shape, **fixed)
    words = torch.eye(D_VOCAB)
    places = torch.eye(N_CTX)
    size = (SHARP * D_HEAD**0.5) ** 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)):
            norm.weight.fill_(1e10)  # with that epsilon the identity
        weight_of(model.model.tok)[:, token] = words
        weight_of(model.model.pos)[:, place] = places
        model.lm_head.weight[:, answer] = words
        first, second = (layer.attn for layer in blocks(model))
        one = D_HEAD
        two = 2 * D_HEAD
        first.q.weight[one : one + N_CTX, place] = size * places.roll(-1, 0)
        first.k.weight[one : one + N_CTX, place] = size * places
        first.v.weight[one : one + D_VOCAB, token] = words
        first.o.weight[before, one : one + D_VOCAB] = words
        second.q.weight[two : two + D_VOCAB, token] = size * words
        second.k.weight[two : two + D_VOCAB, before] = size * words
        second.v.weight[two : two + D_VOCAB, token] = words
        second.o.weight[answer, two : two + D_VOCAB] = LOUD * words
    return subject_of(model, "planted")


def test_the_heads_that_were_planted_are_the_ones_that_are_needed(planted):
    needs = needed_heads(planted, "induction", n=6, replacement="zero")
    needed = {tuple(head) for head in np.argwhere(needs.loss > 0.5)}
    assert (
        needed == {(0, 1), (1, 2)} == {tuple(head) for head in np.argwhere(needs.chosen_on > 0.5)}
    )
    assert (needs.n, needs.n_held_out, needs.intact.n) == (6, 6, 6)
    others = np.ones((2, N_HEADS), dtype=bool)
    others[0, 1] = others[1, 2] = False
    assert (
        np.abs(needs.loss[others]).max() < 1e-6
        and np.nanmax(np.abs(needs.chosen_on[others])) < 1e-6
    )
    assert set(needs.to_frame()["head"].head(2)) == {"L0H1", "L1H2"}


def test_a_planted_circuit_is_found_whole_and_is_faithful_where_it_was_not_chosen(planted):
    """Between the prompts two later words change places: only what L1H2 copies differs, and where
    it writes.
    """
    result = circuit(planted, "induction", n=6, steps=3, verify=5)
    best = result.curve[0]
    assert result.chosen == best.edges == 5  # the smallest size that is tried
    edges = result.edges.query("abs(score) > 1e-3")
    assert set(zip(edges["sender"], edges["receiver"], strict=True)) == {
        ("embed", "L1H2.v"),
        ("L1H2", "logits"),
    }
    for seen in (best.faithfulness, best.chosen_on):
        assert seen.value == pytest.approx(1, abs=1e-3) and seen.n == 6
    assert best.without.value == pytest.approx(0, abs=1e-3)
    for name in ("exact", "needed", "needed_chosen_on"):
        assert edges[name].to_numpy() == pytest.approx([1, 1], abs=1e-3)
    assert result.audit is not None and result.audit.missed == 0


def a_task_of_chance(folder, n: int) -> str:
    """Questions whose right answer was drawn: whatever a model does, its margin is 0 on average."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(n):
        numbers = [str(number) for number in rng.permutation(100)[:7]]
        rows.append(
            {"q": " ".join(numbers[:5]), "choices": numbers[5:], "gold": int(rng.integers(2))}
        )
    (folder / "test.json").write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "task": "chance",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "test.json")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
    }
    path = folder / "chance.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items()))
    return str(path)


@pytest.mark.parametrize(("layers", "greedy"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_heads_that_do_nothing_for_a_task_seem_needed_only_where_they_were_chosen(
    layers, greedy, tmp_path
):
    """The answers are drawn, so no head matters: the best of many looks it in the sample, and not
    beyond.
    """
    subject = subject_of(tiny_gpt(n_layers=layers, n_heads=8))
    needs = task_needs(
        subject, a_task_of_chance(tmp_path, 80), limit=80, replacement="zero", greedy=greedy
    )
    assert (needs.n, needs.n_held_out) == (40, 40) == (needs.n, needs.intact.n)
    order = [cut.chosen_on.difference for cut in needs.cuts]
    assert order == sorted(order)
    for cut in (needs.cuts[0], *needs.greedy):
        assert cut.chosen_on.difference < 0 and cut.chosen_on.difference < cut.margin.difference
        assert cut.margin.low <= 0 <= cut.margin.high and cut.margin.n == cut.chosen_on.n == 40
    for cut in needs.greedy[-1:]:
        assert cut.chosen_on.high < 0  # chosen by its sign, it seems beyond doubt there


def test_items_of_one_passage_choose_or_judge_together():
    sides = _choosing(np.array(["a", "a", "b", "c", "b", "d"], dtype=object))
    assert sides.tolist() == [True, True, False, True, False, False]


@pytest.mark.parametrize(
    ("available", "n", "held_out", "expected"),
    [(12, 6, 6, 6), (3, 6, 6, 2), (2, 20, 1, 1), (2, 1, 20, 1), (30, 20, 10, 20)],
)
def test_where_there_are_fewer_pairs_each_side_has_its_share(available, n, held_out, expected):
    assert n_choosing(available, n, held_out, "It") == expected


@pytest.mark.parametrize(("available", "n", "held_out"), [(12, 0, 6), (12, 6, 0), (1, 6, 6)])
def test_a_side_without_pairs_is_refused(available, n, held_out):
    with pytest.raises(WorkbenchError, match="one to judge on"):
        n_choosing(available, n, held_out, "It")
