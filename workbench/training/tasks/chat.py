"""Chat: conversations of several turns in the model's chat template, the loss on the assistant's
turns only.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from workbench.data.conversations import Message, conversation
from workbench.data.leftout import LeftOutError
from workbench.data.notes import Notes
from workbench.data.sets import Record
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_difference
from workbench.subjects.chat import PLAIN, render
from workbench.training.decode import complete
from workbench.training.rows import Row, Segment, collate, encode
from workbench.training.tasks.task import Answer, Item, Progress, Task

REPLIES = 6
"""Held-out conversations whose last reply is also written out, to be read."""
REPLY = 48
"""Tokens of such a reply."""
BATCH = 8


class Chat(Task):
    """Records are conversations in any form that `workbench.data.conversations` reads.

    Metric: loss in nats a token of the assistant's turns, over all held-out tokens; lower is
        better.
    """

    kind = "chat"
    parts = ("messages", "prompt", "response")
    higher_is_better = False

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """A base without a chat template gets the plain one, which its checkpoints keep."""
        tokenizer.chat_template = tokenizer.chat_template or PLAIN

    def columns(self, records: Sequence[Record], data: str, notes: Notes) -> dict[str, str]:
        """None: a conversation is read from the whole record."""
        return {}

    def item(self, record: Record) -> Item:
        """The conversation up to its last assistant turn."""
        messages = conversation(record, self.named)
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not any(message["role"] == "user" for message in messages):
            raise LeftOutError("no user turn with a reply")
        return {"messages": messages}

    def group(self, item: Item) -> Hashable:
        """The first words of the user: conversations that begin alike lie in one split."""
        return next(m["content"] for m in item["messages"] if m["role"] == "user")

    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """The conversation in the chat template; what the assistant says, and its end, is learned."""
        return encode(tokenizer, segments(tokenizer, item["messages"]), special=False)

    def answer(self, model, tokenizer, items: Sequence[Item], progress: Progress) -> list[Answer]:
        """Loss of each conversation; the last reply of the first few is written out."""
        rows = [self.row(tokenizer, item) for item in items]
        losses: list[float] = []
        for start in range(0, len(rows), BATCH):
            losses += token_losses(model, rows[start : start + BATCH])
            progress(min(1.0, len(losses) / len(rows)) * 0.8)
        prompts = [render(tokenizer, item["messages"][:-1], True) for item in items]
        asked = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts[:REPLIES]]
        replies = complete(
            model, tokenizer, asked, most=REPLY, progress=lambda done: progress(0.8 + 0.2 * done)
        )
        texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in replies]
        texts += [""] * (len(items) - len(texts))
        return [
            {
                "input": prompt,
                "target": item["messages"][-1]["content"],
                "prediction": text,
                "score": loss,
                "tokens": row.n_learned,
            }
            for prompt, item, text, loss, row in zip(
                prompts, items, texts, losses, rows, strict=True
            )
        ]

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Loss in nats an assistant token, conversations weighted by their tokens."""
        return {"loss": paired_difference(base["score"], tuned["score"], weights=base["tokens"])}


def segments(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[Segment]:
    """The template's text cut where the assistant's turns begin and end (the end-of-turn token is
    theirs).

    Works with every template that only appends: a turn's text does not depend on later ones.
    """
    found: list[Segment] = []
    written = ""
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:i], True)
        after = render(tokenizer, messages[: i + 1])
        if not before.startswith(written) or not after.startswith(before):
            raise WorkbenchError(
                "The model's chat template rewrites earlier turns, so the assistant's cannot be "
                "told apart; choose a base with another template, or conversations of one turn."
            )
        turn = after[len(before) :]
        end = tokenizer.eos_token
        own = turn[: turn.rindex(end) + len(end)] if isinstance(end, str) and end in turn else turn
        found += [Segment(before[len(written) :], False), Segment(own, True)]
        written = before + own
    return found


@torch.no_grad()
def token_losses(model, rows: Sequence[Row]) -> list[float]:
    """Mean loss in nats over the learned tokens of each row."""
    inputs, targets = (x.to(model.device) for x in collate(rows))
    logits = model(inputs, use_cache=False).logits.float()
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return (losses.sum(1) / (targets >= 0).sum(1).clamp(min=1)).tolist()
