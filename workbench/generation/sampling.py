"""Sampling the next token from logits; each setting works like transformers' of the same name."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled.

    - `temperature`: 0 is greedy decoding
    - `top_k` (0 for all), `top_p`, `min_p`: limit the candidates, in this order, after the
      temperature
    - `presence_penalty`, `frequency_penalty`: subtracted from the logits of generated tokens, once
      and per occurrence
    - `repetition_penalty`: divides positive and multiplies negative logits of tokens in the prompt
      or generated
    - `logit_bias`: added to the logits, by token id
    - `seed`: None samples differently each time

    Raises:
        WorkbenchError: For a value out of range, naming the setting.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", 0, 100),
            ("top_p", 0, 1),
            ("top_k", 0, math.inf),
            ("min_p", 0, 1),
            ("presence_penalty", -2, 2),
            ("frequency_penalty", -2, 2),
            ("repetition_penalty", 0.01, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise WorkbenchError(f"{name} is {value}; it must lie between {low} and {high}.")
        if bad := {t: b for t, b in self.logit_bias.items() if not -100 <= b <= 100}:
            raise WorkbenchError(
                f"logit_bias of token {next(iter(bad))} must lie between -100 and 100."
            )

    @property
    def plain(self) -> bool:
        """Whether decoding is greedy and no setting changes the logits."""
        return (
            self.temperature == 0
            and not self.logit_bias
            and self.presence_penalty == self.frequency_penalty == 0
            and self.repetition_penalty == 1
        )


def generator_of(sampling: Sampling) -> torch.Generator:
    """A text's random generator, always on the CPU, so that a seed gives one text on any device."""
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator


def adjusted(
    logits: Float[Tensor, "d_vocab"],
    sampling: Sampling,
    prompt: Sequence[int],
    written: Sequence[int],
) -> Float[Tensor, "d_vocab"]:
    """The logits after penalties and bias.

    Args:
        logits: Of the next token; not changed.
        sampling: The settings.
        prompt: Token ids; they count for the repetition penalty.
        written: The new tokens so far; they count for all penalties.
    """
    logits = logits.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *written}), device=logits.device)
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values < 0, values * penalty, values / penalty)
    if written and (sampling.presence_penalty or sampling.frequency_penalty):
        for token, count in Counter(written).items():
            logits[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
    for token, bias in sampling.logit_bias.items():
        logits[token] += bias
    return logits


def distribution(logits: Float[Tensor, "d_vocab"], sampling: Sampling) -> Float[Tensor, "d_vocab"]:
    """Probabilities after temperature (above 0), top-k, top-p and min-p."""
    values, order = (logits / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        values[sampling.top_k :] = -math.inf
    probabilities = values.softmax(-1)
    if sampling.top_p < 1:
        # A token stays if the likelier ones together have less than top_p.
        before = probabilities.cumsum(-1) - probabilities
        cut = before >= sampling.top_p
        cut[0] = False
        probabilities = probabilities.masked_fill(cut, 0.0)
    if sampling.min_p > 0:
        probabilities = probabilities.masked_fill(
            probabilities < sampling.min_p * probabilities[0], 0.0
        )
    return torch.zeros_like(logits).scatter(0, order, probabilities / probabilities.sum())


def choose(
    logits: Float[Tensor, "d_vocab"],
    sampling: Sampling,
    generator: torch.Generator,
    prompt: Sequence[int],
    written: Sequence[int],
) -> int:
    """The next token id.

    Args:
        logits: Of the next token.
        sampling: The settings.
        generator: From `generator_of`; drawing advances it.
        prompt: Token ids.
        written: The new tokens so far.
    """
    logits = adjusted(logits, sampling, prompt, written)
    if sampling.temperature == 0:
        return int(logits.argmax())
    return int(
        torch.multinomial(distribution(logits.float().cpu(), sampling), 1, generator=generator)
    )
