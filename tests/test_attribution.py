"""Attribution patching is the derivative of the exact map, equals it where the model is linear, and
says where not.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt
from tests.families import FAMILIES, NORMED_TOGETHER, make
from workbench.errors import WorkbenchError
from workbench.interp.engine.prepare import prepare
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.patching.attribution import attribution
from workbench.interp.patching.gradients import (
    ESTIMATED,
    Approximation,
    estimate_sweep,
    estimates,
)
from workbench.interp.patching.pair_maps import patch
from workbench.interp.prompts.pairs import pair
from workbench.statistics import map_correlation
from workbench.subjects import load

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"
STEP = 1e-3


def exact(ready):
    values = ready.blank()
    for branch, finals in ready.map.packed.carry(ready.map.run, list(ready.map.branches())):
        values[branch.key] = ready.metric.of(ready.map.packed.logits(finals, ready.metric.tokens))
    return values


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_the_estimate_is_the_derivative_of_the_exact_map_at_every_site(family):
    """Patches that go a small step of the way, run exactly, against gradient x difference.

    Models are in float64; where a norm computes in float32 all the same, steps must not be smaller.
    """
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    for site in ESTIMATED:
        parallel = family == "neox" and site == "resid_mid"
        for direction in ("denoising",) if site != "z" else ("denoising", "noising"):
            settings = Settings(
                site=site, direction=direction, layer=1 if site == "neurons" else None
            )
            ready = prepare(subject, question, settings)
            if parallel:
                with pytest.raises(WorkbenchError, match="no resid_mid"):
                    estimates(ready, question, Approximation())
                continue
            near = {
                step: replace(ready, map=replace(ready.map, source=part(ready.map, step)))
                for step in (-STEP, STEP)
            }
            slope = (exact(near[STEP]) - exact(near[-STEP])) / (2 * STEP)
            plain = estimates(ready, question, Approximation())
            attended = [
                estimates(near[step], question, Approximation(softmax=True))
                for step in (-STEP, STEP)
            ]
            mended = (attended[1] - attended[0]) / (2 * STEP)
            tolerance = 5e-3 * float(slope.abs().max())
            assert float(slope.abs().max()) > 1e-2, site
            assert float((mended - slope).abs().max()) < tolerance, (site, direction)
            # Its estimate runs the softmax, so only small steps are a derivative.
            if site != "pattern":
                assert float((plain - slope).abs().max()) < tolerance, (site, direction)


def part(sweep, step):
    """A source of activations a small step of the way from the run's own to the other's."""

    def source(field, layer):
        own = getattr(sweep.run, field)[layer][sweep.target]
        return own + step * (sweep.source(field, layer) - own)

    return source


def linear_model():
    """A model without norms whose last MLP writes nothing, so that its last layer is linear."""
    model = tiny_gpt(norm="none", initializer_range=0.4).double()
    torch.nn.init.zeros_(blocks(model)[-1].mlp.fc_out.weight)
    return model


@pytest.mark.parametrize("site", ["resid_mid", "resid_post", "attn_out", "z", "v", "pattern"])
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_the_estimate_equals_the_exact_map_where_the_model_is_linear(site, direction):
    subject = subject_of(linear_model())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    settings = Settings(site=site, direction=direction, layer=1)
    ours = estimate_sweep(subject, question, settings)
    theirs = run_sweep(subject, question, settings)
    assert float((theirs.values - theirs.values.flatten()[0]).abs().max()) > 1e-3
    torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=2e-6)


def test_queries_are_exact_in_a_last_linear_layer_with_exact_attention_and_not_without():
    subject = subject_of(linear_model())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    for site in ("q", "k"):
        settings = Settings(site=site, layer=1)
        truth = run_sweep(subject, question, settings).values
        plain, mended = (
            estimate_sweep(subject, question, settings, Approximation(softmax=softmax)).values
            for softmax in (False, True)
        )
        torch.testing.assert_close(mended, truth, rtol=0, atol=2e-6)
        assert float((plain - truth).abs().max()) > 1e-3


def test_more_steps_come_nearer_to_what_the_whole_embedding_does():
    """Replacing all of resid_pre at layer 0 is the other run; the integral of the gradient gives
    that exactly.
    """
    subject = subject_of(make("llama"), "llama")
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    errors = []
    for steps in (1, 8, 64):
        estimate = estimate_sweep(subject, question, Settings(layer=0), Approximation(steps=steps))
        errors.append(
            abs(
                float((estimate.values - estimate.corrupted).sum())
                - (estimate.clean - estimate.corrupted)
            )
        )
    assert errors[2] < 0.02 * errors[0] and errors[2] < errors[1]


def test_a_probe_is_estimated_beside_its_exact_map_and_cells_that_mislead_are_named():
    subject = load("shelf-base")
    result = attribution(subject, "induction", n=6, site="z")
    exact_map = result.exact
    assert exact_map is not None and result.correlation is not None and result.error is not None
    assert 0.99 < result.correlation.value <= 1 and result.correlation.n == 6
    assert (
        np.isnan([result.correlation.low, result.correlation.high]).all()
        and "no interval" in result.correlation.reason
    )
    frame = result.to_frame()
    assert len(frame) == 36 and frame["cell"].tolist()[7] == "L1H1"
    np.testing.assert_allclose(frame["error"], frame["estimate"] - frame["exact"], atol=1e-12)
    off = (frame["error"].abs() > result.tolerance) & (frame["error_p"] < 0.05)
    misleads = frame["kind"].to_numpy() != "not shown to mislead"
    assert misleads[off].all() and result.misleading == misleads.sum()
    assert max(exact_map.checks.values()) < 1e-3
    alone = attribution(subject, "induction", n=6, site="z", exact=False)
    np.testing.assert_allclose(alone.estimate.effect, result.estimate.effect)
    assert alone.exact is None and "exact" not in alone.to_frame()


def test_the_correlation_of_maps_is_pearsons_and_leaves_out_cells_that_nothing_moves():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 4, 5)) + rng.normal(size=(4, 5))
    b = a + rng.normal(size=a.shape)
    correlation = map_correlation(a, b)
    assert correlation.value == pytest.approx(
        np.corrcoef(a.mean(0).ravel(), b.mean(0).ravel())[0, 1]
    )
    assert np.isnan(correlation.low) and "no interval" in correlation.reason
    padded = [np.concatenate([side, np.zeros((30, 9, 5))], axis=1) for side in (a, b)]
    again = map_correlation(padded[0], padded[1])
    assert again.value == pytest.approx(correlation.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"steps": 0}, "one input at least"),
        ({"metric": "rank"}, "no gradient"),
        ({"steps": 2, "replacement": "zero", "site": "z"}, "no other prompt"),
        ({"window": 3, "site": "attn_out"}, "leave the window at 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_one_sentence(more, words):
    with pytest.raises(WorkbenchError, match=words):
        attribution(load("shelf-base"), "induction", n=5, **more)


def test_one_s_own_pair_is_judged_by_the_tolerance_alone(tiny):
    texts = (CLEAN, CORRUPTED, "7", "8")
    result = attribution(tiny, texts, site="resid_pre")
    exact = result.exact
    assert exact is not None and result.correlation is not None and result.kind is not None
    assert result.estimate.n == 1 and np.isnan(result.correlation.low)
    alone = patch(tiny, *texts[:2], answer="7", wrong="8", site="resid_pre")
    np.testing.assert_allclose(exact.effect, alone.effect, atol=1e-6)
    off = np.abs(result.estimate.effect - exact.effect) > result.tolerance
    assert (
        (result.kind != "not shown to mislead") == off
    ).all() and 0 < result.misleading < off.size
    assert exact.names[3] == "44|12" and exact.names[4] == "7"
    with pytest.raises(WorkbenchError, match="is 4 texts"):
        attribution(tiny, texts[:2])


def test_a_site_without_gradients_is_refused_by_name():
    for site in ESTIMATED:
        Approximation().check(Settings(site))
    assert set(ESTIMATED) <= set(SITES)
    with pytest.raises(WorkbenchError, match="pattern_by_pos cannot be estimated from gradients"):
        Approximation().check(Settings("pattern_by_pos"))
