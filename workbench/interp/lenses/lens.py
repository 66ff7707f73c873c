"""What the stream already says after each layer.

The *logit lens* reads it with the model's own final norm and unembedding (nostalgebraist 2020). The
*tuned lens* first sends it through an affine translator, trained a layer so that the reading comes
near the model's own prediction (Belrose et al. 2023); after the last layer both are the model's
logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.lenses.tuned import TunedLens, stored_lens
from workbench.interp.patching.trust import must_hold
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

LENSES = {
    "logit": "the model's own final norm and unembedding",
    "tuned": "the same after a translator that was trained for each layer",
}


@dataclass(frozen=True)
class Lens(Record):
    """What the stream says after each layer, at each position.

    Row 0 is the embedding, row i the stream after layer i - 1: `top` `[row, pos]` the likeliest
    token, `prob` its probability, `kl` the divergence of the reading from the model's own
    prediction, in nats, `rank` of the token that the model predicts in the end (0: first).
    `answer_prob` and `answer_rank` are `[answer, row, pos]`, of the tokens asked about. `checks`:
    the last row against the model's logits; `warnings`: how the prompt was read.
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

    def headline(self) -> str:
        """What was found, in a few words."""
        end = f"the last position ends on {self.top[-1][-1]!r}, p = {self.prob[-1, -1]:.3f}"
        return (
            f"{self.kind} lens of {len(self.tokens)} tokens after {len(self.top) - 1} layers; {end}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a layer and position."""
        row, pos = np.indices(self.prob.shape).reshape(2, -1)
        top = [self.top[i][j] for i, j in zip(row, pos, strict=True)]
        columns = {"row": row, "pos": pos, "token": [self.tokens[j] for j in pos], "top": top}
        columns |= {"prob": self.prob.ravel(), "kl": self.kl.ravel(), "rank": self.rank.ravel()}
        for i, answer in enumerate(self.answers):
            columns |= {f"prob of {answer!r}": self.answer_prob[i].ravel()}
            columns |= {f"rank of {answer!r}": self.answer_rank[i].ravel()}
        return pd.DataFrame(columns)


@public("subject")
@own_modes
@torch.no_grad()
def lens(
    subject: SubjectOrName,
    prompt: str,
    *,
    kind: str = "logit",
    answer: str | Sequence[str] = (),
    strict: bool = False,
) -> Lens:
    """Read a prompt at every layer and position through a lens of `LENSES`; each `answer` is one
    token, and followed.

    Raises `WorkbenchError` where `encode` does, for an answer of several tokens, and for a tuned
    lens that this model does not have yet (`tuned_lens` trains it); where `strict`, also for a last
    row that is not the model's logits.
    """
    translate = _translator(subject, kind)
    answers = [answer] if isinstance(answer, str) else list(answer)
    ids = subject.encode(prompt)
    asked = [subject.answer_id(word, prompt=prompt) for word in answers]
    wanted = torch.tensor(asked, dtype=torch.long, device=subject.device)
    packed = reader(subject)
    run = packed.record(ids)
    final = subject.model(ids).logits[0]
    log_final = final.log_softmax(-1)
    chosen = torch.cat([final.argmax(-1)[:, None], wanted.expand(len(final), -1)], 1)
    top, prob, kl, rank, told, apart = [], [], [], [], [], 0.0
    for row, resid in enumerate(run.resid):
        logits = packed.logits(translate(row, resid[0]))
        apart = float((logits - final).abs().max())
        logs = logits.log_softmax(-1)
        best = logs.max(-1)
        top.append(subject.tokens(best.indices, apart=True))
        prob.append(best.values.exp())
        kl.append((log_final.exp() * (log_final - logs)).sum(-1))
        own = logs.gather(-1, chosen)
        rank.append(torch.stack([(logs > own[:, [i]]).sum(-1) for i in range(chosen.shape[1])]))
        told.append(own[:, 1:].exp().T)
    must_hold({"lens": apart}, strict)
    probs, kls, ranks, tolds = (
        torch.stack(side).float().cpu().numpy() for side in (prob, kl, rank, told)
    )
    ranks = ranks.astype(int)
    return Lens(
        subject.name,
        subject.hash,
        prompt,
        subject.tokens(ids[0]),
        top,
        probs,
        kls,
        ranks[:, 0],
        kind,
        answers,
        tolds.swapaxes(0, 1),
        ranks[:, 1:].swapaxes(0, 1),
        {"lens": apart},
        subject.notices(prompt, answers=answers),
    )


def _translator(subject: Subject, kind: str) -> Any:
    if kind not in LENSES:
        raise WorkbenchError(f"The lens is {kind!r}; choose {' or '.join(LENSES)}.")
    if kind == "logit":
        return lambda row, resid: resid
    found: TunedLens | None = stored_lens(subject)
    if found is None:
        raise WorkbenchError(
            f"{subject.name} has no tuned lens yet; train it with `workbench lens NAME --train`, "
            "`wb.tuned_lens(subject)` or the button on the Lens page."
        )
    return found.translate


def answer_rows(found: Lens, pos: int = -1) -> Float[np.ndarray, "answer row"]:
    """The probability of each answer by layer, at one position."""
    return found.answer_prob[:, :, pos]
