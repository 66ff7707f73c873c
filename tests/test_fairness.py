"""Fairness by category and the heads that carry it: by hand, by hooks, and a planted head."""

import json
from math import e, exp, log

import numpy as np
import pytest
import torch

import workbench as wb
from tests.conftest import subject_of, tiny_gpt, traces
from tests.test_bias import bbq_row, crows, needs_data
from tests.toys import SIZE, planted
from workbench.benchmarks.tasks import load_tasks
from workbench.bias.by_category import Fairness
from workbench.bias.carriers import Carriers, effects_of
from workbench.bias.measures import CAVEATS, MEASURES, _bias_of_sums, difference, estimate
from workbench.bias.pairs import TokenPair, token_pairs
from workbench.errors import WorkbenchError
from workbench.interp.interventions.ablation import reference_run
from workbench.interp.patching.parts import Exchange, mean_outputs

rng = np.random.default_rng(0)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder of data sets."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    return tmp_path


def of_ids(n: int) -> list[tuple[str, str, str]]:
    """Pairs of sentences of token ids, in two categories, of equal and of unlike length."""
    pairs = []
    for number in range(n):
        words = [str(i) for i in rng.integers(10, 90, 6)]
        more = [*words[:2], "5", *words[2:]]
        less = [*words[:2], *(["6", "7"] if number % 2 else ["6"]), *words[2:]]
        pairs.append((" ".join(more), " ".join(less), "even" if number % 3 else "odd"))
    return pairs


def whole_log_prob(subject, text: str, hooks=()) -> float:
    """Log-likelihood of a whole sentence after the start token, by hooks on the plain model."""
    ids = [subject.ids("0")[0], *subject.ids(text)]
    logits = subject.bridge.run_with_hooks(torch.tensor([ids]), fwd_hooks=list(hooks))
    logs = logits.double().log_softmax(-1)[0]
    return sum(float(logs[i - 1, ids[i]]) for i in range(1, len(ids)))


@pytest.mark.quick
def test_what_a_part_carries_is_what_hooks_on_whole_sentences_give(data):
    """The engine scores from the first difference on; here every token is, as the rest cancels."""
    texts = of_ids(2)
    crows(data, texts)
    subject = subject_of(tiny_gpt(n_ctx=64), "tiny")
    pairs = token_pairs(subject, "crows_pairs", None, 0)
    assert [len(pair.more.targets) for pair in pairs] == [5, 5]  # two of seven tokens are shared
    assert [len(pair.less.targets) for pair in pairs] == [5, 6]
    effects = effects_of(subject, pairs)
    means = mean_outputs(reference_run(subject))
    for number, (more, less, _) in enumerate(texts):
        intact = whole_log_prob(subject, more) - whole_log_prob(subject, less)
        assert effects.preference[number] == pytest.approx(intact, abs=1e-4)
        for layer, head in ((0, 1), (1, 3)):

            def mean_instead(z, hook, layer=layer, head=head):
                z = z.clone()
                z[:, :, head] = means.z[layer][0, head]
                return z

            hooks = [(f"blocks.{layer}.attn.hook_z", mean_instead)]
            left = whole_log_prob(subject, more, hooks) - whole_log_prob(subject, less, hooks)
            assert effects.effect[number, layer, head] == pytest.approx(intact - left, abs=1e-4)
        hooks = [("blocks.0.hook_mlp_out", lambda x, hook: means.mlp_out[0].expand_as(x))]
        left = whole_log_prob(subject, more, hooks) - whole_log_prob(subject, less, hooks)
        assert effects.effect[number, 0, -1] == pytest.approx(intact - left, abs=1e-4)


def test_the_preference_is_the_benchmarks(data):
    crows(data, of_ids(8))
    subject = subject_of(tiny_gpt(n_ctx=64), "tiny")
    for task in ("crows_pairs", "crows_pairs_rest"):
        samples = wb.evaluate(subject, task, cache=False).samples
        scores = [json.loads(text)["stereotype_nats"] for text in samples["scores"]]
        nats = dict(zip(samples["doc_id"], scores, strict=True))
        pairs = token_pairs(subject, task, None, 0)
        effects = effects_of(subject, pairs)
        expected = [nats[pair.doc_id] for pair in pairs]
        np.testing.assert_allclose(effects.preference, expected, atol=1e-4)


