"""One text in the making: what was asked, what is written, and what may come next."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.generation.request import Completion, Request, Scored, Token
from workbench.generation.sampling import choose, generator_of
from workbench.generation.text import Text


class Row:
    """A request under way.

    - `ids`: the prompt and all that is written; `reason`: why it ended, "" while it goes on
    - `reused`: tokens of the prompt that need not be read
    """

    def __init__(
        self,
        request: Request,
        tokenizer: PreTrainedTokenizerBase,
        done: Callable[[Completion], None],
    ):
        self.request = request
        self.done = done
        self.ids = list(request.prompt)
        self.reason = ""
        self.cancelled = False
        self.reused = 0
        self.scores: list[Scored] = []
        self.prompt_scores: list[Scored] = []
        self._pieces: list[str] = []
        self._text = Text(tokenizer, self.ids, request.stops)
        self._generator = generator_of(request.sampling)

    @property
    def written(self) -> list[int]:
        """The new tokens."""
        return self.ids[len(self.request.prompt) :]

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is all that is wanted."""
        return (
            self.request.sampling.plain
            and self.request.top is None
            and self.request.allowed is None
        )

    def next(self, logits: Tensor) -> None:
        """Choose and take the next token, given logits `[d_vocab]` in float32."""
        request = self.request
        limited = logits
        if request.allowed is not None:
            allowed = torch.tensor(sorted(request.allowed(self.written)), device=logits.device)
            if request.sampling.plain and request.top is None:
                self.take(int(allowed[logits[allowed].argmax()]))
                return
            limited = torch.full_like(logits, -torch.inf).index_copy(0, allowed, logits[allowed])
        token = choose(limited, request.sampling, self._generator, request.prompt, self.written)
        self.take(token, None if request.top is None else scored(logits, token, request.top))

    def take(self, token: int, score: Scored | None = None) -> None:
        """Take a token as the next one, and find out whether it ends the text."""
        if token in self.request.ends:
            self.reason = "stop"
            return
        self.ids.append(token)
        piece = self._text.add(token)
        if self._text.stopped:
            self.reason = "stop"
        elif len(self.written) >= self.request.most:
            self.reason = "length"
        if self.reason:
            piece += self._text.rest()
        self._pieces.append(piece)
        if score is not None:
            self.scores.append(score)
        if self.request.on_token is not None:
            self.request.on_token(Token(token, piece, score))

    def finish(self) -> None:
        """Hand over the completion."""
        rest = "" if self.reason == "length" else self._text.rest()
        written = tuple(self.written)
        self.done(
            Completion(
                written,
                "".join(self._pieces) + rest,
                self.reason,
                tuple(self.scores),
                tuple(self.prompt_scores),
                self.reused,
            )
        )


def scored(logits: Tensor, token: int, top: int) -> Scored:
    """The log-probability of a token and of its `top` rivals, given logits `[d_vocab]`."""
    return all_scored(logits[None], [token], top)[0]


def all_scored(logits: Tensor, tokens: list[int], top: int) -> list[Scored]:
    """The same for many positions: logits `[pos, d_vocab]`, a token each."""
    logs = logits.float().log_softmax(-1)
    of_tokens = logs.gather(-1, torch.tensor(tokens, device=logs.device)[:, None])[:, 0].tolist()
    values, ids = logs.topk(min(top, logs.shape[-1]), -1)
    rivals = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        Scored(token, value, tuple(zip(i, v, strict=True)))
        for token, value, (i, v) in zip(tokens, of_tokens, rivals, strict=True)
    ]
