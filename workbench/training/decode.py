"""Greedy completions of many prompts, free or restricted to a fixed set of answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.generation import Request, write
from workbench.subjects.card import context_of

Progress = Callable[[float], None]
Trie = dict[int, Any]
"""A prefix tree: token id -> subtree; {} where an answer ends."""


def trie(answers: Sequence[Sequence[int]]) -> Trie:
    """The prefix tree of the answers' token ids."""
    root: Trie = {}
    for answer in answers:
        node = root
        for token in answer:
            node = node.setdefault(token, {})
    return root


@dataclass(frozen=True)
class Written:
    """A model and tokenizer as the generation engine needs them (see `Causal`), left unchanged."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def n_ctx(self) -> int:
        """Length of the context in tokens."""
        return context_of(self.model.config)

    @property
    def d_embed(self) -> int:
        """Rows of the embedding: the token ids that the model can read."""
        embedding: Any = self.model.get_input_embeddings()
        return int(embedding.weight.shape[0])


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    answers: Trie | None = None,
    stops: Sequence[int] = (),
    progress: Progress = lambda fraction: None,
) -> list[list[int]]:
    """The greedy completion of each prompt as token ids, without the token that ended it.

    Args:
        model: In eval mode.
        tokenizer: Of the model.
        prompts: Token ids.
        most: Maximum of new tokens; fewer if the context is full.
        answers: If given, decoding is restricted to these answers (see `trie`).
        stops: Tokens that end an answer, besides the end-of-text token.
        progress: Called with the share done after every answer.

    Raises:
        WorkbenchError: For a prompt that is empty or longer than the context.
    """
    writer = Written(str(model.config.name_or_path) or type(model).__name__, model, tokenizer)
    eos = cast(int | None, tokenizer.eos_token_id)
    pad = cast(int | None, tokenizer.pad_token_id)
    after = next((t for t in (pad, eos) if t is not None), 0)
    ends = frozenset(t for t in (eos, *stops) if t is not None and 0 <= t < writer.d_embed)
    allowed = None if answers is None else lambda written: _next(answers, written, after)
    # Longest first, so that prompts of similar length share a batch.
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    requests = [
        Request(
            prompts[i],
            max(1, min(most, writer.n_ctx - len(prompts[i]) + 1)),
            ends=ends,
            allowed=allowed,
        )
        for i in order
    ]
    written: list[list[int]] = [[] for _ in prompts]
    for i, completion in zip(order, write(writer, requests, progress=progress), strict=True):
        written[i] = list(completion.ids)
    return written


def _next(answers: Trie, written: list[int], after: int) -> list[int]:
    """The token ids allowed next, or [`after`] once an answer is complete."""
    node = answers
    for token in written:
        node = node.get(token, {})
    return list(node) or [after]


def line_breaks(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token ids whose text contains a line break."""
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return [i for i, text in enumerate(texts) if "\n" in text]
