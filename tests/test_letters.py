"""The made-up letters: a scan reports what is planted in them, and nothing else."""

import pytest

import workbench as wb
from workbench.privacy.letters import SENTENCES, letters


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(4))
def test_a_scan_reports_all_that_is_planted_and_nothing_else(seed):
    drawn = letters(1000, seed=seed)
    result = wb.scan(drawn.texts)
    reported = {kind: n for kind, n in result.counts.items() if n}
    assert reported == dict(drawn.planted)
    assert set(reported) == set(SENTENCES)
    assert result.with_any == drawn.planted.total()


@pytest.mark.quick
def test_letters_without_any_personal_data_are_left_alone():
    texts = letters(200, share=0).texts
    assert wb.scan(texts).with_any == 0
    assert wb.redact(texts) == texts
