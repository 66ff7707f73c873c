"""Interventions: an edited Subject is a Subject, equal to hooks by hand, and comes back from JSON
as it was.
"""

import numpy as np
import pytest
import torch

from tests.conftest import subject_of, tiny_gpt, written_by
from tests.families import make
from workbench.errors import WorkbenchError
from workbench.interp.interventions.ablation import ablation, parse_heads
from workbench.interp.interventions.needs import needed_heads
from workbench.interp.interventions.steering import steering
from workbench.interp.patching.pair_maps import patch
from workbench.subjects import available, load
from workbench.subjects.intervention import Edit, Intervention, apply

PROMPT = "5 9 31 44 7 62 18 77 23"


def zero_head(z, head):
    z = z.clone()
    z[:, :, head] = 0
    return z


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma2", "workbench-rotary"])
def test_an_ablated_head_is_a_zeroed_hook_in_every_view_of_the_edited_subject(family):
    subject = subject_of(make(family), family)
    ids = subject.encode(PROMPT)
    before = subject.model(ids).logits
    edited = apply(subject, ablation(subject, [(1, 2)], replacement="zero"))
    hook = [("blocks.1.attn.hook_z", lambda z, hook: zero_head(z, 2))]
    by_hand = subject.bridge.run_with_hooks(ids, fwd_hooks=hook)
    torch.testing.assert_close(edited.model(ids).logits, by_hand, atol=2e-5, rtol=0)
    assert torch.equal(subject.model(ids).logits, before)  # the parent stays as it is
    torch.testing.assert_close(edited.bridge(ids), by_hand, atol=2e-5, rtol=0)
    patching = patch(
        edited, PROMPT, "5 9 31 12 7 80 18 77 23", answer="7", wrong="8", site="z", audit=3
    )
    # The packed engine carries the edit through every branch.
    assert max(patching.checks.values()) < 2e-5
    assert patching.effect[1][2] == pytest.approx(0, abs=1e-6)


def test_an_intervention_survives_json_and_is_loaded_by_name(tiny):
    change = ablation(
        load("shelf-base"),
        [(1, 1), (2, 0)],
        replacement="mean",
        name="without-two",
        base="shelf-base",
    )
    assert Intervention.from_json(change.to_json()) == change
    name = change.save()
    edited = load(name)
    assert name in [a.name for a in available()]
    assert edited.card.parent == "shelf-base" and "L1H1" in edited.card.notes
    assert (
        edited.hash != load("shelf-base").hash == load("shelf-base").hash
        and edited.hash == load(name).hash
    )
    ids = edited.encode("Once upon a time there was")
    longer = written_by(edited.model, ids, max_new_tokens=3, do_sample=False)
    assert longer.shape[1] == ids.shape[1] + 3
    whole = edited.model(ids).logits
    cached = edited.model(ids[:, :-1], use_cache=True)
    last = edited.model(ids[:, -1:], cache=cached.cache).logits
    torch.testing.assert_close(whole[:, -1:], last, atol=1e-4, rtol=1e-4)


def test_steering_adds_the_difference_of_two_prompts_to_the_stream(tiny):
    change = steering(tiny, ["5 9 31"], ["5 9 12"], layer=0, strength=1.0)
    _, cache = tiny.bridge.run_with_cache(tiny.encode("5 9 31"))
    _, other = tiny.bridge.run_with_cache(tiny.encode("5 9 12"))
    by_hand = (cache["blocks.0.hook_resid_post"] - other["blocks.0.hook_resid_post"])[0, -1]
    np.testing.assert_allclose(change.edits[0].value, by_hand, atol=1e-5)
    steered = apply(tiny, change).model(tiny.encode("5 9 12")).logits[0, -1]
    torch.testing.assert_close(
        steered, tiny.model(tiny.encode("5 9 31")).logits[0, -1], atol=5.0, rtol=1
    )
    svd = steering(tiny, ["5 9 31"], ["5 9 12"], layer=0, method="svd")
    np.testing.assert_allclose(svd.edits[0].value, by_hand, atol=1e-4)  # one pair has one direction


def test_the_heads_that_a_probe_needs_are_those_whose_ablation_hurts():
    subject = load("shelf-base")
    needs = needed_heads(subject, "induction", n=20, replacement="zero")
    worst = needs.to_frame().iloc[0]
    layer = int(worst["layer"])
    head = int(worst["index"])
    edited = apply(subject, ablation(subject, [(layer, head)], replacement="zero"))
    from workbench.interp.prompts.probes import generate, read_probe

    generated = generate(subject, read_probe("induction"), 40)
    lost = []
    for item in generated.items[20:]:
        ends = [s.model(item.pair.clean[None]).logits[0, -1] for s in (subject, edited)]
        ends = [float(x[item.pair.answer] - x[item.pair.wrong]) for x in ends]
        lost.append(ends[0] - ends[1])
    assert needs.loss[layer, head] == pytest.approx(np.mean(lost) / needs.intact.value, abs=1e-3)
    assert (
        needs.low[layer, head] <= needs.loss[layer, head] <= needs.high[layer, head]
        and needs.n == needs.n_held_out == 20
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [[0.0, float("nan")]], "much", None])
def test_edits_with_values_that_are_no_finite_numbers_are_refused(value, tiny):
    change = Intervention("x", "", (Edit(1, "z", (0,), "set", value),))
    for refuse in (
        lambda: apply(tiny, change),
        change.save,
        lambda: Intervention.from_json(change.to_json()),
    ):
        with pytest.raises(
            WorkbenchError, match="edit at z of layer 1 in x has a value that is no finite number"
        ):
            refuse()


def test_bad_interventions_get_one_sentence(tiny, tmp_path):
    for make_it, message in (
        (lambda: parse_heads("L1"), "'L1' is no head"),
        (lambda: ablation(tiny, [(7, 0)]), "no head L7H0"),
        (lambda: ablation(tiny, replacement="mean"), "Nothing was named"),
        (lambda: ablation(tiny, [(0, 0)], replacement="hard"), "'hard'"),
        (lambda: steering(tiny, ["5"], [], layer=0), "got 1 and 0"),
        (lambda: steering(tiny, ["5"], ["6"], layer=9), "no layer 9"),
        (lambda: apply(tiny, Intervention("x", "", (Edit(5, "z"),))), "no layer 5"),
        (lambda: apply(tiny, Intervention("x", "", (Edit(0, "z", (9,)),))), "no head 9"),
        (
            lambda: apply(tiny, Intervention("x", "", (Edit(0, "mlp_out", value=[1.0]),))),
            r"shape \[1\]",
        ),
        (lambda: Intervention("../x", "", ()).save(), "name"),
        (lambda: Intervention.from_json('{"name": "x"}'), "not an intervention"),
        (lambda: load("edit:none-such"), "no intervention 'none-such'"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            make_it()
    assert parse_heads("L1H2, l0h3") == [(0, 3), (1, 2)]
    assert subject_of(tiny_gpt()).hash == "0" * 64
