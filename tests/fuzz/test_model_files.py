"""Damaged weights, configurations, tokenizers, cards, adapters, edits, lenses and checkpoints.

`FUZZ=10000 pytest -m slow tests/fuzz` draws so many mutants of each format; a failure names its
number and seed.
"""

import pytest

from tests.fuzz.harness import SLOW_COUNT, SLOW_SEED, check
from tests.fuzz.model_doors import doors

DOORS = {door.name: door for door in doors()}
HALF = len(DOORS) // 2


@pytest.mark.parametrize("name", list(DOORS)[:HALF])
def test_a_damaged_file_loads_or_is_refused_in_a_sentence(name, tmp_path):
    check(DOORS[name], tmp_path, DOORS[name].quick)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", DOORS)
def test_many_damaged_files_load_or_are_refused_in_a_sentence(name, tmp_path):
    check(DOORS[name], tmp_path, SLOW_COUNT, SLOW_SEED)
