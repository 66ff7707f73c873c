"""The anatomy of encoder-decoder models of T5's kind: the encoder's and the decoder's own
attention, and the cross.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
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
from workbench.statistics import mean_interval
from workbench.subjects import Subject

PARTS = {
    "encoder": "encoder self-attention: the text attends to itself, both ways",
    "decoder": "decoder self-attention: what is written attends to what was written before",
    "cross": "cross-attention: what is written attends to the text",
}
"""The three attentions, by the names that `anatomy` takes."""
LONGEST_OUTPUT = 64


def n_layers(subject: Subject, part: str) -> int:
    """Layers of the stack that a part is in."""
    return len((subject.model.encoder if part == "encoder" else subject.model.decoder).block)


def _written(subject: Subject, source: Tensor, target: str | None) -> Int[Tensor, "1 pos"]:
    """What the decoder reads: the start token, then the target or the model's own greedy answer,
    without its end.
    """
    config: Any = subject.model.config
    start, end = config.decoder_start_token_id, subject.tokenizer.eos_token_id
    if target is None:
        made: Any = subject.model.generate(
            source, max_new_tokens=min(LONGEST_OUTPUT, subject.n_ctx - 1), do_sample=False
        )
        ids = made[0, 1:].tolist()
    else:
        ids = subject.encode(target, "target")[0].tolist() if target else []
    ids = [i for i in ids if i not in (end, subject.tokenizer.pad_token_id)]
    return torch.tensor([[start, *ids]], device=subject.device)


def _check(subject: Subject, part: str, layer: int, head: int) -> None:
    stacks = [getattr(subject.model, side, None) for side in ("encoder", "decoder")]
    if not all(hasattr(stack, "block") and hasattr(stack, "final_layer_norm") for stack in stacks):
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) is not built like T5; the anatomy of encoder-decoder models "
            "knows T5 and its kin."
        )
    if part not in PARTS:
        raise WorkbenchError(f"There is no part {part!r}; choose one of {', '.join(PARTS)}.")
    layers, heads = n_layers(subject, part), subject.card.n_heads
    if not (0 <= layer < layers and 0 <= head < heads):
        raise WorkbenchError(
            f"The {part} of {subject.name} has no L{layer}H{head}; it has L0H0 to L{layers - 1}H{heads - 1}."
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
    """`anatomy` of an encoder-decoder model; see there. Raises `WorkbenchError` for models that are
    not like T5.
    """
    _check(subject, part, layer, head)
    source = subject.encode(prompt)
    written = _written(subject, source, target)
    seen = Seen(subject, source, written)
    block = SeqBlock(subject, part, layer, seen)
    ids = source if part == "encoder" else written
    embedded = subject.model.get_input_embeddings()(ids)[0]
    words = "Each token's row of the embedding. No position yet: a bias on the scores tells the distance later."
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
        words = "The stream after the decoder's own attention; queries are read from it."
        steps.append(
            Step(
                "After self-attention",
                r"x \leftarrow x + a",
                words,
                str(list(block.x.shape)),
                as_array(block.x),
                None,
            )
        )
        words = "The encoder's last stream, normed: all that the decoder knows of the text."
        off = deviation(block.sources, seen.out("encoder"))
        steps.append(
            Step(
                "Encoder output",
                r"e = \mathrm{norm}(x^{(L)}_{\mathrm{enc}})",
                words,
                str(list(block.sources.shape)),
                as_array(block.sources),
                off,
                of_sources=True,
            )
        )
    steps += reading_steps(block, head) + block.bias_step(head) + looking_steps(block, head)
    steps += writing_steps(block, head)
    final, stream = _logits(subject, seen)
    if part != "encoder":
        steps.append(logits_step(final, stream, seen.logits))
    tokens, sources = subject.tokens(ids), subject.tokens(source) if block.crosses else None
    expected = next_tokens(subject, final[-1])
    return Anatomy(
        subject.name,
        subject.hash,
        prompt,
        tokens,
        layer,
        head,
        steps,
        expected,
        part=part,
        sources=sources,
        warnings=subject.notices(prompt),
    )


def _logits(
    subject: Subject, seen: Seen
) -> tuple[Float[Tensor, "pos d_vocab"], Float[Tensor, "pos d_model"]]:
    """Logits of the decoder's last stream by formula, and the normed stream they read."""
    decoder, config = subject.model.decoder, subject.model.config
    stream = normed(seen.out(f"decoder.block.{len(decoder.block) - 1}"), decoder.final_layer_norm)
    if getattr(config, "scale_decoder_outputs", config.tie_word_embeddings):
        stream = stream * config.d_model**-0.5
    return stream @ subject.model.get_output_embeddings().weight.T, stream


@dataclass(frozen=True)
class AntiDiagonal:
    """Share of each cross-attention head on the anti-diagonal, `[layer, head]`, 95 % intervals over
    `n` strings.
    """

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
    """How much of its attention each cross-attention head gives to the letter that it must write
    next.

    For a model that reverses: while letter i of n is written, the share on letter n - 1 - i of the
        text, averaged over
    the letters. A head that looks everywhere alike has about 1/n. Raises `WorkbenchError` as
    `anatomy` does.
    """
    _check(subject, "cross", 0, 0)
    found = []
    for text in texts:
        source, written = subject.encode(text), _written(subject, subject.encode(text), text[::-1])
        seen, n = Seen(subject, source, written), written.shape[1] - 1
        layers = range(n_layers(subject, "cross"))
        pattern = torch.stack(
            [seen.out(f"decoder.block.{i}.layer.1.EncDecAttention", 2) for i in layers]
        )
        row = torch.arange(n)
        found.append(pattern[:, :, row, n - 1 - row].mean(-1).cpu().numpy())
    return AntiDiagonal(*mean_interval(np.stack(found).astype(float)), len(found))
