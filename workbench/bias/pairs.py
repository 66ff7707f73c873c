"""The two sentences of a document as tokens, and which of their tokens tell them apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.tasks import load_tasks, pick
from workbench.bias.measures import PAIRED_TASKS
from workbench.errors import WorkbenchError
from workbench.subjects import Subject


class Side(NamedTuple):
    """One sentence.

    - `read`: what the model reads; its last tokens predict the targets
    - `targets`: the tokens that are scored, from the first on that the other sentence lacks
    """

    read: tuple[int, ...]
    targets: tuple[int, ...]


class TokenPair(NamedTuple):
    """The stereotyping sentence and the other one; `doc_id` is the document's number."""

    doc_id: int
    more: Side
    less: Side


def token_pairs(subject: Subject, task: str, limit: int | None, seed: int) -> list[TokenPair]:
    """The pairs of a task as the benchmark scores them, without those that exceed the context.

    What both sentences begin with is as likely in both, with any part of the model taken out, so
    it is read and not scored.

    Args:
        subject: The model.
        task: One of `PAIRED_TASKS`.
        limit: The most documents, the same ones as the benchmark's; None for all.
        seed: Of the random subset.

    Raises:
        WorkbenchError: The task has no pairs, or no pair fits the context.
    """
    if task not in PAIRED_TASKS:
        raise WorkbenchError(
            f"{task!r} has no pairs of sentences; choose from {', '.join(PAIRED_TASKS)}."
        )
    lm = SubjectLM(subject)
    documents = load_tasks(task)[task]
    docs: Any = documents.eval_docs
    pairs = []
    for number in pick(documents, limit, seed) or range(len(docs)):
        sides = [lm.encode(*request) for request in _requests(docs[number])]
        pair = _pair(number, sides)
        fits = all(len(side.read) <= subject.n_ctx for side in (pair.more, pair.less))
        if fits and pair.more.targets and pair.less.targets:
            pairs.append(pair)
    if not pairs:
        raise WorkbenchError(
            f"No pair of {task} fits the {subject.n_ctx} tokens of {subject.name}; choose a model "
            "with a longer context."
        )
    return pairs


def _requests(doc: dict[str, Any]) -> list[tuple[str, str]]:
    """(context, continuation) of both sentences, as the task scores them."""
    if "continuation" in doc:
        return [(choice, f" {doc['continuation']}") for choice in doc["choices"]]
    return [("", choice) for choice in doc["choices"]]


def _pair(number: int, sides: Sequence[tuple[list[int], list[int]]]) -> TokenPair:
    """A pair, scored from the first token on that differs and is not given."""
    whole = [[*context, *continuation] for context, continuation in sides]
    shared = 0
    while shared < min(map(len, whole)) and whole[0][shared] == whole[1][shared]:
        shared += 1
    # One sentence may go on where the other ends; then only the longer one has a token to score,
    # and the other's last shared token is scored in both.
    shared = min(shared, *(len(ids) - 1 for ids in whole))
    starts = [max(shared, len(context)) for context, _ in sides]
    parted = [
        Side(tuple(ids[:-1]), tuple(ids[start:])) for ids, start in zip(whole, starts, strict=True)
    ]
    return TokenPair(number, *parted)
