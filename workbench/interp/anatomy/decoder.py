"""The anatomy of attention: one layer and head on a real prompt, step by step from the weights.

Every step is computed by its formula from the step before, starting at the residual stream that
enters the layer, and compared with what the model itself computed there.
"""

from typing import Any, cast

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.anatomy.record import Anatomy
from workbench.interp.anatomy.steps import (
    Step,
    embedding_step,
    logits_step,
    looking_steps,
    next_tokens,
    reading_steps,
    so_far_steps,
    writing_steps,
)
from workbench.interp.block import Block
from workbench.interp.families import any_family
from workbench.modes import own_modes
from workbench.public import public
from workbench.subjects import Subject, SubjectOrName


@public("subject", seq2seq=True)
@own_modes
@any_family
@torch.no_grad()
def anatomy(
    subject: SubjectOrName,
    prompt: str,
    *,
    layer: int,
    head: int,
    part: str = "",
    target: str | None = None,
) -> Anatomy:
    """One layer and head computed step by step, from the embedding to the logits.

    Args:
        subject: The model.
        prompt: The prompt.
        layer: The layer.
        head: The head.
        part: Which attention of an encoder-decoder model: encoder, decoder or cross; "" for cross,
            and for decoder-only models.
        target: What the decoder of such a model has written so far; None for its own answer to the
            prompt.

    Raises:
        WorkbenchError: The prompt cannot be read, there is no such head or part, or the model's
            blocks lack the usual parts.
    """
    subject = cast(Subject, subject)
    if subject.model.config.is_encoder_decoder:
        from workbench.interp.anatomy.seq2seq import seq2seq_anatomy

        return seq2seq_anatomy(
            subject, prompt, layer=layer, head=head, part=part or "cross", target=target
        )
    if part or target is not None:
        raise WorkbenchError(
            f"{subject.name} is a decoder-only model: it has no {part or 'target'} to choose."
        )
    card = subject.card
    if not (0 <= layer < card.n_layers and 0 <= head < card.n_heads):
        last = f"L{card.n_layers - 1}H{card.n_heads - 1}"
        raise WorkbenchError(f"{subject.name} has no L{layer}H{head}; it has L0H0 to {last}.")
    ids = subject.encode(prompt)
    logits, cache = subject.bridge.run_with_cache(ids)
    block = Block(subject, layer, cache, ids.shape[1])
    steps = _input(subject, ids, cache, layer)
    steps += reading_steps(block, head) + looking_steps(block, head) + writing_steps(block, head)
    final, stream = block.logits(cache[f"blocks.{card.n_layers - 1}.hook_out"])
    steps.append(logits_step(final, stream, logits[0]))
    expected = next_tokens(subject, final[-1])
    notices = subject.notices(prompt)
    tokens = subject.tokens(ids)
    return Anatomy(
        subject.name, subject.hash, prompt, tokens, layer, head, steps, expected, warnings=notices
    )


def _input(subject: Subject, ids: Tensor, cache: Any, layer: int) -> list[Step]:
    embed: Any = subject.model.get_input_embeddings()
    tokens = embed(ids)[0]
    positions = _position_vectors(subject, ids.shape[1])
    start = tokens if positions is None else tokens + positions.to(tokens)
    added = {
        "rotary": "No position yet: rotary turns queries and keys later.",
        "alibi": "No position yet: ALiBi takes it off the scores later.",
        "none": "No position at all: only the causal mask tells order.",
    }
    words = "Each token's row of the embedding, " + (
        "plus its position's vector."
        if positions is not None
        else "as it is. " + added.get(subject.card.positions, "")
    )
    formula = r"x^{(0)}_t = W_E[\mathrm{token}_t]" + (r" + p_t" if positions is not None else "")
    first = embedding_step(start, cache["blocks.0.hook_in"][0], formula, words)
    return [first, *so_far_steps(cache[f"blocks.{layer}.hook_in"][0], layer)]


def _position_vectors(subject: Subject, n_pos: int) -> Tensor | None:
    from workbench.interp.position.encoding import position_encoding

    if subject.card.positions not in ("learned", "sinusoidal"):
        return None
    matrix = position_encoding(subject).matrix
    assert matrix is not None
    return torch.from_numpy(matrix[-subject.n_ctx :][:n_pos])
