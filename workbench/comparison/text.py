"""Two Subjects on the same text: loss and KL token by token, and where greedy decoding differs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.comparison.matching import need, same_ids
from workbench.data.passages import TEXTS as PROSE
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

REQUESTS = (
    "Request: please book me a table for two people at eight in the evening\nIntent:",
    "Request: how much money do I have left in my savings account\nIntent:",
    "Request: what will the weather be like in Lisbon next Friday\nIntent:",
    "Request: wake me up tomorrow at half past six\nIntent:",
)
"""Written for this project: short requests, which show whether a model was tuned to name intents.
"""
TEXTS = (*PROSE[:4], *REQUESTS)
LONGEST = 512
"""Tokens of a text that are read at most, as all logits of both models are in memory."""
LONGEST_WRITTEN = 16
"""Tokens written from a prompt."""
Report = Callable[[float, str], None]
"""Called with (share done, message)."""


@dataclass(frozen=True)
class TokenShift:
    """Loss of each token of one text under both models, and the divergence of their predictions.

    Attributes:
        tokens: One string a position.
        loss_base: Cross-entropy of each token from the second on, in nats, under the base.
        loss_tuned: The same under the tuned model.
        kl: KL(tuned || base) of the predictions of each token from the second on, in nats, over
            the vocabulary that both have.
    """

    tokens: list[str]
    loss_base: Float[np.ndarray, " token"]
    loss_tuned: Float[np.ndarray, " token"]
    kl: Float[np.ndarray, " token"]

    def to_frame(self) -> pd.DataFrame:
        """One row a token; the first has no prediction (NaN)."""
        columns: dict[str, Any] = {"token": self.tokens}
        for name in ("loss_base", "loss_tuned", "kl"):
            columns[name] = np.concatenate([[np.nan], getattr(self, name)])
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class TextShift(Record):
    """Two Subjects on the same texts, token by token."""

    base: str
    tuned: str
    texts: list[TokenShift]

    def headline(self) -> str:
        """Mean difference of the loss and mean divergence, in one line."""
        rows = self.summary().set_index("measure")
        loss = rows.loc["difference"]
        kl = rows.loc["kl"]
        return (
            f"loss {loss['value']:+.4f} [{loss['low']:+.4f}, {loss['high']:+.4f}] nats a token, "
            f"KL {kl['value']:.4f}, {len(self.texts)} texts"
        )

    def summary(self) -> pd.DataFrame:
        """Means over texts with 95 % intervals: losses, their paired difference, divergence."""
        samples = {
            "loss_base": np.array([t.loss_base.mean() for t in self.texts]),
            "loss_tuned": np.array([t.loss_tuned.mean() for t in self.texts]),
            "difference": np.array([(t.loss_tuned - t.loss_base).mean() for t in self.texts]),
            "kl": np.array([t.kl.mean() for t in self.texts]),
        }
        rows = []
        for measure, values in samples.items():
            mean, low, high = (float(x) for x in mean_interval(values))
            rows.append(
                {"measure": measure, "value": mean, "low": low, "high": high, "n": len(values)}
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """The summary and every text's tokens, ready for JSON."""
        return {**super().to_dict(), "summary": self.summary().to_dict("records")}

    def to_frame(self) -> pd.DataFrame:
        """The summary: means over texts with their intervals."""
        return self.summary()


@own_modes
@torch.no_grad()
def text_shift(
    base: Subject,
    tuned: Subject,
    texts: Sequence[str] | None = None,
    *,
    progress: Report | None = None,
) -> TextShift:
    """Loss and divergence of two models on the same texts, token by token.

    Args:
        base: The model before.
        tuned: The model after.
        texts: The first `LONGEST` tokens of each are read; `TEXTS` (prose and requests) by default.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer, or no text has two tokens.
    """
    need(base, tuned, "text")
    shifts = []
    rows = same_ids(base, tuned, TEXTS if texts is None else texts, LONGEST)
    for i, ids in enumerate(rows):
        if progress is not None:
            progress(i / len(rows), f"text {i + 1} of {len(rows)}")
        shifts.append(_token_shift(base, tuned, ids))
    return TextShift(base.name, tuned.name, shifts)


def _token_shift(base: Subject, tuned: Subject, ids: Int[Tensor, "1 pos"]) -> TokenShift:
    base_logs = _log_probabilities(base, ids)
    tuned_logs = _log_probabilities(tuned, ids)
    # One model may have more tokens: renormalise over those that both have.
    shared = min(base_logs.shape[-1], tuned_logs.shape[-1])
    ours = base_logs.to(tuned_logs.device)[:, :shared].log_softmax(-1)
    theirs = tuned_logs[:, :shared].log_softmax(-1)
    return TokenShift(
        tokens=base.tokens(ids),
        loss_base=_loss(base_logs, ids),
        loss_tuned=_loss(tuned_logs, ids),
        kl=(theirs.exp() * (theirs - ours)).sum(-1).cpu().numpy(),
    )


def _loss(
    logs: Float[Tensor, "token d_vocab"], ids: Int[Tensor, "1 pos"]
) -> Float[np.ndarray, " token"]:
    """Cross-entropy of every token from the second on, in nats."""
    targets = ids[0, 1:, None].to(logs.device)
    return -logs.gather(-1, targets)[:, 0].cpu().numpy()


