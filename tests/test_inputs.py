"""Integrated gradients over tokens add up to the difference of the outputs, whatever the line
begins at.
"""

import numpy as np
import pytest
import torch

from tests.conftest import subject_of
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.interp.lenses.inputs import BASELINES, input_attribution, integrate

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"


@pytest.mark.parametrize(
    "family", ["gpt2", "neox", "llama", "gemma2", "gemma3", "workbench-learned", "workbench-alibi"]
)
def test_token_scores_add_up_to_the_difference_of_the_outputs(family):
    assert family in FAMILIES
    subject = subject_of(make(family), family)
    model = subject.model
    most = 4096 if family.startswith("gemma") else 1024
    for baseline in BASELINES:
        given = {"answer": "7", "wrong": "8", "corrupted": CORRUPTED}
        attribution = input_attribution(subject, CLEAN, baseline=baseline, most=most, **given)
        assert attribution.checks["completeness"] <= 1e-3, (baseline, attribution.gradients)
        logits = model(subject.encode(CLEAN)).logits[0, -1]
        assert attribution.value == pytest.approx(float(logits[7] - logits[8]), abs=1e-5)
        assert attribution.scores.sum() == pytest.approx(
            attribution.value - attribution.start, abs=1e-3
        )
        if baseline == "corrupted":
            same = np.array([a == b for a, b in zip(CLEAN.split(), CORRUPTED.split(), strict=True)])
            assert (
                np.abs(attribution.scores[same]).max() == 0
                and np.abs(attribution.scores[~same]).max() > 1e-2
            )
            other = model(subject.encode(CORRUPTED)).logits[0, -1]
            assert attribution.start == pytest.approx(float(other[7] - other[8]), abs=1e-5)


def test_without_a_wrong_answer_the_log_probability_is_split(tiny):
    attribution = input_attribution(tiny, CLEAN, answer="7")
    expected = tiny.model(tiny.encode(CLEAN)).logits[0, -1].log_softmax(-1)[7]
    assert attribution.metric_name == "log_prob" and attribution.value == pytest.approx(
        float(expected), abs=1e-4
    )
    assert attribution.checks["completeness"] <= 1e-3 and len(attribution.to_frame()) == 9


def test_an_integral_that_did_not_converge_says_so_with_what_is_missing():
    """From zero to shelf-base's embeddings the norms make steps of a millionth: forty gradients
    cannot do.
    """
    from workbench.subjects import load

    subject = load("shelf-base")
    prompt = "She had a horse and a fire. He had a horse and a"
    few = input_attribution(
        subject, prompt, answer=" fire", wrong=" door", baseline="zero", most=40
    )
    missing = abs(few.scores.sum() - (few.value - few.start))
    assert few.checks["completeness"] == pytest.approx(missing) and missing > few.tolerance
    assert not few.converged and len(few.warnings) == 1 and f"{missing:.3g}" in few.warnings[0]
    assert few.to_dict()["converged"] is False and few.to_dict()["warnings"] == few.warnings
    enough = input_attribution(subject, prompt, answer=" fire", wrong=" door", baseline="mean")
    assert enough.converged and enough.warnings == [] and enough.tolerance >= 1e-3


def test_a_sharp_step_is_found_by_halving():
    """A sigmoid as steep as 1/1000 of the line, and a straight line, whose integrals are known."""

    def slopes(shares):
        step = torch.sigmoid((shares - 0.3) * 1000)
        return step + 2 * shares, torch.stack(
            [1000 * step * (1 - step), torch.full_like(shares, 2.0)], 1
        )

    scores, ends, taken = integrate(slopes, torch.device("cpu"), torch.float64)
    np.testing.assert_allclose(scores, [1, 2], atol=5e-4)
    assert ends == pytest.approx((0, 3)) and taken < 400


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"baseline": "noise"}, "choose mean, zero, corrupted"),
        ({"baseline": "corrupted", "wrong": "8"}, "give one of as many tokens"),
        ({"baseline": "corrupted", "wrong": "8", "corrupted": "1 2"}, "must be equal"),
        ({"wrong": "7"}, "both '7'"),
    ],
)
def test_bad_questions_are_refused_in_one_sentence(tiny, more, words):
    with pytest.raises(WorkbenchError, match=words):
        input_attribution(tiny, CLEAN, answer="7", **more)
