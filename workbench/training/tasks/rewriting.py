"""Rewriting: an encoder-decoder reads one text and writes another, such as a date in digits."""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.columns import as_text
from workbench.data.leftout import LeftOutError
from workbench.data.sets import Record
from workbench.generation.rewriting import reading_ids, rewrite
from workbench.statistics import Difference, paired_difference
from workbench.training.rows import Row
from workbench.training.tasks.task import Answer, Completion, Item, Progress


class Rewriting(Completion):
    """A text to another text; `prompt` of `[task]` may put words around the one that is read.

    Metrics: exact match, and closeness: one minus the edit distance (letters put in, taken out or
    exchanged) over the length of the longer of answer and target.
    """

    kind = "rewriting"
    seq2seq: ClassVar[bool] = True
    template = "{source}"
    fields = ("source",)
    parts = ("source", "target")

    def item(self, record: Record) -> Item:
        """{source, target} as texts."""
        source = as_text(record["source"])
        target = as_text(record["target"])
        if not source or not target:
            raise LeftOutError("no source" if not source else "no target")
        return {"source": source, "target": target}

    def group(self, item: Item) -> Hashable:
        """The target: rows with one answer go into one split, so that none is known by heart."""
        return item["target"]

    def completion(self, item: Item) -> str:
        """The text to write."""
        return item["target"]

    def row(self, tokenizer: PreTrainedTokenizerBase, item: Item) -> Row:
        """What is read (not learned), then what is written with its end token (learned)."""
        source = reading_ids(tokenizer, self.prompt(item))
        target = reading_ids(tokenizer, self.completion(item))
        end = cast(int | None, tokenizer.eos_token_id)
        if end is not None and target[-1:] != [end]:
            target = [*target, end]
        return Row([*source, *target], [False] * len(source) + [True] * len(target))

    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """What the model writes, greedily; `score` is 1 for exactly the target.

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """
        rows = [self.row(tokenizer, item) for item in items]
        # An answer that is longer than any target is wrong, so none is written to the end.
        most = 2 * max(row.n_learned for row in rows)
        end = cast(int | None, tokenizer.eos_token_id)
        ends = frozenset() if end is None else frozenset([end])
        sources = [row.prompt for row in rows]
        written = rewrite(model, sources, most=most, ends=ends, progress=progress)
        answers = []
        for item, ids in zip(items, written, strict=True):
            text = str(tokenizer.decode(ids, skip_special_tokens=True))
            answers.append(
                {
                    "input": self.prompt(item),
                    "target": item["target"],
                    "prediction": text,
                    "score": float(text == item["target"]),
                    "closeness": closeness(text, item["target"]),
                }
            )
        return answers

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Exact match (paired as in McNemar's test) and closeness."""
        return {
            "exact_match": paired_difference(base["score"], tuned["score"]),
            "closeness": paired_difference(base["closeness"], tuned["closeness"]),
        }


def closeness(text: str, target: str) -> float:
    """One minus the edit distance over the longer length: 1 for equal texts, 0 for none in common.

    Args:
        text: The answer.
        target: The right one; not empty.
    """
    return 1 - edit_distance(text, target) / max(len(text), len(target))


def edit_distance(text: str, target: str) -> int:
    """The fewest letters to put in, take out or exchange that make one text of another.

    Reference:
        Levenshtein 1966.
    """
    # Distances between the beginning of `text` so far and each beginning of `target`.
    row = list(range(len(target) + 1))
    for i, letter in enumerate(text, 1):
        before = row
        row = [i]
        for j, other in enumerate(target, 1):
            exchanged = before[j - 1] + (letter != other)
            row.append(min(exchanged, before[j] + 1, row[-1] + 1))
    return row[-1]
