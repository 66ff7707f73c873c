"""Which tokens of a prompt an output rests on: integrated gradients over the embeddings.

The gradient by the embeddings is summed along the straight line from a baseline to the prompt
(Sundararajan et al. 2017), so that the tokens' shares add up to the difference of the outputs
(completeness). That holds for any stretch of the line, so each stretch knows its own error: the
worst one is halved until the whole is exact enough.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.metrics import Metric, metric_of
from workbench.interp.prompts.pairs import Pair, pair, single
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

BASELINES = {
    "mean": "the mean of all token embeddings, at every position",
    "zero": "zeros at every position",
    "corrupted": "another prompt of as many tokens, with another answer",
}
"""Where the line begins."""

NODES = 8
"""Gradients of one stretch (Gauss-Legendre)."""
NARROWEST = 1e-6
"""Of its end's distance from the baseline; a shorter stretch is below what float32 tells apart."""
FINE = 5e-4
"""Error in the output's unit at which to stop."""
MOST = 2048
"""Gradients after which to give up; from zero, a model with norms after attention and MLP (Gemma)
may need more.
"""
ABSOLUTE, RELATIVE = 1e-3, 1e-3
"""What may be missing from the sum, in the output's unit or as a share of the difference, whichever
is larger.
"""


@dataclass(frozen=True)
class InputAttribution(Record):
    """What each token adds to an output, in its unit (logits, or nats).

    `scores` is `[pos]`; their sum is `value` (the prompt) less `start` (the baseline), and
    `checks["completeness"]` the difference that is left. `gradients` were taken. `converged` says
    that no more is left than `tolerance`, in the same unit. `warnings` say how the prompt was read,
    and how much is missing where the integral did not converge.
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    metric_name: str
    answer: str
    wrong: str
    baseline: str
    scores: Float[np.ndarray, " pos"]
    value: float
    start: float
    gradients: int
    checks: dict[str, float] = field(default_factory=dict)
    tolerance: float = ABSOLUTE
    converged: bool = True
    warnings: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """What was found, in a few words."""
        most = int(np.abs(self.scores).argmax())
        return (
            f"{self.metric_name} {self.start:+.3f} at the {self.baseline} baseline, {self.value:+.3f} at the prompt; "
            f"most from {self.tokens[most]!r}, {self.scores[most]:+.3f}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a token."""
        return pd.DataFrame(
            {"pos": range(len(self.tokens)), "token": self.tokens, "score": self.scores}
        )


@public("subject")
@own_modes
def input_attribution(
    subject: SubjectOrName,
    prompt: str,
    *,
    answer: str,
    wrong: str = "",
    baseline: str = "mean",
    corrupted: str = "",
    most: int = MOST,
) -> InputAttribution:
    """Integrated gradients of the logit difference of `answer` and `wrong` (without `wrong`: of the
    log-probability).

    Args:
        subject: The model.
        prompt: The text; the output is read at its last token.
        answer: One token.
        wrong: Another, or nothing.
        baseline: One of `BASELINES`.
        corrupted: The other prompt, of as many tokens, for the baseline of that name.
        most: Gradients after which to give up; the record then says what is missing.

    Raises `WorkbenchError` for an unknown baseline, a corrupted prompt that is missing or of
    another length, and answers that are not one token each.
    """
    if baseline not in BASELINES:
        raise WorkbenchError(f"The baseline is {baseline!r}; choose {', '.join(BASELINES)}.")
    question = _question(subject, prompt, answer, wrong, baseline, corrupted)
    name = "logit_difference" if question.wrongs else "log_prob"
    metric = metric_of(name, question, torch.zeros(subject.card.d_vocab, device=subject.device))
    embed: Any = subject.model.get_input_embeddings()
    with torch.no_grad():
        end = embed(question.clean)
        start = {
            "mean": lambda: (
                embed(torch.arange(subject.card.d_vocab, device=end.device)).mean(0).expand_as(end)
            ),
            "zero": lambda: torch.zeros_like(end),
            "corrupted": lambda: embed(question.corrupted),
        }[baseline]()

    def slopes(shares: Float[Tensor, " share"]) -> tuple[Tensor, Tensor]:
        """The output at points of the line, and its gradient along it by token, `[share, pos]`."""
        with torch.enable_grad():
            at = (start + shares[:, None, None] * (end - start)).requires_grad_()
            # A copy is fed: some models scale their input in place, which a leaf does not allow.
            values, gradient = _with_gradient(subject, metric, at)
        return values.detach().double(), (gradient * (end - start)).sum(-1).double()

    scores, (first, last), taken = integrate(slopes, end.device, end.dtype, most)
    missing = abs(float(scores.sum()) - (last - first))
    tolerance = max(ABSOLUTE, RELATIVE * abs(last - first))
    converged = missing <= tolerance  # NaN has not
    texts = [text for text in (prompt, corrupted) if text]
    answers = [text for text in (answer, wrong) if text]
    read = subject.notices(*texts, answers=answers)
    return InputAttribution(
        subject.name,
        subject.hash,
        prompt,
        subject.tokens(question.clean),
        name,
        answer,
        wrong,
        baseline,
        scores,
        last,
        first,
        taken,
        {"completeness": missing},
        tolerance,
        converged,
        [*read, *([] if converged else [_unfinished(missing, tolerance, taken)])],
    )


