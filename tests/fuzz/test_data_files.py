"""Damaged labelled sets, corpora, recipes, probes, tasks, suites and kept results; see
`test_model_files`.
"""

import pytest

from tests.fuzz.data_doors import doors
from tests.fuzz.harness import SLOW_COUNT, SLOW_SEED, check

DOORS = {door.name: door for door in doors()}


@pytest.mark.parametrize("name", DOORS)
def test_a_damaged_file_loads_or_is_refused_in_a_sentence(name, tmp_path):
    check(DOORS[name], tmp_path, DOORS[name].quick)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", DOORS)
def test_many_damaged_files_load_or_are_refused_in_a_sentence(name, tmp_path):
    check(DOORS[name], tmp_path, SLOW_COUNT, SLOW_SEED)
