"""Rows on the device that trains, without waiting for it.

A corpus that fits lies on the device whole, and rows are gathered there; other rows are copied from
page-locked memory, which a GPU reads while the processor goes on.
"""

from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.training.corpus import Tokens
from workbench.training.two_texts import TwoTexts

SHARE = 0.1
"""Share of a GPU's free memory that a corpus may take."""
Rows = TypeVar("Rows", bound=Tensor | TwoTexts)


def moved(rows: Rows, device: torch.device) -> Rows:
    """Rows on a device, copied without waiting for it.

    Args:
        rows: Token ids; what they are copied from must not be changed afterwards.
        device: Where they go; on it already, they are returned as they are.
    """
    here: Any = rows
    if isinstance(here, TwoTexts):
        return cast(Any, here.map(lambda x: moved(x, device)))
    if here.device.type == device.type and device.index in (None, here.device.index):
        return rows  # "cuda" names the card that a tensor on "cuda:0" lies on
    # From ordinary memory a copy waits for all that the GPU has still to do.
    return (here.pin_memory() if here.device.type == "cpu" and device.type == "cuda" else here).to(
        device, non_blocking=True
    )


def fits(tokens: Tokens, device: torch.device) -> bool:
    """Whether a corpus may lie on a device whole; never on the CPU, where it is mapped anyhow."""
    if device.type == "cpu":
        return False
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 4 * len(tokens.train) < SHARE * free


class OnDevice:
    """The training split of a corpus on a device; its rows are those of `Tokens.batch`.

    Args:
        tokens: The corpus, which must fit.
        device: Where it goes, as 32-bit ids.
    """

    def __init__(self, tokens: Tokens, device: torch.device) -> None:
        self.tokens = tokens
        self.device = device
        self.ids = moved(torch.from_numpy(np.asarray(tokens.train).astype(np.int32)), device)

    def batch(
        self, step: int, *, size: int, n_ctx: int, seed: int, repeated: float = 0.0
    ) -> Int[Tensor, "batch pos"]:
        """Training rows of `n_ctx + 1` ids on the device; see `Tokens.batch` for the arguments."""
        rng = np.random.default_rng((seed, step))
        starts = self.tokens.starts(rng, size, n_ctx)
        at = torch.arange(n_ctx + 1, device=self.device)
        rows = self.ids[moved(torch.from_numpy(starts), self.device)[:, None] + at].long()
        changed = self.tokens.repeat_spans(rng, starts, n_ctx, repeated)
        if changed:
            numbers = moved(torch.tensor(list(changed)), self.device)
            spans = torch.from_numpy(np.stack(list(changed.values())))
            rows[numbers] = moved(spans, self.device)
        return rows
