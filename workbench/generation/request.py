"""Requests to the engine, and its answers: tokens one by one, then the completion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.generation.sampling import Sampling


class Causal(Protocol):
    """What generation needs of a model; a Subject has it."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def model(self) -> Any:
        """A causal model of transformers."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        ...

    @property
    def n_ctx(self) -> int:
        """Length of the context in tokens."""
        ...

    @property
    def d_embed(self) -> int:
        """Rows of the embedding: the token ids that the model can read."""
        ...


@dataclass(frozen=True)
class Scored:
    """A token's log-probability in nats, before any sampling setting changes it.

    - `top`: (token, log-probability) of the likeliest tokens, in order
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Token:
    """One generated token; `text` is the text that it completes, maybe "" (half a character)."""

    id: int
    text: str
    scored: Scored | None = None


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    - `most`: maximum of new tokens; 0 only reads the prompt
    - `stops`: strings that end the text; it is cut before them
    - `ends`: tokens that end the text and are not part of it
    - `top`: how many likeliest tokens to score beside each token; None scores nothing
    - `score_prompt`: whether to score the prompt's tokens too
    - `allowed`: maps the new tokens so far to the only tokens allowed next
    - `on_token`: called with each new token, in the engine's thread
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
    """What was generated after a prompt.

    - `ids`: the new tokens, without the one that ended the text
    - `text`: their text, cut before a stop string
    - `reason`: "stop" (an end token or a stop string), "length", or "cancelled"
    - `scores`, `prompt_scores`: one per token if asked for; the prompt's first token has none
    - `reused`: prompt tokens that came from the cache
    """

    ids: tuple[int, ...]
    text: str
    reason: str
    scores: tuple[Scored, ...] = ()
    prompt_scores: tuple[Scored, ...] = ()
    reused: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The completion as plain values, without scores."""
        return {
            "ids": list(self.ids),
            "text": self.text,
            "reason": self.reason,
            "reused": self.reused,
        }
