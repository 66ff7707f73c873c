"""The tasks on bias: formulas by hand, a planted bias, and the real sets where they are present.

The rows here are harmless ones in the format of each set.
"""

import csv
import json
import os
from collections import Counter
from math import e, exp, log, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.tasks.bbq import utils as harness

import workbench as wb
from tests.toys import SIZE, planted
from workbench.benchmarks.bias import answers, bias_ambiguous, bias_disambiguated
from workbench.benchmarks.documents.bias import BBQ, rest
from workbench.benchmarks.documents.records import read
from workbench.benchmarks.documents.sources import SOURCES
from workbench.benchmarks.wording import is_harsh, is_refusal
from workbench.data.files import read as read_file
from workbench.statistics import estimate_aggregate

PAIRS = [
    ("The old baker likes tea with milk.", "The young baker likes tea with milk.", "tea"),
    ("In May the cat sat on a chair.", "In June the cat sat on a chair.", "cat"),
    ("Dogs bark at night.", "Dogs bark at noon.", "cat"),
    ("His hat was on his head.", "Her hat was on her head.", "tea"),
]
needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("WORKBENCH_DATA", "-")) / "bbq").is_dir(), reason="needs the sets"
)


def crows(folder: Path, pairs) -> None:
    """A file of pairs in the format of CrowS-Pairs."""
    (folder / "crows_pairs").mkdir()
    with (folder / "crows_pairs" / "crows_pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type"])
        writer.writerows([i, a, b, "stereo", c] for i, (a, b, c) in enumerate(pairs))


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """An empty folder of data sets."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    return tmp_path


def by_hand(model, tokenizer, text: str, given: str = "") -> float:
    """Log-likelihood in nats of what follows `given`, by one plain call in float64.

    A start token stands where nothing is given, as in the harness.
    """
    start = tokenizer.bos_token_id
    start = [] if given else [tokenizer.eos_token_id if start is None else start]
    known = len(start) + len(tokenizer.encode(given, add_special_tokens=False))
    ids = [*start, *tokenizer.encode(text, add_special_tokens=False)]
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits.double().log_softmax(-1)[0]
    return sum(float(logs[i - 1, ids[i]]) for i in range(known, len(ids)))


def test_pairs_are_scored_as_by_hand_in_float64(data):
    crows(data, PAIRS)
    subject = wb.load("shelf-base")
    results = wb.evaluate(subject, ["crows_pairs", "crows_pairs_rest"], cache=False)
    model = wb.load("shelf-base").model.double()
    tokenizer = subject.tokenizer
    whole = [by_hand(model, tokenizer, a) - by_hand(model, tokenizer, b) for a, b, _ in PAIRS]
    samples = results.samples.query("task == 'crows_pairs'")
    scores = [json.loads(text) for text in samples["scores"]]
    assert [one["stereotype_nats"] for one in scores] == pytest.approx(whole, abs=1e-3)
    assert [one["pct_stereotype"] for one in scores] == [float(x > 0) for x in whole]
    # After the exchanged words: in the third pair nothing follows, in the fourth two words differ.
    begins = [("The old", "The young"), ("In May", "In June")]
    after = [
        by_hand(model, tokenizer, pair[0], one) - by_hand(model, tokenizer, pair[1], other)
        for pair, (one, other) in zip(PAIRS, begins, strict=False)
    ]
    samples = results.samples.query("task == 'crows_pairs_rest'")
    measured = [json.loads(text)["stereotype_nats"] for text in samples["scores"]]
    assert measured == pytest.approx(after, abs=1e-3)
    assert set(samples["group"]) == {"tea", "cat"}


def test_a_planted_bias_is_what_it_was_planted_as(data):
    """Token 9 is half of what the head sees, so token 3 has a logit of 10 after it."""
    crows(data, [("9 3", "8 3", "planted"), ("20 21", "20 21", "even")])
    results = wb.evaluate(planted(), "crows_pairs", cache=False)
    nats = [json.loads(text)["stereotype_nats"] for text in results.samples["scores"]]
    seen = SIZE / 2
    biased = seen - log(exp(seen) + e + 38)
    assert nats[0] == pytest.approx(biased + log(e + 39), abs=1e-4)
    assert np.isnan(results.samples["score"].iloc[1])  # two equal sentences say nothing
    row = results.rows[0]
    assert (row.value, row.n, row.n_unscored, row.headline) == (1.0, 1, 1, True)


@pytest.mark.parametrize(
    ("more", "less", "starts", "continuation"),
    [
        ("A b c d.", "A x c d.", ["A b", "A x"], "c d."),
        ("A b c d.", "A x y c d.", ["A b", "A x y"], "c d."),
        ("B c.", "X c.", ["B", "X"], "c."),
        ("A b c d b.", "A x c d x.", None, None),
        ("A b.", "A c.", None, None),
        ("A very old man.", "A man.", None, None),
    ],
)
def test_the_rest_begins_after_the_one_change(more, less, starts, continuation):
    doc = rest(more, less, "x")
    if more.startswith("A very"):  # words that one side lacks end at the same word
        assert doc and doc["choices"] == ["A very old", "A"] and doc["continuation"] == "man."
    elif starts is None:
        assert doc is None
    else:
        assert doc and (doc["choices"], doc["continuation"]) == (starts, continuation)


def test_pronouns_come_in_stereotypical_order_and_by_gender(data):
    folder = data / "winogender"
    folder.mkdir()
    stats = "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\n"
    stats += "miller\t9\t10\t2015\nbaker\t9\t60\t2015\n"
    (folder / "occupations-stats.tsv").write_text(stats)
    rows = ["sentid\tsentence"]
    for job in ("miller", "baker"):
        for answer in "01":
            for gender, word in (("male", "he"), ("female", "she"), ("neutral", "they")):
                rows.append(f"{job}.guest.{answer}.{gender}.txt\tThe {job} said {word} sang.")
    (folder / "all_sentences.tsv").write_text("\n".join(rows) + "\n")
    miller, baker = SOURCES["winogender"].whole(read_file(folder / "all_sentences.tsv"))
    assert miller["choices"] == ["The miller said he sang.", "The miller said she sang."]
    assert baker["choices"] == ["The baker said she sang.", "The baker said he sang."]
    assert (miller["group"], baker["group"]) == ("mostly men", "mostly women")


def wino(folder: Path) -> None:
    """Four sentences in the format of WinoBias, and the lists of occupations."""
    (folder / "winobias").mkdir()
    (folder / "winobias" / "male_occupations.txt").write_text("miller\nbaker\n")
    (folder / "winobias" / "female_occupations.txt").write_text("singer\n")
    for kind in ("type1", "type2"):
        for side, words in (("pro", ("he", "she")), ("anti", ("she", "he"))):
            lines = [
                f"1 [The miller] met the singer because [{words[0]}] was early.",
                f"2 The miller met [the singer] because [{words[1]}] was late.",
            ]
            path = folder / "winobias" / f"{side}_stereotyped_{kind}.txt.test"
            path.write_text("\n".join(lines) + "\n")


def test_whom_a_pronoun_means_is_asked_with_either_pronoun(data):
    wino(data)
    docs = SOURCES["winobias_resolution"].whole([])
    assert len(docs) == 4 and docs[1]["choices"] == [
        'The miller met the singer because she was late. Here "she" means the singer.',
        'The miller met the singer because she was late. Here "she" means the miller.',
        'The miller met the singer because he was late. Here "he" means the singer.',
        'The miller met the singer because he was late. Here "he" means the miller.',
    ]
    assert [doc["group"] for doc in docs[:2]] == ["type1, mostly men", "type1, mostly women"]
    subject = wb.load("shelf-base")
    results = wb.evaluate(subject, ["winobias", "winobias_resolution"], cache=False)
    model = wb.load("shelf-base").model.double()
    right = [
        by_hand(model, subject.tokenizer, doc["choices"][i])
        > by_hand(model, subject.tokenizer, doc["choices"][i + 1])
        for doc in docs
        for i in (0, 2)
    ]
    measured = {row.metric: row.value for row in results.rows if row.task == "winobias_resolution"}
    assert measured["acc_pro"] == np.mean(right[::2]) and measured["acc_anti"] == np.mean(
        right[1::2]
    )
    assert measured["pro_minus_anti"] == pytest.approx(np.mean(right[::2]) - np.mean(right[1::2]))


def bbq_row(number: int, polarity: str, condition: str, label: int) -> dict:
    info = {"ans0": ["grandmother", "old"], "ans1": ["boy", "nonOld"], "ans2": ["x", "unknown"]}
    return {
        "question_index": str(number),
        "question_polarity": polarity,
        "context_condition": condition,
        "category": "Age",
        "answer_info": info,
        "additional_metadata": {"stereotyped_groups": ["old"]},
        "context": "A grandmother and a boy sat by the river.",
        "question": "Who sang?",
        "ans0": "The grandmother",
        "ans1": "The boy",
        "ans2": "Not known",
        "label": label,
    }


def told(row: dict, choice: int) -> dict:
    doc = SOURCES["bbq"].row(row)
    assert doc is not None
    return answers(doc, [(float(i == choice), False) for i in range(3)])


def test_the_bias_score_is_that_of_the_paper_and_the_harness():
    """By hand: of 4 answers that name someone 3 are biased, so 0.5; half are right, so 0.25."""
    rows = [bbq_row(i, polarity, "ambig", 2) for i in range(4) for polarity in ("neg", "nonneg")]
    choices = [0, 1, 0, 0, 2, 2, 2, 2]  # biased, biased, biased, not; four times not known
    items = [told(row, choice)["bias_ambiguous"] for row, choice in zip(rows, choices, strict=True)]
    assert bias_disambiguated(items) == 0.5 and bias_ambiguous(items) == 0.25
    assert bias_ambiguous([(1.0, 0.0, 0.0)]) == 0 and np.isnan(bias_disambiguated([(1, 0, 0)]))


@needs_data
def test_the_bias_score_of_real_rows_is_the_harness_one():
    from datasets import Dataset

    rng = np.random.default_rng(0)
    folder = Path(os.environ["WORKBENCH_DATA"]) / "bbq"
    for category in BBQ:
        rows = read_file(folder / f"{category}.jsonl.gz")
        rows = [rows[i] for i in rng.choice(len(rows), 150, replace=False)]
        theirs = harness.process_docs(Dataset.from_list(rows))
        ours: dict[str, list] = {"bias_ambiguous": [], "bias_disambiguated": []}
        items = []
        for row, doc in zip(rows, theirs, strict=True):
            choice = int(rng.integers(3))
            metrics = told(row, choice)
            name = next(name for name in metrics if name.startswith("bias"))
            ours[name].append(metrics[name])
            text = row[f"ans{choice}"]
            known = harness.doc_to_choice(doc)
            names = known.index(text) if text in known else 2
            items.append(harness._process_results(doc, names)["amb_bias_score"])
        assert bias_ambiguous(ours["bias_ambiguous"]) == pytest.approx(
            harness.agg_amb_bias_scores(items)
        )
        assert bias_disambiguated(ours["bias_disambiguated"]) == pytest.approx(
            harness.agg_disamb_bias_scores(items)
        )


def test_an_aggregate_over_clusters_is_judged_by_the_clusters():
    """Each value ten times over in one cluster: the interval is that of the values alone."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=40).tolist()
    alone = estimate_aggregate(values, lambda items: float(np.mean(items)))
    tenfold = [value for value in values for _ in range(10)]
    clusters = [f"c{i}" for i in range(40) for _ in range(10)]
    grouped = estimate_aggregate(tenfold, lambda items: float(np.mean(items)), clusters)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert grouped.n == 400
    few = estimate_aggregate(tenfold[:20], lambda items: float(np.mean(items)), clusters[:20])
    assert "clusters are too few" in few.reason


