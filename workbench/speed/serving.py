"""`workbench bench serve`: the generation engine against `generate`, the same greedy texts in one
process.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from workbench.data.passages import TEXTS
from workbench.errors import WorkbenchError
from workbench.generation import Batch, Request
from workbench.speed.timing import in_turn
from workbench.subjects import Subject, load

MODELS = ("shelf-base", "SmolLM2-135M-Instruct.Q4_1.gguf")
NEW = 32
"""Tokens written after each prompt."""
STREAMS = 8
HISTORY = 500
"""Tokens of the turns before, of which the next turn's prompt is the continuation."""


def bench(progress: Callable[[str], None], models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """A row a model and case: seconds of ours and of `generate`, their ratio, and whether all
    tokens are the same.

    `one stream` and `8 streams` write greedily after prompts of different lengths; `generate`
    writes the 8 one after another, which is what it can do for requests that come when they come.
    `tokens_per_s` is ours. `next turn` is the time to the first token with the turns before known,
    against without; `exact` says that it is the same token.
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
    found: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        batch.add(Request(text, NEW), lambda c, index=index: found.update({index: list(c.ids)}))
    while batch.step():
        pass
    return [found[index] for index in range(len(texts))]


@torch.no_grad()
def _generate(subject: Subject, text: list[int], new: int = NEW) -> list[int]:
    ids = torch.tensor([text], device=subject.device)
    out = subject.model.generate(  # pyright: ignore[reportCallIssue]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(text) :].tolist()


def _next_turn(subject: Subject) -> dict[str, Any]:
    """The first token of a turn whose history is known, and of one whose history is not."""
    words = subject.ids("\n".join(TEXTS * 4))
    n = min(HISTORY, subject.n_ctx - 20)
    turns = [words[:n] + words[n + 12 * i : n + 12 * (i + 1)] for i in range(1, 9)]
    known = Batch(subject)
    fresh = Batch(subject, prefix_bytes=0)
    _first(known, words[:n])
    asked = (
        iter(turns),
        iter(turns),
    )  # another turn each time: one that was asked before would be known whole
    ours, theirs, row = in_turn(
        lambda: _first(known, next(asked[0])), lambda: _first(fresh, next(asked[1]))
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
    found: list[int] = []
    batch.add(Request(text, 1), lambda c: found.extend(c.ids))
    while batch.step():
        pass
    return found
