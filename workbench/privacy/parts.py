"""What each head and each MLP does for a canary: its activations are exchanged, one part at a time.

The prompt that is patched is the canary's own. What a part gives there is replaced, at every
position, by what the same part gives in a neighbour: a prompt of as many tokens that does not lead
to the value (noising).
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.interp.patching.parts import Exchange, outputs_of
from workbench.progress import Progress
from workbench.subjects import Subject

Maps = Float[np.ndarray, "neighbour layer part"]
"""A number for each neighbour, layer and part; the parts are the heads, then the MLP."""


@torch.no_grad()
def exchanged(
    subject: Subject,
    own: Int[Tensor, " pos"],
    neighbours: Int[Tensor, "neighbour pos"],
    value: tuple[int, ...],
    progress: Progress | None = None,
) -> tuple[Maps, str]:
    """The value's log-probability after the canary's text with one part exchanged, and the engine.

    Exact, by the packed engine or, if it cannot run the model, by hooks.

    Args:
        subject: The model.
        own: The canary's tokens up to the last but one of its value.
        neighbours: As many tokens of other texts.
        value: The tokens of the value.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    exchange = Exchange(subject)
    maps = []
    for done, neighbour in enumerate(neighbours, start=1):
        instead = outputs_of(exchange.reader.record(neighbour[None]), 0)
        maps.append(exchange(own, instead, value)[0])
        if progress is not None:
            progress(done / len(neighbours), f"neighbour {done} of {len(neighbours)}")
    return np.stack(maps), exchange.how
