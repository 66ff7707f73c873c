"""The run store: a database of runs and background jobs, which outlive the page and the app."""

from workbench.store import jobs
from workbench.store.runs import Run, Store
from workbench.store.tracker import Stopped, Tracker

__all__ = ["Run", "Stopped", "Store", "Tracker", "jobs"]
