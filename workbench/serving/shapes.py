"""The form of answers: OpenAI's objects, each with the hash of the weights."""

import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from workbench.generation import Completion, Scored
from workbench.generation.text import Text
from workbench.subjects import Subject
from workbench.subjects.spelling import BROKEN, labels

BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}
"""The byte that a letter stands for in the tokens of byte-level tokenizers (GPT-2's)."""
FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
"""How SentencePiece spells a token that is one byte."""

REASONS = {"stop": "stop", "length": "length", "cancelled": "length"}


class Answer:
    """The fields that all parts of one answer share.

    Args:
        kind: OpenAI's object type, such as `chat.completion`.
        prefix: Of the answer's id.
        subject: The model that answers.
        name: By which the request named it.
    """

    def __init__(self, kind: str, prefix: str, subject: Subject, name: str) -> None:
        self.kind = kind
        self.id = f"{prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.subject = subject
        self.name = name

    def part(
        self, choices: list[dict[str, Any]], *, chunk: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A whole answer, or a chunk of a stream.

        Args:
            choices: OpenAI's choices.
            chunk: Whether it is part of a stream.
            more: Further fields.
        """
        kind = "chat.completion.chunk" if chunk and self.kind == "chat.completion" else self.kind
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.name,
            "system_fingerprint": self.subject.hash,
            "choices": choices,
            **more,
        }

    def workbench(self, **more: Any) -> dict[str, Any]:
        """The field `workbench`: which weights answered, and readings of them."""
        return {"model": self.subject.name, "sha256": self.subject.hash, **more}


def usage(prompts: Sequence[Sequence[int]], completions: Sequence[Completion]) -> dict[str, Any]:
    """OpenAI's `usage`; a prompt counts once, however many answers it has."""
    read = sum(map(len, prompts))
    written = sum(len(c.ids) for c in completions)
    reused = sum(c.reused for c in completions[:: max(1, len(completions) // max(1, len(prompts)))])
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": reused},
    }


class Logprobs:
    """The `logprobs` of one text in /v1/completions, for consecutive tokens."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], *, echo: bool
    ) -> None:
        self.tokenizer = tokenizer
        self._text = Text(tokenizer, [] if echo else prompt, ())
        self._offset = 0

    def of(
        self, tokens: Sequence[int], scores: Sequence[Scored | None], top: int
    ) -> dict[str, list[Any]]:
        """The `logprobs` of the next tokens; null for a token without a score.

        Args:
            tokens: Token ids that follow those of earlier calls.
            scores: One per token, or None (the first token of a text has none).
            top: How many alternatives; 0 gives null.
        """
        columns: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token, score in zip(tokens, scores, strict=True):
            columns["tokens"].append(label(self.tokenizer, token))
            columns["token_logprobs"].append(None if score is None else score.logprob)
            columns["top_logprobs"].append(
                None if score is None or not top else self._rivals(score)
            )
            columns["text_offset"].append(self._offset)
            self._offset += len(self._text.add(token))
        return columns

    def _rivals(self, score: Scored) -> dict[str, float]:
        """Alternatives by their text; of two tokens with the same text the likelier counts."""
        rivals: dict[str, float] = {}
        for token, logprob in (*score.top, (score.token, score.logprob)):
            rivals.setdefault(label(self.tokenizer, token), logprob)
        return rivals


def chat_logprobs(
    tokenizer: PreTrainedTokenizerBase, scores: Sequence[Scored], top: int
) -> dict[str, Any]:
    """The `logprobs` of /v1/chat/completions.

    Args:
        tokenizer: Of the model.
        scores: One per token.
        top: How many alternatives per token.
    """

    def entry(token: int, logprob: float) -> dict[str, Any]:
        return {
            "token": label(tokenizer, token),
            "logprob": logprob,
            "bytes": bytes_of(tokenizer, token),
        }

    return {
        "content": [
            {**entry(s.token, s.logprob), "top_logprobs": [entry(*rival) for rival in s.top[:top]]}
            for s in scores
        ],
        "refusal": None,
    }


def label(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a single token, or the tokenizer's spelling if it is no whole character."""
    return labels(tokenizer, [token], unrelated=True)[0]


def bytes_of(tokenizer: PreTrainedTokenizerBase, token: int) -> list[int] | None:
    """The bytes of a token, also of one that is a part of a character; None if they are unknown.

    A client joins them to read characters that several tokens spell.
    """
    if BROKEN not in str(tokenizer.decode([token])):
        return list(label(tokenizer, token).encode())
    piece = str(tokenizer.convert_ids_to_tokens(token))
    if byte := FALLBACK.fullmatch(piece):
        return [int(byte[1], 16)]
    spelt = [BYTES.get(letter) for letter in piece]
    return None if None in spelt else [byte for byte in spelt if byte is not None]