def _log_probabilities(
    subject: Subject, ids: Int[Tensor, "1 pos"]
) -> Float[Tensor, "token d_vocab"]:
    """Log-probabilities of the predictions of every token from the second on."""
    logits = subject.model(ids.to(subject.device), use_cache=False).logits[0, :-1]
    return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class Parting:
    """Two models' greedy continuations of one prompt, and where they first differ.

    Attributes:
        prompt: The prompt.
        agreed: How many new tokens are the same before that.
        parted: Whether the continuations differ at all.
        base_text: The base's continuation.
        tuned_text: The tuned model's.
        base_token: The base's first token that differs; "" if its text ended there, or if the
            continuations do not differ.
        tuned_token: The tuned model's.
        p_base: Probability that the base gave its own token; NaN if the continuations do not
            differ.
        p_tuned: The same of the tuned model.
    """

    prompt: str
    agreed: int
    parted: bool
    base_text: str
    tuned_text: str
    base_token: str
    tuned_token: str
    p_base: float
    p_tuned: float


def partings(
    base: Subject, tuned: Subject, prompts: Sequence[str] | None = None, *, n: int = LONGEST_WRITTEN
) -> Iterator[tuple[float, Parting]]:
    """(share done, `Parting`) for each prompt: where the models' greedy continuations differ.

    Args:
        base: The model before.
        tuned: The model after.
        prompts: The beginnings of `TEXTS` by default.
        n: Tokens to write at most.

    Raises:
        WorkbenchError: the models differ in tokenizer, or a prompt fills the context.
    """
    need(base, tuned, "text")
    prompts = beginnings(base) if prompts is None else prompts
    for i, prompt in enumerate(prompts):
        yield (i + 1) / len(prompts), _parting(base, tuned, prompt, n)


@own_modes
def _parting(base: Subject, tuned: Subject, prompt: str, n: int) -> Parting:
    """Where the continuations of one prompt differ."""
    ours, p_ours = _greedy(base, prompt, n)
    theirs, p_theirs = _greedy(tuned, prompt, n)
    same = [a == b for a, b in zip(ours, theirs, strict=False)]
    agreed = same.index(False) if False in same else len(same)
    parted = agreed < max(len(ours), len(theirs))
    nan = float("nan")
    return Parting(
        prompt=prompt,
        agreed=agreed,
        parted=parted,
        base_text=_written(base, ours),
        tuned_text=_written(base, theirs),
        base_token=_one(base, ours, agreed) if parted else "",
        tuned_token=_one(base, theirs, agreed) if parted else "",
        p_base=p_ours[agreed] if parted and agreed < len(p_ours) else nan,
        p_tuned=p_theirs[agreed] if parted and agreed < len(p_theirs) else nan,
    )


def beginnings(subject: Subject, words: int = 12) -> list[str]:
    """Prompts to continue: the first `words` words of prose, and whole requests."""
    return [text if text in REQUESTS else " ".join(text.split()[:words]) for text in TEXTS]


def agreement(compared: Sequence[Parting]) -> dict[str, Any]:
    """Mean of equal tokens before the first that differs, its 95 % interval, and further counts."""
    tokens = np.array([float(parting.agreed) for parting in compared])
    mean, low, high = (float(x) for x in mean_interval(tokens))
    return {
        "agreed": mean,
        "low": low,
        "high": high,
        "n": len(compared),
        "never_parted": sum(not parting.parted for parting in compared),
    }


def parting_table(compared: Sequence[Parting]) -> pd.DataFrame:
    """One row a prompt, for reading: equal tokens, the first that differ, and both texts."""
    from workbench.figures.style import visible

    def token(parting: Parting, text: str) -> str:
        if not parting.parted:
            return ""
        return visible(text) if text else "(end)"

    def one_line(text: str) -> str:
        return text.replace("\n", " ⏎ ")

    rows = [
        {
            "prompt": one_line(p.prompt),
            "alike": p.agreed,
            "base's token": token(p, p.base_token),
            "p base": p.p_base,
            "tuned's token": token(p, p.tuned_token),
            "p tuned": p.p_tuned,
            "base writes": one_line(p.base_text),
            "tuned writes": one_line(p.tuned_text),
        }
        for p in compared
    ]
    return pd.DataFrame(rows)


def _written(subject: Subject, ids: list[int]) -> str:
    """The text of written tokens; "" for none."""
    # An empty list would be a tensor of floats without the type.
    return subject.text(torch.tensor(ids, dtype=torch.long), skip_special=True)


def _one(subject: Subject, ids: list[int], at: int) -> str:
    """The token at a place; "" past the end."""
    return subject.tokens(torch.tensor(ids[at : at + 1]))[0] if at < len(ids) else ""


@torch.no_grad()
def _greedy(subject: Subject, prompt: str, n: int) -> tuple[list[int], list[float]]:
    """(ids, probabilities) of greedily decoded tokens, without the end-of-text token."""
    ids = subject.encode(prompt)
    if (room := subject.n_ctx - ids.shape[1]) < 1:
        raise WorkbenchError(
            f"The prompt fills the context of {subject.name} ({subject.n_ctx} tokens); shorten it."
        )
    end = subject.tokenizer.eos_token_id
    cache = None
    written: list[int] = []
    probabilities: list[float] = []
    for _ in range(min(n, room)):
        out = subject.model(ids, cache=cache, use_cache=True)
        probability, token = out.logits[0, -1].float().softmax(-1).max(-1)
        cache = out.cache
        ids = token[None, None]
        if int(token) == end:
            break
        written.append(int(token))
        probabilities.append(float(probability))
    return written, probabilities
