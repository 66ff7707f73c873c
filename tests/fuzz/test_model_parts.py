"""The second half of the doors of models, so that two processes may share the quick tests."""

import pytest

from tests.fuzz.harness import check
from tests.fuzz.test_model_files import DOORS, HALF


@pytest.mark.parametrize("name", list(DOORS)[HALF:])
def test_a_damaged_file_loads_or_is_refused_in_a_sentence(name, tmp_path):
    check(DOORS[name], tmp_path, DOORS[name].quick)
