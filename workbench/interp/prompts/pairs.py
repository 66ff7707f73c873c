"""Prompt pairs to patch: two prompts of equal length with different answers, checked, tokenized."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import product
from string import punctuation
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from workbench.errors import WorkbenchError
from workbench.subjects import Subject
from workbench.subjects.spelling import bare

Words = str | Sequence[str]
OFFERED = 5
"""Words offered to replace one that has too many tokens."""


@dataclass(frozen=True)
class Substitute:
    """A word of one prompt (`side`: clean or corrupted) and single-token words to replace it."""

    side: str
    word: str
    choices: tuple[str, ...]


class LengthError(WorkbenchError):
    """The prompts have different token counts.

    - `aligned`: their tokens side by side
    - `substitutes`: words that would make the counts equal
    """

    def __init__(self, message: str, aligned: list[tuple[str, str]], substitutes: list[Substitute]):
        super().__init__(message)
        self.aligned = aligned
        self.substitutes = substitutes


@dataclass(frozen=True)
class Pair:
    """A tokenized prompt pair with its answers.

    - `clean`, `corrupted`: token ids of the prompts
    - `answers`, `wrongs`: the tokens that the clean and the corrupted prompt lead to
    - `places`: named positions (name, in the clean prompt, in the corrupted one); with them the
        prompts may differ in length, and only those positions are patched

    If an answer has several tokens, `answers` and `wrongs` hold the first token of each, and
    `parts` has a pair for each answer, then for each wrong answer: both prompts followed by it
    without its last token. The `answers` of such a part are all tokens of its answer, in order, and
    `fed` is how many of them stand at the end of both prompts.
    """

    clean: Int[Tensor, " pos"]
    corrupted: Int[Tensor, " corrupted_pos"]
    answers: tuple[int, ...]
    wrongs: tuple[int, ...]
    places: tuple[tuple[str, int, int], ...] = ()
    parts: tuple["Pair", ...] = ()
    fed: int = 0

    @property
    def answer(self) -> int:
        """The first token of the answers."""
        return self.answers[0]

    @property
    def wrong(self) -> int:
        """The first token of the wrong answers."""
        return self.wrongs[0]

    @property
    def same_length(self) -> bool:
        """Whether both prompts have as many tokens."""
        return len(self.clean) == len(self.corrupted)

    @property
    def first_difference(self) -> int:
        """The first position at which the prompts differ."""
        n = min(len(self.clean), len(self.corrupted))
        differ = (self.clean[:n] != self.corrupted[:n]).nonzero()
        return int(differ[0]) if len(differ) else n

    @property
    def prompts(self) -> tuple[Tensor, Tensor]:
        """Clean and corrupted token ids."""
        return self.clean, self.corrupted


def pair(
    subject: Subject,
    clean: str,
    corrupted: str,
    answer: Words,
    wrong: Words,
    *,
    places: tuple[tuple[str, int, int], ...] = (),
    offer: bool = True,
    spelt: bool = False,
) -> Pair:
    """A prompt pair, tokenized and checked.

    Args:
        subject: The model.
        clean: Clean prompt.
        corrupted: Corrupted prompt. Must tokenize to the same length as `clean`, unless `places`
            are given.
        answer: What the clean prompt leads to: a word of one token, or several such words.
        wrong: What the corrupted prompt leads to.
        places: Named positions; see `Pair`.
        offer: Look for words that would make unequal prompts equal, for the error; takes a while.
        spelt: Allow answers of several tokens.

    Raises:
        WorkbenchError: The prompts have different lengths (a `LengthError`) or are the same, or an
            answer has several tokens (without `spelt`), is on both sides, begins another one or
            does not fit the context.
    """
    a = subject.encode(clean, "clean prompt")[0]
    b = subject.encode(corrupted, "corrupted prompt")[0]
    if len(a) != len(b) and not places:
        raise unequal(subject, (clean, a), (corrupted, b), offer)
    if torch.equal(a, b):
        raise WorkbenchError(
            "The clean and the corrupted prompt are the same; change the words the answer hangs on."
        )

    def ids_of(words: Words, what: str) -> list[tuple[int, ...]]:
        each = [words] if isinstance(words, str) else words
        return [subject.answer_ids(word, what, several=spelt, prompt=clean) for word in each]

    answers = ids_of(answer, "answer")
    wrongs = ids_of(wrong, "wrong answer")
    if not answers or not wrongs:
        raise WorkbenchError("There is no answer or no wrong answer; give at least one of each.")
    check_told_apart(subject, answers, wrongs)
    longest = max(map(len, [*answers, *wrongs]))
    needed = len(a) + longest - 1
    if needed > subject.n_ctx:
        raise WorkbenchError(
            f"Prompt and answer have {needed} tokens, and the context of {subject.name} holds "
            f"{subject.n_ctx}; shorten one of them."
        )
    parts = tuple(_followed(a, b, ids) for ids in (*answers, *wrongs)) if longest > 1 else ()
    return Pair(
        a,
        b,
        answers=tuple(ids[0] for ids in answers),
        wrongs=tuple(ids[0] for ids in wrongs),
        places=places,
        parts=parts,
    )


def check_told_apart(
    subject: Subject, answers: list[tuple[int, ...]], wrongs: list[tuple[int, ...]]
) -> None:
    """Raise `WorkbenchError` if an answer is also a wrong one, or one of them begins the other."""
    for one, other in product(answers, wrongs):
        n = min(len(one), len(other))
        if one[:n] != other[:n]:
            continue
        words = [subject.text(torch.tensor(ids)) for ids in (one, other)]
        if one == other:
            raise WorkbenchError(
                f"The answer and the wrong answer are both {words[0]!r}; give two different ones."
            )
        raise WorkbenchError(
            f"The answer {words[0]!r} and the wrong answer {words[1]!r} begin alike to the end of "
            "the shorter one, so it is always the likelier; give two that part."
        )


def _followed(clean: Tensor, corrupted: Tensor, answer: tuple[int, ...]) -> Pair:
    """Both prompts followed by an answer without its last token."""
    fed = torch.tensor(answer[:-1], dtype=clean.dtype, device=clean.device)
    return Pair(torch.cat([clean, fed]), torch.cat([corrupted, fed]), answer, (), fed=len(fed))


def unequal(
    subject: Subject, first: tuple[str, Tensor], second: tuple[str, Tensor], offer: bool
) -> LengthError:
    """The error for prompts of different length, with all that helps to mend them."""
    clean, a = first
    corrupted, b = second
    n = min(len(a), len(b))
    parts = (a[:n] != b[:n]).nonzero()
    differ = int(parts[0]) if len(parts) else n
    shown = [
        " ".join(map(repr, subject.tokens(x[differ : differ + 4]))) or "its end" for x in (a, b)
    ]
    mends = substitutes(subject, clean, corrupted) if offer else []
    offers = [f"for {s.word!r} in the {s.side} prompt {', '.join(s.choices)}" for s in mends]
    return LengthError(
        f"The clean prompt has {len(a)} tokens and the corrupted one {len(b)}; they must be equal. "
        f"They part at token {differ + 1}: {shown[0]} against {shown[1]}. Choose words of as many "
        f"tokens each{', such as ' if offers else ''}{'; '.join(offers)}.",
        aligned(subject.tokens(a), subject.tokens(b)),
        mends,
    )


def aligned(clean: Sequence[str], corrupted: Sequence[str]) -> list[tuple[str, str]]:
    """Tokens of two prompts side by side, equal ones in one row; "" for none on a side."""
    rows: list[tuple[str, str]] = []
    for _, i, j, k, m in SequenceMatcher(None, clean, corrupted, autojunk=False).get_opcodes():
        n = max(j - i, m - k)
        sides = ([*side, *[""] * (n - len(side))] for side in (clean[i:j], corrupted[k:m]))
        rows += zip(*sides, strict=True)
    return rows


def substitutes(subject: Subject, clean: str, corrupted: str) -> list[Substitute]:
    """Single-token words to replace longer ones, where the two prompts differ in one word.

    Args:
        subject: The model.
        clean: Clean prompt.
        corrupted: Corrupted prompt.

    Returns:
        For each such word the single-token words nearest to it by embedding.
    """
    a, b = ([word.strip(punctuation) for word in text.split(" ")] for text in (clean, corrupted))
    offers = []
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind != "replace" or j - i != m - k:
            continue
        for x, y in zip(range(i, j), range(k, m), strict=True):
            n_clean = len(_spelt(subject, a[x], x))
            n_corrupted = len(_spelt(subject, b[y], y))
            if min(n_clean, n_corrupted) != 1 or n_clean == n_corrupted:
                continue
            side, word, at = ("clean", a[x], x) if n_clean > 1 else ("corrupted", b[y], y)
            choices = _nearest(subject, word, at, {*a, *b})
            if choices:
                offers.append(Substitute(side, word, choices))
    return offers


def _spelt(subject: Subject, word: str, at: int) -> list[int]:
    """The tokens of a word after another, or at the beginning of a prompt (`at` 0)."""
    return (
        list(subject.answer_ids(f" {word}", several=True)) if at else bare(subject.tokenizer, word)
    )


def _nearest(subject: Subject, word: str, at: int, taken: set[str]) -> tuple[str, ...]:
    """Words of one token, capitalised like `word`, nearest to it by cosine of the embeddings."""
    embed: Any = subject.model.get_input_embeddings()
    own = embed.weight[_spelt(subject, word, at)].mean(0)
    order = F.cosine_similarity(embed.weight, own[None]).argsort(descending=True)[:2000].tolist()
    nearest: list[str] = []
    for i in order:
        (text,) = subject.tokens(torch.tensor([i]), unrelated=True)
        other = text.strip()
        fits = (
            other.isalpha()
            and _spelt(subject, other, at) == [i]
            and other[0].isupper() == word[:1].isupper()
        )
        if fits and len(other) > 2 and other not in taken and other not in nearest:
            nearest.append(other)
        if len(nearest) == OFFERED:
            break
    return tuple(nearest)


def single(subject: Subject, prompt: str, answer: str, wrong: str = "") -> Pair:
    """A pair whose two prompts are the same one.

    Args:
        subject: The model.
        prompt: The prompt.
        answer: The right answer, one token.
        wrong: The wrong answer, one token; "" for none.

    Raises:
        WorkbenchError: The prompt is empty, an answer has several tokens, or both are equal.
    """
    ids = subject.encode(prompt)[0]
    answers = (subject.answer_id(answer, prompt=prompt),)
    wrongs = (subject.answer_id(wrong, "wrong answer", prompt=prompt),) if wrong else ()
    if answers == wrongs:
        raise WorkbenchError(
            f"The answer and the wrong answer are both {answer!r}; give two different ones."
        )
    return Pair(ids, ids, answers, wrongs)


def warnings(
    subject: Subject, clean: str, corrupted: str, answers: Sequence[str] = ()
) -> list[str]:
    """Known problems of prompts and answers that are no errors, one sentence each.

    A space too many or too few, a missing first token, and what `Subject.notices` says.

    Args:
        subject: The model.
        clean: Clean prompt.
        corrupted: Corrupted prompt.
        answers: All answers, right and wrong.
    """
    problems = []
    if clean.endswith(" ") or corrupted.endswith(" "):
        problems.append(
            "A prompt ends in a space. Most tokenizers join the space to the next word, so the "
            "model has seen no word follow a lone space: put it at the start of the answers."
        )
    for word in answers:
        plain, spaced = (
            len(subject.answer_ids(text, several=True, prompt=clean)) for text in (word, f" {word}")
        )
        if plain > 1 and spaced < plain and not word.startswith(" "):
            problems.append(
                f"The answer {word!r} is {plain} tokens and {' ' + word!r} {spaced}: without its "
                "leading space it goes on the prompt's last word."
            )
    first = subject.tokenizer.bos_token_id
    ids = subject.encode(clean)[0]
    adds = bool(getattr(subject.tokenizer, "add_bos_token", False))
    if first is not None and adds and int(ids[0]) != first:
        problems.append(
            f"The model's first token {subject.tokenizer.bos_token!r} is missing, though its "
            "tokenizer has one."
        )
    return problems + subject.notices(clean, corrupted, answers=answers)