def test_the_planted_head_is_found_and_its_removal_takes_the_bias_with_it(data):
    """By hand: token 9 is half of what L1H1 sees, so token 3 has a logit of 10 after it.

    Set to a mean, it says the same after either token, so nothing is left of the preference.
    """
    later_on = [(f"{i} 9 3", f"{i} 8 3", "later") for i in range(10, 30)]
    crows(data, [("9 3", "8 3", "planted")] * 20 + later_on)
    result = wb.bias_heads(planted(), pairs=24, sizes=(1,), controls=2, core="crows_pairs_rest")
    after_9 = SIZE / 2 - log(exp(SIZE / 2) + e + 38)
    later = SIZE / 3 - log(exp(SIZE / 3) + e + 38)
    without = -log(e + 39)
    table = result.to_frame()
    assert table.iloc[0]["part"] == "L1H1" and (result.n_ranked, result.n) == (12, 12)
    assert later - without - 1e-3 < table.iloc[0]["effect"] < after_9 - without + 1e-3
    assert table.iloc[0]["effect"] == pytest.approx(result.preference.value, abs=1e-4)
    assert table.iloc[0]["p"] < 0.01 and np.abs(table["effect"][1:]).max() < 1e-4
    taken = result.removals[0]
    assert taken.heads == ["L1H1"] and taken.ranked
    assert taken.nats.tuned == pytest.approx(0, abs=1e-4) and taken.nats.base > 3
    assert all(one.share.difference == 0 and not one.ranked for one in result.removals[1:])
    assert taken.nats.n == 40 - 12  # those that ranked are left out
    assert [cost.task for cost in taken.costs] == ["crows_pairs_rest"]


def test_a_result_is_read_back_and_drawn(data):
    crows(data, of_ids(14))
    subject = subject_of(tiny_gpt(n_ctx=64), "tiny")
    result = wb.bias_heads(subject, pairs=13, sizes=(1,), controls=1, core="crows_pairs_rest")
    again = Carriers.from_json(result.to_json())
    assert again.to_json() == result.to_json() and len(again.removed_frame()) == 2
    figure = result.figure()
    assert figure is not None and len(traces(figure)) == 2
    assert set(result.cost_frame()["task"]) == {"crows_pairs_rest"}
    assert 0 < len(repr(result)) < 300


def test_categories_and_differences_are_those_of_the_samples(data):
    crows(data, of_ids(30))
    models = [subject_of(tiny_gpt(seed, n_ctx=64), f"tiny{seed}") for seed in (0, 1)]
    result = wb.fairness(models[0], models[1], ["crows_pairs"])
    frame = result.to_frame()
    share = frame[frame["metric"] == "pct_stereotype"].set_index("category")
    assert list(share.index) == ["all", "even", "odd"] and list(share["n"]) == [30, 20, 10]
    nats = []
    docs = load_tasks("crows_pairs")["crows_pairs"].eval_docs
    for model in models:
        sides = [[whole_log_prob(model, text) for text in doc["choices"]] for doc in docs]
        nats.append(np.array([more - less for more, less in sides]))
    groups = np.array([doc["group"] for doc in docs])
    for category in ("even", "odd"):
        here = groups == category
        assert share.loc[category, "base"] == pytest.approx((nats[0][here] > 0).mean())
        assert share.loc[category, "tuned"] == pytest.approx((nats[1][here] > 0).mean())
    means = frame[(frame["metric"] == "stereotype_nats") & (frame["category"] == "all")].iloc[0]
    assert means["base"] == pytest.approx(nats[0].mean(), abs=1e-3)
    assert means["difference"] == pytest.approx((nats[1] - nats[0]).mean(), abs=1e-3)
    assert means["difference_low"] < means["difference"] < means["difference_high"]
    again = Fairness.from_json(result.to_json())
    assert again.to_json() == result.to_json()
    figure = result.figure()
    assert figure is not None and len(traces(figure)) >= 2
    assert 0 < len(repr(result)) < 300


def test_a_model_against_itself_differs_nowhere(data):
    crows(data, of_ids(12))
    subject = subject_of(tiny_gpt(n_ctx=64), "tiny")
    frame = wb.fairness(subject, subject, ["crows_pairs", "crows_pairs_rest"]).to_frame()
    assert set(frame["difference"]) == {0} and set(frame["p"].dropna()) == {1}


