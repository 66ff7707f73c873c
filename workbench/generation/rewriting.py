"""Greedy answers of encoder-decoders: the encoder reads a text once, the decoder writes another."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.kinds import start_token

CACHES = ("past_key_values", "cache")
"""What transformers' models call the keys and values of earlier steps, older ones first."""
AT_ONCE = 64
"""Texts in one batch."""


def reading_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as an encoder reads it: with all special tokens, the end token too."""
    return list(tokenizer(text, verbose=False)["input_ids"])


def padded(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "batch pos"]:
    """Rows of ids as one tensor, filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


@torch.no_grad()
def rewrite(
    model: PreTrainedModel,
    sources: Sequence[Sequence[int]],
    *,
    most: int,
    ends: frozenset[int],
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[list[int]]:
    """What an encoder-decoder writes about each source, the likeliest token at every step.

    Only the weights decide: rules that a folder may have for generation, such as a forced first
    token or a ban on repetitions, are left aside.

    Args:
        model: In eval mode.
        sources: Token ids as from `reading_ids`.
        most: Maximum of tokens written.
        ends: Tokens that end an answer; they are no part of it.
        progress: Called with the share done after every batch.

    Raises:
        WorkbenchError: For a source without tokens.
    """
    if any(not source for source in sources):
        raise WorkbenchError("An encoder-decoder needs a text to read, and one is empty; fill it.")
    # Of similar length together, so that little is padding.
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    answers: list[list[int]] = [[] for _ in sources]
    for first in range(0, len(order), AT_ONCE):
        chosen = order[first : first + AT_ONCE]
        batch = _batch(model, [sources[i] for i in chosen], most, ends)
        for i, answer in zip(chosen, batch, strict=True):
            answers[i] = answer
        progress(min(1.0, (first + AT_ONCE) / len(order)))
    return answers


def _batch(
    model: Any, sources: list[Sequence[int]], most: int, ends: frozenset[int]
) -> list[list[int]]:
    """The answers of one batch; every row is written until all have ended."""
    device = model.device
    mask = padded([[1] * len(source) for source in sources], 0).to(device)
    read = model.get_encoder()(padded(sources, 0).to(device), attention_mask=mask)
    last = torch.full((len(sources), 1), start_token(model), device=device)  # [batch, 1]
    # Keys and values of what was written and read, for any number of layers of the decoder.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    word = next(w for w in CACHES if w in signature(model.forward).parameters)
    answers: list[list[int]] = [[] for _ in sources]
    open_rows = set(range(len(sources)))
    for _ in range(most):
        out = model(
            encoder_outputs=read,
            attention_mask=mask,
            decoder_input_ids=last,
            use_cache=True,
            **{word: cache},
        )
        last = out.logits[:, -1:].argmax(-1)
        for i, token in enumerate(last[:, 0].tolist()):
            if i in open_rows and token in ends:
                open_rows.discard(i)
            elif i in open_rows:
                answers[i].append(token)
        if not open_rows:
            break
    return answers
