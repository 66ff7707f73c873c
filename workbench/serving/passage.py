"""A question about a passage: what a model is asked, where its answer stands, and which heads
fetched it from there.

A head's part in the answer's logit is split by source: attention to a token times what its value
writes along the answer's direction. Over all tokens these add up to the head's direct contribution,
which is checked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.engine.reader import Reader
from workbench.interp.patching.direct import answer_direction, heads_at
from workbench.interp.patterns.attention import each_pattern
from workbench.interp.prompts.pairs import Pair
from workbench.records import Record
from workbench.subjects import Subject
from workbench.subjects.chat import PASSAGE, chat_prompt, render

ASK = "{context}\n\nQuestion: {question}\nAnswer with a few words of the text."
"""How a model with a chat template is asked."""
WORD = re.compile(r"\w+")
LONGEST = 24
"""Tokens of an answer whose heads are told."""
OFF = 1e-3
"""How far the parts by source may be from a head's contribution, relative to the largest."""


class Span(NamedTuple):
    """Where an answer stands in a passage, in characters; `exact` where all of it does."""

    start: int
    stop: int
    exact: bool


@dataclass(frozen=True)
class Fetched(Record):
    """What each head adds to the answer's logits, and how much of it comes from the answer's place
    in the passage.

    `total` and `from_span` are `[layer, head]`, in logits against the likeliest other token, the
    mean over the answer's tokens; `n` is how many tokens that are, `checks` how far the parts by
    source are from the whole.
    """

    subject: str
    sha256: str
    total: np.ndarray
    from_span: np.ndarray
    n: int
    checks: dict[str, float]

    def to_frame(self) -> pd.DataFrame:
        """One row a head, the one that brings most from the span first: `head`, `from_span`,
        `total`.
        """
        n_layers, n_heads = self.total.shape
        rows = [
            (f"L{i}H{j}", float(self.from_span[i, j]), float(self.total[i, j]))
            for i in range(n_layers)
            for j in range(n_heads)
        ]
        frame = pd.DataFrame(rows, columns=pd.Index(["head", "from_span", "total"]))
        return frame.sort_values("from_span", key=abs, ascending=False, ignore_index=True)

    def headline(self) -> str:
        """The head that brings most."""
        first = self.to_frame().iloc[0]
        return f"{first['head']} brings {first['from_span']:+.3f} logits from the span"


def question_text(context: str, question: str) -> str:
    """A question about a passage for a model that goes on with texts; the answer ends with the
    line.
    """
    return PASSAGE.format(context=context.strip(), question=question.strip())


def question_messages(context: str, question: str) -> list[dict[str, str]]:
    """The same for a model with a chat template."""
    return [
        {"role": "user", "content": ASK.format(context=context.strip(), question=question.strip())}
    ]


def spans(context: str, answer: str, question: str = "") -> list[Span]:
    """Where an answer stands in a passage: every place of all its words, else of the run of them
    that tells most.

    Case, spaces and punctuation do not count, and a run tells by its words that are not the
    question's. [] for none.
    """
    words = WORD.findall(answer)
    if not words:
        return []
    whole = [
        Span(match.start(), match.end(), True)
        for match in re.finditer(_pattern(words), context, re.IGNORECASE)
    ]
    if whole:
        return whole
    asked = {word.lower() for word in WORD.findall(question)}
    run = max(_runs(words, WORD.findall(context)), key=lambda run: _tells(run, asked), default=[])
    while run and not _tells(run[:1], asked):
        run = run[1:]
    while run and not _tells(run[-1:], asked):
        run = run[:-1]
    if not run:
        return []  # all that stands in both is such as "of the"
    return [
        Span(match.start(), match.end(), False)
        for match in re.finditer(_pattern(run), context, re.IGNORECASE)
    ]


def _pattern(words: Sequence[str]) -> str:
    return r"(?<!\w)" + r"\W+".join(map(re.escape, words)) + r"(?!\w)"


def _runs(words: list[str], of: list[str]) -> list[list[str]]:
    """The runs of words that stand in a longer text too."""
    small, large = ([word.lower() for word in side] for side in (words, of))
    found = []
    for at in range(len(small)):
        matcher = SequenceMatcher(None, small[at:], large, autojunk=False)
        match = matcher.find_longest_match()
        found.append(words[at + match.a : at + match.a + match.size])
    return found


def _tells(run: Sequence[str], asked: set[str]) -> int:
    """How many words of a run are content, and not the question's."""
    return sum(
        len(word) > 3 or word[0].isupper() or word.isdigit()
        for word in run
        if word.lower() not in asked
    )


