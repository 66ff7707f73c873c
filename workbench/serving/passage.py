"""A question about a passage: the prompt, where the answer stands, and which heads fetch it.

A head's direct contribution to the answer's logit is split by source token: attention times what
the token's value writes along the answer's direction. That the parts add up to the contribution is
checked.
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
from workbench.interp.patterns.passing import each_pattern
from workbench.interp.prompts.pairs import Pair
from workbench.records import Record
from workbench.subjects import Subject
from workbench.subjects.chat import PASSAGE, chat_prompt, render

ASK = "{context}\n\nQuestion: {question}\nAnswer with a few words of the text."
"""The message for a model with a chat template."""
WORD = re.compile(r"\w+")
LONGEST = 24
"""Maximum of answer tokens to analyse."""
OFF = 1e-3
"""Allowed error of the sum over sources, relative to the largest contribution."""


class Span(NamedTuple):
    """A place in a passage, in characters; `exact` if it holds the whole answer."""

    start: int
    stop: int
    exact: bool


@dataclass(frozen=True)
class Fetched(Record):
    """What each head adds to the answer's logits, in all and from the answer's place.

    - `total`, `from_span`: `[layer, head]`, in logits against the likeliest other token, mean over
      the answer's tokens
    - `n`: number of these tokens
    - `checks`: the largest error of the sum over sources, in logits
    """

    subject: str
    sha256: str
    total: np.ndarray
    from_span: np.ndarray
    n: int
    checks: dict[str, float]

    def to_frame(self) -> pd.DataFrame:
        """One row per head (`head`, `from_span`, `total`), largest absolute `from_span` first."""
        n_layers, n_heads = self.total.shape
        rows = [
            (f"L{i}H{j}", float(self.from_span[i, j]), float(self.total[i, j]))
            for i in range(n_layers)
            for j in range(n_heads)
        ]
        frame = pd.DataFrame(rows, columns=pd.Index(["head", "from_span", "total"]))
        return frame.sort_values("from_span", key=abs, ascending=False, ignore_index=True)

    def headline(self) -> str:
        """A sentence on the head that brings most from the span."""
        first = self.to_frame().iloc[0]
        return f"{first['head']} brings {first['from_span']:+.3f} logits from the span"


def question_text(context: str, question: str) -> str:
    """The prompt of a question about a passage for a base model; the answer ends with the line."""
    return PASSAGE.format(context=context.strip(), question=question.strip())


def question_messages(context: str, question: str) -> list[dict[str, str]]:
    """The messages of a question about a passage, for a model with a chat template."""
    return [
        {"role": "user", "content": ASK.format(context=context.strip(), question=question.strip())}
    ]


def spans(context: str, answer: str, question: str = "") -> list[Span]:
    """Where an answer stands in a passage: all places of the whole answer, else of its best part.

    Case, spaces and punctuation are ignored. The best part is the run of words with the most
    content words that are not in the question.

    Args:
        context: The passage.
        answer: What the model wrote.
        question: Its words alone identify no place.

    Returns:
        All places, or [] for none.
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
    common = {word.lower() for word in WORD.findall(question)}
    run = max(_runs(words, WORD.findall(context)), key=lambda run: _tells(run, common), default=[])
    while run and not _tells(run[:1], common):
        run = run[1:]
    while run and not _tells(run[-1:], common):
        run = run[:-1]
    if not run:
        return []  # only words such as "of the" are in both
    return [
        Span(match.start(), match.end(), False)
        for match in re.finditer(_pattern(run), context, re.IGNORECASE)
    ]


def _pattern(words: Sequence[str]) -> str:
    return r"(?<!\w)" + r"\W+".join(map(re.escape, words)) + r"(?!\w)"


def _runs(words: list[str], of: list[str]) -> list[list[str]]:
    """The longest runs of `words`, from each position on, that also occur in the text `of`."""
    small, large = ([word.lower() for word in side] for side in (words, of))
    runs = []
    for at in range(len(small)):
        matcher = SequenceMatcher(None, small[at:], large, autojunk=False)
        match = matcher.find_longest_match()
        runs.append(words[at + match.a : at + match.a + match.size])
    return runs


def _tells(run: Sequence[str], common: set[str]) -> int:
    """The number of content words in a run that are not among the question's, `common`."""
    return sum(
        len(word) > 3 or word[0].isupper() or word.isdigit()
        for word in run
        if word.lower() not in common
    )


def span_tokens(
    subject: Subject, prompt: Sequence[int], context: str, question: str, places: Sequence[Span]
) -> list[int]:
    """The positions of a prompt's tokens that overlap these places of the passage.

    Args:
        subject: The model that was asked.
        prompt: Token ids, from `prompt_ids`.
        context: The passage.
        question: About it.
        places: From `spans`.

    Raises:
        WorkbenchError: If the prompt does not ask this question about this passage.
    """
    context = context.strip()
    tokenizer = subject.tokenizer
    messages = question_messages(context, question)
    for text in (question_text(context, question), render(tokenizer, messages, True)):
        encoding: Any = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        first = len(prompt) - len(encoding["input_ids"])
        if first >= 0 and list(prompt[first:]) == list(encoding["input_ids"]):
            break
    else:
        raise WorkbenchError(
            "This prompt does not ask the question about this passage; ask it again."
        )
    start = text.index(context)
    inside = [(start + place.start, start + place.stop) for place in places]
    return [
        first + at
        for at, (begin, end) in enumerate(encoding["offset_mapping"])
        if any(begin < stop and end > begin_of for begin_of, stop in inside)
    ]


def prompt_ids(subject: Subject, context: str, question: str, *, chat: bool) -> list[int]:
    """The token ids of the prompt of a question about a passage.

    Args:
        subject: The model to ask.
        context: The passage.
        question: About it.
        chat: Whether to use the model's chat template.
    """
    if chat:
        return chat_prompt(subject.tokenizer, question_messages(context, question)).ids
    return subject.ids(question_text(context, question))


def fetched(
    subject: Subject, prompt: Sequence[int], answer: Sequence[int], sources: Sequence[int]
) -> Fetched:
    """What each head adds to an answer's logits, in all and from the tokens at `sources`.

    Args:
        subject: The model that answered.
        prompt: Token ids.
        answer: Token ids; the first `LONGEST` are analysed.
        sources: Positions in the prompt, from `span_tokens`.

    Raises:
        WorkbenchError: For an empty answer, or a model whose heads cannot be split by source.
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
    """The token after a position against the likeliest other, as a patching pair."""
    token = int(ids[pos + 1])
    other = next(i for i in logits.topk(2).indices.tolist() if i != token)
    return Pair(ids[: pos + 1], ids[: pos + 1], (token,), (other,))


@torch.no_grad()
def _by_source(
    subject: Subject, packed: Reader, ids: Tensor, at: range, directions: Tensor
) -> np.ndarray:
    """`[layer, head, source]`: attention times what each source writes, mean over queries."""
    card = subject.card
    by_source = np.zeros((card.n_layers, card.n_heads, len(ids)), np.float32)
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
        by_source[layer] = (pattern.float() * written).mean(1).cpu().numpy()
    return by_source


def _along(packed: Reader, layer: int, directions: Tensor) -> Tensor:
    """`[query, head, d_head]`: each direction, pulled back through the output projection."""
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
