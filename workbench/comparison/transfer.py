"""Does a linear probe trained on the base still work on the tuned model? Layer by layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.benchmarks.documents.generated import VERBS, agreement, intents
from workbench.comparison.layers import each_stream, padded
from workbench.comparison.matching import need, same_ids
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import estimate_mean, paired_difference
from workbench.subjects import Subject

PAIRS = ("base on base", "base on tuned", "tuned on tuned")
"""The model that a linear probe was trained on, and the one that it is tested on."""
AT_ONCE = 16
"""Texts a forward pass."""
Examples = Sequence[tuple[str, str]]
"""(text, label) pairs."""
Report = Callable[[float, str], None]
"""Called with (share done, message)."""


@dataclass(frozen=True)
class Transfer(Record):
    """Accuracy of linear probes on held-out texts, before the first layer (stage 0) and after each.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        question: What the linear probes predict.
        right: For each of `PAIRS`: whether each text's prediction is right.
        chance: Share of the most common label.
        trained: Texts that the linear probes were trained on.
    """

    base: str
    tuned: str
    question: str
    right: dict[str, Bool[np.ndarray, "stage text"]]
    chance: float
    trained: int

    def to_frame(self) -> pd.DataFrame:
        """One row a stage and pair: accuracy with its exact 95 % interval, and n."""
        rows = []
        for pair, right in self.right.items():
            for stage, row in enumerate(right):
                accuracy = estimate_mean(row.astype(float))
                rows.append(
                    {
                        "stage": stage,
                        "pair": pair,
                        "accuracy": accuracy.value,
                        "low": accuracy.low,
                        "high": accuracy.high,
                        "n": accuracy.n,
                    }
                )
        return pd.DataFrame(rows)

    def loss(self) -> pd.DataFrame:
        """One row a stage: accuracy that the base's linear probe loses on the tuned model."""
        rows = []
        pairs = zip(self.right[PAIRS[0]], self.right[PAIRS[1]], strict=True)
        for stage, (own, other) in enumerate(pairs):
            d = paired_difference(own.astype(float), other.astype(float))
            rows.append(
                {
                    "stage": stage,
                    "difference": d.difference,
                    "low": d.low,
                    "high": d.high,
                    "p": d.p,
                    "n": d.n,
                }
            )
        return pd.DataFrame(rows)


def number_examples() -> list[tuple[str, str]]:
    """Sentence beginnings, each with the grammatical number of its subject: "one" or "many"."""
    singular = {one for one, _ in VERBS}
    examples = []
    for doc in agreement():
        verb = doc["choices"][doc["gold"]]
        examples.append((doc["query"], "one" if verb in singular else "many"))
    return examples


def intent_examples() -> list[tuple[str, str]]:
    """Short requests, each with its intent."""
    return [(doc["query"], doc["choices"][doc["gold"]]) for doc in intents()]


QUESTIONS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "number of the subject": number_examples,
    "intent of the request": intent_examples,
}
"""Questions that need no data set, as their examples are generated here."""


@own_modes
def probe_transfer(
    base: Subject,
    tuned: Subject,
    examples: Examples | str = "number of the subject",
    *,
    seed: int = 0,
    progress: Report | None = None,
) -> Transfer:
    """Accuracy of linear probes of the base on the tuned model, layer by layer.

    Logistic regression is trained on the residual stream at the last token of half of the texts,
    and tested on the other half.

    Args:
        base: The model on which the linear probes are trained.
        tuned: The model on which they are tested; for reference it also gets linear probes of its
            own.
        examples: (text, label) pairs, or one of `QUESTIONS`.
        seed: Of the split in halves, which is stratified by label.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer or shape, the question is unknown, or a
            label has fewer than two texts.
    """
    need(base, tuned, "layers")
    pairs = _examples(examples)
    labels = np.array([label for _, label in pairs])
    train, test = _halves(labels, seed)
    streams = [
        _last_tokens(subject, tuned, [text for text, _ in pairs]) for subject in (base, tuned)
    ]
    sides = {PAIRS[0]: (0, 0), PAIRS[1]: (0, 1), PAIRS[2]: (1, 1)}
    stages = len(streams[0])
    right = {pair: np.zeros((stages, len(test)), bool) for pair in PAIRS}
    for stage in range(stages):
        if progress is not None:
            progress(stage / stages, f"linear probe of layer {stage} of {stages - 1}")
        fitted = [_fit(side[stage][train], labels[train]) for side in streams]
        for pair, (trained, tested) in sides.items():
            right[pair][stage] = (
                fitted[trained].predict(streams[tested][stage][test]) == labels[test]
            )
    _, counts = np.unique(labels[test], return_counts=True)
    return Transfer(
        base=base.name,
        tuned=tuned.name,
        question=examples if isinstance(examples, str) else "the label",
        right=right,
        chance=float(counts.max() / len(test)),
        trained=len(train),
    )


def _examples(examples: Examples | str) -> list[tuple[str, str]]:
    if isinstance(examples, str):
        if examples not in QUESTIONS:
            raise WorkbenchError(
                f"There is no question {examples!r} for linear probes; choose one of "
                f"{', '.join(QUESTIONS)}, or give (text, label) pairs."
            )
        return QUESTIONS[examples]()
    return [(str(text), str(label)) for text, label in examples]


def _halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(labels)), test_size=0.5, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise WorkbenchError(
            f"The texts cannot be halved with every label on both sides: {error}"
        ) from error
    return np.asarray(train), np.asarray(test)


def _last_tokens(
    subject: Subject, other: Subject, texts: list[str]
) -> Float[np.ndarray, "stage text d_model"]:
    """The residual stream at every text's last token, by stage."""
    rows = same_ids(subject, other, texts, subject.n_ctx)
    if len(rows) != len(texts):
        raise WorkbenchError("Some texts have fewer than two tokens; leave them out.")
    streams = np.zeros((subject.card.n_layers + 1, len(rows), subject.card.d_model), np.float32)
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        ids, _ = padded(part)
        last = [row.shape[1] - 1 for row in part]

        def store(stage: int, stream: Tensor, start: int = start, last: list[int] = last) -> None:
            at_last = stream[range(len(last)), last]
            streams[stage, start : start + len(last)] = at_last.float().cpu().numpy()

        each_stream(subject, ids, store)
    return streams


def _fit(values: Float[np.ndarray, "text d_model"], labels: np.ndarray) -> Any:
    """A logistic regression on standardised values."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return classifier.fit(values, labels)
