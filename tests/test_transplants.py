"""Transplants: parts are what they are called, hybrids are exact, planted changes are found,
exports keep them.
"""

import html
import json
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.conftest import subject_of, tiny_gpt, written_by
from tests.families import FAMILIES, NORMED_TOGETHER, make
from workbench.benchmarks import evaluate
from workbench.benchmarks.engine.loglikelihood import Request
from workbench.comparison import locate, locate_activations, transplant
from workbench.comparison.location.hybrids import Hybrids
from workbench.comparison.measures import Measure, Sample, measure_of
from workbench.errors import WorkbenchError
from workbench.interp.interventions.ablation import ablation
from workbench.statistics import gain_shares
from workbench.subjects import Subject, load
from workbench.subjects.bridge import own_clone
from workbench.subjects.intervention import Intervention, Transplant, apply
from workbench.subjects.parts import Parts, assemble
from workbench.training import Recipe

PROMPT = "5 9 31 44 7 62 18 77 23"


def weights(subject):
    return {name: p.detach() for name, p in subject.model.named_parameters()}


def changed(subject, change, name="changed"):
    """A Subject of its own whose weights `change(name, tensor)` replaces."""
    model = own_clone(subject.model)
    for parameter_name, parameter in model.named_parameters():
        parameter.data = change(parameter_name, parameter.data)
    return Subject(name, model, subject.tokenizer, subject.card)


def with_parts(subject, donor, *names):
    """The subject with these parts of a donor, by `assemble` alone."""
    parts = Parts(subject)
    tensors = assemble(
        [s for n in names for s in parts.slices(n)], weights(subject), weights(donor)
    )
    return changed(subject, lambda name, tensor: tensors.get(name, tensor))


