"""Greedy completions of many prompts at once, free or restricted to a fixed set of answers."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENS_AT_ONCE = 2048
"""Tokens a batch, padding and answers included; decoding is bound by reading the weights."""

Progress = Callable[[float], None]
Trie = dict[int, Any]
"""What may follow: token id -> the same again; {} where an answer ends."""


def trie(answers: Sequence[Sequence[int]]) -> Trie:
    """The answers as a tree of tokens."""
    root: Trie = {}
    for answer in answers:
        node = root
        for token in answer:
            node = node.setdefault(token, {})
    return root


@torch.no_grad()
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
    """What the model writes after each prompt, greedily, without the token that ended it.

    Args:
        model: In eval mode.
        tokenizer: Of the model.
        prompts: Token ids.
        most: New tokens at most.
        answers: When given, at each step only the tokens that go on towards one of these answers are considered.
        stops: Tokens that end an answer, besides the end-of-text token.
        progress: Told the share done after every batch.
    """
    # Without position ids a model counts the padding on the left: then only equal lengths share a batch.
    pads = "position_ids" in inspect.signature(model.forward).parameters
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    found: list[list[int]] = [[] for _ in prompts]
    done = 0
    while done < len(order):
        width = len(prompts[order[done]])
        size = max(1, TOKENS_AT_ONCE // (width + most))
        batch = [i for i in order[done : done + size] if pads or len(prompts[i]) == width]
        written = _generate(model, tokenizer, [prompts[i] for i in batch], most, answers, stops)
        for i, ids in zip(batch, written, strict=True):
            found[i] = ids
        done += len(batch)
        progress(done / len(order))
    return found


def _generate(model, tokenizer, prompts, most: int, answers: Trie | None, stops: Sequence[int]) -> list[list[int]]:
    eos = tokenizer.eos_token_id
    pad = next((t for t in (tokenizer.pad_token_id, eos) if t is not None), 0)
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    ends = [*([] if eos is None else [eos]), *stops]
    allowed = None if answers is None else lambda _, row: _next(answers, row[width:].tolist(), pad)
    config = GenerationConfig(max_new_tokens=most, do_sample=False, pad_token_id=pad, eos_token_id=ends or None)
    out = model.generate(
        input_ids=ids, attention_mask=mask, generation_config=config, prefix_allowed_tokens_fn=allowed, use_cache=True
    )
    return [_until(row[width:], ends) for row in out.tolist()]


def _next(answers: Trie, written: list[int], pad: int) -> list[int]:
    node = answers
    for token in written:
        node = node.get(token, {})
    return list(node) or [pad]


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    return next((ids[:i] for i, token in enumerate(ids) if token in ends), ids)


def line_breaks(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens whose text holds a line break."""
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return [i for i, text in enumerate(texts) if "\n" in text]
