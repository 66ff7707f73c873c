"""What a suite asks of a machine: a sample of its documents, packed as they would be scored."""

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.engine.loglikelihood import Row
from workbench.budget.recipes import Asked
from workbench.budget.work import Size, Work, size_of
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.subjects import Subject

SAMPLE = 24
"""Documents of a task that are packed; the others are assumed to be like them."""
WRITTEN = 0.5
"""Share of the longest answer that a generated one is assumed to have."""


class Counted(NamedTuple):
    """What was asked: tokens with padding, forward passes, and tokens whose logits are needed."""

    tokens: int
    batches: int
    scored: int
    steps: int
    squares: int


class Counter(SubjectLM):
    """A model that counts what it is asked, and answers nothing."""

    def __init__(self, subject: "Subject") -> None:
        super().__init__(subject)
        self.counted: list[Counted] = []

    def _in_rounds(
        self,
        batches: list[Any],
        keys_of: Any,
        compute: Any,
        known: dict[Any, Any],
        *,
        count: int,
        keep: bool = True,
    ) -> dict[Any, Any]:
        """Answers without a meaning, as none of the batches is computed."""
        scores = bool(batches) and isinstance(batches[0], list)
        for batch in batches:
            self.counted.append(_rows(batch) if scores else _prompts(batch))
        empty: Any = (0.0, False) if scores else ""
        return known | {key: empty for batch in batches for key in keys_of(batch)}


def _rows(batch: list[Row]) -> Counted:
    width = max(row.length for row in batch)
    scored = sum(len(request.targets) for row in batch for request in row.requests)
    tokens = width * len(batch)
    return Counted(tokens, 1, min(scored, tokens), 0, tokens * width)


def _prompts(batch: Any) -> Counted:
    """Of a batch that is gone on with: the prompts once, then a pass for each written token."""
    width = max(len(key[0]) for key in batch.keys)
    steps = max(1, round(batch.room * WRITTEN))
    tokens = width * len(batch.keys)
    return Counted(
        tokens + steps * len(batch.keys),
        1 + steps,
        (1 + steps) * len(batch.keys),
        steps,
        tokens * width,
    )


def of_suite(suite: str, subject: "Subject", limit: int | None = None) -> Asked:
    """The work of scoring a model on a suite, and what was assumed or could not be counted.

    Args:
        suite: A suite's or task's name.
        subject: The model.
        limit: Documents of a task at most.

    Raises:
        WorkbenchError: The suite is unknown, or the data of none of its tasks are here.
    """
    from workbench.benchmarks.suites import find_suite

    tasks = find_suite(suite).tasks
    size = size_of(subject.model)
    whole = Work()
    left_out: list[str] = []
    preparing = 0.0
    for name in tasks:
        try:
            work, seconds = _of_task(name, subject, size, limit)
        except WorkbenchError as error:
            left_out.append(f"{name} ({str(error).partition(';')[0]})")
            continue
        whole = whole + work if whole.calls else work
        preparing += seconds
    if not whole.calls:
        raise WorkbenchError(f"No task of {suite} could be counted: {'; '.join(left_out)}.")
    assumed = [f"all documents of a task are like {SAMPLE} of them"]
    if left_out:
        assumed.append(f"without {', '.join(left_out)}")
    return Asked(replace(whole, python=preparing), assumed)


@functools.lru_cache(maxsize=64)
def _tasks(name: str) -> dict[str, Any]:
    from workbench.benchmarks.tasks import load_tasks

    return load_tasks(name)


def _of_task(name: str, subject: "Subject", size: Size, limit: int | None) -> tuple[Work, float]:
    """The work of one task, and seconds that preparing all its requests takes."""
    from workbench.benchmarks.inside import INSIDE
    from workbench.benchmarks.tasks import pick

    if name in INSIDE:
        raise WorkbenchError(f"{name} is a sweep over heads; see patching")
    whole = Work()
    seconds = 0.0
    for task in _tasks(name).values():
        documents = len(task.eval_docs)
        n = documents if limit is None else min(limit, documents)
        began = time.process_time()
        indices = pick(task, min(n, SAMPLE), 0) or list(range(documents))
        counter = Counter(subject)
        task.build_all_requests(
            samples=indices,
            rank=0,
            world_size=1,
            cache_requests=False,
            rewrite_requests_cache=False,
        )
        by_type: dict[str, list[Any]] = {}
        for instance in task.instances:
            by_type.setdefault(instance.request_type, []).append(instance)
        for kind, instances in by_type.items():
            getattr(counter, kind)(instances)
        times = n / max(1, len(indices))
        seconds += (time.process_time() - began) * times
        whole = whole + _work(counter.counted, size, times)
    return whole, seconds


def _work(counted: list[Counted], size: Size, times: float) -> Work:
    """The work of what was counted, so many times."""
    tokens = sum(c.tokens for c in counted)
    if not tokens:
        return Work()
    context = round(sum(c.squares for c in counted) / tokens)
    batches = sum(c.batches for c in counted)
    logits = min(1.0, sum(c.scored for c in counted) / tokens)
    # More documents of a task fill batches better, but not by much: they are packed by the row.
    return size.scoring(tokens * times, context, batches * times, logits)
