"""The residual streams that a lens reads, of models of every kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.prompts.gaps import answer_token, mask_places
from workbench.interp.stacks.runs import Change, Place, stacks_of
from workbench.interp.stacks.structure import DECODER, ENCODER, inputs_of
from workbench.interp.stacks.texts import texts_of
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ


@dataclass(frozen=True)
class Streams:
    """One prompt's streams before the first layer and after each, and how they are read.

    - `ids`: the tokens of the positions
    - `read`: the model's own reading of a stream
    - `final`: the model's logits
    - `answers`: the tokens to follow
    - `place`: position where an answer is read
    """

    ids: Int[Tensor, " pos"]
    resid: Sequence[Float[Tensor, "pos d_model"]]
    read: Callable[[Tensor], Tensor]
    final: Float[Tensor, "pos vocab"]
    answers: list[int]
    notices: list[str] = field(default_factory=list)
    place: int = -1


@torch.no_grad()
def stack_streams(
    subject: Subject, prompt: str, target: str | None, answers: Sequence[str]
) -> Streams:
    """The streams of an encoder, or of an encoder-decoder's decoder.

    Args:
        subject: The model.
        prompt: The text.
        target: What the decoder has written so far; None for its own answer.
        answers: Words to follow, one token each.

    Raises:
        WorkbenchError: The prompt cannot be read, an answer has several tokens, or the model has no
            streams that can be told apart.
    """
    stacks = stacks_of(subject)
    texts = texts_of(subject, prompt, target)
    part = DECODER if subject.kind == SEQ2SEQ else ENCODER
    n_layers = stacks.n_layers(part)
    streams: list[Tensor | None] = [None] * (n_layers + 1)

    def keeping(row: int) -> Change:
        def keep(x: Tensor) -> Tensor:
            streams[row] = x[0]
            return x

        return keep

    changes = {Place(part, "resid_post", layer): keeping(layer + 1) for layer in range(n_layers)}
    changes[Place(part, "resid_pre", 0)] = keeping(0)
    stacks.run(texts.source, texts.written, changes)
    resid = [stream for stream in streams if stream is not None]
    if len(resid) != n_layers + 1:
        raise WorkbenchError(f"The layers of {stacks.what} do not show their streams.")
    model: Any = subject.model
    ids = texts.queries(part)[0]
    gaps = mask_places(subject, ids) if part == ENCODER else []
    return Streams(
        ids=ids,
        resid=resid,
        read=stacks.readable,
        final=model(**inputs_of(model, texts.source, texts.written)).logits[0],
        answers=[answer_token(subject, word, target=target or "") for word in answers],
        notices=subject.notices(prompt),
        place=gaps[0] if len(gaps) == 1 else -1,
    )
