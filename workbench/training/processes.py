"""Several processes, one run: the first records it, the others only compute.

`torchrun --nproc-per-node 2 -m workbench train RECIPE` (or `accelerate launch`) starts the same
command in each.
"""

from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from workbench.store import Store, Tracker
from workbench.store.followers import Silent, several


def lead(tracker: Tracker) -> Tracker:
    """Tell the other processes, if any, which run this is; returns the tracker."""
    if several():
        _state()
        broadcast_object_list([tracker.run_id])
    return tracker


def follow(store: Store) -> None:
    """Do this process's share of the run that the first process announces."""
    from workbench.training.recipe import Recipe
    from workbench.training.start import runner

    _state()
    run_ids: list[Any] = [None]
    broadcast_object_list(run_ids)
    run = store.get(run_ids[0])
    runner(Recipe.from_dict(run.config))(run.config, Silent(run.folder))


def _state() -> PartialState:
    import torch

    return PartialState(cpu=not torch.cuda.is_available())