def span_tokens(
    subject: Subject, prompt: Sequence[int], context: str, question: str, places: Sequence[Span]
) -> list[int]:
    """Which tokens of a prompt hold these places of the passage.

    Raises `WorkbenchError` where the prompt is not what a question about this passage is.
    """
    context = context.strip()
    tokenizer = subject.tokenizer
    messages = question_messages(context, question)
    for text in (question_text(context, question), render(tokenizer, messages, True)):
        found: Any = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        first = len(prompt) - len(found["input_ids"])
        if first >= 0 and list(prompt[first:]) == list(found["input_ids"]):
            break
    else:
        raise WorkbenchError(
            "This prompt does not ask the question about this passage; ask it again."
        )
    start = text.index(context)
    inside = [(start + place.start, start + place.stop) for place in places]
    return [
        first + at
        for at, (begin, end) in enumerate(found["offset_mapping"])
        if any(begin < stop and end > begin_of for begin_of, stop in inside)
    ]


def prompt_ids(subject: Subject, context: str, question: str, *, chat: bool) -> list[int]:
    """The tokens of a question about a passage."""
    if chat:
        return chat_prompt(subject.tokenizer, question_messages(context, question)).ids
    return subject.ids(question_text(context, question))


def fetched(
    subject: Subject, prompt: Sequence[int], answer: Sequence[int], sources: Sequence[int]
) -> Fetched:
    """What each head adds to an answer's logits, and what of it comes from the tokens at `sources`.

    Raises `WorkbenchError` for a model whose heads cannot be told apart by source.
    """
    answer = list(answer)[:LONGEST]
    if not answer:
        raise WorkbenchError("The answer is empty, so no head wrote any of it; ask something else.")
    ids = torch.tensor([*prompt, *answer], device=subject.device)
    packed = reader(subject)
    packed.need_end()
    run = packed.record(ids[None])
    at = range(len(prompt) - 1, len(ids) - 1)
    pairs = [_against(ids, run.logits[0, pos], pos) for pos in at]
    total = np.mean(
        [heads_at(packed, run, pos, each) for pos, each in zip(at, pairs, strict=True)], 0
    )
    ends = [run.resid[-1][0, pos] for pos in at]
    directions = torch.stack(
        [answer_direction(packed, end, each)[0] for end, each in zip(ends, pairs, strict=True)]
    )
    by_source = _by_source(subject, packed, ids, at, directions)
    off = float(np.abs(by_source.sum(-1) - total).max())
    if off > OFF * max(1.0, float(np.abs(total).max())):
        raise WorkbenchError(
            f"What the heads of {subject.name} write does not add up by source (off by {off:.2g} "
            "logits), so it is not told; the panel of a token has its heads."
        )
    from_span = by_source[:, :, list(sources)].sum(-1)
    return Fetched(subject.name, subject.hash, total, from_span, len(answer), {"by_source": off})


def _against(ids: Tensor, logits: Tensor, pos: int) -> Pair:
    """The token that follows a position against the likeliest other."""
    token = int(ids[pos + 1])
    other = next(i for i in logits.topk(2).indices.tolist() if i != token)
    return Pair(ids[: pos + 1], ids[: pos + 1], (token,), (other,))


@torch.no_grad()
def _by_source(
    subject: Subject, packed: Reader, ids: Tensor, at: range, directions: Tensor
) -> np.ndarray:
    """`[layer, head, source]`: the mean over queries of attention times what a source's value
    writes along them.
    """
    card = subject.card
    found = np.zeros((card.n_layers, card.n_heads, len(ids)), np.float32)
    values: dict[int, Tensor] = {}
    patterns: dict[int, Tensor] = {}
    each_pattern(
        subject,
        ids[None],
        lambda layer, pattern: patterns.update({layer: pattern[0][:, list(at)]}),
        lambda layer, value: values.update({layer: value[0]}),
    )
    if len(values) != card.n_layers:
        raise WorkbenchError(
            f"{subject.name} does not show its values, so its heads cannot be told apart by source."
        )
    for layer, pattern in patterns.items():
        along = _along(packed, layer, directions)
        value = values[layer].float()
        value = value.repeat_interleave(card.n_heads // value.shape[0], 0)
        written = torch.einsum("hkd,qhd->hqk", value, along)
        found[layer] = (pattern.float() * written).mean(1).cpu().numpy()
    return found


def _along(packed: Reader, layer: int, directions: Tensor) -> Tensor:
    """`[query, head, d_head]`: what of a head's output a direction of the stream sees."""
    module = packed.outputs[layer]
    _, writer = packed.writer("attn_out", layer)
    with torch.enable_grad():
        width = packed.n_heads
        size = module.weight.numel() // directions.shape[-1]
        zero = torch.zeros(
            size, dtype=directions.dtype, device=directions.device, requires_grad=True
        )
        seen = [
            torch.autograd.grad(module(zero) @ (way * writer.scale), zero)[0] for way in directions
        ]
    return torch.stack(seen).unflatten(-1, (width, -1)).float()