@pytest.mark.quick
def test_a_difference_of_bias_scores_counts_each_cluster_once():
    """Two answers of one cluster count as one; the value is by the formula."""
    import pandas as pd

    def frame(biased):
        items = [(0.0, float(one), 1.0) for one in biased]
        clusters = [f"c{i // 2}" for i in range(len(items))]
        return pd.DataFrame({"bias_disambiguated": items, "cluster": clusters})

    base = frame([1, 1] * 10)
    tuned = frame([1, 1] * 5 + [0, 0] * 5)
    gap = difference("bias_disambiguated", base, tuned)
    assert gap is not None and (gap.base, gap.tuned, gap.difference, gap.n) == (1, 0, -1, 10)
    alone = estimate("bias_disambiguated", tuned)
    assert alone is not None and alone.value == 0 and -1 <= alone.low < 0 < alone.high <= 1
    sums = np.array([[4.0, 3.0, 4.0, 8.0]])  # right, biased, named, all
    assert _bias_of_sums(sums, ambiguous=True) == pytest.approx(0.25)
    silent = pd.DataFrame(
        {"bias_disambiguated": [(1.0, 0.0, 0.0)] * 20, "cluster": base["cluster"]}
    )
    assert difference("bias_disambiguated", base, silent) is None


def test_every_task_on_bias_has_its_measures_and_its_caveat():
    from workbench.benchmarks import suites

    assert set(MEASURES) == set(CAVEATS) == set(suites()["responsible"].tasks)


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        ("is no task on bias", lambda one: wb.fairness(one, tasks=["ioi"])),
        ("No task was named", lambda one: wb.fairness(one, tasks=[])),
        ("needs the folder 'winobias'", lambda one: wb.fairness(one, tasks=["winobias"])),
        ("has no pairs of sentences", lambda one: wb.bias_heads(one, "bbq")),
        ("two pairs or more", lambda one: wb.bias_heads(one, pairs=1)),
        ("No pair of crows_pairs fits", lambda one: wb.bias_heads(one)),
    ],
)
def test_what_cannot_be_measured_is_an_error_of_one_sentence(words, ask, data):
    crows(data, [(" ".join(["5"] * 70), " ".join(["6"] * 70), "long")])
    with pytest.raises(WorkbenchError, match=words):
        ask(subject_of(tiny_gpt(n_ctx=64), "tiny"))


def test_the_engine_and_hooks_agree_on_means(data, monkeypatch):
    from workbench.interp.patching import parts as of_parts

    crows(data, of_ids(2))
    subject = subject_of(tiny_gpt(n_ctx=64), "tiny")
    pairs = token_pairs(subject, "crows_pairs", None, 0)
    packed = effects_of(subject, pairs)

    def no_engine(subject):
        raise of_parts.UnpackableError("no engine")

    monkeypatch.setattr(of_parts, "engine", no_engine)
    hooked = effects_of(subject, pairs)
    assert packed.how == "packed" and hooked.how.startswith("hooks")
    np.testing.assert_allclose(packed.effect, hooked.effect, atol=1e-4)
    assert isinstance(pairs[0], TokenPair) and Exchange(subject).packed is None


@pytest.mark.slow
def test_the_command_prints_categories_and_heads(run, data):
    words = ("old", "red", "big", "fat")
    crows(data, [(f"The {a} cat sat.", f"The {a} dog sat.", "cat") for a in words] * 3)
    done = run(
        "fairness", "shelf-base", "--task", "crows_pairs", "--heads", "--pairs", "4", "--json"
    )
    values = json.loads(done.stdout)
    assert done.returncode == 0 and values["heads"][0]["task"] == "crows_pairs"
    assert run("fairness", "shelf-base", "--task", "bbq", "--heads").returncode == 2
    both = run("fairness", "shelf-base", "shelf-tuned", "--task", "crows_pairs", "--json")
    scores = json.loads(both.stdout)["scores"]
    assert scores[0]["category"] == "all" and scores[0]["difference"]["n"] == 12
    assert run("fairness", "shelf-base", "--task", "crows_pairs").returncode == 0


@needs_data
def test_bbq_by_category_is_the_formula_on_the_models_own_answers():
    result = wb.fairness("shelf-base", tasks=["bbq"], limit=36)
    frame = result.to_frame()
    assert set(frame["metric"]) == {measure.metric for measure in MEASURES["bbq"]}
    ambiguous = frame.query("metric == 'acc_ambiguous' and category == 'all'")
    assert list(ambiguous["n"]) == [18]
    assert bbq_row(0, "neg", "ambig", 2)["label"] == 2
