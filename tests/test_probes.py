"""Probes: the shelf's files, token-aligned pairs, and maps over many pairs with statistics."""

import numpy as np
import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt
from workbench.errors import WorkbenchError
from workbench.interp.engine.hooked import hooked
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.patching.pair_maps import patch
from workbench.interp.patching.probe_maps import probe
from workbench.interp.prompts.pairs import pair
from workbench.interp.prompts.probe_sets import DATA_PROBES
from workbench.interp.prompts.probes import available_probes, generate, read_probe
from workbench.statistics import cell_statistics
from workbench.subjects import load

SHELF = {
    "country_capital",
    "docstring",
    "gendered_pronoun",
    "greater_than",
    "induction",
    "ioi",
    "subject_verb_agreement",
    "successor",
}


def test_every_probe_of_the_shelf_gives_aligned_pairs_for_a_real_tokenizer(smollm):
    subject = load(smollm)
    assert set(available_probes()) >= SHELF
    for name in SHELF:
        generated = generate(subject, read_probe(name), n=20)
        assert (
            len(generated.items) == 20
            and generated.probe.title
            and generated.probe.question
            and generated.probe.source
        )
        lengths = {len(item.pair.clean) for item in generated.items} | {
            len(item.pair.corrupted) for item in generated.items
        }
        assert lengths == {len(generated.names)}
        assert len({(item.clean, item.corrupted) for item in generated.items}) == 20
        # The seed holds.
        assert generate(subject, read_probe(name), n=20).items[3].clean == generated.items[3].clean
    assert generate(subject, read_probe("ioi"), n=20).names[1] == "{IO}"


def test_words_that_are_not_single_tokens_are_dropped_and_counted():
    with pytest.raises(WorkbenchError, match=r"ioi gives 0 usable pairs.*dropped: "):
        generate(subject_of(tiny_gpt()), read_probe("ioi"))


OWN = (
    'title = "Own"\nquestion = "?"\n[[templates]]\nclean = "{a} 5 {b}"\ncorrupted = "{b} 5 {b}"\n'
    'answer = "{a}|3"\nwrong = "{b}"\nslots = { a = "vocabulary", b = "vocabulary" }\n'
)


def test_a_probe_of_ones_own_is_swept_and_each_pair_counts(tmp_path):
    model = tiny_gpt()
    # It writes again what it has read, so that clean and corrupted runs differ beyond doubt.
    with torch.no_grad():
        for layer in blocks(model):
            for weight in (layer.attn.v.weight, layer.attn.o.weight):
                torch.nn.init.eye_(weight)
            layer.mlp.fc_out.weight.zero_()
    subject = subject_of(model)
    file = tmp_path / "own.toml"
    partial = []
    file.write_text(OWN)
    result = probe(
        subject, str(file), n=12, anyway=True, site="z", partial=lambda f: partial.append(f.n)
    )
    assert partial == [1, 2, 4, 8, 12] and result.samples.shape == (12, 2, 4) and result.n == 12
    span = result.clean_metric.value - result.corrupted_metric.value
    first = result.items[0]
    one = patch(
        subject,
        first["clean"],
        first["corrupted"],
        answer=first["answer"],
        wrong=first["wrong"],
        site="z",
        audit=0,
    )
    by_hand = (np.array(one.metric) - one.corrupted_metric) / span
    np.testing.assert_allclose(result.samples[0], by_hand, atol=1e-4)
    assert (
        (result.low <= result.effect) & (result.effect <= result.high)
    ).all() and result.p.max() <= 1
    assert len(result.to_frame()) == 8 and max(result.checks.values()) < 1e-3


@pytest.mark.parametrize("n", [4, 12])
def test_a_share_of_a_span_that_pairs_do_not_show_has_no_interval(tmp_path, n):
    """Random weights answer nothing; four pairs are too few besides, and then have no p either."""
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    result = probe(subject_of(tiny_gpt()), str(file), n=n, anyway=True, site="z")
    assert (
        np.isnan(result.low).all()
        and np.isnan(result.high).all()
        and np.isfinite(result.effect).all()
    )
    assert np.isnan(result.p).all() if n < 6 else (result.p > 0.05).all()


def test_a_model_that_cannot_do_a_probe_says_so_before_sweeping():
    subject = subject_of(tiny_gpt())
    subject.model.lm_head.weight.zero_()  # all tokens equally likely after any prompt
    with pytest.raises(WorkbenchError, match=r"cannot do induction.*chance: 50 %"):
        probe(subject, "induction", n=20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 3", "cannot be read"),
        ("not toml", "cannot be read"),
        (
            'title = "t"\nquestion = "?"\n[[templates]]\nclean = "{a}"\ncorrupted = "b"\n'
            'answer = "c"\nwrong = "d"\nslots = {}',
            "KeyError: 'a'",
        ),
    ],
)
def test_a_broken_probe_file_gets_one_sentence(tmp_path, text, message):
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(WorkbenchError, match=message):
        read_probe(str(file))
    with pytest.raises(WorkbenchError, match=r"no probe 'soul'; there are .*ioi"):
        read_probe("soul")


