"""Does a linear probe that was trained on the base still read the tuned model? Layer by layer, on
held-out texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
"""Which model a probe was trained on, and on which it is tested."""
AT_ONCE = 16
"""Texts a forward pass."""
Examples = Sequence[tuple[str, str]]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Transfer(Record):
    """Accuracy of linear probes on held-out texts, before the first layer (stage 0) and after each.

    `right` holds `[stage, text]` for each of `PAIRS`; `question` says what is read, `chance` is the
    share of the commonest label, `trained` counts the texts that the probes were trained on.
    """

    base: str
    tuned: str
    question: str
    right: dict[str, Bool[np.ndarray, "stage text"]]
    chance: float
    trained: int

    def to_frame(self) -> pd.DataFrame:
        """One row a stage and pair: accuracy with its 95 % interval (exact) and n."""
        rows = []
        for pair, right in self.right.items():
            for stage, row in enumerate(right):
                found = estimate_mean(row.astype(float))
                rows.append(
                    {"stage": stage, "pair": pair, "accuracy": found.value, "low": found.low}
                )
                rows[-1] |= {"high": found.high, "n": found.n}
        return pd.DataFrame(rows)

    def loss(self) -> pd.DataFrame:
        """What the base's probe loses on the tuned model, paired over texts: one row a stage."""
        rows = []
        for stage, (own, other) in enumerate(
            zip(self.right[PAIRS[0]], self.right[PAIRS[1]], strict=True)
        ):
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
    """Beginnings of sentences with the grammatical number of their subject, which the next verb
    must have.
    """
    singular = {one for one, _ in VERBS}
    docs = agreement()
    return [
        (doc["query"], "one" if doc["choices"][doc["gold"]] in singular else "many") for doc in docs
    ]


def intent_examples() -> list[tuple[str, str]]:
    """Short requests with the intent behind each."""
    return [(doc["query"], doc["choices"][doc["gold"]]) for doc in intents()]


QUESTIONS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "number of the subject": number_examples,
    "intent of the request": intent_examples,
}
"""What can be asked without any data set: both lists are made here."""


@own_modes
def probe_transfer(
    base: Subject,
    tuned: Subject,
    examples: Examples | str = "number of the subject",
    *,
    seed: int = 0,
    progress: Report | None = None,
) -> Transfer:
    """Train logistic regression on the stream at the last token of half the texts, and test it on
    the other half.

    Args:
        base: The model on which probes are trained.
        tuned: The model on which they are tested; for scale, it also has probes of its own.
        examples: (text, label) pairs, or one of `QUESTIONS`.
        seed: Of the split in halves, which keeps the share of every label.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: another tokenizer or shape, an unknown question, or fewer than two texts of
            some label.
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
            progress(stage / stages, f"probe of layer {stage} of {stages - 1}")
        fitted = [_fit(side[stage][train], labels[train]) for side in streams]
        for pair, (trained, tested) in sides.items():
            right[pair][stage] = (
                fitted[trained].predict(streams[tested][stage][test]) == labels[test]
            )
    _, counts = np.unique(labels[test], return_counts=True)
    question = examples if isinstance(examples, str) else "the label"
    return Transfer(
        base.name, tuned.name, question, right, float(counts.max() / len(test)), len(train)
    )


def _examples(examples: Examples | str) -> list[tuple[str, str]]:
    if isinstance(examples, str):
        if examples not in QUESTIONS:
            raise WorkbenchError(
                f"No probe asks {examples!r}; there are: {', '.join(QUESTIONS)}; or give pairs."
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
    """The stream at every text's last token, by stage."""
    rows = same_ids(subject, other, texts, subject.n_ctx)
    if len(rows) != len(texts):
        raise WorkbenchError("Some texts have fewer than two tokens; leave them out.")
    found = np.zeros((subject.card.n_layers + 1, len(rows), subject.card.d_model), np.float32)
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        ids, _ = padded(part)
        last = [row.shape[1] - 1 for row in part]

        def look(stage: int, stream: Tensor, start: int = start, last: list[int] = last) -> None:
            found[stage, start : start + len(last)] = (
                stream[range(len(last)), last].float().cpu().numpy()
            )

        each_stream(subject, ids, look)
    return found


def _fit(values: np.ndarray, labels: np.ndarray):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return probe.fit(values, labels)
