"""A counterfactual prompt for a token that a model wrote: one token replaced, another follows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects import Subject
from workbench.subjects.spelling import continued

PLACES = 4
"""Positions that are tried."""
EACH = 4
"""Tokens that are tried at each position."""
SHORT = 3
"""Letters of words such as "the" and "is", which are replaced last."""
RIVALS = 200
"""How many of the likeliest next tokens are considered as a replacement."""
WORK = 3e10
"""Limit of parameters times tokens read in the trial, so that a large model tries fewer."""


@dataclass(frozen=True)
class Counterfactual:
    """A pair of prompts for patching, of equal length, that differ in one token.

    - `answer`: the token that was written after `clean`
    - `wrong`: the likeliest other token after `corrupted`
    - `position`: of the token that differs; `old` and `new` are its texts
    - `clean_difference`, `corrupted_difference`: the logit of `answer` minus that of `wrong` after
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
    """The replacement of one token of a text that lowers the next token's logit difference most.

    Only whole words replace words, in the same spelling (space, capital), chosen from the tokens
    that the model itself expected there.

    Args:
        subject: The model.
        ids: Token ids of the text.
        token: The token that follows it.
        weights: One number per token, such as an attribution; the strongest positions are tried.

    Raises:
        WorkbenchError: The text does not tokenize to `ids`, or no replacement fits.
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
    names = subject.tokens(wrongs, unrelated=True)
    # A wrong answer of the answer's own kind first, if there is one; the sort is stable.
    order.sort(key=lambda at: not _alike(names[at], answer))
    for best in order:
        place, new = tried[best]
        wrong = _answer_or_none(subject, clean, ids, int(wrongs[best]))
        if wrong is not None:
            old_text, new_text = subject.tokens(torch.tensor([ids[place], new]), unrelated=True)
            return Counterfactual(
                clean=clean,
                corrupted=_text(subject, rows[best].tolist()),
                answer=answer,
                wrong=wrong,
                position=place,
                old=old_text,
                new=new_text,
                clean_difference=float(clean_gap[best]),
                corrupted_difference=float(gap[best]),
            )
    raise WorkbenchError(
        "The text goes on with tokens that cannot be spelt alone; click another token."
    )


def _text(subject: Subject, ids: Sequence[int]) -> str:
    text = subject.text(torch.tensor(list(ids)))
    if subject.ids(text) != list(ids):
        raise WorkbenchError(
            "This text is read as other tokens than those that were written, so no prompt of it "
            "can be patched; click an earlier token."
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
    """A token's text as it goes on from a prompt; None if that text tokenizes otherwise."""
    whole = subject.text(torch.tensor([*ids, token]))
    text = whole[len(clean) :]
    fits = (
        whole.startswith(clean)
        and text
        and continued(subject.tokenizer, clean, text).ids == (token,)
    )
    return text if fits else None  # an empty text fits nothing


def _replaced(before: Tensor, place: int, new: int) -> Tensor:
    row = before.clone()
    row[place] = new
    return row


def _candidates(
    subject: Subject, ids: list[int], logits: Tensor, weights: Sequence[float]
) -> list[tuple[int, int]]:
    """(position, token) of replacements worth a trial, the strongest positions first."""
    labels = subject.tokens(torch.tensor(ids), unrelated=True)
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
    candidates: list[tuple[int, int]] = []
    for at in places:
        replacements = _instead(subject, ids, at, labels[at], logits[at - 1])
        candidates += [(at, new) for new in replacements[:each]]
        if len(candidates) >= most:
            break
    return candidates[:most]


def _instead(subject: Subject, ids: list[int], at: int, label: str, logits: Tensor) -> list[int]:
    """Tokens that the model expected in a word's place, spelt alike and read as one token there."""
    likeliest = logits.topk(min(RIVALS, len(logits))).indices.tolist()
    rivals = [token for token in likeliest if token != ids[at]]
    texts = subject.tokens(torch.tensor(rivals), unrelated=True)
    replacements = []
    for token, text in zip(rivals, texts, strict=True):
        if not _alike(text, label):
            continue
        row = [*ids[:at], token, *ids[at + 1 :]]
        if subject.ids(subject.text(torch.tensor(row))) == row:
            replacements.append(token)
        if len(replacements) == EACH:
            break
    return replacements


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
    if not (_is_word(one) and _is_word(other)):
        return False
    same_capital = one.strip()[0].isupper() == other.strip()[0].isupper()
    return not same_word and same_space and same_capital


def _is_role(subject: Subject, ids: list[int], labels: list[str], at: int) -> bool:
    """Whether a word names a speaker: after a chat template's special token, or before a colon."""
    if ids[at - 1] in subject.tokenizer.all_special_ids:
        return True
    followed = at + 1 < len(ids) and labels[at + 1].startswith(":")
    return followed and labels[at - 1].endswith("\n")
