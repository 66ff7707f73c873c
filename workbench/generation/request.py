"""What is asked of the engine, and what comes back: tokens one by one, then why the text ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.generation.sampling import Sampling


class Causal(Protocol):
    """What writing asks of a model; a Subject has it.

    - `n_ctx`: tokens that it reads at most; `d_embed`: tokens that it has
    """

    name: str
    model: Any
    tokenizer: Any

    @property
    def n_ctx(self) -> int: ...  # noqa: D102

    @property
    def d_embed(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Scored:
    """A token's natural logarithm of probability, before any setting changes it, and its likeliest
    rivals.

    `top` is (token, log-probability), the likeliest first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Token:
    """One generated token; `text` is what can be shown now that it has come, which may be nothing
    yet.
    """

    id: int
    text: str
    scored: Scored | None = None


@dataclass(frozen=True)
class Request:
    """A prompt to go on from.

    - `most`: new tokens at most; 0 only reads the prompt
    - `stops`: strings that end the text, which is cut before them; `ends`: tokens that do, and are
        no part of it
    - `top`: rivals of each token to score; None scores nothing; `score_prompt` scores the prompt's
        tokens too
    - `allowed`: given what was written, the only tokens that may come next
    - `on_token`: called with each token as it comes, in the engine's thread
    """

    prompt: Sequence[int]
    most: int
    sampling: Sampling = field(default_factory=Sampling)
    stops: Sequence[str] = ()
    ends: frozenset[int] = frozenset()
    top: int | None = None
    score_prompt: bool = False
    allowed: Callable[[list[int]], list[int]] | None = None
    on_token: Callable[[Token], None] | None = None


@dataclass(frozen=True)
class Completion:
    """What was written after a prompt.

    - `ids`: the tokens, without the one that ended the text; `text`: theirs, cut before a stop
        string
    - `reason`: "stop" (an end token or a stop string), "length", or "cancelled"
    - `scores`, `prompt_scores`: one a token where they were asked for; the prompt's first token has
        none
    - `reused`: tokens of the prompt that were known from earlier requests
    """

    ids: tuple[int, ...]
    text: str
    reason: str
    scores: tuple[Scored, ...] = ()
    prompt_scores: tuple[Scored, ...] = ()
    reused: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The record in plain words."""
        return {
            "ids": list(self.ids),
            "text": self.text,
            "reason": self.reason,
            "reused": self.reused,
        }
