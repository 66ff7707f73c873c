"""The net under all other tests: what contradicts a signature's shapes does not pass."""

import ast
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from tests import shape_checks
from workbench.statistics.means import skew_term
from workbench.subjects import Subject

MODULE = '''
"""A module."""
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Row = Float[np.ndarray, "n"]

def both(a: Float[np.ndarray, "n k"], b: Row) -> Row:
    return a.sum(1) + b

def plain(a: int) -> int:
    return a

class Sums:
    def of(self, a: Row) -> float:
        return float(a.sum())

@dataclass
class Kept:
    values: Row
'''


@pytest.mark.quick
def test_shapes_must_agree_across_arguments_results_fields_and_methods():
    module: dict[str, Any] = {}
    exec(compile(shape_checks.with_checks(ast.parse(MODULE)), "module", "exec"), module)
    square = np.zeros((3, 2))
    assert module["both"](square, np.zeros(3)).shape == (3,)
    assert module["plain"]("no shape, no check") == "no shape, no check"
    assert module["Sums"]().of(np.ones(4)) == 4 and len(module["Kept"](np.ones(4)).values) == 4
    wrong = (
        lambda: module["both"](square, np.zeros(4)),
        lambda: module["both"](square, np.zeros(3, dtype=int)),
        lambda: module["Sums"]().of(square),
        lambda: module["Kept"](square),
    )
    for call in wrong:
        with pytest.raises(TypeCheckError):
            call()


def test_the_package_s_own_functions_are_checked():
    for name in shape_checks.modules():
        assert type(importlib.import_module(name).__loader__) is shape_checks.Loads, name
    with pytest.raises(TypeCheckError, match="ids"):
        Subject.tokens(object.__new__(Subject), torch.tensor([0.5]))
    with pytest.raises(TypeCheckError, match="samples"):
        skew_term(np.zeros(3))
