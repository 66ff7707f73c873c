"""The models under study: the small GPT, and loading any model as a Subject."""

from workbench.subjects.card import Card
from workbench.subjects.load import load
from workbench.subjects.names import Available, available, resolve, stamp
from workbench.subjects.subject import Subject, SubjectOrName

__all__ = ["Available", "Card", "Subject", "SubjectOrName", "available", "load", "resolve", "stamp"]
