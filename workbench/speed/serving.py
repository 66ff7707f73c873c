"""`workbench bench serve`: the generation engine against transformers' `generate`, greedily."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from workbench.data.passages import TEXTS
from workbench.errors import WorkbenchError
from workbench.generation import Batch, Completion, Request
from workbench.speed.timing import in_turn
from workbench.subjects import Subject, load

MODELS = ("shelf-base", "SmolLM2-135M-Instruct.Q4_1.gguf")
NEW = 32
"""Tokens generated after each prompt."""
STREAMS = 8
HISTORY = 500
"""Tokens of the conversation before the next turn."""


def bench(progress: Callable[[str], None], models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """One row per model and case: our seconds, `generate`'s, their ratio, and whether tokens agree.

    - `one stream`, `8 streams`: prompts of different lengths; `generate` takes the 8 in sequence,
      as it must for requests that arrive at different times
    - `next turn`: seconds to the first token with the history cached, against without
    - `tokens_per_s`: ours; `exact`: whether all tokens are equal

    Args:
        progress: Called with what is being measured.
        models: Names that `load` takes; those that cannot be loaded are left out.
    """
    rows = []
    for name in models:
        try:
            subject = load(name)
        except WorkbenchError as error:
            progress(f"{name} left out: {error}")
            continue
        progress(f"{name}: one stream")
        rows.append(_streams(subject, 1))
        progress(f"{name}: {STREAMS} streams")
        rows.append(_streams(subject, STREAMS))
        rows[-1]["times_one_stream"] = rows[-1]["tokens_per_s"] / rows[-2]["tokens_per_s"]
        progress(f"{name}: the next turn")
        rows.append(_next_turn(subject))
    return rows


def _streams(subject: Subject, n: int) -> dict[str, Any]:
    texts = [subject.ids(text)[: 8 + 5 * i] for i, text in enumerate((TEXTS * n)[:n])]
    batch = Batch(subject, prefix_bytes=0)
    ours, theirs, row = in_turn(
        lambda: _ours(batch, texts), lambda: [_generate(subject, text) for text in texts]
    )
    tokens = {"tokens_per_s": n * NEW / row["ours_s"]}
    return {
        "model": subject.name,
        "case": f"{n} streams" if n > 1 else "one stream",
        **row,
        **tokens,
        "exact": ours == theirs,
    }


def _ours(batch: Batch, texts: list[list[int]]) -> list[list[int]]:
    written: dict[int, list[int]] = {}

    def done(index: int, completion: Completion) -> None:
        written[index] = list(completion.ids)

    for index, text in enumerate(texts):
        batch.add(Request(text, NEW), partial(done, index))
    while batch.step():
        pass
    return [written[index] for index in range(len(texts))]


@torch.no_grad()
def _generate(subject: Subject, text: list[int], new: int = NEW) -> list[int]:
    ids = torch.tensor([text], device=subject.device)
    model: Any = subject.model
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(text) :].tolist()


def _next_turn(subject: Subject) -> dict[str, Any]:
    """The time to the first token of a turn, with its history cached and without."""
    words = subject.ids("\n".join(TEXTS * 4))
    n = min(HISTORY, subject.n_ctx - 20)
    turns = [words[:n] + words[n + 12 * i : n + 12 * (i + 1)] for i in range(1, 9)]
    known = Batch(subject)
    fresh = Batch(subject, prefix_bytes=0)
    _first(known, words[:n])
    # A new turn each time: one that was run before would be cached entirely.
    ours_turns = iter(turns)
    reference_turns = iter(turns)
    ours, theirs, row = in_turn(
        lambda: _first(known, next(ours_turns)), lambda: _first(fresh, next(reference_turns))
    )
    exact = ours == theirs == _generate(subject, turns[row["n"] - 1], 1)
    return {
        "model": subject.name,
        "case": f"next turn after {n} tokens",
        **row,
        "tokens_per_s": None,
        "exact": exact,
    }


def _first(batch: Batch, text: list[int]) -> list[int]:
    ids: list[int] = []
    batch.add(Request(text, 1), lambda c: ids.extend(c.ids))
    while batch.step():
        pass
    return ids
