"""One text in generation: its request, its tokens so far, and the choice of the next."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.generation.request import Completion, Request, Scored, Token
from workbench.generation.sampling import choose, generator_of
from workbench.generation.text import Text


class Row:
    """A request in generation.

    - `ids`: prompt and new tokens; `reason`: why it ended, "" until then
    - `reused`: prompt tokens that came from the cache

    Args:
        request: What to generate.
        tokenizer: Of the model.
        done: Called with the completion.
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
        """Whether this is greedy decoding without scores or restrictions."""
        return (
            self.request.sampling.plain
            and self.request.top is None
            and self.request.allowed is None
        )

    def next(self, logits: Tensor) -> None:
        """Choose the next token from logits `[d_vocab]` in float32, and append it."""
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
        """Append a token, and set `reason` if it ends the text."""
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
        """Call `done` with the completion."""
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
    """The log-probabilities of a token and of the `top` likeliest ones.

    Args:
        logits: `[d_vocab]`.
        token: The chosen one.
        top: How many others.
    """
    return all_scored(logits[None], [token], top)[0]


def all_scored(logits: Tensor, tokens: list[int], top: int) -> list[Scored]:
    """The same as `scored` for many positions.

    Args:
        logits: `[pos, d_vocab]`.
        tokens: The chosen one at each position.
        top: How many others at each position.
    """
    logs = logits.float().log_softmax(-1)
    of_tokens = logs.gather(-1, torch.tensor(tokens, device=logs.device)[:, None])[:, 0].tolist()
    values, ids = logs.topk(min(top, logs.shape[-1]), -1)
    rivals = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        Scored(token, value, tuple(zip(i, v, strict=True)))
        for token, value, (i, v) in zip(tokens, of_tokens, rivals, strict=True)
    ]