def test_cell_statistics_find_the_cell_that_moves_and_no_other():
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 1, (40, 5, 6))
    samples[:, 2, 3] += 2
    samples[:, 0, 0] = 0
    statistics = cell_statistics(samples)
    assert (
        statistics.p[2, 3] < 0.01 and statistics.p[0, 0] == 1 and (statistics.p < 0.05).sum() <= 2
    )
    assert statistics.low[2, 3] < samples[:, 2, 3].mean() < statistics.high[2, 3]
    half = 1.96 * samples[:, 1, 1].std(ddof=1) / np.sqrt(40)
    assert (statistics.high - statistics.low)[1, 1] / 2 == pytest.approx(half, rel=0.2)


def test_every_probe_names_positions_that_both_prompts_have():
    for name in SHELF:
        for template in read_probe(name).templates:
            assert template.named[-1] == "last" and len(set(template.named)) == len(template.named)
    assert read_probe("ioi").templates[0].named == ["IO", "S1", "place", "S2", "object", "last"]


@pytest.mark.parametrize(
    ("site", "direction"),
    [
        ("resid_pre", "denoising"),
        ("resid_mid", "noising"),
        ("mlp_out", "denoising"),
        ("z_by_pos", "noising"),
    ],
)
def test_prompts_of_different_lengths_meet_at_named_positions_exactly_as_hooks_do(site, direction):
    subject = subject_of(tiny_gpt(n_layers=3).double())
    places = (("subject", 2, 4), ("verb", 5, 7), ("last", 7, 9))
    question = pair(
        subject, "5 9 31 44 7 62 18 77", "5 9 12 44 80 3 7 62 18 77", "7", "8", places=places
    )
    settings = Settings(site, direction)
    ours = run_sweep(subject, question, settings)
    theirs = hooked(subject, question, settings)
    assert ours.values.shape[-1] == 3 and not ours.values.isnan().any()
    torch.testing.assert_close(ours.values, theirs.values, atol=1e-10, rtol=0)
    if site == "resid_pre":  # one cell by hand, with nothing of ours but the numbers
        _, clean = subject.bridge.run_with_cache(question.clean[None])

        def put(x, hook):
            x = x.clone()
            x[:, 7] = clean["blocks.1.hook_in"][:, 5]
            return x

        logits = subject.bridge.run_with_hooks(
            question.corrupted[None], fwd_hooks=[("blocks.1.hook_in", put)]
        )[0, -1]
        assert float(ours.values[1, 1]) == pytest.approx(float(logits[7] - logits[8]), abs=1e-10)


def test_a_probe_aligned_by_name_keeps_pairs_of_all_lengths_and_its_axis_is_the_names(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(
        'title = "Own"\nquestion = "?"\n[[templates]]\nclean = "{long} {a#who} 5 {b}"\n'
        'corrupted = "{long} {b#who} 5 6 {b#other}"\nanswer = "{a}"\nwrong = "{b}"\n'
        'slots = { long = "phrases", a = "words", b = "words" }\n'
        '[lists]\nphrases = ["1 2", "3", "4 4 4"]\nwords = ["7", "8", "9", "10", "11"]\n'
    )
    subject = subject_of(tiny_gpt())
    result = probe(subject, str(file), n=12, anyway=True, by_name=True)
    assert (
        result.names == ["long", "who", "last"] and result.effect.shape == (2, 3) and result.n == 12
    )
    # Nothing differs at the phrase.
    assert (result.effect[:, 0] == 0).all() and result.first_difference == 1
    assert result.checks["hooked_cells"] < 1e-4 and "full_patch" not in result.checks
    assert max(result.checks.values()) < 1e-3
    with pytest.raises(WorkbenchError, match="Named positions go with sites by position"):
        probe(subject, str(file), n=12, anyway=True, by_name=True, site="z")


@pytest.mark.parametrize("name", DATA_PROBES)
def test_data_sets_of_the_field_are_probes(name, smollm):
    if name not in available_probes():
        pytest.skip("needs the set below WORKBENCH_DATA")
    subject = load(smollm)
    for by_name in (False, True):
        generated = generate(subject, read_probe(name), 8, by_name=by_name)
        assert len(generated.items) >= 5 and (generated.names[-1] == "last") == by_name
        for item in generated.items:
            assert item.clean != item.corrupted and not set(item.answers) & set(item.wrongs)
            assert by_name or len(item.pair.clean) == len(item.pair.corrupted) == len(
                generated.names
            )
    if name == "data:ioi":
        item = generated.items[0]
        assert (
            item.clean.count(item.wrongs[0].strip())
            == 2
            == item.corrupted.count(item.answers[0].strip())
        )
