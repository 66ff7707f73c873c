"""Rows that a model reproduces are counted as a plain loop counts them, with exact intervals."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import beta, fisher_exact

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.privacy.extraction import extraction
from workbench.statistics import unpaired_shares


def continued(subject, prefix: list[int], n: int) -> list[int]:
    """What the model writes, by one whole pass for each token."""
    ids = list(prefix)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(subject.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


def random_rows(n: int, length: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(0, 100, (n, length)).tolist()


def test_the_share_is_that_of_a_plain_loop_over_rows(tiny):
    others = random_rows(12, 14)
    rows = [continued(tiny, row[:6], 8) for row in random_rows(9, 6)]
    rows[4][9] = (rows[4][9] + 1) % 100  # wrong at the fourth token that is asked for
    result = extraction(tiny, rows, others, prefix=6, continuation=8)
    assert result.trained.value == pytest.approx(8 / 9) and result.trained.n == 9
    low = beta.ppf(0.025, 8, 2)  # Clopper and Pearson's ends
    high = beta.ppf(0.975, 9, 1)
    assert low - 0.01 <= result.trained.low < 8 / 9 < result.trained.high <= high + 0.01
    assert result.trained_tokens.value == pytest.approx((8 * 8 + 3) / 9)
    right = []
    for row in others:
        own = continued(tiny, row[:6], 8)[6:]
        wrong = [i for i in range(8) if own[i] != row[6 + i]]
        right.append(wrong[0] if wrong else 8)
    assert result.held_out_tokens.value == pytest.approx(np.mean(right))
    assert result.held_out.value == np.mean([n == 8 for n in right]) == 0
    assert result.difference.p == pytest.approx(fisher_exact([[0, 8], [12, 1]])[1])
    assert result.difference.difference == pytest.approx(8 / 9) and result.difference.low > 0.4
    assert len(result.examples) == 3
    assert result.examples[0] == tiny.text(torch.tensor(rows[0]))


def test_a_part_of_a_row_is_half_of_it_where_nothing_is_said(tiny):
    result = extraction(tiny, random_rows(4, 20), random_rows(4, 20))
    assert (result.prefix, result.continuation) == (10, 10)
    mixed = extraction(tiny, random_rows(4, 20), [row[:9] for row in random_rows(3, 20)])
    assert mixed.left_out == 3 and np.isnan(mixed.difference.low) and mixed.difference.reason
    rows = random_rows(4, 20)
    for prefix, continuation in ((0, 5), (60, 20), (30, 5)):
        with pytest.raises(WorkbenchError, match=r"give (at least|shorter|a shorter)"):
            extraction(tiny, rows, rows, prefix=prefix, continuation=continuation)


def test_the_interval_of_a_difference_is_newcombe_s():
    """His own examples, table II of the paper, 48 of 80 against 56 of 70 and 0 of 10 against 9."""
    wide = unpaired_shares((48, 56), (80, 70))
    assert (wide.low, wide.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    few = unpaired_shares((3, 9), (10, 10))
    assert (few.low, few.high) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert few.difference == pytest.approx(0.6) and few.p < 0.05
    same = unpaired_shares((5, 9), (50, 50))
    assert same.p > 0.05 and same.low <= 0 <= same.high
    assert np.isnan(unpaired_shares((0, 1), (0, 1)).difference)


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.02), (0.02, 0.2), (0.3, 0.6)])
def test_the_interval_of_a_difference_holds_the_truth(first, second):
    rng = np.random.default_rng(1)
    held = []
    for _ in range(400):
        hits = (int(rng.binomial(80, first)), int(rng.binomial(60, second)))
        result = unpaired_shares(hits, (80, 60))
        held.append(result.low <= second - first <= result.high)
    assert np.mean(held) > 0.93


def test_a_reproduced_row_is_shown_with_its_personal_data_masked():
    subject = wb.load("shelf-base")
    ids = subject.ids("Write to jane.doe@example.org. Once upon a time")
    rows = [continued(subject, ids, 6)] * 2
    others = [subject.ids("The king saw the queen, and the queen saw the king and the horse.")] * 2
    result = extraction(subject, rows, others, prefix=len(ids), continuation=6)
    assert result.trained.value == 1 and result.left_out == sum(
        len(row) < len(ids) + 6 for row in others
    )
    assert "[EMAIL]" in result.examples[0] and "jane.doe" not in result.examples[0]


def test_an_audit_keeps_its_extraction_and_one_from_before_there_was_any_is_read(tiny):
    trained, held_out = (
        [" ".join(map(str, row)) for row in rows]
        for rows in ([continued(tiny, row, 8) for row in random_rows(3, 8)], random_rows(3, 16))
    )
    result = wb.audit(tiny, trained=trained, held_out=held_out)
    assert result.extraction is not None and result.extraction.trained.value == 1
    assert result.extraction.difference.difference == 1
    groups = ["trained rows", "held-out rows", "trained minus held-out rows"]
    assert list(result.to_frame()["of"])[-5:] == groups + groups[:2]
    assert type(result).from_json(result.to_json()).to_json() == result.to_json()
    old = json.loads(result.to_json())
    del old["extraction"]
    for attack in old["attacks"]:
        del attack["false_alarms"], attack["hits"]
    again = type(result).from_dict(old)
    assert again.extraction is None and again.attacks[0].auc == result.attacks[0].auc
