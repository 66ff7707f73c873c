"""The wordings of a probe: templates with slots, filled from word lists for one tokenizer."""

import random
import re
import string
from dataclasses import dataclass
from typing import Any

import torch

from workbench.subjects import Subject
from workbench.subjects.spelling import offsets

FIELDS = ("clean", "corrupted", "answer", "wrong")
"""The texts of a template."""
SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?(?:#(\w+))?\}")
"""A slot: `{slot}`, `{slot.column}` or `{slot#name}`."""
LAST = "last"
"""The name of the last position."""


@dataclass(frozen=True)
class Template:
    """One wording: four texts with slots, and the word list that fills each slot."""

    clean: str
    corrupted: str
    answer: str
    wrong: str
    slots: dict[str, str]

    @property
    def named(self) -> list[str]:
        """Positions named in both prompts, in the clean prompt's order, then the last token."""
        clean = [match[3] or match[1] for match in SLOT.finditer(self.clean)]
        corrupted = [match[3] or match[1] for match in SLOT.finditer(self.corrupted)]
        once = [name for name in clean if clean.count(name) == 1 == corrupted.count(name)]
        return [*once, LAST]


@dataclass(frozen=True)
class Probe:
    """A question to a model: its title and words, its source, its wordings and word lists."""

    name: str
    title: str
    question: str
    source: str
    metric: str
    templates: tuple[Template, ...]
    lists: dict[str, list]
    columns: dict[str, list[str]]


def usable_words(subject: Subject, probe: Probe, name: str) -> list:
    """The entries of a word list; for "vocabulary", ordinary words of one token.

    Args:
        subject: The model.
        probe: The probe.
        name: The list.
    """
    if name != "vocabulary":
        return list(probe.lists[name])
    words = []
    vocabulary = subject.tokenizer.get_vocab()
    texts = subject.tokens(torch.tensor(list(vocabulary.values())), unrelated=True)
    for token, text in zip(vocabulary, texts, strict=True):
        word = text.strip()
        plain = word.isascii() and word.isalpha() and word.islower()
        if plain and len(word) > 2 and text == f" {word}":
            words.append((token, word))
    if not words:  # bare token ids, or characters
        special = set(subject.tokenizer.all_special_ids)
        ordinary = [i for i in range(len(subject.tokenizer)) if i not in special]
        return [str(subject.tokenizer.decode([i])).strip() for i in ordinary]
    return [word for _, word in sorted(words)]


def fill(template: Template, words: dict[str, list], rng: random.Random) -> dict[str, Any] | None:
    """A random entry for every slot, different ones for slots of one list; None for too few words.

    Args:
        template: The wording.
        words: The entries of each list.
        rng: The source of randomness.
    """
    filled: dict[str, Any] = {}
    for name in sorted(words):
        slots = [slot for slot in template.slots if template.slots[slot] == name]
        if len(words[name]) < len(slots):
            return None
        filled |= dict(zip(slots, rng.sample(words[name], len(slots)), strict=True))
    return filled


def filled_text(text: str, filled: dict[str, Any], probe: Probe, template: Template) -> str:
    """A text with its slots filled.

    Args:
        text: The text, or a part of it.
        filled: The entry of each slot.
        probe: The probe, for the columns of its lists.
        template: The wording that the text is from.
    """

    def words_of(match: re.Match[str]) -> str:
        slot, column, _ = match.groups()
        entry = filled[slot]
        if column:
            entry = entry[probe.columns[template.slots[slot]].index(column)]
        return str(entry)

    return SLOT.sub(words_of, text)


def named_places(
    subject: Subject, probe: Probe, template: Template, filled: dict[str, Any]
) -> tuple[tuple[str, int, int], ...]:
    """The named positions in the two prompts: the last token of what fills each slot.

    Args:
        subject: The model.
        probe: The probe.
        template: The wording.
        filled: The entry of each slot.
    """
    sides: list[dict[str, int]] = []
    for text in (template.clean, template.corrupted):
        whole = filled_text(text, filled, probe, template)
        ends = [stop for _, stop in offsets(subject.tokenizer, whole)]
        places = {LAST: len(ends) - 1}
        for match in SLOT.finditer(text):
            end = len(filled_text(text[: match.end()], filled, probe, template))
            places[match[3] or match[1]] = next(i for i, stop in enumerate(ends) if stop >= end)
        sides.append(places)
    clean, corrupted = sides
    return tuple((name, clean[name], corrupted[name]) for name in template.named)


def position_names(
    subject: Subject,
    probe: Probe,
    tokens: list[list[str]],
    template: Template | None,
    filled: dict[str, Any],
) -> list[str]:
    """A label per position: its token if all prompts share it, else its slot, else a letter.

    Args:
        subject: The model.
        probe: The probe.
        tokens: The tokens of every clean prompt, all of one length.
        template: The wording of the first one; None for a row of a data set.
        filled: The entry of each of its slots.
    """
    names = [column[0] if len(set(column)) == 1 else "" for column in zip(*tokens, strict=True)]
    first = int(
        subject.tokenizer.bos_token_id is not None and tokens[0][0] == subject.tokenizer.bos_token
    )
    for match in SLOT.finditer(template.clean) if template else ():
        assert template is not None
        text_before = template.clean[: match.start()]
        before = filled_text(text_before, filled, probe, template).rstrip(" ")
        at = len(subject.ids(before)) if before else first
        if at < len(names) and not names[at]:
            names[at] = f"{{{match[3] or match[1]}}}"
    letters = iter(string.ascii_lowercase * 20)
    return [name or f"({next(letters)})" for name in names]
