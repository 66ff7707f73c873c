"""What all fine-tuning tasks share: reading examples, splitting them, rendering prompt and completion."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench import sets
from workbench.errors import WorkbenchError
from workbench.statistics import Difference
from workbench.training.rows import Row, Segment, encode

Item = dict[str, Any]
"""One example; each task names its own keys."""
Answer = dict[str, Any]
"""A model's answer to one item: input, target, prediction, score, and what the task's metrics need besides."""
Progress = Callable[[float], None]

COMMON = ("kind", "data", "test", "max_length", "eval_items")


@dataclass(frozen=True)
class Data:
    """The examples of a task.

    - `train` is learned from, `validation` is the part of the training data held out for the loss curve
    - `held_out` is what both models answer before and after, shuffled: the set's own test split, else `validation`
    - `left_out` counts examples that are in none, by reason
    """

    train: list[Item]
    validation: list[Item]
    held_out: list[Item]
    left_out: dict[str, int] = field(default_factory=dict)


class Task(ABC):
    """One kind of fine-tuning task, made from the `[task]` table of a recipe.

    Common words: `data` (a set's name, a Hugging Face id or a file), `test` (a file or split to hold out instead of
    the set's own), `max_length` (tokens an example may have), `eval_items` (held-out items answered before and after).
    """

    kind: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    higher_is_better: ClassVar[bool] = True

    def __init__(self, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {*COMMON, *self.words})
        if unknown:
            known = ", ".join(sorted({*COMMON, *self.words}))
            raise WorkbenchError(f"[task] does not know {', '.join(unknown)} for {self.kind}; it knows {known}.")
        if not str(options.get("data", "")).strip():
            names = ", ".join(name for name, source in sets.SETS.items() if source.kind == self.kind)
            raise WorkbenchError(f"[task] needs data: one of {names}, a Hugging Face id or a file.")
        self.options = options
        self.source = str(options["data"]).strip()
        self.eval_items = _positive(options, "eval_items", 200)
        self.max_length = _positive(options, "max_length", 512)

    # -- what each task says of itself ----------------------------------------------------------------------

    @abstractmethod
    def item(self, record: sets.Record) -> Item | None:
        """An example from a record; None leaves it out. Raises `KeyError` naming a word that it lacks."""

    @abstractmethod
    def group(self, item: Item) -> Hashable:
        """What must lie wholly in one split, such as a text or the paragraph of several questions."""

    @abstractmethod
    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """The example as it is learned."""

    @abstractmethod
    def answer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], progress: Progress
    ) -> list[Answer]:
        """What a model makes of held-out items, in their order."""

    @abstractmethod
    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """The task's metrics, headline first, from two frames of answers to the same items."""

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Give the tokenizer of the model to be tuned what the task needs; most need nothing."""
        return None

    def check(self, data: Data) -> None:
        """Look at all examples once before anything is trained; raises `WorkbenchError`."""
        return None

    # -- shared ---------------------------------------------------------------------------------------------

    def read(self, share: float, seed: int) -> Data:
        """The examples, split by group; `share` of the training data is held out, drawn by `seed`.

        Raises `WorkbenchError` when the data cannot be had, is empty, or lacks what the task needs.
        """
        train, dropped = self._items(self.source, "train")
        other = self.options.get("test")
        test, more = self._items(str(other), "train") if other else self._items(self.source, "test")
        left_out = {"unusable": dropped + more}
        if test:
            asked = {self.group(item) for item in test}
            kept = [item for item in train if self.group(item) not in asked]
            left_out["also in the test set"], train = len(train) - len(kept), kept
        train, validation = self._hold_out(train, share, seed)
        if not train or not (test or validation):
            raise WorkbenchError(
                f"{self.source} has {len(train)} training and {len(test or validation)} held-out examples; add some, "
                f"or hold out another share than validation = {share:g}."
            )
        counted = {reason: n for reason, n in left_out.items() if n}
        data = Data(train, validation, self._shuffled(test or validation, seed), counted)
        self.check(data)
        return data

    def _items(self, data: str, split: str) -> tuple[list[Item], int]:
        """The items of a split without repetitions, and how many records gave none."""
        records = sets.records(data, split)
        if records is None:
            return [], 0
        found: dict[str, Item] = {}
        dropped = 0
        for number, record in enumerate(records, 1):
            try:
                item = self.item(record)
            except KeyError as error:
                has = ", ".join(map(str, record))
                raise WorkbenchError(
                    f"Record {number} of {data} has no {error.args[0]}, which {self.kind} needs; it has {has}."
                ) from error
            if item is None:
                dropped += 1
            else:
                found.setdefault(repr(item), item)
        if not found:
            raise WorkbenchError(f"{data} ({split}) is empty: it has no example for {self.kind}; give other data.")
        return list(found.values()), dropped

    def _hold_out(self, items: list[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
        groups = {group: i for i, group in enumerate(dict.fromkeys(map(self.group, items)))}
        held = np.random.default_rng(seed).random(len(groups)) < share
        parts: tuple[list[Item], list[Item]] = ([], [])
        for item in items:
            parts[int(held[groups[self.group(item)]])].append(item)
        return parts

    def _shuffled(self, items: list[Item], seed: int) -> list[Item]:
        """In an order drawn by seed, so that the first `eval_items` are a random subset."""
        return [items[i] for i in np.random.default_rng((seed, 1)).permutation(len(items))]


class Completion(Task):
    """A task whose example is one prompt and one completion; the loss is on the completion and the end of text."""

    words: ClassVar[tuple[str, ...]] = ("prompt",)
    template: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.prompt_template = str(options.get("prompt") or self.template)
        missing = [name for name in self.fields if f"{{{name}}}" not in self.prompt_template]
        try:
            self.prompt(dict.fromkeys(self.fields, "x"))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise WorkbenchError(
                f"The prompt {self.prompt_template!r} cannot be filled in ({error}); it may hold "
                f"{', '.join('{' + name + '}' for name in self.fields)} and no other braces."
            ) from error
        if missing:
            raise WorkbenchError(f"The prompt {self.prompt_template!r} lacks {{{missing[0]}}}; put it in.")

    def prompt(self, item: Item) -> str:
        """What the model is asked."""
        return self.prompt_template.format(**{name: item[name] for name in self.fields})

    @abstractmethod
    def completion(self, item: Item) -> str:
        """What it is to answer; a space goes before it."""

    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """Prompt, a space, completion, end of text."""
        segments = [Segment(self.prompt(item), False), Segment(f" {self.completion(item)}", True)]
        return encode(tokenizer, segments, end=True)


def _positive(options: dict[str, Any], word: str, default: int) -> int:
    value = options.get(word, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WorkbenchError(f"[task] {word} is {value!r}; it must be a whole number above 0.")
    return value


def text_of(record: sets.Record, names: Sequence[str]) -> str:
    """The first of these columns that a record has, as text; `KeyError` with the first name when it has none."""
    for name in names:
        if record.get(name) is not None:
            return str(record[name]).strip()
    raise KeyError(names[0])
