"""What all fine-tuning tasks share: reading and splitting examples, rendering rows."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data import files, sets
from workbench.data.columns import resolve
from workbench.data.leftout import LeftOutError, NoColumnError
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.statistics import Difference
from workbench.training.rows import Row, Segment, encode

Item = dict[str, Any]
"""One example; the keys depend on the task."""
Answer = dict[str, Any]
"""A model's answer to one item: input, target, prediction, score, and what the metrics need."""
Progress = Callable[[float], None]

COMMON = ("kind", "data", "test", "max_length", "eval_items")


@dataclass(frozen=True)
class Data:
    """The examples of a task.

    - `train`: to learn from; `validation`: held out of the training data for the loss curve
    - `held_out`: answered by both models, shuffled: the data's own test split, else `validation`
    - `left_out`: how many examples were dropped, by reason
    - `remarks`: what was assumed about the data: encoding, columns, joined labels
    """

    train: list[Item]
    validation: list[Item]
    held_out: list[Item]
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Task(ABC):
    """One kind of fine-tuning task, made from the `[task]` table of a recipe.

    Common keys: `data` (a set's name, a Hugging Face id or a file), `test` (held out instead of the
    data's own test split), `max_length` (tokens per example), `eval_items` (held-out items answered
    before and after). Each of `parts`, such as `text` and `label`, may name the column that holds
    it.

    A subclass sets `kind`, `parts` and, besides the common ones, the `words` of `[task]` that it
    takes; `seq2seq` says that it is for encoder-decoders, whose rows are two texts; it implements
    the abstract methods below.
    """

    kind: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[bool] = True
    seq2seq: ClassVar[bool] = False

    def __init__(self, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {*COMMON, *self.words, *self.parts})
        if unknown:
            known = ", ".join(sorted({*COMMON, *self.words, *self.parts}))
            raise WorkbenchError(
                f"[task] does not know {', '.join(unknown)} for {self.kind}; it knows {known}."
            )
        if not str(options.get("data", "")).strip():
            names = ", ".join(name for name, known in sets.SETS.items() if known.kind == self.kind)
            raise WorkbenchError(f"[task] needs data: one of {names}, a Hugging Face id or a file.")
        self.options = options
        self.named = {part: str(options[part]) for part in self.parts if options.get(part)}
        self.source = str(options["data"]).strip()
        self.eval_items = _positive(options, "eval_items", 200)
        self.max_length = _positive(options, "max_length", 512)

    # -- what each task defines --------------------------------------------------------------------

    @abstractmethod
    def item(self, record: sets.Record) -> Item:
        """The example in a record.

        Args:
            record: One entry for each of `parts` (the whole record if `columns` returns {}).

        Raises:
            LeftOutError: For a record that gives no example, with the reason.
            NoColumnError: For a record that lacks a column.
        """

    @abstractmethod
    def group(self, item: Item) -> Hashable:
        """A key; items of equal keys go into one split, such as questions about one paragraph."""

    @abstractmethod
    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """The example as token ids, with a mask of those that are learned."""

    @abstractmethod
    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """A model's answers to held-out items, in order.

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """

    @abstractmethod
    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Each metric's paired difference, the main metric first.

        Args:
            base: Frame of the base model's answers.
            tuned: Frame of the tuned model's answers to the same items.
        """

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Add to a tokenizer, in place, what the task needs; most tasks need nothing."""
        return None

    def check(self, data: Data) -> None:
        """Check all examples before training; raises `WorkbenchError`. May add remarks."""
        return None

    # -- shared ------------------------------------------------------------------------------------

    def read(self, share: float, seed: int) -> Data:
        """The examples of the task, split by group.

        Args:
            share: Expected share of the training data that is held out.
            seed: Of the split and of the order of held-out items.

        Raises:
            WorkbenchError: When the data cannot be read, is empty, or lacks what the task needs.
        """
        notes = Notes()
        train = self._items(self.source, "train", notes)
        other = self.options.get("test")
        test = (
            self._items(str(other), "train", notes)
            if other
            else self._items(self.source, "test", notes)
        )
        if test:
            test_groups = {self.group(item) for item in test}
            unseen = [item for item in train if self.group(item) not in test_groups]
            notes.count("also in the test set", len(train) - len(unseen))
            train = unseen
        train, validation = self._hold_out(train, share, seed, notes)
        if not train or not (test or validation):
            raise WorkbenchError(self._nothing_left(len(train), len(test or validation), share))
        counted = {reason: n for reason, n in notes.counts.items() if n}
        held_out = self._shuffled(test or validation, seed)
        data = Data(train, validation, held_out, counted, notes.remarks)
        self.check(data)
        return data

    def _nothing_left(self, n_train: int, n_held: int, share: float) -> str:
        n = n_train + n_held
        if n < 2:
            return (
                f"{self.source} has {n} example of its own; give more, or a test file as test = ..."
            )
        better = min(0.5, max(0.1, 10 / n))
        return (
            f"Of the {n} examples of {self.source}, validation = {share:g} leaves {n_train} for "
            f"training and {n_held} held out; set validation = {better:.2g} in [corpus], or give "
            "a test file as test = ... in [task]."
        )

    def _items(self, data: str, split: str, notes: Notes) -> list[Item]:
        """The distinct items of a split, [] if there is no such split."""
        records = sets.records(data, split, notes, tuple(self.named.values()))
        return [] if records is None else self._read(records, data, split, notes)

    def preview(self, path: Path, notes: Notes, n: int = 200) -> list[Item]:
        """The items in the first rows of a file, to look at before using it.

        Args:
            path: Of the file.
            notes: Collects what was dropped or assumed.
            n: Number of rows.
        """
        records = list(islice(files.rows(path, notes, tuple(self.named.values())), n))
        return self._read(records, str(path), "first rows", notes)

    def _read(
        self, records: Sequence[sets.Record], data: str, split: str, notes: Notes
    ) -> list[Item]:
        if not records:
            raise WorkbenchError(f"{data} ({split}) is empty; give a file with records.")
        columns = self.columns(records, data, notes)
        items: dict[str, Item] = {}
        for number, record in enumerate(records, 1):
            try:
                item = self.item(
                    {part: record.get(column) for part, column in columns.items()}
                    if columns
                    else record
                )
            except NoColumnError as error:
                raise WorkbenchError(self._no_column(str(error), data, record, number)) from error
            except LeftOutError as error:
                notes.count(str(error), where=f"record {number} of {data}")
                continue
            if items.setdefault(repr(item), item) is not item:
                notes.count("given twice")
        if not items:
            reasons = "; ".join(notes.lines()) or "it has no record"
            raise WorkbenchError(f"{data} ({split}) has no example for {self.kind}: {reasons}.")
        return list(items.values())

    def columns(self, records: Sequence[sets.Record], data: str, notes: Notes) -> dict[str, str]:
        """The column of each part; {} if records are read whole.

        Args:
            records: All records of the split.
            data: Name of the data, for messages.
            notes: Collects which columns were assumed.
        """
        return resolve(self.parts, records, self.named, data, notes)

    def _no_column(self, lacking: str, data: str, record: sets.Record, number: int) -> str:
        has = ", ".join(map(str, record))
        return f"Record {number} of {data} has no {lacking}, which {self.kind} needs; it has {has}."

    def stratum(self, item: Item) -> Hashable:
        """A key; training has items of every key, such as every label. None: no such demand."""
        return None

    def _hold_out(
        self, items: list[Item], share: float, seed: int, notes: Notes
    ) -> tuple[list[Item], list[Item]]:
        """Training and held-out items: no group in both, and every stratum in training."""
        keys = self._groups(items, notes)
        groups = {group: i for i, group in enumerate(dict.fromkeys(keys))}
        held = np.random.default_rng(seed).random(len(groups)) < share
        numbers = [groups[key] for key in keys]
        learned = {
            self.stratum(item)
            for item, number in zip(items, numbers, strict=True)
            if not held[number]
        }
        for item, number in zip(items, numbers, strict=True):
            if held[number] and self.stratum(item) not in learned:
                held[number] = False
                learned.add(self.stratum(item))
                notes.count("kept for training as the only ones of their kind")
        parts: tuple[list[Item], list[Item]] = ([], [])
        for item, number in zip(items, numbers, strict=True):
            parts[int(held[number])].append(item)
        return parts

    def _groups(self, items: Sequence[Item], notes: Notes) -> list[Hashable]:
        """The group of each item; if one group holds most items, each item is its own group."""
        keys = [self.group(item) for item in items]
        most = max(Counter(keys).values(), default=0)
        if len(keys) < 4 or most <= len(keys) / 2:
            return keys
        notes.remark(
            f"Most examples of {self.source} begin alike ({most} of {len(keys)}); "
            "alike ones lie in training and in held-out data."
        )
        return list(range(len(items)))

    def _shuffled(self, items: list[Item], seed: int) -> list[Item]:
        """The items in random order, so that the first `eval_items` are a random subset."""
        return [items[i] for i in np.random.default_rng((seed, 1)).permutation(len(items))]


class Completion(Task):
    """A task with one prompt and one completion; the loss is on completion and end of text."""

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
            raise WorkbenchError(
                f"The prompt {self.prompt_template!r} lacks {{{missing[0]}}}; put it in."
            )

    def prompt(self, item: Item) -> str:
        """The prompt of an item, from the template."""
        return self.prompt_template.format(**{name: item[name] for name in self.fields})

    @abstractmethod
    def completion(self, item: Item) -> str:
        """The right completion, without the space before it."""

    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """Prompt (not learned), then a space, the completion and the end of text (learned)."""
        segments = [Segment(self.prompt(item), False), Segment(f" {self.completion(item)}", True)]
        return encode(tokenizer, segments, end=True)


def _positive(options: dict[str, Any], word: str, default: int) -> int:
    value = options.get(word, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WorkbenchError(f"[task] {word} is {value!r}; it must be a whole number above 0.")
    return value
