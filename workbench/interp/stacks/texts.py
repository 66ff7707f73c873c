"""What an encoder or an encoder-decoder reads: a text, and what its decoder has written so far."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.stacks.structure import CROSS, ENCODER
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ, start_token

LONGEST_OUTPUT = 64
"""Tokens of the model's own answer, at most."""


class Texts(NamedTuple):
    """Token ids of a text `[1, pos]`, and of what is written `[1, written]`; None for encoders.

    What is written begins with the decoder's start token.
    """

    source: Int[Tensor, "1 pos"]
    written: Int[Tensor, "1 written"] | None

    def queries(self, part: str) -> Int[Tensor, "1 query"]:
        """The tokens that look in a part."""
        return self.source if part == ENCODER or self.written is None else self.written

    def keys(self, part: str) -> Int[Tensor, "1 key"]:
        """The tokens that are looked at in a part."""
        return self.source if part == CROSS else self.queries(part)


def texts_of(subject: Subject, prompt: str, target: str | None) -> Texts:
    """The text and what is written, as token ids.

    Args:
        subject: An encoder or an encoder-decoder.
        prompt: The text.
        target: What the decoder has written so far; None for its own answer to the text.

    Raises:
        WorkbenchError: A text cannot be read, or an encoder is given something written.
    """
    source = subject.encode(prompt)
    if subject.kind == SEQ2SEQ:
        return Texts(source, written_ids(subject, source, target))
    if target is not None:
        raise WorkbenchError(
            f"{subject.name} is an encoder and writes nothing, so it has no target; leave it out."
        )
    return Texts(source, None)


@torch.no_grad()
def written_ids(subject: Subject, source: Tensor, target: str | None) -> Int[Tensor, "1 pos"]:
    """The decoder's input: the start token, then the target or the model's own greedy answer."""
    start = start_token(subject.model)
    if target is None:
        longest = min(LONGEST_OUTPUT, subject.n_ctx - 1)
        model: Any = subject.model
        # transformers gives the cache as many layers as the encoder has, which may be too few.
        how = {"do_sample": False, "use_cache": False, "decoder_start_token_id": start}
        answer = model.generate(source, max_new_tokens=longest, **how)
        ids = answer[0, 1:].tolist()
    else:
        ids = subject.encode(target, "target")[0].tolist() if target else []
    ends = (subject.tokenizer.eos_token_id, subject.tokenizer.pad_token_id)
    ids = [i for i in ids if i not in ends]
    return torch.tensor([[start, *ids]], device=subject.device)
