"""The anatomy of encoder-decoder models like T5: self-attention of both stacks, cross-attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.anatomy.record import Anatomy
from workbench.interp.anatomy.steps import (
    Step,
    as_array,
    deviation,
    embedding_step,
    logits_step,
    looking_steps,
    next_tokens,
    reading_steps,
    so_far_steps,
    writing_steps,
)
from workbench.interp.anatomy.t5 import Seen, SeqBlock
from workbench.interp.block import normed
from workbench.interp.stacks.runs import PARTS
from workbench.interp.stacks.texts import written_ids
from workbench.statistics import mean_interval
from workbench.subjects import Subject


def n_layers(subject: Subject, part: str) -> int:
    """The number of layers of the stack that a part is in."""
    model: Any = subject.model
    return len((model.encoder if part == "encoder" else model.decoder).block)


def _check(subject: Subject, part: str, layer: int, head: int) -> None:
    stacks = [getattr(subject.model, side, None) for side in ("encoder", "decoder")]
    if not all(hasattr(stack, "block") and hasattr(stack, "final_layer_norm") for stack in stacks):
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) is not built like T5; the anatomy of "
            "encoder-decoder models knows T5 and its kin."
        )
    if part not in PARTS:
        raise WorkbenchError(f"There is no part {part!r}; choose one of {', '.join(PARTS)}.")
    layers = n_layers(subject, part)
    heads = subject.card.n_heads
    if not (0 <= layer < layers and 0 <= head < heads):
        raise WorkbenchError(
            f"The {part} of {subject.name} has no L{layer}H{head}; it has L0H0 to "
            f"L{layers - 1}H{heads - 1}."
        )


@torch.no_grad()
def seq2seq_anatomy(
    subject: Subject,
    prompt: str,
    *,
    layer: int,
    head: int,
    part: str = "cross",
    target: str | None = None,
) -> Anatomy:
    """The `anatomy` of an encoder-decoder model.

    Args:
        subject: The model.
        prompt: The text that the encoder reads.
        layer: The layer.
        head: The head.
        part: One of `PARTS`.
        target: What the decoder has written so far; None for its own answer to the prompt.

    Raises:
        WorkbenchError: As `anatomy` does, and if the model is not built like T5.
    """
    _check(subject, part, layer, head)
    source = subject.encode(prompt)
    written = written_ids(subject, source, target)
    seen = Seen(subject, source, written)
    block = SeqBlock(subject, part, layer, seen)
    ids = source if part == "encoder" else written
    embed: Any = subject.model.get_input_embeddings()
    embedded = embed(ids)[0]
    words = (
        "Each token's row of the embedding. No position yet: a bias on the scores tells the "
        "distance later."
    )
    steps = [
        embedding_step(
            embedded,
            seen.taken[f"{block.side}.block.0"][0],
            r"x^{(0)}_t = W_E[\mathrm{token}_t]",
            words,
        ),
        *so_far_steps(seen.taken[block.path][0], layer),
    ]
    if block.crosses:
        steps += _crossing_steps(block, seen)
    steps += reading_steps(block, head) + block.bias_step(head) + looking_steps(block, head)
    steps += writing_steps(block, head)
    final, stream = _logits(subject, seen)
    if part != "encoder":
        steps.append(logits_step(final, stream, seen.logits))
    return Anatomy(
        subject=subject.name,
        sha256=subject.hash,
        prompt=prompt,
        tokens=subject.tokens(ids),
        layer=layer,
        head=head,
        steps=steps,
        next_tokens=next_tokens(subject, final[-1]),
        part=part,
        sources=subject.tokens(source) if block.crosses else None,
        warnings=subject.notices(prompt),
    )


def _crossing_steps(block: SeqBlock, seen: Seen) -> list[Step]:
    """The two streams that cross-attention reads."""
    return [
        Step(
            "After self-attention",
            r"x \leftarrow x + a",
            "The stream after the decoder's own attention; queries are read from it.",
            str(list(block.x.shape)),
            as_array(block.x),
            None,
        ),
        Step(
            "Encoder output",
            r"e = \mathrm{norm}(x^{(L)}_{\mathrm{enc}})",
            "The encoder's last stream, normed: all that the decoder knows of the text.",
            str(list(block.sources.shape)),
            as_array(block.sources),
            deviation(block.sources, seen.out("encoder")),
            of_sources=True,
        ),
    ]


def _logits(
    subject: Subject, seen: Seen
) -> tuple[Float[Tensor, "pos d_vocab"], Float[Tensor, "pos d_model"]]:
    """Logits of the decoder's last stream by formula, and the normed stream they read."""
    model: Any = subject.model
    last = seen.out(f"decoder.block.{len(model.decoder.block) - 1}")
    stream = normed(last, model.decoder.final_layer_norm)
    if getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings):
        stream = stream * model.config.d_model**-0.5
    return stream @ model.get_output_embeddings().weight.T, stream


@dataclass(frozen=True)
class AntiDiagonal:
    """Cross-attention on the anti-diagonal by head, with 95 % intervals over `n` strings."""

    mean: Float[np.ndarray, "layer head"]
    low: Float[np.ndarray, "layer head"]
    high: Float[np.ndarray, "layer head"]
    n: int

    @property
    def best(self) -> tuple[int, int]:
        """The layer and head with the largest share."""
        layer, head = np.unravel_index(self.mean.argmax(), self.mean.shape)
        return int(layer), int(head)


@torch.no_grad()
def anti_diagonal(subject: Subject, texts: Sequence[str]) -> AntiDiagonal:
    """Each cross-attention head's attention on the letter that must be written next.

    For a model that reverses: while letter i of n is written, the attention on letter n - 1 - i of
    the text, averaged over the letters. Uniform attention gives about 1/n.

    Raises:
        WorkbenchError: As `anatomy` does.
    """
    _check(subject, "cross", 0, 0)
    shares = []
    for text in texts:
        source = subject.encode(text)
        written = written_ids(subject, source, text[::-1])
        seen = Seen(subject, source, written)
        layers = range(n_layers(subject, "cross"))
        pattern = torch.stack(
            [seen.out(f"decoder.block.{i}.layer.1.EncDecAttention", 2) for i in layers]
        )
        n = written.shape[1] - 1
        row = torch.arange(n)
        shares.append(pattern[:, :, row, n - 1 - row].mean(-1).cpu().numpy())
    mean, low, high = mean_interval(np.stack(shares).astype(float))
    return AntiDiagonal(mean, low, high, len(shares))
