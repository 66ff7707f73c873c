"""Several processes, one evaluation: each computes its share of the batches, and all of them have
all answers.

`torchrun --nproc-per-node 2 -m workbench eval MODEL` (or `accelerate launch`) starts the same
command in each. All plan the same batches, so that a request is computed among the same others as
in one process, with the same result.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from workbench.store.followers import several

T = TypeVar("T")


class Shards:
    """The processes that share the work; alone where no launcher started several.

    Attributes:
        rank: This process's number, from 0.
        count: How many there are.
    """

    def __init__(self) -> None:
        self.rank, self.count = 0, 1
        if several():
            import torch
            from accelerate import PartialState

            state = PartialState(cpu=not torch.cuda.is_available())
            self.rank, self.count = state.process_index, state.num_processes

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes things down."""
        return self.rank == 0

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in all of them; the others do not call it."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        told: list[Any] = [make() if self.leads else None]
        broadcast_object_list(told)
        return told[0]

    def each(self, jobs: Sequence[T], work: Callable[[T], dict[Any, Any]]) -> dict[Any, Any]:
        """What `work` finds for at most `count` jobs, one a process, together."""
        mine = work(jobs[self.rank]) if self.rank < len(jobs) else {}
        if self.count == 1:
            return mine
        from accelerate.utils import gather_object

        return {key: value for part in gather_object([mine]) for key, value in part.items()}

    def rounds(self, jobs: Sequence[T]) -> list[Sequence[T]]:
        """The jobs as many at a time as there are processes."""
        return [jobs[start : start + self.count] for start in range(0, len(jobs), self.count)]
