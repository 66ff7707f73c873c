"""Text classification by completion: the label follows the text; decoding allows labels only."""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.columns import as_text
from workbench.data.leftout import LeftOutError
from workbench.data.sets import Record
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_counts, paired_difference
from workbench.training.decode import complete, trie
from workbench.training.tasks.task import Answer, Completion, Data, Item, Progress

WORDED = {"0": "negative", "1": "positive"}
"""Names for the numbered labels of the Stanford Sentiment Treebank."""
UNSCORED = ("oos",)
"""Labels that are no class (CLINC150's out-of-scope requests)."""


class Classification(Completion):
    """Text classification; `labels` of `[task]` is the label set, else that of the training data.

    Models answer by greedy decoding restricted to the label set, so every answer is a label.
    Metrics: accuracy, and macro-F1 over the classes of the held-out items (a class that a model
    never gets right has F1 0).
    """

    kind = "classification"
    words: ClassVar[tuple[str, ...]] = ("prompt", "labels")
    template = "{text}\nLabel:"
    fields = ("text",)
    parts = ("text", "label")

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.spellings: dict[str, set[str]] = {}
        self.labels = sorted({_plain(label) for label in options.get("labels", [])})

    def item(self, record: Record) -> Item:
        """{text, label}; the label in lower case, with spaces for underscores."""
        text = as_text(record["text"])
        written = as_text(record["label"])
        if not text or not written:
            raise LeftOutError("no text" if not text else "no label")
        label = _plain(written)
        self.spellings.setdefault(label, set()).add(written)
        if self.source == "sst2":
            label = WORDED.get(label, label)
        if label in UNSCORED:
            raise LeftOutError(f"the label {label}, which is no class")
        return {"text": text, "label": label}

    def stratum(self, item: Item) -> Hashable:
        """The label: training has examples of each."""
        return item["label"]

    def group(self, item: Item) -> Hashable:
        """The text: equal texts go into one split."""
        return item["text"]

    def completion(self, item: Item) -> str:
        """The label, as the model should write it."""
        return item["label"]

    def check(self, data: Data) -> None:
        """Settle the label set; raise for a label outside it, or for fewer than two labels."""
        joined = [sorted(written) for written in self.spellings.values() if len(written) > 1]
        if joined:
            data.remarks.append(
                f"Labels that differ in case or underscores are one class: {', '.join(joined[0])}."
            )
        given = bool(self.labels)
        self.labels = self.labels or sorted({item["label"] for item in data.train})
        for items, where in (
            (data.train, "training"),
            ([*data.validation, *data.held_out], "held-out"),
        ):
            unknown = sorted({item["label"] for item in items} - set(self.labels))
            if unknown:
                what = (
                    "the labels of [task]"
                    if given
                    else f"the {len(self.labels)} labels of the training examples"
                )
                raise WorkbenchError(
                    f"The label {unknown[0]!r} of the {where} examples of {self.source} is not "
                    f"among {what}; add it there, or leave its examples out."
                )
        if len(self.labels) < 2:
            raise WorkbenchError(
                f"{self.source} has one label only ({self.labels[0]!r}); there is nothing to tell."
            )

    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """The label that restricted greedy decoding gives each item.

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """
        answers = {self._label_ids(tokenizer, label): label for label in self.labels}
        prompts = [self.row(tokenizer, item).prompt for item in items]
        end = tokenizer.eos_token_id
        written = complete(
            model,
            tokenizer,
            prompts,
            most=max(map(len, answers)),
            answers=trie(list(answers)),
            progress=progress,
        )
        known = {tuple(t for t in ids if t != end): label for ids, label in answers.items()}
        predictions = [_longest_label(known, ids) for ids in written]
        return [
            {
                "input": self.prompt(item),
                "target": item["label"],
                "prediction": prediction,
                "score": float(prediction == item["label"]),
            }
            for item, prediction in zip(items, predictions, strict=True)
        ]

    def _label_ids(self, tokenizer: PreTrainedTokenizerBase, label: str) -> tuple[int, ...]:
        """The learned tokens of a label, its end token included."""
        row = self.row(tokenizer, {"text": "x", "label": label})
        return tuple(token for token, learned in zip(*row, strict=True) if learned)

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Accuracy (paired as in McNemar's test) and macro-F1."""
        classes = sorted(set(base["target"]))
        before = class_counts(base["target"], base["prediction"], classes)
        after = class_counts(tuned["target"], tuned["prediction"], classes)
        return {
            "accuracy": paired_difference(base["score"], tuned["score"]),
            "macro_f1": paired_counts(before, after, macro_f1),
        }


def _longest_label(known: dict[tuple[int, ...], str], ids: list[int]) -> str:
    """The label with the longest token sequence that the written ids begin with; "" for none."""
    for n in range(len(ids), 0, -1):
        if tuple(ids[:n]) in known:
            return known[tuple(ids[:n])]
    return ""


def _plain(label: str) -> str:
    """The label in lower case, with spaces for underscores."""
    return str(label).strip().lower().replace("_", " ")


def class_counts(
    targets: Sequence[str], predictions: Sequence[str], classes: Sequence[str]
) -> np.ndarray:
    """Each item's true positives, false positives and false negatives: `[item, 3 * class]`.

    Args:
        targets: The right class of each item.
        predictions: The answered class of each item.
        classes: The classes to count.
    """
    # [item, class]
    target = np.array([[label == name for name in classes] for label in targets])
    answer = np.array([[label == name for name in classes] for label in predictions])
    counts = [target & answer, ~target & answer, target & ~answer]
    return np.concatenate(counts, axis=1).astype(float)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Macro-F1 from counts summed over items, `[..., 3 * class]` to `[...]`.

    A class without an item in a bootstrap resample is left out of that resample's mean; counted as
    0 it would bias the interval downwards.
    """
    hits, wrong, missed = np.split(sums, 3, axis=-1)  # [..., class] each
    f1 = 2 * hits / np.maximum(2 * hits + wrong + missed, 1)
    present = hits + missed > 0
    return (f1 * present).sum(-1) / np.maximum(present.sum(-1), 1)
