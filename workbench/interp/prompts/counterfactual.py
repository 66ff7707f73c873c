"""A counterfactual for a token that a model wrote: the same prompt but for one token, after which
another follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects import Subject
from workbench.subjects.spelling import continued

PLACES, EACH = 4, 4
"""Positions that are tried, and tokens that are tried at each."""
SHORT = 3
"""Letters of words such as "the" and "is", which are replaced last."""
RIVALS = 200
"""How far down the model's own expectations a token is looked for that could stand in another's
place.
"""
WORK = 3e10
"""Parameters times tokens that the trial may read, so that a large model tries fewer."""


@dataclass(frozen=True)
class Counterfactual:
    """A pair of prompts for patching, of as many tokens each, which differ in one.

    - `answer`: the token that was written after `clean`; `wrong`: the one that `corrupted` makes
        the likeliest other
    - `position`: of the token that differs; `old` and `new` are its texts
    - `clean_difference`, `corrupted_difference`: the logit of `answer` less that of `wrong` after
        each prompt
    """

    clean: str
    corrupted: str
    answer: str
    wrong: str
    position: int
    old: str
    new: str
    clean_difference: float
    corrupted_difference: float


@torch.no_grad()
def counterfactual(
    subject: Subject, ids: Sequence[int], token: int, weights: Sequence[float]
) -> Counterfactual:
    """The replacement of one token of a text that speaks most against the token that follows the
    text.

    Tried are tokens that the model itself expected at the places that `weights` (a number a token,
    such as an attribution) name as the strongest. Only whole words take the place of words, in the
    same spelling.

    Raises `WorkbenchError` where the text is read as other tokens than these, or nothing fits.
    """
    clean = _text(subject, ids)
    before = torch.tensor(list(ids), device=subject.device)
    answer = _answer(subject, clean, ids, token)
    logits = subject.model(before[None], use_cache=False).logits[0]
    tried = _candidates(subject, list(ids), logits, weights)
    if not tried:
        raise WorkbenchError(
            "No word of this text has another that could stand in its place; write a longer prompt."
        )
    rows = torch.stack([_replaced(before, place, new) for place, new in tried])
    ends = subject.model(rows, use_cache=False).logits[:, -1].float()
    others = ends.clone()
    others[:, token] = -torch.inf
    wrongs = others.argmax(-1)
    at_clean = logits[-1].float()
    clean_gap = at_clean[token] - at_clean[wrongs]
    gap = ends[:, token] - ends.gather(1, wrongs[:, None])[:, 0]
    order = (clean_gap - gap).argsort(descending=True).tolist()
    names = subject.tokens(wrongs, apart=True)
    order.sort(
        key=lambda at: not _alike(names[at], answer)
    )  # a wrong answer of the answer's kind, where there is one
    for best in order:
        place, new = tried[best]
        wrong = _answer_or_none(subject, clean, ids, int(wrongs[best]))
        if wrong is not None:
            old_text, new_text = subject.tokens(torch.tensor([ids[place], new]), apart=True)
            numbers = float(clean_gap[best]), float(gap[best])
            corrupted = _text(subject, rows[best].tolist())
            return Counterfactual(
                clean, corrupted, answer, wrong, place, old_text, new_text, *numbers
            )
    raise WorkbenchError(
        "The text goes on with tokens that cannot be spelt alone; click another token."
    )


def _text(subject: Subject, ids: Sequence[int]) -> str:
    text = subject.text(torch.tensor(list(ids)))
    if subject.ids(text) != list(ids):
        raise WorkbenchError(
            "This text is read as other tokens than those that were written, so no prompt of it can be patched; click "
            "an earlier token."
        )
    return text


def _answer(subject: Subject, clean: str, ids: Sequence[int], token: int) -> str:
    answer = _answer_or_none(subject, clean, ids, token)
    if answer is None:
        raise WorkbenchError(
            "This token cannot be spelt by itself after the text; click another one."
        )
    return answer


def _answer_or_none(subject: Subject, clean: str, ids: Sequence[int], token: int) -> str | None:
    """A token's text as it goes on from a prompt; None where that text is read as something else."""
    whole = subject.text(torch.tensor([*ids, token]))
    text = whole[len(clean) :]
    fits = (
        whole.startswith(clean)
        and text
        and continued(subject.tokenizer, clean, text).ids == (token,)
    )
    return text if fits else None


def _replaced(before: Tensor, place: int, new: int) -> Tensor:
    row = before.clone()
    row[place] = new
    return row


def _candidates(
    subject: Subject, ids: list[int], logits: Tensor, weights: Sequence[float]
) -> list[tuple[int, int]]:
    """(position, token) of replacements worth a trial, the strongest positions first."""
    labels = subject.tokens(torch.tensor(ids), apart=True)
    most = int(WORK / (subject.card.n_params * len(ids)))
    most = max(2, min(PLACES * EACH, most))
    # The last token is left: another word there asks for another grammar, and says little about
    # where the answer lies.
    words = [
        at
        for at in range(1, len(ids) - 1)
        if _is_word(labels[at]) and not _is_role(subject, ids, labels, at)
    ]
    places = sorted(words, key=lambda at: (not _has_content(labels[at]), -abs(weights[at])))
    each = max(1, most // PLACES)
    found: list[tuple[int, int]] = []
    for at in places:
        found += [
            (at, new) for new in _instead(subject, ids, at, labels[at], logits[at - 1])[:each]
        ]
        if len(found) >= most:
            break
    return found[:most]


def _instead(subject: Subject, ids: list[int], at: int, label: str, logits: Tensor) -> list[int]:
    """Tokens that the model expected in a word's place, spelt as it is and read as one token there."""
    rivals = [
        token
        for token in logits.topk(min(RIVALS, len(logits))).indices.tolist()
        if token != ids[at]
    ]
    texts = subject.tokens(torch.tensor(rivals), apart=True)
    found = []
    for token, text in zip(rivals, texts, strict=True):
        if not _alike(text, label):
            continue
        row = [*ids[:at], token, *ids[at + 1 :]]
        if subject.ids(subject.text(torch.tensor(row))) == row:
            found.append(token)
        if len(found) == EACH:
            break
    return found


def _is_word(label: str) -> bool:
    word = label.strip()
    return len(word) > 1 and word.isalpha()


def _has_content(label: str) -> bool:
    """Whether a word is longer than most that only hold a sentence together, or a name."""
    word = label.strip()
    return len(word) > SHORT or word[0].isupper()


def _alike(one: str, other: str) -> bool:
    """Whether two tokens are words with the same space before them and the same capital or none."""
    same_word = one.strip().lower() == other.strip().lower()
    same_space = (one[:1] == " ") == (other[:1] == " ")
    both_words = _is_word(one) and _is_word(other)
    return (
        both_words
        and not same_word
        and same_space
        and one.strip()[0].isupper() == other.strip()[0].isupper()
    )


def _is_role(subject: Subject, ids: list[int], labels: list[str], at: int) -> bool:
    """Whether a word names a speaker: after a special token of a chat template, or before the plain
    one's colon.
    """
    if ids[at - 1] in subject.tokenizer.all_special_ids:
        return True
    followed = at + 1 < len(ids) and labels[at + 1].startswith(":")
    return followed and labels[at - 1].endswith("\n")
