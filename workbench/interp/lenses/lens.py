"""Lenses: the prediction that the residual stream already holds after each layer.

The *logit lens* reads it with the model's own final norm and unembedding (nostalgebraist 2020). The
*tuned lens* first applies an affine translator, trained for each layer so that the reading comes
close to the model's own prediction (Belrose et al. 2023); after the last layer both are the model's
logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.lenses.streams import Streams, stack_streams
from workbench.interp.lenses.tuned import TunedLens, stored_lens
from workbench.interp.patching.trust import must_hold
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName
from workbench.subjects.kinds import DECODER

LENSES = {
    "logit": "the model's own final norm and unembedding",
    "tuned": "the same after a translator that was trained for each layer",
}


@dataclass(frozen=True)
class Lens(Record):
    """A lens's reading of a prompt at each layer and position.

    Row 0 is the embedding, row i the stream after layer i - 1.

    - `top`, `prob`: `[row, pos]`, the likeliest token and its probability
    - `kl`: Kullback-Leibler divergence of the reading from the model's own prediction, in nats
    - `rank`: rank of the token that the model predicts in the end (0: first)
    - `answer_prob`, `answer_rank`: `[answer, row, pos]`, of the `answers`
    - `checks`: the last row against the model's logits
    - `warnings`: how the prompt was read
    - `place`: position where an answer is read: the last, or an encoder's mask token
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    top: list[list[str]]
    prob: np.ndarray
    kl: np.ndarray
    rank: np.ndarray
    kind: str
    answers: list[str]
    answer_prob: np.ndarray
    answer_rank: np.ndarray
    checks: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    place: int = -1

    def headline(self) -> str:
        """The result in a few words."""
        where = "the last position" if self.place == -1 else f"position {self.place}"
        token = self.top[-1][self.place]
        end = f"{where} ends on {token!r}, p = {self.prob[-1, self.place]:.3f}"
        return (
            f"{self.kind} lens of {len(self.tokens)} tokens after {len(self.top) - 1} layers; {end}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and position."""
        row, pos = np.indices(self.prob.shape).reshape(2, -1)
        top = [self.top[i][j] for i, j in zip(row, pos, strict=True)]
        columns = {"row": row, "pos": pos, "token": [self.tokens[j] for j in pos], "top": top}
        columns |= {"prob": self.prob.ravel(), "kl": self.kl.ravel(), "rank": self.rank.ravel()}
        for i, answer in enumerate(self.answers):
            columns |= {f"prob of {answer!r}": self.answer_prob[i].ravel()}
            columns |= {f"rank of {answer!r}": self.answer_rank[i].ravel()}
        return pd.DataFrame(columns)


@public("subject", seq2seq=True, encoder=True)
@own_modes
@torch.no_grad()
def lens(
    subject: SubjectOrName,
    prompt: str,
    *,
    kind: str = "logit",
    answer: str | Sequence[str] = (),
    target: str | None = None,
    strict: bool = False,
) -> Lens:
    """A lens's reading of a prompt at every layer and position.

    An encoder's reading at a position is what it would fill in there; an encoder-decoder is read in
    its decoder.

    Args:
        subject: The model.
        prompt: The prompt.
        kind: One of `LENSES`; of decoder-only models, as the tuned lens is trained for those.
        answer: Tokens to follow through the layers, one token each.
        target: What the decoder of an encoder-decoder has written; None for its own answer.
        strict: Raise if the last row is not the model's logits.

    Raises:
        WorkbenchError: The prompt cannot be read, an answer has several tokens, the model has no
            tuned lens yet (`tuned_lens` trains it), or, with `strict`, the check fails.

    Reference:
        nostalgebraist 2020; Belrose et al. 2023, arXiv:2303.08112.
    """
    subject = cast(Subject, subject)
    answers = [answer] if isinstance(answer, str) else list(answer)
    if subject.kind == DECODER:
        if target is not None:
            raise WorkbenchError(
                f"{subject.name} is a decoder-only model: it has no target to choose."
            )
        translate = _translator(subject, kind)
        streams = _of_decoder(subject, prompt, answers)
    else:
        if kind != "logit":
            raise WorkbenchError(
                f"{subject.name} has no {kind} lens, which is trained for decoder-only models; "
                "choose the logit lens."
            )
        translate = _unchanged
        streams = stack_streams(subject, prompt, target, answers)
    wanted = torch.tensor(streams.answers, dtype=torch.long, device=subject.device)
    final = streams.final
    log_final = final.log_softmax(-1)
    # The model's own prediction at each position, then the answers: [pos, 1 + answer].
    followed = torch.cat([final.argmax(-1)[:, None], wanted.expand(len(final), -1)], 1)
    top: list[list[str]] = []
    prob: list[Tensor] = []
    kl: list[Tensor] = []
    rank: list[Tensor] = []
    answer_prob: list[Tensor] = []
    off = 0.0
    for row, resid in enumerate(streams.resid):
        logits = streams.read(translate(row, resid))
        off = float((logits - final).abs().max())  # of the last row, in the end
        logs = logits.log_softmax(-1)
        best = logs.max(-1)
        top.append(subject.tokens(best.indices, unrelated=True))
        prob.append(best.values.exp())
        kl.append((log_final.exp() * (log_final - logs)).sum(-1))
        own = logs.gather(-1, followed)
        rank.append(torch.stack([(logs > own[:, [i]]).sum(-1) for i in range(followed.shape[1])]))
        answer_prob.append(own[:, 1:].exp().T)
    must_hold({"lens": off}, strict)
    ranks = _array(rank).astype(int)  # [row, 1 + answer, pos]
    return Lens(
        subject=subject.name,
        sha256=subject.hash,
        prompt=prompt,
        tokens=subject.tokens(streams.ids),
        top=top,
        prob=_array(prob),
        kl=_array(kl),
        rank=ranks[:, 0],
        kind=kind,
        answers=answers,
        answer_prob=_array(answer_prob).swapaxes(0, 1),
        answer_rank=ranks[:, 1:].swapaxes(0, 1),
        checks={"lens": off},
        warnings=streams.notices,
        place=streams.place,
    )


def _of_decoder(subject: Subject, prompt: str, answers: list[str]) -> Streams:
    """The streams of a decoder-only model."""
    ids = subject.encode(prompt)
    answer_ids = [subject.answer_id(word, prompt=prompt) for word in answers]
    packed = reader(subject)
    run = packed.record(ids)
    return Streams(
        ids=ids[0],
        resid=[stream[0] for stream in run.resid],
        read=packed.logits,
        final=subject.model(ids).logits[0],
        answers=answer_ids,
        notices=subject.notices(prompt, answers=answers),
    )


def _array(rows: list[Tensor]) -> np.ndarray:
    return torch.stack(rows).float().cpu().numpy()


def _unchanged(row: int, resid: Tensor) -> Tensor:
    return resid


def _translator(subject: Subject, kind: str) -> Any:
    if kind not in LENSES:
        raise WorkbenchError(f"The lens is {kind!r}; choose {' or '.join(LENSES)}.")
    if kind == "logit":
        return _unchanged
    tuned: TunedLens | None = stored_lens(subject)
    if tuned is None:
        raise WorkbenchError(
            f"{subject.name} has no tuned lens yet; train it with `workbench lens NAME --train`, "
            "`wb.tuned_lens(subject)` or the button on the Lens page."
        )
    return tuned.translate


def answer_rows(reading: Lens, pos: int = -1) -> Float[np.ndarray, "answer row"]:
    """The probability of each answer by layer, at one position."""
    return reading.answer_prob[:, :, pos]
