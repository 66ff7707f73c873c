"""Tests; every call of a function that names shapes is checked (see `shape_checks`)."""

from tests import shape_checks

shape_checks.switch_on()