def z_of(subject, layer):
    _, cache = subject.bridge.run_with_cache(subject.encode(PROMPT))
    return cache[f"blocks.{layer}.attn.hook_z"][0]


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_a_head_is_what_its_name_says_in_every_family(family):
    subject = subject_of(make(family), family)
    donor = changed(subject, lambda _, tensor: tensor + 0.1 * torch.randn_like(tensor))
    parts = Parts(subject)
    before = z_of(subject, 1)
    n_heads = subject.card.n_heads
    n_groups = subject.card.n_kv_heads
    # Its norms read all heads' queries (and keys) at once, so one head's weights move all.
    joint = family == "olmo2"
    moved = (z_of(with_parts(subject, donor, "L1H2"), 1) != before).any(-1).any(0)
    # Its queries (and keys and values) and no other head's.
    assert moved.tolist() == [joint or h == 2 for h in range(n_heads)]
    if n_groups != n_heads and not joint:
        moved = (z_of(with_parts(subject, donor, "L1KV1"), 1) != before).any(-1).any(0)
        assert moved.tolist() == [h // (n_heads // n_groups) == 1 for h in range(n_heads)]
    if not joint:  # its columns of the output: without them it is taken out
        silent = with_parts(
            subject, changed(subject, lambda _, tensor: torch.zeros_like(tensor)), "L1H2"
        )
        expected = (
            apply(subject, ablation(subject, [(1, 2)], replacement="zero"))
            .model(subject.encode(PROMPT))
            .logits
        )
        torch.testing.assert_close(
            silent.model(subject.encode(PROMPT)).logits, expected, atol=1e-9, rtol=0
        )
    # Parts do not overlap and make up the model.
    assert parts.n_params(parts.all) == sum(p.numel() for p in subject.model.parameters())
    assert parts.n_params(["L1.attn"]) + parts.n_params(["L1.mlp"]) == parts.n_params(["L1"])
    units = [unit for unit in parts.units if unit.startswith("L1")]
    assert (
        parts.n_params(units)
        == sum(parts.n_params([unit]) for unit in units)
        <= parts.n_params(["L1"])
    )


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_hybrids_are_exact_whatever_they_skip(family):
    subject = subject_of(make(family), family)
    donor = changed(subject, lambda _, tensor: tensor + 0.05 * torch.randn_like(tensor), "donor")
    hybrids = Hybrids(subject, donor, memory_of(subject))
    for name in ("embed", "L1.mlp", "L2H1", "ln_final"):
        for into, host, giver in (("base", subject, donor), ("tuned", donor, subject)):
            piece = hybrids.parts.slices(name)
            value = hybrids.score(piece, into)
            np.testing.assert_array_equal(value, hybrids.score(piece, into, whole=True))
            alone = Hybrids(with_parts(host, giver, name), host, memory_of(subject)).ends["base"]
            # A model of its own scores the same to the bit.
            np.testing.assert_array_equal(value, alone)
    every = [piece for name in hybrids.parts.all for piece in hybrids.parts.slices(name)]
    np.testing.assert_array_equal(hybrids.score(every, "base", whole=True), hybrids.ends["tuned"])
    np.testing.assert_array_equal(hybrids.score(every, "base", alpha=0), hybrids.ends["base"])


def memory_of(subject, n=12, length=8, seed=3):
    """Does a model know these random sequences by heart? The log-likelihood of their last four
    tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(subject.card.d_vocab, (n, length + 1), generator=generator).tolist()
    requests = [Request(i, tuple(row[:-1]), tuple(row[-4:])) for i, row in enumerate(rows)]
    samples = [Sample(range(i, i + 1)) for i in range(n)]
    return Measure(
        "memory",
        "sequences",
        ("loglikelihood",),
        requests,
        samples,
        lambda scores, _: [scores[0].loglikelihood],
    )


def habits_of(subject, n=24):
    """The log-likelihood of the tokens that this subject itself likes best after random prompts."""
    known = memory_of(subject, n)
    rows = torch.tensor([r.inputs for r in known.requests])
    best = subject.model(rows).logits[:, -1].argmax(-1).tolist()
    requests = [
        Request(r.index, r.inputs, (token,)) for r, token in zip(known.requests, best, strict=True)
    ]
    return replace(known, requests=requests)


def test_a_change_in_one_head_is_found_in_that_head_and_nowhere_else():
    base = subject_of(tiny_gpt(n_layers=4), "base")
    parts = Parts(base)
    noise = torch.Generator().manual_seed(0)
    own = weights(base)
    drawn = {n: t + 3 * t.std() * torch.randn(t.shape, generator=noise) for n, t in own.items()}
    planted = assemble(parts.slices("L3H2"), own, drawn)
    tuned = changed(base, lambda name, tensor: planted.get(name, tensor), "one head")
    study = locate(base, tuned, habits_of(tuned), grain="heads", draws=1)
    assert not study.undefined() and max(study.checks.values()) == 0
    for into in ("base", "tuned"):
        for kind, place in (("head", "L3H2"), ("layer", "L3")):
            rows = study.best(kind, into).to_dict("records")
            assert rows[0]["name"] == place and rows[0]["share"] == 1
            assert {row["share"] for row in rows[1:]} == {0}
            assert rows[0]["random"] < 1  # as many parameters elsewhere carry less
    assert study.n_changed == parts.n_params(["L3H2"])


def test_a_lora_on_layers_5_to_7_is_found_in_layers_5_to_7():
    from peft import LoraConfig, get_peft_model

    base = subject_of(tiny_gpt(n_layers=10), "deep")
    measure = memory_of(base)
    rows = torch.tensor([[*r.inputs, r.targets[-1]] for r in measure.requests])
    torch.manual_seed(0)
    settings = LoraConfig(
        r=4,
        lora_alpha=16,
        target_modules=["q", "v", "fc_in", "fc_out"],
        layers_to_transform=[5, 6, 7],
    )
    adapted = get_peft_model(tiny_gpt(n_layers=10), settings)
    optimiser = torch.optim.Adam((p for p in adapted.parameters() if p.requires_grad), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        adapted(input_ids=rows, labels=rows).loss.backward()
        optimiser.step()
    tuned = subject_of(cast("PreTrainedModel", adapted.merge_and_unload().eval()), "adapted")
    study = locate(base, tuned, measure, grain="blocks", draws=2)
    assert study.gain().low > 1  # it has learnt something
    rows = study.table().to_dict("records")

    def shares(kind, key="layer"):
        return {
            row[key]: row["share"] for row in rows if row["kind"] == kind and row["into"] == "base"
        }

    assert {layer for layer, share in shares("layer").items() if share} == {5, 6, 7}
    bottom = shares("from_bottom")
    top = shares("from_top")
    assert (
        {bottom[i] for i in range(-1, 5)} == {0}
        and {bottom[i] for i in range(7, 10)} == {1}
        and bottom[5]
    )
    assert {top[i] for i in range(8, 11)} == {0} and {top[i] for i in range(6)} == {1} and top[7]
    path = shares("path", "alpha")
    assert path[0.0] == 0 and path[1.0] == 1 and len(path) == 9


def test_a_model_against_itself_has_no_gain_to_share_and_no_difference(tiny):
    study = locate(tiny, tiny, memory_of(tiny), grain="heads", draws=1)
    assert "no gain to have a share of" in study.undefined()
    assert study.n_changed == 0 and np.isnan(study.table()["share"].to_numpy()).all()
    assert all(np.array_equal(value, study.ends["base"]) for value in study.values)
    assert json.dumps(study.to_dict())


@pytest.mark.parametrize("site", ["resid_pre", "mlp_out"])
def test_activations_of_one_model_in_the_other_equal_hooks_by_hand(site):
    base = subject_of(tiny_gpt(n_layers=3), "base")
    tuned = changed(
        base, lambda n, t: t + 0.1 * torch.randn_like(t) if "layers" in n else t, "tuned"
    )
    located = locate_activations(base, tuned, memory_of(base), site=site, last=2)
    assert located.columns == ["first", "middle", "-2", "-1", "answer", "all"] and located.n == 12
    assert located.layers == ["L0", "L1", "L2"] + ["out"] * (site == "resid_pre")
    measure = memory_of(base)
    prompt, answer = measure.questions()[0]
    ids = torch.tensor([[*prompt, *answer[:-1]]])
    _, cache = tuned.bridge.run_with_cache(ids)
    name = "blocks.1.hook_resid_pre" if site == "resid_pre" else "blocks.1.hook_mlp_out"
    for column, at in (
        ("first", [0]),
        ("middle", [1, 2]),
        ("-1", [4]),
        ("answer", [5, 6, 7]),
        ("all", range(8)),
    ):

        def put(x, hook, at=at):
            x = x.clone()
            x[:, list(at)] = cache[name][:, list(at)]
            return x

        logs = base.bridge.run_with_hooks(ids, fwd_hooks=[(name, put)])[0, -4:].log_softmax(-1)
        expected = sum(float(logs[i, token]) for i, token in enumerate(answer))
        assert located.values["base"][0, 1, located.columns.index(column)] == pytest.approx(
            expected, abs=1e-4
        )
    np.testing.assert_allclose(
        located.ends["base"], Hybrids(base, tuned, measure).ends["base"][0], atol=1e-4
    )
    if site == "resid_pre":
        # At the end.
        np.testing.assert_allclose(
            located.values["base"][:, -1, -1], located.ends["tuned"], atol=1e-4
        )
        # Same embeddings.
        np.testing.assert_allclose(
            located.values["base"][:, 0, -1], located.ends["base"], atol=1e-4
        )


def test_shares_are_ratios_with_their_interval():
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    gain = 2 + 0.1 * rng.normal(size=40)
    shares = gain_shares(
        np.stack([base, base + gain / 2, base + gain, base - gain]), base, base + gain
    )
    np.testing.assert_allclose(shares.mean, [0, 0.5, 1, -1], atol=1e-12)
    # A constant share has no spread.
    assert np.isnan(shares.low).all() or np.nanmax(shares.high - shares.low) < 1e-9
    assert shares.p[0] == 1 and shares.p[1] < 0.001
    assert np.isnan(gain_shares(base[None], base, base + gain - gain.mean()).mean).all()  # no gain


def test_a_transplant_scores_the_same_kept_exported_and_loaded_again(tmp_path):
    from typer.testing import CliRunner

    from workbench.cli.app import app

    change = transplant("shelf-base", "shelf-tuned", "L4, L5.mlp, L2H1", name="grafted")
    assert Intervention.from_json(change.to_json()) == change
    edited = load(change.save())
    assert edited.card.parent == "shelf-base" and "L5.mlp, L2H1 of shelf-tuned" in edited.card.notes
    ids = edited.encode("Once upon a time there was")
    longer = written_by(edited.model, ids, max_new_tokens=3, do_sample=False)
    assert longer.shape[1] == ids.shape[1] + 3
    for form in ("workbench", "transformers"):
        done = CliRunner().invoke(
            app, ["export", "edit:grafted", str(tmp_path / form), "--form", form]
        )
        assert done.exit_code == 0, done.output
    again = [load(tmp_path / form) for form in ("workbench", "transformers")]
    tables = [
        evaluate(subject, "intents", limit=12, cache=False).samples for subject in (edited, *again)
    ]
    # Our own class: the same bits.
    assert tables[0]["loglikelihoods"].tolist() == tables[1]["loglikelihoods"].tolist()
    # Llama's class does the same sums in another order. A logit of up to 16 is then off by some of
    # its last bits (2e-6 each), a log-likelihood, a sum over an answer's few tokens, by some tens
    # of them.
    scores = [np.array([json.loads(row) for row in table["loglikelihoods"]]) for table in tables]
    np.testing.assert_allclose(scores[2], scores[0], atol=5e-5, rtol=0)
    base = load("shelf-base")
    tuned = load("shelf-tuned")
    hybrids = Hybrids(base, tuned, measure_of(base, "intents", n=12))
    assert change.transplant is not None
    slices = [piece for name in change.transplant.parts for piece in hybrids.parts.slices(name)]
    logs = [
        json.loads(row)[target]
        for row, target in zip(tables[0]["loglikelihoods"], tables[0]["target"], strict=True)
    ]
    # The map's model is the kept model.
    np.testing.assert_array_equal(hybrids.score(slices, "base")[0], logs)
    assert torch.equal(
        weights(base)["model.layers.4.mlp.gate.weight"],
        weights(load("shelf-base"))["model.layers.4.mlp.gate.weight"],
    )


def test_everything_of_the_donor_is_the_donor_and_nothing_is_the_base():
    base = load("shelf-base")
    tuned = load("shelf-tuned")
    ids = base.encode("Request: wake me up\nIntent:")
    for alpha, same in ((1.0, tuned), (0.0, base)):
        edited = apply(base, transplant(base, tuned, "all", alpha=alpha, name="x"), tuned)
        assert torch.equal(edited.model(ids).logits, same.model(ids).logits)
    half = apply(base, transplant(base, tuned, "all", alpha=0.5, name="x"), tuned)
    middle = (weights(base)["model.ln_out.weight"] + weights(tuned)["model.ln_out.weight"]) / 2
    torch.testing.assert_close(weights(half)["model.ln_out.weight"], middle)


def test_bad_transplants_get_one_sentence(tiny, tmp_path):
    other = subject_of(tiny_gpt(n_layers=3), "deeper")
    edited = apply(tiny, ablation(tiny, [(0, 0)], replacement="zero"))
    stale = Transplant("shelf-tuned", "0" * 64, load("shelf-base").hash, ("L0",))
    for make_it, message in (
        (lambda: transplant(tiny, other, "L0"), "differ in shape"),
        (lambda: transplant(tiny, edited, "L0"), "not in its weights"),
        (lambda: transplant(tiny, tiny, "L7"), "no part 'L7'"),
        (lambda: transplant(tiny, tiny, "L0H9"), "no head L0H9"),
        (lambda: transplant(tiny, tiny, "L0KV0"), "no shared keys"),
        (lambda: transplant(tiny, tiny, "L0N5:5"), "no neurons 5:5"),
        (lambda: transplant(tiny, tiny, " , "), "No part was named"),
        (lambda: transplant(tiny, tiny, "L0", alpha=float("nan")), "an alpha from -1000 to"),
        (lambda: transplant(tiny, tiny, "L0", alpha=1e300), "an alpha from -1000 to"),
        (
            lambda: apply(load("shelf-base"), Intervention("x", "", (), transplant=stale)),
            "another donor",
        ),
        (lambda: locate(tiny, other, memory_of(tiny)), "differ in shape"),
        (lambda: locate(tiny, tiny, memory_of(tiny), grain="atoms"), "'atoms'"),
        (lambda: locate("shelf-base", "shelf-tuned", "gsm8k"), "scored by generate until"),
        (lambda: locate("shelf-base", "shelf-tuned", "text", n=1), "at least 2"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            make_it()


@pytest.mark.slow
def test_a_report_says_what_was_measured_how_and_how_to_do_it_again(tmp_path):
    from typer.testing import CliRunner

    from workbench.cli.app import app

    page = tmp_path / "page.html"
    command = "report shelf-base shelf-tuned --suite intents --limit 6 --on intents -n 6".split()
    command += ["--grain", "layers", "--out"]
    done = CliRunner().invoke(app, [*command, str(page), "--json"])
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert text.count("<h2>") == 14 and "Not measured" not in text
    assert html.escape(Recipe.read("shelf-tuned").to_toml()) in text  # how the tuned model was made
    # Once, and nothing from the network.
    assert text.count("plotly.js v") == 1 and 'src="http' not in text
    assert all(load(name).hash in text for name in ("shelf-base", "shelf-tuned"))
    assert f"workbench {' '.join(command[:-1])} --seed 0" in text
    assert measure_of(load("shelf-base"), "intents", n=6).digest in text


def test_an_edit_made_from_itself_is_refused(home):
    change = Intervention("ouroboros", "edit:ouroboros", ())
    change.save()
    with pytest.raises(WorkbenchError, match="made from itself"):
        load("edit:ouroboros")
