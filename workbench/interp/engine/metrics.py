"""Metrics of a patched run: numbers computed from the logits at the last positions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.prompts.pairs import Pair

METRICS = {
    "logit_difference": "mean logit of the answers minus mean logit of the wrong answers",
    "prob_difference": "probability of the answers minus probability of the wrong answers",
    "log_prob": "natural logarithm of the probability of the answers",
    "prob": "probability of the answers",
    "rank": "how many tokens the model prefers to the answer (0: none)",
    "kl": "Kullback-Leibler divergence of the clean run's prediction from this run's, in nats",
}
"""Each metric in words; with several answers, their probabilities are added.

For an answer of several tokens, its log-probability (the sum over its tokens, each given those
before it) stands in for the logit. For single tokens both give the same difference.
"""

SIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit_difference": lambda answers, wrongs: answers.mean(-1) - wrongs.mean(-1),
    "prob_difference": lambda answers, wrongs: answers.exp().sum(-1) - wrongs.exp().sum(-1),
    "log_prob": lambda answers, _: answers.logsumexp(-1),
    "prob": lambda answers, _: answers.exp().sum(-1),
}
"""The metrics that also take answers of several tokens, computed from log-probabilities."""


@dataclass(frozen=True)
class Metric:
    """A metric bound to a question.

    - `tokens`: the columns of the vocabulary that it needs; None for all
    - `of`: the metric from the logits of these columns at the last `reads` positions
    """

    name: str
    tokens: Int[Tensor, " token"] | None
    of: Callable[[Float[Tensor, "n read token"]], Float[Tensor, " n"]]
    reads: int = 1

    def __call__(self, logits: Float[Tensor, "n pos vocab"]) -> Float[Tensor, " n"]:
        """The metric of logits over the whole vocabulary."""
        read = logits[:, -self.reads :]
        return self.of(read if self.tokens is None else read[..., self.tokens])


def metric_of(name: str, question: Pair, clean: Float[Tensor, " vocab"]) -> Metric:
    """The named metric for a question.

    Args:
        name: One of `METRICS`.
        question: The prompts and their answers.
        clean: The clean run's logits at the last position, for `kl`.

    Raises:
        WorkbenchError: There is no metric of that name.
    """
    if question.fed:
        return _spelt(name, torch.tensor(question.answers, device=clean.device))
    k = len(question.answers)
    tokens = torch.tensor([*question.answers, *question.wrongs], device=clean.device)
    reference = clean.log_softmax(-1)

    def rank(logits: Tensor) -> Tensor:
        best = logits[:, tokens[:k]].max(-1, keepdim=True).values
        return (logits > best).sum(-1).to(logits.dtype)

    def sides(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)[:, tokens]
        return SIDES[name](logs[:, :k], logs[:, k:])

    by_name: dict[str, Callable[[Tensor], Tensor]] = {
        **dict.fromkeys(SIDES, sides),
        "logit_difference": lambda x: SIDES[name](x[:, :k], x[:, k:]),
        "rank": rank,
        "kl": lambda x: (reference.exp() * (reference - x.log_softmax(-1))).sum(-1),
    }
    if name not in by_name:
        raise WorkbenchError(f"The metric is {name!r}; choose one of {', '.join(METRICS)}.")
    columns = tokens if name == "logit_difference" else None
    return Metric(name, columns, lambda x: by_name[name](x[:, -1]))


def _spelt(name: str, tokens: Int[Tensor, " read"]) -> Metric:
    """The log-probability of one answer of several tokens, read where each of them is predicted."""
    assert name == "log_prob", name

    def of(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        return logs.gather(-1, tokens.expand(len(logs), -1).unsqueeze(-1)).sum((1, 2))

    return Metric(name, None, of, len(tokens))
