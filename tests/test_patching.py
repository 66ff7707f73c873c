"""The packed engine against TransformerLens's hooks, and facts that any patching must obey."""

import os

import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.interp.packed import engine
from workbench.interp.patching import DIRECTIONS, SITES, hooked_sweep, pair, patch, sweep

CLEAN, CORRUPTED = "5 9 31 44 7 62 18 77 23", "5 9 31 12 7 80 18 77 23"
IOI = "When Mary and John went to the store, {} gave a drink to"


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_hooked_for_every_site_in_both_directions(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    # Some families keep norms and rotary tables in float32 inside a float64 model; ours and GPT-2 do not.
    tolerance = 1e-10 if family in ("gpt2", "neox") or family.startswith("workbench") else 1e-5
    for site in SITES:
        for direction in DIRECTIONS:
            ours, ends = sweep(subject, question, site, direction)
            theirs, again = hooked_sweep(subject, question, site, direction)
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
            assert ends == pytest.approx(again, abs=tolerance)


def test_chunks_under_a_small_budget_change_nothing():
    subject = subject_of(tiny_gpt(n_layers=3).double())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    whole, _ = sweep(subject, question)
    parts: list[float] = []
    small, _ = sweep(subject, question, memory_gb=1e-5, progress=lambda share, _: parts.append(share))
    assert len(parts) > 5 and parts[-1] == 1.0
    torch.testing.assert_close(small, whole, atol=1e-12, rtol=0)


def test_patching_where_the_prompts_still_agree_is_exactly_the_target_run(tiny):
    result = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", audit=3)
    assert result.first_difference == 3
    assert all(effect == 0 for row in result.effect for effect in row[:3])
    noising = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", direction="noising")
    assert all(effect == pytest.approx(1) for row in noising.effect for effect in row[:3])
    assert result.checks["plain_model"] < 1e-5 and result.checks["hooked_cells"] < 1e-5


def test_patching_the_last_residual_at_the_answer_restores_everything(tiny):
    result = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="resid_post")
    assert result.effect[-1][-1] == pytest.approx(1, abs=1e-5)
    assert result.effect[-1][:-1] == [0.0] * 8  # nothing moves between positions after the last block


def test_denoising_and_noising_are_each_others_mirror_when_the_prompts_are_swapped(tiny):
    one = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", direction="noising")
    other = patch(tiny, CORRUPTED, CLEAN, answer="7", wrong="8", direction="denoising")
    torch.testing.assert_close(torch.tensor(one.metric), torch.tensor(other.metric), atol=1e-5, rtol=0)


def test_a_packed_map_leaves_the_subject_as_it_was(tiny):
    ids = tiny.encode(CLEAN)
    before = tiny.model(ids).logits
    patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="z")
    assert torch.equal(tiny.model(ids).logits, before)
    assert tiny.model.config._attn_implementation == "sdpa" != engine(tiny).model.config._attn_implementation


def test_a_model_that_cannot_be_packed_goes_through_the_hooks_and_says_so(tiny):
    packed = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8")
    other = subject_of(tiny_gpt())
    type(other.model)._supports_attention_backend = False
    try:
        hooked = patch(other, CLEAN, CORRUPTED, answer="7", wrong="8")
    finally:
        type(other.model)._supports_attention_backend = True
    assert hooked.engine.startswith("hooks (") and packed.engine == "packed"
    torch.testing.assert_close(torch.tensor(hooked.metric), torch.tensor(packed.metric), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": ""}, "clean prompt is empty"),
        ({"corrupted": "5 9 31"}, r"has 9 tokens and the corrupted one 3.*part at token 4.*'44'.*its end"),
        ({"corrupted": CLEAN}, "the same"),
        ({"clean": " ".join(["1"] * 65)}, "65 tokens"),
        ({"answer": "7 8"}, "answer '7 8' is 2 tokens"),
        ({"answer": "8"}, "are both '8'"),
        ({"site": "soul"}, "site is 'soul'.*resid_pre"),
        ({"direction": "sideways"}, "denoising or noising"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, change, message):
    words = {"clean": CLEAN, "corrupted": CORRUPTED, "answer": "7", "wrong": "8", **change}
    with pytest.raises(WorkbenchError, match=message) as caught:
        patch(tiny, words.pop("clean"), words.pop("corrupted"), **words)
    assert "\n" not in str(caught.value)


def test_smollm_moves_the_name_from_its_second_mention_to_the_end(smollm):
    """Indirect objects on SmolLM2: the subject's token decides up to the middle, the last token from there on."""
    from workbench.subjects import load

    subject = load(smollm)
    result = patch(
        subject,
        IOI.format("John"),
        IOI.format("Mary"),
        answer=" Mary",
        wrong=" John",
        audit=int(os.environ.get("CI", "") == "") + 1,
    )
    effect = torch.tensor(result.effect)
    assert result.clean_metric > 3 and result.corrupted_metric < -3
    assert result.first_difference == 9 and result.corrupted_tokens[9] == " Mary"
    assert effect[:16, 9].min() > 0.9 and effect[-4:, -1].min() > 0.9 and effect[-4:, 9].abs().max() < 0.1
    assert max(result.checks.values()) < 1e-3
