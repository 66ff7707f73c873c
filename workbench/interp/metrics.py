"""What a patched run is judged by: numbers read off the logits at the last position."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.pairs import Pair

METRICS = {
    "logit_difference": "mean logit of the answers minus mean logit of the wrong answers",
    "prob_difference": "probability of the answers minus probability of the wrong answers",
    "log_prob": "natural logarithm of the probability of the answers",
    "prob": "probability of the answers",
    "rank": "how many tokens the model prefers to the answer (0: none)",
    "kl": "Kullback-Leibler divergence of the clean run's prediction from this run's, in nats",
}
"""Each metric in words; with several answers, their probabilities are added."""


@dataclass(frozen=True)
class Metric:
    """A metric bound to a question: `tokens` are the columns of the vocabulary it needs (None: all of them)."""

    name: str
    tokens: Int[Tensor, " token"] | None
    of: Callable[[Float[Tensor, "n token"]], Float[Tensor, " n"]]

    def __call__(self, logits: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
        """The metric of logits over the whole vocabulary."""
        return self.of(logits if self.tokens is None else logits[:, self.tokens])


def metric_of(name: str, question: Pair, clean: Float[Tensor, " vocab"]) -> Metric:
    """The named metric for a question, `clean` being the clean run's logits. Raises `WorkbenchError` for no name."""
    device = clean.device
    answers, wrongs = (torch.tensor(side, device=device) for side in (question.answers, question.wrongs))
    reference = clean.log_softmax(-1)
    k = len(answers)

    def prob(logits: Tensor, which: Tensor) -> Tensor:
        return logits.log_softmax(-1)[:, which].logsumexp(-1)

    def rank(logits: Tensor) -> Tensor:
        best = logits[:, answers].max(-1, keepdim=True).values
        return (logits > best).sum(-1).to(logits.dtype)

    found: dict[str, Callable[[Tensor], Tensor]] = {
        "logit_difference": lambda x: x[:, :k].mean(-1) - x[:, k:].mean(-1),
        "prob_difference": lambda x: prob(x, answers).exp() - prob(x, wrongs).exp(),
        "log_prob": lambda x: prob(x, answers),
        "prob": lambda x: prob(x, answers).exp(),
        "rank": rank,
        "kl": lambda x: (reference.exp() * (reference - x.log_softmax(-1))).sum(-1),
    }
    if name not in found:
        raise WorkbenchError(f"The metric is {name!r}; choose one of {', '.join(METRICS)}.")
    tokens = torch.cat([answers, wrongs]) if name == "logit_difference" else None
    return Metric(name, tokens, found[name])
