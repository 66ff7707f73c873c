"""Text classification by completion: the label follows the text, and the answer is decoded among
the labels.
"""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np

from workbench.data.columns import as_text
from workbench.data.leftout import LeftOutError
from workbench.data.sets import Record
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_counts, paired_difference
from workbench.training.decode import complete, trie
from workbench.training.tasks.task import Answer, Completion, Data, Item, Progress

WORDED = {"0": "negative", "1": "positive"}
"""The labels of files that only number two classes, as the Stanford Sentiment Treebank does."""
UNSCORED = ("oos",)
"""Labels that stand for no class (CLINC150's out-of-scope requests)."""


class Classification(Completion):
    """`labels` in `[task]` fixes the label set; without it that of the training data is it.

    Metrics: accuracy, and macro-F1 over the classes that occur among the held-out items (a class
        that a model never
    gets right has F1 0). A model answers by greedy decoding restricted to the label set, so every
    answer is a label.
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
        """Text and label; the label in lower case, underscores turned to spaces."""
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
        """The label."""
        return item["label"]

    def group(self, item: Item) -> Hashable:
        """The text."""
        return item["text"]

    def completion(self, item: Item) -> str:
        """The label."""
        return item["label"]

    def check(self, data: Data) -> None:
        """Every label, of held-out examples too, must be in the label set; there must be two
        labels.
        """
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

    def answer(self, model, tokenizer, items: Sequence[Item], progress: Progress) -> list[Answer]:
        """The label that greedy decoding among the labels gives each item."""
        spelt = {label: self.row(tokenizer, {"text": "x", "label": label}) for label in self.labels}
        answers = {
            tuple(i for i, on in zip(*row, strict=True) if on): label
            for label, row in spelt.items()
        }
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
        found = [
            next((known[tuple(w[:n])] for n in range(len(w), 0, -1) if tuple(w[:n]) in known), "")
            for w in written
        ]
        return [
            {
                "input": self.prompt(i),
                "target": i["label"],
                "prediction": p,
                "score": float(p == i["label"]),
            }
            for i, p in zip(items, found, strict=True)
        ]

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Accuracy (McNemar) and macro-F1."""
        classes = sorted(set(base["target"]))
        counts = [class_counts(f["target"], f["prediction"], classes) for f in (base, tuned)]
        return {
            "accuracy": paired_difference(base["score"], tuned["score"]),
            "macro_f1": paired_counts(*counts, macro_f1),
        }


def _plain(label: str) -> str:
    return str(label).strip().lower().replace("_", " ")


def class_counts(
    targets: Sequence[str], predictions: Sequence[str], classes: Sequence[str]
) -> np.ndarray:
    """True positives, false positives and false negatives of each class: `[item, 3 * class]`."""
    t, p = (np.array([[x == c for c in classes] for x in part]) for part in (targets, predictions))
    return np.concatenate([t & p, ~t & p, t & ~p], axis=1).astype(float)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean F1 from summed counts `[..., 3 * class]` over the classes that items belong to.

    A class that a resample holds no item of is left out of its mean; counted as 0 it would drag the
    interval down.
    """
    hits, wrong, missed = np.split(sums, 3, axis=-1)
    f1 = 2 * hits / np.maximum(2 * hits + wrong + missed, 1)
    there = hits + missed > 0
    return (f1 * there).sum(-1) / np.maximum(there.sum(-1), 1)
