"""The packed engine against TransformerLens's hooks, and facts that any patching must obey."""

import re
from functools import partial

import pytest
import torch

from tests.conftest import layout_of, subject_of, tiny_gpt
from tests.families import FAMILIES, NORMED_TOGETHER, make
from workbench.errors import WorkbenchError
from workbench.figures.patching import distrusted, effect_map
from workbench.interp.engine.branches import Branches
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.packed import PackedEngine, engine
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.patching.checks import WORDS, failed
from workbench.interp.patching.pair_maps import DIRECTIONS, METRICS, SITES, pair, patch, sweep
from workbench.interp.prompts.pairs import LengthError
from workbench.subjects import load

CLEAN = "5 9 31 44 7 62 18 77 23"
CORRUPTED = "5 9 31 12 7 80 18 77 23"
CELLS = {
    **{
        site: [(0, 3), (1, 5), (1, 8), (2, 4), (2, 8)]
        for site, axes in SITES.items()
        if axes == ("layer", "pos")
    },
    "z_by_pos": [(0, 1, 3), (1, 0, 5), (1, 3, 8), (2, 2, 8)],
    "neurons": [(0, 0), (0, 17), (0, 60)],
}
IOI = "When Mary and John went to the store, {} gave a drink to"


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_packed_equals_hooked_for_every_site(family):
    subject = subject_of(make(family), family)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    # Some families keep norms and rotary tables in float32 inside a float64 model; ours and GPT-2
    # do not.
    tolerance = 1e-10 if family in ("gpt2", "neox") or family.startswith("workbench") else 1e-5
    for i, site in enumerate(SITES):
        if site == "resid_mid" and engine(subject).parallel:
            continue
        settings = Settings(site, DIRECTIONS[i % 2], layer=1 if site == "neurons" else None)
        ours = run_sweep(subject, question, settings)
        theirs = hooked(subject, question, settings, cells=CELLS.get(site))
        some = ~theirs.values.isnan()
        torch.testing.assert_close(ours.values[some], theirs.values[some], atol=tolerance, rtol=0)
        assert (ours.clean, ours.corrupted) == pytest.approx(
            (theirs.clean, theirs.corrupted), abs=tolerance
        )


@pytest.mark.quick
def test_a_window_of_layers_is_as_if_each_of_its_layers_were_hooked(tiny):
    subject = subject_of(tiny_gpt(n_layers=4).double())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    ours = run_sweep(subject, question, Settings("mlp_out", window=3)).values
    bridge = subject.bridge
    _, cache = bridge.run_with_cache(question.clean[None])

    def patched(name, x, hook):
        x = x.clone()
        x[:, 5] = cache[name][:, 5]
        return x

    names = [f"blocks.{i}.hook_mlp_out" for i in (1, 2, 3)]
    hooks = [(name, partial(patched, name)) for name in names]
    logits = bridge.run_with_hooks(question.corrupted[None], fwd_hooks=hooks)[0, -1]
    assert float(ours[2, 5]) == pytest.approx(float(logits[7] - logits[8]), abs=1e-10)


@pytest.mark.quick
def test_attention_and_mlp_replaced_at_once_are_two_hooks_at_once(tiny):
    subject = subject_of(tiny_gpt(n_layers=3).double())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    ours = run_sweep(subject, question, Settings("attn_out", also="mlp_out")).values
    bridge = subject.bridge
    _, cache = bridge.run_with_cache(question.clean[None])

    def put(x, hook):
        x = x.clone()
        x[:, 5] = cache[hook.name][:, 5]
        return x

    for layer in (1, 2):
        hooks = [(f"blocks.{layer}.hook_{site}", put) for site in ("attn_out", "mlp_out")]
        logits = bridge.run_with_hooks(question.corrupted[None], fwd_hooks=hooks)[0, -1]
        assert float(ours[layer, 5]) == pytest.approx(float(logits[7] - logits[8]), abs=1e-10)
    patching = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="mlp_out", also="attn_out")
    assert failed(patching.checks) == [] and "hooked_cells" not in patching.checks


