"""Pairs for encoders and encoder-decoders: what fills the gap, or what the decoder writes next.

An encoder's answer is read at its mask token, which stands at the same place in both prompts. An
encoder-decoder's is what comes after what was written so far, which is the same in both runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.prompts.pairs import Pair, Words, check_told_apart, unequal
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ, start_token
from workbench.subjects.spelling import bare, continued


@dataclass(frozen=True)
class Gap:
    """Two prompts of equal length, their answers, and where the answer is read.

    - `question`: the prompts and answers
    - `written`: what the decoder has written, with its start token; None for encoders
    - `place`: position of the logits that give the answer
    """

    question: Pair
    written: Int[Tensor, " written"] | None
    place: int

    def of(self, logits: Tensor) -> Tensor:
        """The logits `[n, 1, vocab]` that give the answer, of `[n, pos, vocab]`."""
        return logits[:, self.place].unsqueeze(1)


def gap(
    subject: Subject, clean: str, corrupted: str, answer: Words, wrong: Words, target: str
) -> Gap:
    """The pair, tokenized and checked.

    Args:
        subject: An encoder or an encoder-decoder.
        clean: Clean prompt; of an encoder with one mask token.
        corrupted: Corrupted prompt, of as many tokens.
        answer: What the clean prompt leads to: a word of one token, or several such words.
        wrong: What the corrupted prompt leads to.
        target: What the decoder has written so far, before the answer.

    Raises:
        WorkbenchError: Prompts or answers do not fit.
    """
    ids = [subject.encode(text, what)[0] for text, what in _named(clean, corrupted)]
    if len(ids[0]) != len(ids[1]):
        raise unequal(subject, (clean, ids[0]), (corrupted, ids[1]), False)
    if torch.equal(ids[0], ids[1]):
        raise WorkbenchError(
            "The clean and the corrupted prompt are the same; change the words the answer hangs on."
        )
    answers = _each(subject, answer, "answer", target)
    wrongs = _each(subject, wrong, "wrong answer", target)
    if not answers or not wrongs:
        raise WorkbenchError("There is no answer or no wrong answer; give at least one of each.")
    check_told_apart(subject, [(i,) for i in answers], [(i,) for i in wrongs])
    question = Pair(ids[0], ids[1], tuple(answers), tuple(wrongs))
    if subject.kind == SEQ2SEQ:
        start = start_token(subject.model)
        so_far = _own_tokens(subject, target)
        written = torch.tensor([start, *so_far], device=subject.device)
        return Gap(question, written, len(written) - 1)
    if target:
        raise WorkbenchError(
            f"{subject.name} is an encoder and writes nothing, so it has no target; leave it out."
        )
    return Gap(question, None, _mask_place(subject, question))


def _named(clean: str, corrupted: str) -> tuple[tuple[str, str], ...]:
    return (clean, "clean prompt"), (corrupted, "corrupted prompt")


def _own_tokens(subject: Subject, target: str) -> list[int]:
    """The tokens of what is written, without the special token that ends a text."""
    if not target:
        return []
    ids = subject.encode(target, "target")[0].tolist()
    ends = (subject.tokenizer.eos_token_id, subject.tokenizer.pad_token_id)
    return [i for i in ids if i not in ends]


def mask_places(subject: Subject, ids: Int[Tensor, " pos"]) -> list[int]:
    """Where the mask token stands in a text."""
    mask = subject.tokenizer.mask_token_id
    return [place for place, token in enumerate(ids.tolist()) if token == mask]


def _mask_place(subject: Subject, question: Pair) -> int:
    mask = subject.tokenizer.mask_token
    if mask is None:
        raise WorkbenchError(
            f"The tokenizer of {subject.name} has no mask token, so there is no gap to fill; put "
            "its tokenizer files beside the model."
        )
    clean, corrupted = (mask_places(subject, ids) for ids in question.prompts)
    if len(clean) != 1 or clean != corrupted:
        counts = f"{len(clean)} in the clean prompt, {len(corrupted)} in the corrupted one"
        where = counts if len(clean) != 1 or len(corrupted) != 1 else "at different places"
        raise WorkbenchError(
            f"The answer is read at {mask}, which must stand once in each prompt, at the same "
            f"place ({where}); write {mask} where a word is to be filled in."
        )
    return clean[0]


def _each(subject: Subject, words: Words, what: str, target: str) -> list[int]:
    each: Sequence[str] = [words] if isinstance(words, str) else words
    return [answer_token(subject, word, what, target) for word in each]


def answer_token(subject: Subject, word: str, what: str = "answer", target: str = "") -> int:
    """The one token of a word that fills a gap, or that is written after a target.

    Args:
        subject: An encoder or an encoder-decoder.
        word: The word.
        what: What it is, for messages.
        target: What the decoder has written so far.

    Raises:
        WorkbenchError: It is none or several tokens.
    """
    ids = tuple(bare(subject.tokenizer, word))
    if target:
        ids = continued(subject.tokenizer, target, word).ids
    if len(ids) != 1:
        shown = " + ".join(map(repr, subject.tokens(torch.tensor(ids)))) if ids else "nothing"
        raise WorkbenchError(
            f"The {what} {word!r} is {len(ids)} tokens for {subject.name} ({shown}); give a single "
            "token."
        )
    return ids[0]
