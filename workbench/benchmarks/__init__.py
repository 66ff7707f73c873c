"""Benchmarks: lm-evaluation-harness tasks on a Subject, in suites, with publishable statistics."""

from workbench.benchmarks.results.paired import compare_results
from workbench.benchmarks.results.record import Results, TaskScore
from workbench.benchmarks.run import evaluate
from workbench.benchmarks.suites import Suite, suites
from workbench.statistics import minimal_detectable_difference

__all__ = [
    "Results",
    "Suite",
    "TaskScore",
    "compare_results",
    "evaluate",
    "minimal_detectable_difference",
    "suites",
]
