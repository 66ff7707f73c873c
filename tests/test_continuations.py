"""Answers of several tokens: the packed engine against hooks, and the chain rule worked by hand."""

import math

import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from tests.families import FAMILIES, NORMED_TOGETHER, make
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.metrics import SIDES
from workbench.interp.engine.packed import engine
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.patching.checks import failed
from workbench.interp.patching.pair_maps import DIRECTIONS, SITES, patch
from workbench.interp.prompts.pairs import pair
from workbench.subjects import load

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"
ANSWERS = ["7 12 3", "9"]
WRONGS = ["8 4"]
CELLS = {"z_by_pos": [(0, 1, 3), (1, 2, 8)], "neurons": [(0, 0), (0, 60)]}


def log_prob(logits, n_prompt, tokens):
    """Of a continuation, from the logits of the prompt followed by all of it but the last token."""
    logs = logits.log_softmax(-1)
    return sum(float(logs[n_prompt - 1 + i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_packed_equals_hooked_at_every_site(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, ANSWERS, WRONGS, spelt=True)
    assert [part.fed for part in question.parts] == [2, 0, 1]
    tolerance = 1e-10 if family in ("gpt2", "neox") or family.startswith("workbench") else 1e-5
    for i, site in enumerate(SITES):
        if site == "resid_mid" and engine(subject).parallel:
            continue
        layer = 1 if site == "neurons" else None
        settings = Settings(site, DIRECTIONS[i % 2], list(SIDES)[i % len(SIDES)], layer=layer)
        cells = CELLS.get(
            site,
            [(0, 3), (1, 1), (1, 3)] if SITES[site][-1] == "head" else [(0, 5), (1, 8), (2, 8)],
        )
        if site in ("k", "v"):
            cells = [(0, 0), (1, 1)]
        ours = run_sweep(subject, question, settings)
        theirs = hooked(subject, question, settings, cells=cells)
        assert ours.values.shape == theirs.values.shape and not ours.values.isnan().any()
        some = ~theirs.values.isnan()
        assert int(some.sum()) == len(cells)
        torch.testing.assert_close(ours.values[some], theirs.values[some], atol=tolerance, rtol=0)
        assert (ours.clean, ours.corrupted) == pytest.approx(
            (theirs.clean, theirs.corrupted), abs=tolerance
        )


def test_a_map_s_ends_and_cells_are_the_chain_rule():
    subject = subject_of(tiny_gpt(n_layers=3).double())
    question = pair(subject, CLEAN, CORRUPTED, ["7 12 3"], WRONGS, spelt=True)
    swept = run_sweep(subject, question, Settings("resid_mid"))
    n = len(question.clean)
    bridge = subject.bridge
    ends = []
    cell = []
    for tokens in ([7, 12, 3], [8, 4]):
        clean, corrupted = (
            torch.cat([ids, torch.tensor(tokens[:-1])])[None] for ids in question.prompts
        )
        with torch.no_grad():
            ends.append(log_prob(subject.model(clean).logits[0], n, tokens))
        _, cache = bridge.run_with_cache(clean)
        stream = cache["blocks.1.hook_resid_pre"] + cache["blocks.1.hook_attn_out"]

        _, own = bridge.run_with_cache(corrupted)
        added = stream - own["blocks.1.hook_resid_pre"]

        # At one place of the prompt; what follows is computed from it.
        def put(x, hook, added=added):
            x = x.clone()
            x[:, 5] = added[:, 5]
            return x

        logits = bridge.run_with_hooks(corrupted, fwd_hooks=[("blocks.1.hook_attn_out", put)])[0]
        cell.append(log_prob(logits, n, tokens))
    assert swept.clean == pytest.approx(ends[0] - ends[1], abs=1e-10)
    assert float(swept.values[1, 5]) == pytest.approx(cell[0] - cell[1], abs=1e-10)
    assert swept.values.shape == (3, n)


def test_one_token_has_the_same_differences_either_way(tiny):
    """A logit difference is a difference of log-probabilities, and alternatives add up their
    probabilities.
    """
    one = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", metric="logit_difference")
    question = pair(tiny, CLEAN, CORRUPTED, "7", "8")
    logs = [
        run_sweep(tiny, pair(tiny, CLEAN, CORRUPTED, a, b), Settings(metric="log_prob"))
        for a, b in ("78", "87")
    ]
    torch.testing.assert_close(
        torch.tensor(one.metric), logs[0].values - logs[1].values, atol=1e-5, rtol=0
    )
    assert question.parts == ()
    both = [
        patch(tiny, CLEAN, CORRUPTED, answer=a, wrong="8", metric="log_prob")
        for a in (ANSWERS, ANSWERS[:1], "9")
    ]
    added = math.log(sum(math.exp(side.clean_metric) for side in both[1:]))
    assert both[0].clean_metric == pytest.approx(added, abs=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"site": "z", "metric": "log_prob"},
        {"site": "mlp_out", "window": 2},
        {"site": "attn_out", "replacement": "mean"},
        {"site": "z", "replacement": "zero"},
        {"replacement": "noise"},
    ],
)
def test_maps_of_continuations_carry_their_checks(tiny, more):
    patching = patch(tiny, CLEAN, CORRUPTED, answer=["7 12 3"], wrong="8 4", **more)
    assert failed(patching.checks) == [] and patching.spelt == [["7", "12", "3"], ["8", "4"]]
    assert {"identity_patch", "full_patch", "null_pair", "not_fired", "direct_sum"} <= set(
        patching.checks
    )
    if patching.axes[-1] == "pos":
        assert len(patching.effect[0]) == len(patching.clean_tokens) == 9


def test_an_ablation_takes_the_same_mean_for_answers_of_different_lengths(tiny):
    """Else a wrong answer of more tokens would be judged in another model than the answer."""
    from workbench.interp.engine.prepare import prepare

    question = pair(tiny, CLEAN, CORRUPTED, "7 12 3", "8 4", spelt=True)
    for replacement in ("mean", "noise"):
        a, b = (
            prepare(tiny, part, Settings("mlp_out", metric="log_prob", replacement=replacement))
            for part in question.parts
        )
        torch.testing.assert_close(
            a.map.source("mlp_out", 1)[:9], b.map.source("mlp_out", 1)[:9], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            a.map.run.resid[0][1, :9], b.map.run.resid[0][1, :9], atol=0, rtol=0
        )


def test_an_answer_glued_to_the_prompt_by_mistake_is_warned_of():
    subject = load("shelf-base")
    words = ("The old horse and the king", "The old house and the king")
    patching = patch(subject, *words, answer="garden", wrong=" was", audit=0)
    assert any("without its leading space" in warning for warning in patching.warnings)
    assert patch(subject, *words, answer=" garden was", wrong=" was in", audit=0).warnings == []
