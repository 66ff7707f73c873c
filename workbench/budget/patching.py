"""What a patching map asks of a machine: each patch recomputes only what follows it."""

from workbench.budget.recipes import Asked
from workbench.budget.work import CALLS, FLOAT, STREAM, Size, Work

ENGINE_CALLS = 3
"""Passes through all layers besides the packed one: the clean run, the corrupted run, an audit."""


def of_map(size: Size, tokens: int) -> Asked:
    """The work of a layer x position map of one prompt pair, and what was assumed.

    A patch of layer l and position p recomputes the positions from p on in the layers from l on,
    so half of the layers and half of the positions at the mean.

    Args:
        size: Of the model.
        tokens: Of the prompt.
    """
    layers = size.n_layers
    block = (size.forward - 2.0 * size.d_model * size.d_vocab) / layers
    # Positions that the patches of one layer recompute, and the pairs of tokens they attend to.
    rows = tokens * (tokens + 1) / 2
    pairs = sum(s * (tokens - (s - 1) / 2) for s in range(1, tokens + 1))
    passed = layers * (layers + 1) / 2
    packed = passed * (rows * block + pairs * size.attention / layers)
    moved = passed * rows * STREAM * size.d_model * FLOAT
    plain = size.scoring(2 * tokens, tokens, 2)
    audit = size.scoring(2 * tokens, tokens, 2)
    work = Work(
        flops=packed,
        moved=moved + layers * FLOAT * size.parameters / layers,
        calls=2 * CALLS * layers,
        memory_gb=FLOAT * (size.parameters + rows * layers * 8 * size.d_model) / 2**30,
        width=size.d_model,
    )
    words = f"{tokens} tokens that all differ, {layers * tokens:,} cells, the packed engine"
    return Asked(work + plain + audit, [words])