def _with_gradient(
    subject: Subject, metric: Metric, at: Float[Tensor, "share pos d_model"]
) -> tuple[Tensor, Tensor]:
    """The output by point and its gradient; a model that cannot be run from embeddings is refused
    in a sentence.
    """
    try:
        values = metric(subject.model(inputs_embeds=at.clone(), use_cache=False).logits)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    except (AttributeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise WorkbenchError(
            f"{subject.card.architecture} gives no gradient at its embeddings, as integrated gradients need it "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]})."
        ) from error
    return values, gradient


def _unfinished(missing: float, tolerance: float, taken: int) -> str:
    return (
        f"The integral did not converge: after {taken:,} gradients the scores miss the difference by {missing:.3g}, "
        f"more than {tolerance:.2g}; allow more gradients (most), or choose another baseline."
    )


def _question(
    subject: Subject, prompt: str, answer: str, wrong: str, baseline: str, corrupted: str
) -> Pair:
    if baseline == "corrupted":
        if not (corrupted and wrong):
            raise WorkbenchError(
                "The baseline is a corrupted prompt: give one of as many tokens, and its wrong answer."
            )
        return pair(subject, prompt, corrupted, answer, wrong)
    return single(subject, prompt, answer, wrong)


Slopes = Callable[[Float[Tensor, " share"]], tuple[Tensor, Tensor]]


def integrate(
    slopes: Slopes, device: torch.device, dtype: torch.dtype, most: int = MOST
) -> tuple[Float[np.ndarray, " pos"], tuple[float, float], int]:
    """The integral of `slopes` over 0..1 by token, the output at both ends, and how many gradients
    it took.

    The stretch with the largest error is halved until the errors are small. One that has become too
    narrow to halve
    is left: there the output jumps, as where a token changes its experts, and no gradient sees
        that.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    taken = 0

    def stretch(
        low: float, high: float, before: float | None
    ) -> tuple[float, float, float, Tensor, float, float]:
        nonlocal taken
        where = [
            *((high - low) / 2 * nodes + (high + low) / 2),
            high,
            *([low] if before is None else []),
        ]
        values, gradient = slopes(torch.tensor(where, device=device, dtype=dtype))
        taken += len(where)
        inside = torch.tensor(weights, device=device) * (high - low) / 2
        part = inside @ gradient[:NODES]
        before = float(values[-1]) if before is None else before
        after = float(values[NODES])
        return -abs(float(part.sum()) - (after - before)), low, high, part, before, after

    whole = stretch(0.0, 1.0, None)
    ends = whole[4], whole[5]
    heap, narrow = [whole], []
    while -sum(s[0] for s in heap) > FINE and taken < most:
        worst = heapq.heappop(heap)
        _, low, high, _, before, _ = worst
        if high - low < NARROWEST * high:
            narrow.append(worst)
            continue
        left = stretch(low, (low + high) / 2, before)
        for found in (left, stretch((low + high) / 2, high, left[5])):
            heapq.heappush(heap, found)
    return torch.stack([s[3] for s in [*heap, *narrow]]).sum(0).cpu().numpy(), ends, taken
