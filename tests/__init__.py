"""Tests; every call of a function that names shapes is checked (see `shape_checks`).

A machine lent for its GPU may lack beartype: there the tests run without these checks.
"""

from importlib.util import find_spec

if find_spec("beartype"):
    from tests import shape_checks

    shape_checks.switch_on()
