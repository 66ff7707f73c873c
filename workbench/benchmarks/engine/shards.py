"""One evaluation in several processes: each computes its share of batches, all get all answers.

`torchrun --nproc-per-node 2 -m workbench eval MODEL` (or `accelerate launch`) starts the same
command in each. All plan the same batches, so that every request is in the same batch as in a
single process, with the same result.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from workbench.store.followers import several

T = TypeVar("T")


class Shards:
    """The processes that share an evaluation; a single one where no launcher started several.

    Attributes:
        rank: This process's number, from 0.
        count: How many processes there are.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.count = 1
        if several():
            import torch
            from accelerate import PartialState

            state = PartialState(cpu=not torch.cuda.is_available())
            self.rank = state.process_index
            self.count = state.num_processes

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which writes files and the cache."""
        return self.rank == 0

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, sent to all; the others do not call it."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        message: list[Any] = [make() if self.leads else None]
        broadcast_object_list(message)  # in place
        return message[0]

    def each(self, jobs: Sequence[T], work: Callable[[T], dict[Any, Any]]) -> dict[Any, Any]:
        """The merged results of `work` on at most `count` jobs, one a process."""
        mine = work(jobs[self.rank]) if self.rank < len(jobs) else {}
        if self.count == 1:
            return mine
        from accelerate.utils import gather_object

        return {key: value for part in gather_object([mine]) for key, value in part.items()}

    def rounds(self, jobs: Sequence[T]) -> list[Sequence[T]]:
        """The jobs in groups of `count`, one a process."""
        return [jobs[start : start + self.count] for start in range(0, len(jobs), self.count)]