@pytest.mark.parametrize("replacement", ["zero", "mean", "resample"])
def test_an_ablated_map_is_of_the_clean_run(tiny, replacement):
    patching = patch(
        tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="z", replacement=replacement
    )
    assert patching.direction == "noising" and patching.checks["identity_patch"] < 1e-5
    if replacement == "zero":  # one cell by hand
        logits = tiny.bridge.run_with_hooks(
            tiny.encode(CLEAN),
            fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: zero_head(z, 2))],
        )[0, -1]
        assert patching.metric[1][2] == pytest.approx(float(logits[7] - logits[8]), abs=1e-4)


def zero_head(z, head):
    z = z.clone()
    z[:, :, head] = 0
    return z


def test_noise_on_the_embeddings_stands_for_a_corrupted_prompt(tiny):
    patching = patch(
        tiny, CLEAN, CORRUPTED, answer="7", wrong="8", replacement="noise", site="resid_pre"
    )
    assert patching.effect[0][0] == 0 and patching.clean_metric != patching.corrupted_metric
    whole = patch(
        tiny, CLEAN, CORRUPTED, answer="7", wrong="8", replacement="noise", site="resid_post"
    )
    assert whole.effect[-1][-1] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_read_off_the_same_runs(tiny, metric):
    patching = patch(
        tiny, CLEAN, CORRUPTED, answer=["7", "9"], wrong="8", metric=metric, site="resid_post"
    )
    assert max(patching.checks.values()) < 1e-3 and patching.metric_name == metric
    logits = tiny.model(tiny.encode(CLEAN)).logits[0, -1]
    by_hand = {
        "logit_difference": logits[[7, 9]].mean() - logits[8],
        "prob_difference": logits.softmax(-1)[[7, 9]].sum() - logits.softmax(-1)[8],
        "log_prob": logits.softmax(-1)[[7, 9]].sum().log(),
        "prob": logits.softmax(-1)[[7, 9]].sum(),
        "rank": (logits > logits[[7, 9]].max()).sum(),
        "kl": torch.zeros(()),
    }
    assert patching.clean_metric == pytest.approx(float(by_hand[metric]), abs=1e-5)


@pytest.mark.quick
def test_chunks_under_a_small_budget_change_nothing():
    subject = subject_of(tiny_gpt(n_layers=3).double())
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    whole, _ = sweep(subject, question)
    parts: list[float] = []
    small, _ = sweep(
        subject, question, memory_gb=1e-5, progress=lambda share, _: parts.append(share)
    )
    assert len(parts) > 5 and parts[-1] == 1.0
    torch.testing.assert_close(small, whole, atol=1e-12, rtol=0)


@pytest.mark.quick
def test_patching_where_the_prompts_still_agree_is_exactly_the_target_run(tiny):
    result = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", audit=3)
    assert result.first_difference == 3
    assert all(effect == 0 for row in result.effect for effect in row[:3])
    noising = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", direction="noising")
    assert all(effect == pytest.approx(1) for row in noising.effect for effect in row[:3])
    assert result.checks["plain_model"] < 1e-5 and result.checks["hooked_cells"] < 1e-5


@pytest.mark.quick
def test_patching_the_last_residual_at_the_answer_restores_everything(tiny):
    result = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="resid_post")
    assert result.effect[-1][-1] == pytest.approx(1, abs=1e-5)
    # Nothing moves between positions after the last block.
    assert result.effect[-1][:-1] == [0.0] * 8


@pytest.mark.quick
def test_denoising_and_noising_are_each_others_mirror_when_the_prompts_are_swapped(tiny):
    one = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", direction="noising")
    other = patch(tiny, CORRUPTED, CLEAN, answer="7", wrong="8", direction="denoising")
    torch.testing.assert_close(
        torch.tensor(one.metric), torch.tensor(other.metric), atol=1e-5, rtol=0
    )


