"""What two Subjects make of the same text: loss and divergence token by token, and where greedy
writing parts.
"""

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
"""Written for this project: short requests, on which a model that was taught to name intents shows
it.
"""
TEXTS = (*PROSE[:4], *REQUESTS)
LONGEST = 512
"""Tokens of a text that are read at most: all logits of both models are held at once."""
LONGEST_WRITTEN = 16
"""Tokens written from a prompt."""
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class TokenShift:
    """One text: what each token costs either model given those before it, in nats, and how far
    predictions part.

    `tokens` has one string a position. `loss_base`, `loss_tuned` and `kl` have one value a token
    from the second on: the cross-entropy of that token, and KL(tuned || base) of the two
    predictions of it, over the tokens both have.
    """

    tokens: list[str]
    loss_base: Float[np.ndarray, " token"]
    loss_tuned: Float[np.ndarray, " token"]
    kl: Float[np.ndarray, " token"]

    def to_frame(self) -> pd.DataFrame:
        """One row a token; the first has no prediction (NaN)."""
        columns = {"token": self.tokens}
        for name in ("loss_base", "loss_tuned", "kl"):
            columns[name] = np.concatenate([[np.nan], getattr(self, name)])  # pyright: ignore[reportArgumentType]
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class TextShift(Record):
    """Two Subjects on the same texts, token by token."""

    base: str
    tuned: str
    texts: list[TokenShift]

    def headline(self) -> str:
        """What was found, in a few words."""
        rows = self.summary().set_index("measure")
        loss, kl = rows.loc["difference"], rows.loc["kl"]
        return (
            f"loss {loss['value']:+.4f} [{loss['low']:+.4f}, {loss['high']:+.4f}] nats a token, "
            f"KL {kl['value']:.4f}, {len(self.texts)} texts"
        )

    def summary(self) -> pd.DataFrame:
        """Means over texts with their 95 % intervals: the losses, their difference (paired), the
        divergence.
        """
        part = {
            name: np.array([getattr(t, name).mean() for t in self.texts])
            for name in ("loss_base", "loss_tuned")
        }
        part["difference"] = np.array([(t.loss_tuned - t.loss_base).mean() for t in self.texts])
        part["kl"] = np.array([t.kl.mean() for t in self.texts])
        rows = []
        for measure, values in part.items():
            mean, low, high = (float(x) for x in mean_interval(values))
            rows.append(
                {"measure": measure, "value": mean, "low": low, "high": high, "n": len(values)}
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record: the summary and every text's tokens."""
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
    """Read `texts` (default: `TEXTS`, prose and requests) with both, the first `LONGEST` tokens of
    each.

    Raises `WorkbenchError` for other tokenizers, or where no text has two tokens.
    """
    need(base, tuned, "text")
    found, rows = [], same_ids(base, tuned, TEXTS if texts is None else texts, LONGEST)
    for i, ids in enumerate(rows):
        if progress is not None:
            progress(i / len(rows), f"text {i + 1} of {len(rows)}")
        logs = [_log_probabilities(subject, ids) for subject in (base, tuned)]
        loss = [
            -side.gather(-1, ids[0, 1:, None].to(side.device))[:, 0].cpu().numpy() for side in logs
        ]
        shared = min(side.shape[-1] for side in logs)
        ours, theirs = (side.to(logs[1].device)[:, :shared].log_softmax(-1) for side in logs)
        kl = (theirs.exp() * (theirs - ours)).sum(-1).cpu().numpy()
        found.append(TokenShift(base.tokens(ids), *loss, kl))
    return TextShift(base.name, tuned.name, found)


def _log_probabilities(
    subject: Subject, ids: Int[Tensor, "1 pos"]
) -> Float[Tensor, "token d_vocab"]:
    logits = subject.model(ids.to(subject.device), use_cache=False).logits[0, :-1]
    return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class Parting:
    """Greedy writing from one prompt: the first `agreed` new tokens are the same, then each model
    goes its own way.

    `base_token` and `tuned_token` are the first that differ ("" where a text ended, both where they
    never part), and `p_base`, `p_tuned` the probability that each model gave to its own choice
    there (NaN where they never part).
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
    """Write up to `n` tokens greedily from every prompt with both, and say where they first differ.

    Prompts by default are the beginnings of `TEXTS`; yields (share done, `Parting`) as each is
    found. Raises `WorkbenchError` for other tokenizers, or a prompt that leaves no room.
    """
    need(base, tuned, "text")
    prompts = beginnings(base) if prompts is None else prompts
    for i, prompt in enumerate(prompts):
        yield (i + 1) / len(prompts), _parting(base, tuned, prompt, n)


@own_modes
def _parting(base: Subject, tuned: Subject, prompt: str, n: int) -> Parting:
    """Where the two part after one prompt."""
    (ours, p_ours), (theirs, p_theirs) = (_greedy(subject, prompt, n) for subject in (base, tuned))
    same = [a == b for a, b in zip(ours, theirs, strict=False)]
    agreed = same.index(False) if False in same else len(same)
    parted = agreed < max(len(ours), len(theirs))
    first = [_one(base, side, agreed) if parted else "" for side in (ours, theirs)]
    sure = [p[agreed] if parted and agreed < len(p) else float("nan") for p in (p_ours, p_theirs)]
    texts = [
        base.text(torch.tensor(side, dtype=torch.long), skip_special=True)
        for side in (ours, theirs)
    ]
    return Parting(prompt, agreed, parted, *texts, *first, *sure)


def beginnings(subject: Subject, words: int = 12) -> list[str]:
    """Prompts to write on from: the first words of prose, requests whole."""
    return [text if text in REQUESTS else " ".join(text.split()[:words]) for text in TEXTS]


def agreement(found: Sequence[Parting]) -> dict[str, Any]:
    """Tokens written alike before parting: mean, 95 % interval, and how many prompts never part."""
    mean, low, high = (float(x) for x in mean_interval(np.array([float(p.agreed) for p in found])))
    return {
        "agreed": mean,
        "low": low,
        "high": high,
        "n": len(found),
        "never_parted": sum(not p.parted for p in found),
    }


def parting_table(found: Sequence[Parting]) -> pd.DataFrame:
    """One row a prompt, to be read: tokens written alike, the first that differ with their
    probabilities, the texts.
    """
    from workbench.figures.style import visible

    def token(parting: Parting, said: str) -> str:
        return (visible(said) if said else "(end)") if parting.parted else ""

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
        for p in found
    ]
    return pd.DataFrame(rows)


def _one(subject: Subject, ids: list[int], at: int) -> str:
    return subject.tokens(torch.tensor(ids[at : at + 1]))[0] if at < len(ids) else ""


@torch.no_grad()
def _greedy(subject: Subject, prompt: str, n: int) -> tuple[list[int], list[float]]:
    """New tokens, the likeliest each time, up to the end of text, and their probabilities."""
    ids = subject.encode(prompt)
    if (room := subject.n_ctx - ids.shape[1]) < 1:
        raise WorkbenchError(
            f"The prompt fills the context of {subject.name} ({subject.n_ctx} tokens); shorten it."
        )
    end, cache, written, sure = subject.tokenizer.eos_token_id, None, [], []
    for _ in range(min(n, room)):
        out = subject.model(ids, cache=cache, use_cache=True)
        chance, token = out.logits[0, -1].float().softmax(-1).max(-1)
        cache, ids = out.cache, token[None, None]
        if int(token) == end:
            break
        written.append(int(token))
        sure.append(float(chance))
    return written, sure
