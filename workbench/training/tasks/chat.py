"""Chat: conversations in the model's chat template, with loss on the assistant's turns only."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.conversations import Message, conversation
from workbench.data.leftout import LeftOutError
from workbench.data.notes import Notes
from workbench.data.sets import Record
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_difference
from workbench.subjects.chat import PLAIN, render
from workbench.subjects.spelling import bare
from workbench.training.decode import complete
from workbench.training.rows import Row, Segment, collate, encode
from workbench.training.tasks.task import Answer, Item, Progress, Task

REPLIES = 6
"""Held-out conversations whose last reply is also generated, for people to read."""
REPLY = 48
"""Maximum of tokens of such a reply."""
BATCH = 8


class Chat(Task):
    """Chat fine-tuning on conversations in any form that `workbench.data.conversations` reads.

    Metric: loss in nats per token of the assistant's turns; lower is better.
    """

    kind = "chat"
    parts = ("messages", "prompt", "response")
    higher_is_better = False

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Give a tokenizer without a chat template the plain one; checkpoints save it."""
        tokenizer.chat_template = tokenizer.chat_template or PLAIN

    def columns(self, records: Sequence[Record], data: str, notes: Notes) -> dict[str, str]:
        """{}: a conversation is read from the whole record.

        Args:
            records: Ignored.
            data: Ignored.
            notes: Ignored.
        """
        return {}

    def item(self, record: Record) -> Item:
        """The conversation up to its last assistant turn, as {messages}."""
        messages = conversation(record, self.named)
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not any(message["role"] == "user" for message in messages):
            raise LeftOutError("no user turn with a reply")
        return {"messages": messages}

    def group(self, item: Item) -> Hashable:
        """The user's first message: conversations that begin alike go into one split."""
        return next(m["content"] for m in item["messages"] if m["role"] == "user")

    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """The rendered conversation; the assistant's turns and their end tokens are learned."""
        return encode(tokenizer, segments(tokenizer, item["messages"]), special=False)

    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """The loss of each conversation, and a generated last reply for the first few.

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """
        rows = [self.row(tokenizer, item) for item in items]
        losses: list[float] = []
        for start in range(0, len(rows), BATCH):
            losses += token_losses(model, rows[start : start + BATCH])
            progress(min(1.0, len(losses) / len(rows)) * 0.8)
        prompts = [render(tokenizer, item["messages"][:-1], True) for item in items]
        ids = [bare(tokenizer, prompt) for prompt in prompts[:REPLIES]]
        replies = complete(
            model, tokenizer, ids, most=REPLY, progress=lambda done: progress(0.8 + 0.2 * done)
        )
        texts = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in replies]
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
        """The loss in nats per assistant token; conversations weigh by their tokens."""
        return {"loss": paired_difference(base["score"], tuned["score"], weights=base["tokens"])}


def segments(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[Segment]:
    """The rendered conversation, cut where the assistant's turns begin and end.

    The end-of-turn token belongs to the turn. Works with every template that only appends, so that
    a turn's text does not depend on later ones.

    Args:
        tokenizer: With a chat template.
        messages: From `conversation`.

    Raises:
        WorkbenchError: For a template that rewrites earlier turns.
    """
    parts: list[Segment] = []
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
        parts += [Segment(before[len(written) :], False), Segment(own, True)]
        written = before + own
    return parts


@torch.no_grad()
def token_losses(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """The mean loss in nats over the learned tokens of each row."""
    inputs, targets = (x.to(model.device) for x in collate(rows))
    logits = model(inputs, use_cache=False).logits.float()  # [batch, pos, d_vocab]
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # [batch, pos]
    return (losses.sum(1) / (targets >= 0).sum(1).clamp(min=1)).tolist()
