"""Entities listed as text are scored as they would be as spans: by hand, by seqeval and by a count
of its own.
"""

import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from workbench.benchmarks import metrics
from workbench.data import entities
from workbench.data.files import read
from workbench.training.tasks import make
from workbench.training.tasks.task import Completion


def labelled(name: str) -> list[dict[str, list[str]]]:
    """The sentences of a CoNLL file below WORKBENCH_DATA."""
    path = Path(os.environ.get("WORKBENCH_DATA", "")) / f"{name}.conll.gz"
    if not path.is_file():
        pytest.skip(f"needs {name} below WORKBENCH_DATA")
    return read(path)


def bio_spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """Strict BIO spans, counted without any of the product's code: B opens, I of the same type goes
    on.
    """
    spans = set()
    for first, tag in enumerate(tags):
        if tag.startswith("B-"):
            last = first
            while last + 1 < len(tags) and tags[last + 1] == f"I-{tag[2:]}":
                last += 1
            spans.add((tag[2:], first, last))
    return spans


@pytest.mark.parametrize("name", ["wnut17/train", "wnut17/dev", "wnut17/test", "wikigold/wikigold"])
def test_gold_answers_score_exactly_one_in_both_places(name):
    """The whole set: every sentence is all right, the tags come back, and the micro F1 is 1."""
    rows = labelled(name)
    task = make({"kind": "entities", "data": "own.conll"})
    assert isinstance(task, Completion)
    counts = []
    for row in rows:
        item = task.item(row)
        text = task.completion(item)
        seen = entities.judged(item["words"], item["tags"], text)
        assert seen.tags == item["tags"] and seen.unaligned == 0
        assert seen.counts == (len(bio_spans(item["tags"])), 0, 0)
        scores = metrics.entities({"words": row["tokens"], "tags": row["tags"]}, [f" {text}"])
        assert scores["all_right"] == 1.0 and scores["entity_f1"] == list(seen.counts)
        counts.append(scores["entity_f1"])
    assert metrics.entity_f1(counts) == 1.0 and sum(c[0] for c in counts) > 800


@pytest.mark.parametrize("seed", range(4))
def test_answers_with_errors_of_all_kinds_score_as_spans_would(seed):
    """Where no word repeats a list says which span it means, so seqeval's numbers must come out.

    An invented entity gets a place of its own behind the text, where nothing is right.
    """
    rng = np.random.default_rng(seed)
    kinds = ("person", "location")
    all_right = []
    all_written = []
    sums = np.zeros(3)
    for _ in range(150):
        words = [f"w{i}" for i in range(12)]
        sides = []
        for _ in range(2):
            tags = ["O"] * 12
            at = 0
            while at < 12:
                size = int(rng.integers(1, 4))
                if rng.random() < 0.4 and at + size <= 12:
                    kind = rng.choice(kinds)
                    tags[at : at + size] = [f"B-{kind}"] + [f"I-{kind}"] * (size - 1)
                at += size
            sides.append(tags)
        right, written = sides
        if rng.random() < 0.5:
            written = list(right)  # many answers are right but for what is invented
        invented = [(f"made{i} up", str(rng.choice(kinds))) for i in range(rng.integers(0, 3))]
        listed = [
            f"{' '.join(words[a : b + 1])} = {k}"
            for k, a, b in sorted(bio_spans(written), key=lambda s: s[1])
        ]
        listed += [f"{mention} = {kind}" for mention, kind in invented]
        seen = entities.judged(words, right, "; ".join(listed) or "none")
        behind = [tag for _, kind in invented for tag in (f"B-{kind}", f"I-{kind}")]
        all_right.append(right + ["O"] * len(behind))
        all_written.append(written + behind)
        one = bio_spans(right)
        other = bio_spans(written + behind)
        assert seen.counts == (len(one & other), len(other - one), len(one - other))
        assert seen.unaligned == len(invented)
        sums += seen.counts
    hits, wrong, missed = sums
    assert hits / (hits + wrong) == pytest.approx(precision_score(all_right, all_written))
    assert hits / (hits + missed) == pytest.approx(recall_score(all_right, all_written))
    assert entities.entity_f1(sums) == pytest.approx(f1_score(all_right, all_written))


def test_repeated_words_and_signs_in_words_are_found_as_multisets():
    """With words that repeat, hits are what two bags of (words, type) have in common; tried on
    every small answer.
    """
    words = "Paris Hilton saw Paris , Paris".split()
    right = ["B-person", "I-person", "O", "B-location", "O", "O"]
    bag = Counter({("Paris Hilton", "person"): 1, ("Paris", "location"): 1})
    claims = [
        ("Paris", "location"),
        ("Paris", "person"),
        ("Paris Hilton", "person"),
        ("Oslo", "location"),
    ]
    for n in range(4):
        for claimed in itertools.product(claims, repeat=n):
            seen = entities.judged(
                words, right, "; ".join(" = ".join(c) for c in claimed) or "none"
            )
            hits = sum((bag & Counter(claimed)).values())
            assert seen.counts == (hits, n - hits, 2 - hits)
    odd = ["a", "=", "b", "Tom", "&quot;", "x", ";", "c"]
    tags = [
        "B-group",
        "I-group",
        "I-group",
        "B-Person",
        "I-Person",
        "B-product",
        "I-product",
        "I-product",
    ]
    text = entities.listed(odd, entities.spans(tags))
    assert text == "a = b = group; Tom &quot; = person; x ; c = product"
    assert entities.judged(odd, tags, text).counts == (3, 0, 0)
    assert entities.judged(odd, tags, "and so on; " + text + "; etc").counts == (3, 2, 0)
