"""Runs that survive the page, the browser and the app: a database and background jobs."""

from workbench.store import jobs
from workbench.store.runs import Run, Store
from workbench.store.tracker import Stopped, Tracker

__all__ = ["Run", "Stopped", "Store", "Tracker", "jobs"]