@pytest.mark.quick
@pytest.mark.parametrize("reads", [1, 2])
def test_in_the_last_layer_only_what_is_read_is_computed_in_full(reads, tiny):
    subject = subject_of(tiny_gpt(n_layers=3).double())
    packed = engine(subject)
    question = pair(subject, CLEAN, CORRUPTED, "7", "8")
    run = packed.record(torch.stack([question.clean, question.corrupted]))
    n_pos = len(question.clean)
    branches = [
        Branches(
            layer,
            pos,
            1,
            partial(lambda at, where: run.resid[at][:1, where:], layer, pos),
            0,
            prompt=1,
        )
        for layer in range(4)
        for pos in (2, n_pos - 1)
    ]
    rows = []
    hook = packed.layers[-1].mlp.register_forward_hook(lambda *at: rows.append(at[-1].shape[1]))
    carried = packed.carry(run, branches, last=reads)
    hook.remove()
    # Three branches from each position reach the last layer; those from the end have one row.
    assert rows == [3 * (reads + 1)]
    for branch, final in carried:
        assert final.shape[:2] == (1, min(reads, n_pos - branch.pos))
    # The other prompt's stream, put in at the first layer from where they part, is that prompt.
    parted = next(final for branch, final in carried if (branch.layer, branch.pos) == (0, 2))
    torch.testing.assert_close(parted[0], run.resid[-1][0, -reads:], atol=1e-10, rtol=0)


@pytest.mark.quick
def test_a_packed_map_leaves_the_subject_as_it_was(tiny):
    ids = tiny.encode(CLEAN)
    before = tiny.model(ids).logits
    patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="z")
    assert torch.equal(tiny.model(ids).logits, before)
    assert (
        tiny.model.config._attn_implementation
        == "sdpa"
        != engine(tiny).model.config._attn_implementation
    )


