"""Pairs swept in shared passes against one map a pair, by hooks and alone."""

import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from tests.families import FAMILIES, NORMED_TOGETHER, make
from tests.test_patching import CELLS
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.packed import PackedEngine, engine
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import TOGETHER, run_sweep, run_sweeps
from workbench.interp.prompts.pairs import pair

# Of one length, and differing from another position on each; the last one is longer.
PROMPTS = [
    ("5 9 31 44 7 62 18 77 23", "5 9 31 12 7 80 18 77 23", "7", "8"),
    ("5 6 31 44 7 62 18 77 23", "5 9 31 44 7 62 18 77 2", "9", "8"),
    ("4 9 30 44 7 62 18 77 23", "4 9 30 44 7 62 90 77 23", "7", "11"),
    ("4 9 30 44 7 62 18 77 23 5", "4 9 30 44 7 62 90 77 23 5", "7", "11"),
]


def questions(subject):
    return [pair(subject, *prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_pairs_together_equal_hooks_one_by_one(family):
    subject = subject_of(make(family), family)
    tolerance = 1e-10 if family in ("gpt2", "neox") or family.startswith("workbench") else 1e-5
    asked_of = questions(subject)
    for site in ("resid_pre", "z", "z_by_pos", "pattern", "mlp_out"):
        settings = Settings(site, "noising" if site == "z" else "denoising")
        for question, ours in zip(asked_of, run_sweeps(subject, asked_of, settings), strict=True):
            theirs = hooked(subject, question, settings, cells=CELLS.get(site))
            some = ~theirs.values.isnan()
            torch.testing.assert_close(
                ours.values[some], theirs.values[some], atol=tolerance, rtol=0
            )
            assert (ours.clean, ours.corrupted) == pytest.approx(
                (theirs.clean, theirs.corrupted), abs=tolerance
            )


@pytest.mark.quick
@pytest.mark.parametrize("metric", ["logit_difference", "kl", "log_prob", "rank"])
@pytest.mark.parametrize("replacement", ["other", "zero", "mean", "resample", "noise"])
def test_every_replacement_and_metric_is_as_for_a_pair_alone(metric, replacement):
    subject = subject_of(tiny_gpt(n_layers=3).double())
    direction = "denoising" if replacement in ("other", "noise") else "noising"
    settings = Settings("z_by_pos", direction, metric, replacement)
    together = run_sweeps(subject, questions(subject), settings)
    for question, ours in zip(questions(subject), together, strict=True):
        alone = run_sweep(subject, question, settings)
        torch.testing.assert_close(ours.values, alone.values, atol=1e-10, rtol=0)
        assert (ours.clean, ours.corrupted) == pytest.approx((alone.clean, alone.corrupted))
        assert ours.first == alone.first


@pytest.mark.quick
def test_pairs_of_one_length_share_their_passes(monkeypatch):
    subject = subject_of(tiny_gpt(n_layers=3).double())
    asked_of = questions(subject)[:1] * (2 * TOGETHER + 1)
    engine(subject)
    passes = []
    own = PackedEngine.carry

    def carry(self, run, branches, **given):
        passes.append(len({branch.prompt for branch in branches}))
        return own(self, run, branches, **given)

    monkeypatch.setattr(PackedEngine, "carry", carry)
    run_sweeps(subject, asked_of, Settings())
    assert passes == [TOGETHER, TOGETHER, 1]


@pytest.mark.quick
def test_a_window_of_layers_is_replaced_in_every_pair():
    subject = subject_of(tiny_gpt(n_layers=4).double())
    settings = Settings("mlp_out", window=3, also="attn_out")
    together = run_sweeps(subject, questions(subject), settings)
    for question, ours in zip(questions(subject), together, strict=True):
        alone = run_sweep(subject, question, settings)
        torch.testing.assert_close(ours.values, alone.values, atol=1e-10, rtol=0)
