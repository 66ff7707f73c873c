"""Training: corpora, the pretraining loop, fine-tuning, and the recipes that describe them."""

from workbench.training.changes import changed
from workbench.training.recipe import Recipe
from workbench.training.start import (
    TRAINING,
    carry_out,
    job_kind,
    parent_of,
    resume,
    runner,
    start,
    train,
    work_of,
)

__all__ = [
    "TRAINING",
    "Recipe",
    "carry_out",
    "changed",
    "job_kind",
    "parent_of",
    "resume",
    "runner",
    "start",
    "train",
    "work_of",
]