def test_a_model_that_cannot_be_packed_goes_through_the_hooks_and_says_so(tiny):
    packed = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8")
    other = subject_of(tiny_gpt())
    type(other.model)._supports_attention_backend = False
    try:
        hooked = patch(other, CLEAN, CORRUPTED, answer="7", wrong="8")
    finally:
        type(other.model)._supports_attention_backend = True
    assert hooked.engine.startswith("hooks (") and packed.engine == "packed"
    torch.testing.assert_close(
        torch.tensor(hooked.metric), torch.tensor(packed.metric), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": ""}, "clean prompt is empty"),
        (
            {"corrupted": "5 9 31"},
            r"has 9 tokens and the corrupted one 3.*part at token 4.*'44'.*its end",
        ),
        ({"corrupted": CLEAN}, "the same"),
        ({"clean": " ".join(["1"] * 65)}, "65 tokens"),
        (
            {"answer": "7 8", "metric": "rank"},
            "rank is read off one prediction.*single token.*log_prob",
        ),
        ({"answer": "7 8", "wrong": "7"}, "'7 8' and the wrong answer '7' begin alike"),
        ({"answer": "7 8", "wrong": ["9", "7 8"]}, "are both '7 8'"),
        ({"answer": "7 " * 60}, "have 68 tokens, and the context of tiny holds 64"),
        ({"answer": "8"}, "are both '8'"),
        ({"site": "soul"}, "site is 'soul'.*resid_pre"),
        ({"direction": "sideways"}, "denoising or noising"),
        ({"metric": "charm"}, "metric is 'charm'"),
        ({"site": "neurons"}, "needs a layer"),
        ({"layer": 9}, "no layer 9"),
        ({"window": 3}, "window of 3"),
        ({"also": "mlp_out"}, "Two sites at once are attn_out and mlp_out"),
        ({"site": "q", "replacement": "mean"}, "no mean ablation"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, change, message):
    words = {"clean": CLEAN, "corrupted": CORRUPTED, "answer": "7", "wrong": "8", **change}
    with pytest.raises(WorkbenchError, match=message) as caught:
        patch(tiny, words.pop("clean"), words.pop("corrupted"), **words)
    assert "\n" not in str(caught.value)


def test_smollm_moves_the_name_from_its_second_mention_to_the_end(smollm):
    """Indirect objects on SmolLM2: the subject's token decides up to the middle, the last token
    from there on.
    """
    from workbench.subjects import load

    subject = load(smollm)
    result = patch(
        subject,
        IOI.format("John"),
        IOI.format("Mary"),
        answer=" Mary",
        wrong=" John",
        audit=1,
    )
    effect = torch.tensor(result.effect)
    assert result.clean_metric > 3 and result.corrupted_metric < -3
    assert result.first_difference == 9 and result.corrupted_tokens[9] == " Mary"
    assert (
        effect[:16, 9].min() > 0.9
        and effect[-4:, -1].min() > 0.9
        and effect[-4:, 9].abs().max() < 0.1
    )
    assert max(result.checks.values()) < 1e-3


@pytest.mark.quick
@pytest.mark.parametrize("site", SITES)
def test_every_map_carries_all_its_checks_and_all_hold(site):
    subject = subject_of(tiny_gpt())
    patching = patch(
        subject,
        CLEAN,
        CORRUPTED,
        answer="7",
        wrong="8",
        site=site,
        layer=1 if site == "neurons" else None,
    )
    names = {
        "plain_model",
        "hooked_cells",
        "identity_patch",
        "full_patch",
        "lens",
        "null_pair",
        "direct_sum",
    }
    assert set(patching.checks) == {*names, "not_fired"} and failed(patching.checks) == []
    assert patching.checks["not_fired"] == 0 and not torch.tensor(patching.effect).isnan().any()


FAULTS = {"carry": "not_fired", "block": "null_pair", "logits": "lens"}
"""Parts of the engine, and the check of a map that finds a fault in it."""


def broken(monkeypatch, part: str) -> None:
    """Plant a fault that users of patching tools have met: a patch that never fired, a part that is
    off.
    """
    own = getattr(PackedEngine, part)

    def carry(self, run, branches, **given):
        return own(self, run, branches, **given)[:-1]

    def block(self, *args, **given):
        x = own(self, *args, **given)
        return x + torch.arange(x.shape[-1]) * 0.05

    def logits(self, resid, tokens=None):
        return own(self, resid.roll(1, -1), tokens)

    faults = {"carry": carry, "block": block, "logits": logits}
    monkeypatch.setattr(PackedEngine, part, faults[part])


@pytest.mark.parametrize(("part", "check"), FAULTS.items())
def test_a_fault_in_the_engine_is_found_by_the_map_s_own_checks(monkeypatch, part, check):
    """The engine was whole when it was made, so that its own check let it pass."""
    subject = subject_of(tiny_gpt())
    engine(subject)
    broken(monkeypatch, part)
    patching = patch(subject, CLEAN, CORRUPTED, answer="7", wrong="8", site="z")
    assert patching.engine == "packed" and WORDS[check] in failed(patching.checks)
    picture = distrusted(
        effect_map(patching.effect, patching.metric, list("abcd"), across="head"),
        failed(patching.checks),
    )
    assert (
        WORDS[check] in layout_of(picture).title.text
        and layout_of(picture).plot_bgcolor == "#fbdcdc"
    )


@pytest.mark.parametrize("part", FAULTS)
def test_an_engine_that_is_faulty_when_it_is_made_is_not_used_and_the_map_says_why(
    tiny, monkeypatch, part
):
    right = patch(tiny, CLEAN, CORRUPTED, answer="7", wrong="8", site="z")
    broken(monkeypatch, part)
    patching = patch(subject_of(tiny_gpt()), CLEAN, CORRUPTED, answer="7", wrong="8", site="z")
    assert re.match(
        r"hooks \(Packed runs of .* (differ from ordinary ones by|are lost)", patching.engine
    )
    torch.testing.assert_close(
        torch.tensor(patching.metric), torch.tensor(right.metric), atol=1e-5, rtol=0
    )


def test_prompts_of_unequal_length_are_aligned_and_words_of_the_right_length_offered():
    subject = load("shelf-base")
    short = "The old horse, and the king"
    long = "The old hippopotamus, and the king"
    with pytest.raises(LengthError, match="for 'hippopotamus' in the corrupted prompt") as caught:
        pair(subject, short, long, " was", " is")
    rows = caught.value.aligned
    assert "".join(a for a, _ in rows) == short and "".join(b for _, b in rows) == long
    assert rows[0][0] == rows[0][1] and ("", "") not in rows and any(a == "" for a, _ in rows)
    (offer,) = caught.value.substitutes
    assert len(offer.choices) == 5
    for word in offer.choices:
        pair(subject, short, long.replace("hippopotamus", word), " was", " is")
    with pytest.raises(LengthError) as caught:
        pair(subject, short, f"{short} went", " was", " is")
    assert caught.value.substitutes == [] and caught.value.aligned[-1][0] == ""
