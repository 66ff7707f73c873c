"""Input attribution: how much each token of a prompt adds to an output, by integrated gradients.

The gradient with respect to the embeddings is summed along the straight line from a baseline to the
prompt (Sundararajan et al. 2017), so that the tokens' scores add up to the difference of the
outputs (completeness). That holds for any segment of the line, so the error of each segment is
known: the worst one is halved until the whole is exact enough.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

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
"""Where the line starts."""

NODES = 8
"""Gradients of one segment (Gauss-Legendre)."""
NARROWEST = 1e-6
"""Shortest segment, as a share of its end's distance from the baseline: float32 sees no shorter."""
FINE = 5e-4
"""Error at which to stop, in the output's unit."""
MOST = 2048
"""Gradients after which to give up; models with norms after attention and MLP may need more."""
ABSOLUTE = 1e-3
"""What may be missing from the sum, in the output's unit."""
RELATIVE = 1e-3
"""What may be missing from the sum, as a share of the difference, if that is larger."""


@dataclass(frozen=True)
class InputAttribution(Record):
    """What each token adds to an output, in its unit (logits, or nats).

    - `scores`: one per token; their sum is `value` minus `start`
    - `value`, `start`: the output at the prompt and at the baseline
    - `gradients`: how many were taken
    - `checks`: `completeness`, what is missing from the sum
    - `converged`: whether that is at most `tolerance`, in the same unit
    - `warnings`: how the prompt was read, and what is missing if the integral did not converge
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
        """The result in a few words."""
        most = int(np.abs(self.scores).argmax())
        return (
            f"{self.metric_name} {self.start:+.3f} at the {self.baseline} baseline, "
            f"{self.value:+.3f} at the prompt; most from {self.tokens[most]!r}, "
            f"{self.scores[most]:+.3f}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per token."""
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
    """Integrated gradients of a logit difference (or log-probability) over a prompt's tokens.

    Args:
        subject: The model.
        prompt: The prompt; the output is read at its last token.
        answer: The right answer, one token.
        wrong: The wrong answer, one token; "" for the log-probability of `answer` alone.
        baseline: One of `BASELINES`.
        corrupted: Corrupted prompt, for the baseline of that name. Must tokenize to the same length
            as `prompt`.
        most: Gradients after which to give up; the record then says what is missing.

    Raises:
        WorkbenchError: There is no such baseline, the corrupted prompt is missing or has another
            length, or an answer has several tokens.

    Reference:
        Sundararajan et al. 2017, arXiv:1703.01365.
    """
    subject = cast(Subject, subject)
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
        """The output at points of the line, and its gradient along the line, `[share, pos]`."""
        with torch.enable_grad():
            at = (start + shares[:, None, None] * (end - start)).requires_grad_()
            # A copy is fed: some models scale their input in place, which a leaf does not allow.
            values, gradient = _with_gradient(subject, metric, at)
        return values.detach().double(), (gradient * (end - start)).sum(-1).double()

    scores, (first, last), taken = integrate(slopes, end.device, end.dtype, most)
    missing = abs(float(scores.sum()) - (last - first))
    tolerance = max(ABSOLUTE, RELATIVE * abs(last - first))
    converged = missing <= tolerance  # False for NaN
    texts = [text for text in (prompt, corrupted) if text]
    answers = [text for text in (answer, wrong) if text]
    warnings = list(subject.notices(*texts, answers=answers))
    if not converged:
        warnings.append(_unfinished(missing, tolerance, taken))
    return InputAttribution(
        subject=subject.name,
        sha256=subject.hash,
        prompt=prompt,
        tokens=subject.tokens(question.clean),
        metric_name=name,
        answer=answer,
        wrong=wrong,
        baseline=baseline,
        scores=scores,
        value=last,
        start=first,
        gradients=taken,
        checks={"completeness": missing},
        tolerance=tolerance,
        converged=converged,
        warnings=warnings,
    )


def _with_gradient(
    subject: Subject, metric: Metric, at: Float[Tensor, "share pos d_model"]
) -> tuple[Tensor, Tensor]:
    """The output at each point, and its gradient; an error if embeddings cannot be fed in."""
    try:
        values = metric(subject.model(inputs_embeds=at.clone(), use_cache=False).logits)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    except (AttributeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise WorkbenchError(
            f"{subject.card.architecture} gives no gradient at its embeddings, as integrated "
            f"gradients need it ({type(error).__name__}: {' '.join(str(error).split())[:120]})."
        ) from error
    return values, gradient


def _unfinished(missing: float, tolerance: float, taken: int) -> str:
    return (
        f"The integral did not converge: after {taken:,} gradients the scores miss the difference "
        f"by {missing:.3g}, more than {tolerance:.2g}; allow more gradients (most), or choose "
        "another baseline."
    )


def _question(
    subject: Subject, prompt: str, answer: str, wrong: str, baseline: str, corrupted: str
) -> Pair:
    if baseline == "corrupted":
        if not (corrupted and wrong):
            raise WorkbenchError(
                "The baseline is a corrupted prompt: give one of as many tokens, and its wrong "
                "answer."
            )
        return pair(subject, prompt, corrupted, answer, wrong)
    return single(subject, prompt, answer, wrong)


Slopes = Callable[[Float[Tensor, " share"]], tuple[Tensor, Tensor]]
"""Points of the line, from 0 to 1 -> the output there, and its gradient by token `[share, pos]`."""


@dataclass(order=True)
class _Segment:
    """A segment of the line, the one with the largest error first in a heap."""

    minus_error: float
    low: float
    high: float
    scores: Tensor = field(compare=False)
    before: float  # the output at `low`
    after: float  # the output at `high`


def integrate(
    slopes: Slopes, device: torch.device, dtype: torch.dtype, most: int = MOST
) -> tuple[Float[np.ndarray, " pos"], tuple[float, float], int]:
    """The integral of a gradient over 0..1 by token.

    The segment with the largest error is halved until the errors are small. One that has become too
    narrow is left: there the output jumps, as when a token changes its experts, and no gradient
    sees that.

    Args:
        slopes: The output and its gradient at points of the line.
        device: Device of the points.
        dtype: Data type of the points.
        most: Gradients after which to give up.

    Returns:
        The integral, the output at both ends, and how many gradients it took.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(NODES)
    taken = 0

    def segment(low: float, high: float, before: float | None) -> _Segment:
        nonlocal taken
        points = [*((high - low) / 2 * nodes + (high + low) / 2), high]
        if before is None:
            points.append(low)
        values, gradient = slopes(torch.tensor(points, device=device, dtype=dtype))
        taken += len(points)
        weights = torch.tensor(node_weights, device=device) * (high - low) / 2
        scores = weights @ gradient[:NODES]
        before = float(values[-1]) if before is None else before
        after = float(values[NODES])
        error = abs(float(scores.sum()) - (after - before))
        return _Segment(-error, low, high, scores, before, after)

    whole = segment(0.0, 1.0, None)
    heap = [whole]
    narrow: list[_Segment] = []
    while -sum(part.minus_error for part in heap) > FINE and taken < most:
        worst = heapq.heappop(heap)
        if worst.high - worst.low < NARROWEST * worst.high:
            narrow.append(worst)
            continue
        middle = (worst.low + worst.high) / 2
        left = segment(worst.low, middle, worst.before)
        heapq.heappush(heap, left)
        heapq.heappush(heap, segment(middle, worst.high, left.after))
    scores = torch.stack([part.scores for part in [*heap, *narrow]]).sum(0)
    return scores.cpu().numpy(), (whole.before, whole.after), taken
