"""Probes over data sets of the field, read from the data folder: prompt pairs from their rows."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from workbench import paths
from workbench.data import sets

Texts = tuple[str, str, str, str]
"""Clean prompt, corrupted prompt, answer, wrong answer."""
PREFIX = "data:"
NAME = re.compile(r"\b[A-Z][a-z]+\b")


def _agreement(rows: list[sets.Record], rng: random.Random) -> Iterator[Texts]:
    """Prefixes that differ in the number of the noun that the verb agrees with."""
    for row in rows:
        yield row["clean_prefix"], row["patch_prefix"], row["clean_answer"], row["patch_answer"]


def _ioi(rows: list[sets.Record], rng: random.Random) -> Iterator[Texts]:
    """The name that acts, and stands twice, is replaced by the other one where it acts."""
    for row in rows:
        prompt = row["prompt"]
        answer = row["answer"].strip()
        names = dict.fromkeys(NAME.findall(prompt))
        twice = [name for name in names if len(re.findall(rf"\b{name}\b", prompt)) == 2]
        answer_once = len(re.findall(rf"\b{re.escape(answer)}\b", prompt)) == 1
        if len(twice) == 1 and answer_once and twice[0] != answer:
            head, _, tail = prompt.rpartition(twice[0])
            yield prompt, f"{head}{answer}{tail}", f" {answer}", f" {twice[0]}"


def _facts(rows: list[sets.Record], rng: random.Random) -> Iterator[Texts]:
    """Two subjects in one wording, with different attributes."""
    by_wording: dict[str, list[sets.Record]] = defaultdict(list)
    for row in rows:
        by_wording[row["template"]].append(row)
    pairs = []
    for same in by_wording.values():
        rng.shuffle(same)
        pairs += [(a, b) for a, b in pairwise(same) if a["attribute"] != b["attribute"]]
    rng.shuffle(pairs)
    for a, b in pairs:
        yield a["prompt"], b["prompt"], f" {a['attribute']}", f" {b['attribute']}"


@dataclass(frozen=True)
class DataProbe:
    """A probe over a file below `WORKBENCH_DATA`: its words, the file, and how to read its rows."""

    title: str
    question: str
    source: str
    file: str
    pairs: Callable[[list[sets.Record], random.Random], Iterator[Texts]]


AGREES = "Does the verb agree with its subject"
MARKS = "Subject-verb agreement prefixes for feature circuits (Marks et al. 2024, arXiv:2403.19647)"
"""Source of the three agreement probes."""
DATA_PROBES = {
    f"{PREFIX}agreement_simple": DataProbe(
        "Agreement, simple",
        f"{AGREES}?",
        MARKS,
        "subject_verb_agreement/simple_test.jsonl.gz",
        _agreement,
    ),
    f"{PREFIX}agreement_nounpp": DataProbe(
        "Agreement across a phrase",
        f"{AGREES}, whatever noun stands between?",
        MARKS,
        "subject_verb_agreement/nounpp_test.jsonl.gz",
        _agreement,
    ),
    f"{PREFIX}agreement_within_rc": DataProbe(
        "Agreement in a relative clause",
        f"{AGREES} inside a relative clause?",
        MARKS,
        "subject_verb_agreement/within_rc_test.jsonl.gz",
        _agreement,
    ),
    f"{PREFIX}ioi": DataProbe(
        "Indirect objects, many wordings",
        "Two people are named, one of them acts: does the model give the thing to the other one?",
        "Prompts after Wang et al. 2022 (arXiv:2211.00593)",
        "ioi/ioi.jsonl.gz",
        _ioi,
    ),
    f"{PREFIX}known_1000": DataProbe(
        "Known facts",
        "Where does a subject's name turn into what the model knows about it?",
        "The prompts of Meng et al. 2022 (arXiv:2202.05262)",
        "known_1000/known_1000.jsonl.gz",
        _facts,
    ),
}


def file_of(probe: DataProbe) -> Path | None:
    """The file of a data probe; None if it is not there."""
    folder = paths.data_folder()
    path = folder / probe.file if folder is not None else None
    return path if path is not None and path.is_file() else None


def texts_of(name: str, rng: random.Random) -> Iterator[Texts]:
    """The pairs of a data probe, in random order."""
    probe = DATA_PROBES[name]
    path = file_of(probe)
    rows = list(sets.read(path)) if path is not None else []
    rng.shuffle(rows)
    return probe.pairs(rows, rng)
