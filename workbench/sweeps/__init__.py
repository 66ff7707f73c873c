"""Sweeps: many trainings or evaluations from one plan, shared out to workers on any machines."""

from workbench.sweeps.plan import Cell, Plan
from workbench.sweeps.sweep import Sweep, result_of, sweep

__all__ = ["Cell", "Plan", "Sweep", "result_of", "sweep"]
