"""Entities as lists: counted like seqeval counts tags, inventions are wrong, and gold agrees with itself."""

import numpy as np
import pytest
from seqeval.metrics import f1_score

from workbench.data.entities import aligned, bio, entity_f1, list_counts, listed, spans
from workbench.data.sets import records
from workbench.errors import WorkbenchError


def sentences(name: str, split: str) -> list[tuple[list[str], list[str]]]:
    try:
        rows = records(name, split) or []
    except WorkbenchError:
        pytest.skip(f"needs {name} below WORKBENCH_DATA")
    return [(row["tokens"], bio(spans(row["tags"]), len(row["tokens"]))) for row in rows]


@pytest.mark.parametrize(("name", "split"), [("wnut17", "train"), ("wnut17", "test"), ("wikigold", "train")])
def test_gold_lists_agree_with_themselves(name, split):
    lists = [listed(words, spans(tags)) for words, tags in sentences(name, split)]
    counts = np.array([list_counts(text, text) for text in lists])
    n_entities = sum(len(spans(tags)) for _, tags in sentences(name, split))
    # A list is cut at "; ", which a handful of entities hold themselves; both sides are cut alike.
    assert abs(counts[:, 0].sum() - n_entities) <= 0.005 * n_entities
    assert entity_f1(counts.sum(0)) == 1.0
    assert not counts[:, 1:].any()


@pytest.mark.parametrize("seed", range(5))
def test_where_every_word_occurs_once_the_f1_is_seqevals(seed):
    rng = np.random.default_rng(seed)
    right, said, counts = [], [], []
    for _ in range(60):
        words = [f"w{i}" for i in range(12)]
        tags = [_tags(rng) for _ in range(2)]
        right.append(tags[0])
        said.append(tags[1])
        counts.append(list_counts(*(listed(words, spans(side)) for side in tags)))
    assert entity_f1(np.array(counts).sum(0)) == pytest.approx(f1_score(right, said), abs=1e-12)


def _tags(rng: np.random.Generator) -> list[str]:
    """Random entities of one or two of twelve words, so that two draws often agree."""
    taken = [(kind, at, at + int(rng.integers(2))) for at in (0, 3, 6, 9) for kind in ("person", "place")]
    chosen = [span for i, span in enumerate(taken) if i % 2 == rng.integers(2) and rng.random() < 0.7]
    return bio([span for i, span in enumerate(chosen) if i == 0 or span[1] > chosen[i - 1][2]], 12)


def test_invented_and_nameless_entities_are_wrong():
    gold = "Anna Lind = person"
    assert list_counts(gold, "Anna Lind = person; Paris = location; Rome = location") == (1, 2, 0)
    assert list_counts(gold, "Anna  Lind = Person") == (1, 0, 0)
    assert list_counts(gold, "nonsense") == (0, 1, 1)
    assert list_counts(gold, "none") == list_counts(gold, "") == (0, 0, 1)
    assert list_counts("none", "none") == (0, 0, 0)
    assert aligned(["Anna", "Lind"], "Anna Lind = person; Paris = location")[1] == 1


def test_a_name_that_comes_twice_is_asked_for_twice():
    gold = "Oslo = location; Oslo = location"
    assert list_counts(gold, "Oslo = location") == (1, 0, 1)
    assert list_counts(gold, "; ".join(["Oslo = location"] * 3)) == (2, 1, 0)