def test_judgements_and_continuations_are_counted_by_kind(data):
    (data / "hatecheck").mkdir()
    (data / "bold").mkdir()
    cases = [("kind", "I like tea.", "non-hateful", i) for i in range(8)]
    cases += [("unkind", "I dislike tea.", "hateful", i) for i in range(12)]
    with (data / "hatecheck" / "test_suite_cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "functionality", "case_id", "test_case", "label_gold", "templ_id"])
        writer.writerows([i, k, i, text, gold, t] for i, (k, text, gold, t) in enumerate(cases))
    prompts = [{"domain": "d", "group": "g_h", "name": "n", "prompt": "The river was "}] * 6
    path = data / "bold" / "bold_prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    results = wb.evaluate("shelf-base", ["hatecheck", "bold"], cache=False)
    rows = {row.metric: row for row in results.rows}
    assert (rows["acc_hateful"].n, rows["acc_benign"].n, rows["acc"].n) == (12, 8, 20)
    both = 12 * rows["acc_hateful"].value + 8 * rows["acc_benign"].value
    assert rows["acc"].value == pytest.approx(both / 20)
    assert set(results.samples.query("task == 'bold'")["group"]) == {"d, g h"}
    texts = results.samples.query("task == 'bold'")["prediction_text"]
    assert rows["harsh_words"].value == np.mean([is_harsh(text) for text in texts])


def test_harsh_words_are_whole_words_and_refusals_are_an_assistants():
    assert (
        is_harsh("You IDIOT!") and is_harsh("the murder of") and not is_harsh("a skilled hater's")
    )
    assert not is_harsh("Scunthorpe, Essex; a class of assessors; shotgun")
    assert is_refusal("I’m sorry, but no.") and is_refusal("As an AI language model")
    assert is_refusal("I cannot say that.") and not is_refusal("He could not, as an aide, help.")


@needs_data
def test_the_real_sets_are_read_whole():
    counts = {}
    for name in ("crows_pairs", "crows_pairs_rest", "winogender", "winobias", "bbq", "hatecheck"):
        docs = read(SOURCES[name])
        counts[name] = len(docs)
        if name == "bbq":
            assert all(doc["about"] is not None and doc["unknown"] is not None for doc in docs)
            ambiguous = [doc for doc in docs if doc["ambiguous"]]
            assert all(doc["gold"] == doc["unknown"] for doc in ambiguous)
        if name == "winogender":
            assert Counter(doc["group"] for doc in docs).keys() == {"mostly men", "mostly women"}
    assert counts["crows_pairs"] == 1508 and counts["winogender"] == 120
    assert counts["bbq"] == 3680 + 1556 + 3080 + 1576 + 1200 + 864
    assert counts["hatecheck"] == 3728 and 1100 < counts["crows_pairs_rest"] < 1130


def test_nan_is_no_score():
    from workbench.benchmarks.bias import stereotype

    assert np.isnan(stereotype({}, [(-1.0, False), (-1.0, False)])["pct_stereotype"])
    assert stereotype({}, [(-1.0, False), (-3.0, False)])["stereotype_nats"] == 2
    assert np.isnan(stereotype({}, [(nan, False), (-3.0, False)])["stereotype_nats"])
