"""A question to patch: two prompts of equal length that lead to different answers, checked and
tokenised.
"""

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
"""Words offered in the place of one that is too long."""


@dataclass(frozen=True)
class Substitute:
    """A word of the clean or the corrupted prompt (`side`) and single-token words that could stand
    in its place.
    """

    side: str
    word: str
    choices: tuple[str, ...]


class LengthError(WorkbenchError):
    """Prompts of unequal token counts: `aligned` has their tokens side by side, `substitutes` what
    would mend it.
    """

    def __init__(self, message: str, aligned: list[tuple[str, str]], substitutes: list[Substitute]):
        super().__init__(message)
        self.aligned, self.substitutes = aligned, substitutes


@dataclass(frozen=True)
class Pair:
    """A tokenised question: `answers` are the tokens that the clean prompt leads to, `wrongs` those
    of the other.

    `places` are named positions (name, in the clean prompt, in the corrupted one); with them the
    prompts may differ in length, and only those positions are patched.

    Where an answer has several tokens, `answers` and `wrongs` are the first of each, and `parts`
    has a question for
    each answer, then each wrong answer: both prompts followed by it but for its last token. Its
        `answers` are then that
    answer's tokens in order, of which the last `fed` of both prompts are the model's to read.
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
    """Tokenise and check a prompt pair; `answer` and `wrong` are one token each, or several such
    words.

    With `places` (see `Pair`) the prompts may have different lengths; `offer` looks for words that
    would mend those that may not, which takes a while; `spelt` allows answers of several tokens.

    Raises `WorkbenchError` for prompts of different length (showing the first tokens that differ,
    and which words to lengthen), equal prompts, and answers that are not one token each (unless
    `spelt`), occur on both sides, begin one another or do not fit the context.
    """
    a, b = (
        subject.encode(clean, "clean prompt")[0],
        subject.encode(corrupted, "corrupted prompt")[0],
    )
    if len(a) != len(b) and not places:
        raise _unequal(subject, (clean, a), (corrupted, b), offer)
    if torch.equal(a, b):
        raise WorkbenchError(
            "The clean and the corrupted prompt are the same; change the words the answer hangs on."
        )
    answers, wrongs = (
        [
            subject.answer_ids(word, what, several=spelt, prompt=clean)
            for word in ([words] if isinstance(words, str) else words)
        ]
        for words, what in ((answer, "answer"), (wrong, "wrong answer"))
    )
    if not answers or not wrongs:
        raise WorkbenchError("There is no answer or no wrong answer; give at least one of each.")
    _told_apart(subject, answers, wrongs)
    firsts = (tuple(ids[0] for ids in side) for side in (answers, wrongs))
    longest = max(map(len, [*answers, *wrongs]))
    if (needed := len(a) + longest - 1) > subject.n_ctx:
        raise WorkbenchError(
            f"Prompt and answer have {needed} tokens, and the context of {subject.name} holds {subject.n_ctx}; "
            "shorten one of them."
        )
    parts = tuple(_followed(a, b, ids) for ids in (*answers, *wrongs)) if longest > 1 else ()
    return Pair(a, b, *firsts, places, parts)


def _told_apart(
    subject: Subject, answers: list[tuple[int, ...]], wrongs: list[tuple[int, ...]]
) -> None:
    """Raise `WorkbenchError` where an answer is also wrong, or is how a wrong one begins (or the
    other way round).
    """
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
            f"The answer {words[0]!r} and the wrong answer {words[1]!r} begin alike to the end of the shorter one, so "
            "it is always the likelier; give two that part."
        )


def _followed(clean: Tensor, corrupted: Tensor, answer: tuple[int, ...]) -> Pair:
    """Both prompts followed by an answer but for its last token."""
    fed = torch.tensor(answer[:-1], dtype=clean.dtype, device=clean.device)
    return Pair(torch.cat([clean, fed]), torch.cat([corrupted, fed]), answer, (), fed=len(fed))


def _unequal(
    subject: Subject, first: tuple[str, Tensor], second: tuple[str, Tensor], offer: bool
) -> LengthError:
    """The error for prompts of different length, with all that helps to mend them."""
    (clean, a), (corrupted, b) = first, second
    differ = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    shown = [
        " ".join(map(repr, subject.tokens(x[differ : differ + 4]))) or "its end" for x in (a, b)
    ]
    found = substitutes(subject, clean, corrupted) if offer else []
    offers = [f"for {s.word!r} in the {s.side} prompt {', '.join(s.choices)}" for s in found]
    return LengthError(
        f"The clean prompt has {len(a)} tokens and the corrupted one {len(b)}; they must be equal. They part at "
        f"token {differ + 1}: {shown[0]} against {shown[1]}. Choose words of as many tokens each"
        + (f", such as {'; '.join(offers)}." if offers else "."),
        aligned(subject.tokens(a), subject.tokens(b)),
        found,
    )


def aligned(clean: Sequence[str], corrupted: Sequence[str]) -> list[tuple[str, str]]:
    """Tokens of two prompts side by side, equal ones in one row; "" where a side has nothing there."""
    rows: list[tuple[str, str]] = []
    for _, i, j, k, m in SequenceMatcher(None, clean, corrupted, autojunk=False).get_opcodes():
        n = max(j - i, m - k)
        sides = ([*side, *[""] * (n - len(side))] for side in (clean[i:j], corrupted[k:m]))
        rows += zip(*sides, strict=True)
    return rows


def substitutes(subject: Subject, clean: str, corrupted: str) -> list[Substitute]:
    """For words in one place whose token counts differ: single-token words near the longer one in
    the embedding.
    """
    a, b = ([word.strip(punctuation) for word in text.split(" ")] for text in (clean, corrupted))
    found = []
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "replace" and j - i == m - k:
            for x, y in zip(range(i, j), range(k, m), strict=True):
                counts = [len(_spelt(subject, word, at)) for word, at in ((a[x], x), (b[y], y))]
                if min(counts) == 1 < max(counts):
                    side, word, at = ("clean", a[x], x) if counts[0] > 1 else ("corrupted", b[y], y)
                    if choices := _nearest(subject, word, at, {*a, *b}):
                        found.append(Substitute(side, word, choices))
    return found


def _spelt(subject: Subject, word: str, at: int) -> list[int]:
    """The tokens of a word after another, or at the beginning of a prompt (`at` 0)."""
    return (
        list(subject.answer_ids(f" {word}", several=True)) if at else bare(subject.tokenizer, word)
    )


def _nearest(subject: Subject, word: str, at: int, taken: set[str]) -> tuple[str, ...]:
    """Words of one token, spelt as `word` is (capital or not), by the cosine of their embeddings
    with its mean.
    """
    embed: Any = subject.model.get_input_embeddings()
    own = embed.weight[_spelt(subject, word, at)].mean(0)
    order = F.cosine_similarity(embed.weight, own[None]).argsort(descending=True)[:2000].tolist()
    found: list[str] = []
    for i in order:
        (text,) = subject.tokens(torch.tensor([i]), apart=True)
        other = text.strip()
        fits = (
            other.isalpha()
            and _spelt(subject, other, at) == [i]
            and other[0].isupper() == word[:1].isupper()
        )
        if fits and len(other) > 2 and other not in taken and other not in found:
            found.append(other)
        if len(found) == OFFERED:
            break
    return tuple(found)


def single(subject: Subject, prompt: str, answer: str, wrong: str = "") -> Pair:
    """A question about one prompt: both prompts of the pair are that one, and there may be no wrong
    answer.

    Raises `WorkbenchError` for an empty prompt, answers that are not one token each, and equal
    answers.
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
    """What is known to spoil results without being an error, or how the prompts were read; a
    sentence each.

    A space too many or too few, a missing first token, and what `Subject.notices` says.
    """
    found = []
    if clean.endswith(" ") or corrupted.endswith(" "):
        found.append(
            "A prompt ends in a space. Most tokenizers join the space to the next word, so the model has seen no "
            "word follow a lone space: put it at the start of the answers."
        )
    for word in answers:
        plain, spaced = (
            len(subject.answer_ids(text, several=True, prompt=clean)) for text in (word, f" {word}")
        )
        if plain > 1 and spaced < plain and not word.startswith(" "):
            found.append(
                f"The answer {word!r} is {plain} tokens and {' ' + word!r} {spaced}: without its leading space it goes "
                "on the prompt's last word."
            )
    first = subject.tokenizer.bos_token_id
    ids = subject.encode(clean)[0]
    adds = bool(getattr(subject.tokenizer, "add_bos_token", False))
    if first is not None and adds and int(ids[0]) != first:
        found.append(
            f"The model's first token {subject.tokenizer.bos_token!r} is missing, though its tokenizer has one."
        )
    return found + subject.notices(clean, corrupted, answers=answers)
