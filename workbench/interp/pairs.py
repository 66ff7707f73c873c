"""A question to patch: two prompts of equal length that lead to different answers, checked and tokenised."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects import Subject

Words = str | Sequence[str]


@dataclass(frozen=True)
class Pair:
    """A tokenised question: `answers` are the tokens that the clean prompt leads to, `wrongs` those of the other."""

    clean: Int[Tensor, " pos"]
    corrupted: Int[Tensor, " pos"]
    answers: tuple[int, ...]
    wrongs: tuple[int, ...]

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
        return int((self.clean != self.corrupted).nonzero()[0])


def pair(subject: Subject, clean: str, corrupted: str, answer: Words, wrong: Words) -> Pair:
    """Tokenise and check a prompt pair; `answer` and `wrong` are one token each, or several such words.

    Raises `WorkbenchError` for prompts of different length (showing the first tokens that differ, and which words
    to lengthen), equal prompts, and answers that are not one token each or occur on both sides.
    """
    a, b = subject.encode(clean, "clean prompt")[0], subject.encode(corrupted, "corrupted prompt")[0]
    if len(a) != len(b):
        differ = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        shown = [" ".join(map(repr, subject.tokens(x[differ : differ + 4]))) or "its end" for x in (a, b)]
        raise WorkbenchError(
            f"The clean prompt has {len(a)} tokens and the corrupted one {len(b)}; they must be equal. They part at "
            f"token {differ + 1}: {shown[0]} against {shown[1]}. Choose words of as many tokens each."
        )
    if torch.equal(a, b):
        raise WorkbenchError("The clean and the corrupted prompt are the same; change the words the answer hangs on.")
    answers, wrongs = (
        tuple(subject.answer_id(word, what) for word in ([words] if isinstance(words, str) else words))
        for words, what in ((answer, "answer"), (wrong, "wrong answer"))
    )
    if not answers or not wrongs:
        raise WorkbenchError("There is no answer or no wrong answer; give at least one of each.")
    if common := set(answers) & set(wrongs):
        word = subject.tokens(torch.tensor(sorted(common)))[0]
        raise WorkbenchError(f"The answer and the wrong answer are both {word!r}; give two different ones.")
    return Pair(a, b, answers, wrongs)


def single(subject: Subject, prompt: str, answer: str, wrong: str = "") -> Pair:
    """A question about one prompt: both prompts of the pair are that one, and there may be no wrong answer.

    Raises `WorkbenchError` for an empty prompt, answers that are not one token each, and equal answers.
    """
    ids = subject.encode(prompt)[0]
    answers = (subject.answer_id(answer),)
    wrongs = (subject.answer_id(wrong, "wrong answer"),) if wrong else ()
    if answers == wrongs:
        raise WorkbenchError(f"The answer and the wrong answer are both {answer!r}; give two different ones.")
    return Pair(ids, ids, answers, wrongs)


def warnings(subject: Subject, clean: str, corrupted: str) -> list[str]:
    """What is known to spoil results without being an error: a space at the end, a missing first token."""
    found = []
    if clean.endswith(" ") or corrupted.endswith(" "):
        found.append(
            "A prompt ends in a space. Most tokenizers join the space to the next word, so the model has seen no "
            "word follow a lone space: put it at the start of the answers."
        )
    first = subject.tokenizer.bos_token_id
    ids = subject.encode(clean)[0]
    adds = bool(getattr(subject.tokenizer, "add_bos_token", False))
    if first is not None and adds and int(ids[0]) != first:
        found.append(
            f"The model's first token {subject.tokenizer.bos_token!r} is missing, though its tokenizer has one."
        )
    return found
