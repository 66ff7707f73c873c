"""Measures of behaviour, tokenised once and scored on many models.

A measure is made from a benchmark task, a probe, the held-out examples of a fine-tune, or ordinary
text. It is a list of token sequences to score, and a rule from their log-likelihoods to metrics. So
a hundred variants of a model cost a hundred forward passes and nothing else.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.engine.loglikelihood import Request, Row, Score, Scorer
from workbench.benchmarks.tasks import load_tasks, own_requests, pick
from workbench.data.passages import TEXTS
from workbench.errors import WorkbenchError
from workbench.interp.prompts.probes import generate, read_probe
from workbench.store import Store
from workbench.subjects import Subject
from workbench.training import Recipe

METRICS = {
    "loglikelihood": "log-likelihood of the right answer, nats",
    "choice_loglikelihood": "log-probability of the right choice, nats",
    "acc": "accuracy",
    "logit_difference": "logit of the answer minus logit of the wrong answer",
    "loss": "loss, nats a token",
}
"""Each metric's description."""

PROBE = "probe:"
RUN = "run:"
TEXT = "text"


@dataclass(frozen=True)
class Sample:
    """One sample of a measure.

    Attributes:
        requests: Indices of its requests, one an answer, in the measure's list.
        right: Which of them is the right answer.
        n_tokens: Tokens that are scored, for the loss a token.
    """

    requests: range
    right: int = 0
    n_tokens: int = 1


@dataclass(frozen=True)
class Measure:
    """A measure of behaviour that any model with the same tokenizer can be scored on.

    Attributes:
        name: What `measure_of` accepts.
        title: In words.
        metrics: Keys of `METRICS`, the headline metric first.
        requests: Token sequences to score.
        samples: One an item.
        read: From (scores of a sample's requests, the sample) to its metrics.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    requests: list[Request]
    samples: list[Sample]
    read: Callable[[Sequence[Score], Sample], Sequence[float]]

    @property
    def digest(self) -> str:
        """sha256 of all token ids; measures with the same digest have the same samples."""
        ids = [(request.inputs, request.targets) for request in self.requests]
        return hashlib.sha256(repr(ids).encode()).hexdigest()

    def of(
        self, subject: Subject, batches: list[list[Row]] | None = None
    ) -> Float[np.ndarray, "metric n"]:
        """Every metric of every sample on a model.

        Args:
            subject: The model.
            batches: Of `Scorer.plan`; planned for this model by default.
        """
        scorer = Scorer(subject.model, n_ctx=subject.n_ctx)
        own = scorer.plan(self.requests)  # also tests which shortcuts are exact for the model
        scores: dict[int, Score] = {}
        for batch in batches or own:
            scores |= scorer.run(batch)
        return self.values(scores)

    def values(self, scores: dict[int, Score]) -> Float[np.ndarray, "metric n"]:
        """Every metric of every sample, from the scores of all requests."""
        rows = [self.read([scores[i] for i in sample.requests], sample) for sample in self.samples]
        return np.asarray(rows, dtype=float).T

    def questions(self) -> list[tuple[list[int], list[int]]]:
        """(prompt, right answer) of every sample, as token ids.

        Raises:
            WorkbenchError: the measure is ordinary text, which has no answers.
        """
        if self.name == TEXT:
            raise WorkbenchError(
                "A text has no answer at its end to patch for; choose a task or a probe."
            )
        pairs = []
        for sample in self.samples:
            right = self.requests[sample.requests[sample.right]]
            whole = [*right.inputs, right.targets[-1]]
            cut = len(whole) - len(right.targets)
            pairs.append((whole[:cut], whole[cut:]))
        return pairs


def measure_of(subject: Subject, name: str, *, n: int = 24, seed: int = 0) -> Measure:
    """The measure of this name, tokenised for a model.

    Args:
        subject: The model.
        name: A benchmark task, "probe:NAME", "run:ID" (answers to a fine-tune's own held-out
            examples), or "text" (paragraphs of old books).
        n: Samples.
        seed: Of the samples.

    Raises:
        WorkbenchError: there is no such measure, or its task is not scored by log-likelihoods.
    """
    if n < 2:
        raise WorkbenchError(f"n is {n}; an interval needs at least 2 samples.")
    if name == TEXT:
        return _text(subject, n)
    if name.startswith(RUN):
        return _trained(subject, name, n)
    if name.startswith(PROBE):
        return _probe(subject, name, n, seed)
    return _task(subject, name, n, seed)


def _text(subject: Subject, n: int) -> Measure:
    requests = []
    for text in TEXTS[:n]:
        ids = subject.ids(text)[: subject.n_ctx]
        if len(ids) > 1:
            requests.append(Request(len(requests), tuple(ids[:-1]), tuple(ids[1:])))
    if len(requests) < 2:
        raise WorkbenchError(
            f"The tokenizer of {subject.name} reads next to nothing of ordinary text."
        )
    samples = [Sample(range(i, i + 1), n_tokens=len(r.targets)) for i, r in enumerate(requests)]
    return Measure(
        TEXT,
        "ordinary text",
        ("loss",),
        requests,
        samples,
        lambda scores, sample: [-scores[0].loglikelihood / sample.n_tokens],
    )


def _probe(subject: Subject, name: str, n: int, seed: int) -> Measure:
    probe = read_probe(name.removeprefix(PROBE))
    requests: list[Request] = []
    samples = []
    counts = []
    for item in generate(subject, probe, n, seed).items:
        tokens = (*item.pair.answers, *item.pair.wrongs)
        inputs = tuple(item.pair.clean.tolist())
        start = len(requests)
        requests += [Request(start + i, inputs, (token,)) for i, token in enumerate(tokens)]
        samples.append(Sample(range(start, len(requests))))
        counts.append(len(item.pair.answers))
    if len(set(counts)) != 1:
        raise WorkbenchError(
            f"The probe {probe.name} has pairs with different numbers of answers; choose another."
        )
    k = counts[0]

    def read(scores: Sequence[Score], _sample: Sample) -> Sequence[float]:
        logs = np.array([s.loglikelihood for s in scores])
        answers = logs[:k]
        wrongs = logs[k:]
        difference = answers.mean() - wrongs.mean()
        return difference, np.logaddexp.reduce(answers), float(answers.max() > wrongs.max())

    return Measure(
        name, probe.title, ("logit_difference", "loglikelihood", "acc"), requests, samples, read
    )


def _trained(subject: Subject, name: str, n: int) -> Measure:
    """Answers to a fine-tune's held-out examples, without the end-of-text token."""
    from workbench.training.finetune import held_out_rows

    run = Store().get(name.removeprefix(RUN).partition("@")[0])
    if run.kind != "finetune":
        raise WorkbenchError(
            f"{name} is no fine-tune, so it has no held-out answers; "
            "choose a task, a probe or text."
        )
    requests: list[Request] = []
    for row in held_out_rows(Recipe.from_dict(run.config), subject, n):
        end = len(row.ids) - (row.ids[-1] == subject.tokenizer.eos_token_id)
        start = end
        while start and row.learned[start - 1]:
            start -= 1
        if 0 < start < end:  # in a conversation this is the last reply
            requests.append(
                Request(len(requests), tuple(row.ids[: end - 1]), tuple(row.ids[start:end]))
            )
    if len(requests) < 2:
        raise WorkbenchError(
            f"{name} has fewer than two held-out examples that {subject.name} can be scored on."
        )
    samples = [Sample(range(i, i + 1)) for i in range(len(requests))]
    title = f"held-out examples of {run.config['task']['data']} ({run.title}, {run.id})"
    return Measure(f"{RUN}{run.id}", title, ("loglikelihood", "acc"), requests, samples, _of_one)


def _task(subject: Subject, name: str, n: int, seed: int) -> Measure:
    lm = SubjectLM(subject)
    requests: list[Request] = []
    samples: list[Sample] = []
    for leaf, task in load_tasks(name, seed=seed).items():
        if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
            raise WorkbenchError(
                f"{leaf} is scored by {task.OUTPUT_TYPE.replace('_', ' ')}; a transplant needs a "
                "task with answers to score, such as clinc150, or text."
            )
        indices = pick(task, n, seed)
        task.build_all_requests(samples=indices) if indices else task.build_all_requests()
        by_doc: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_doc.setdefault(instance.doc_id, []).append(instance)
        for of_doc in by_doc.values():
            instances = own_requests(task, of_doc)
            keys = [lm.key(*instance.arguments[:2]) for instance in instances]
            right = _right(task, instances)
            if any(key is None for key in keys) or right is None:
                continue  # nothing to score, or longer than the context
            start = len(requests)
            requests += [Request(start + i, *key) for i, key in enumerate(keys) if key is not None]
            samples.append(Sample(range(start, len(requests)), right))
    if len(samples) < 2:
        raise WorkbenchError(
            f"{name} has fewer than two samples that {subject.name} can be scored on."
        )
    choice = any(len(sample.requests) > 1 for sample in samples)
    metrics = (
        ("loglikelihood", "choice_loglikelihood", "acc") if choice else ("loglikelihood", "acc")
    )
    return Measure(name, name, metrics, requests, samples, _of_choices if choice else _of_one)


def _right(task: Any, instances: list[Any]) -> int | None:
    """Which of an item's requests is the right answer; None if the item does not say."""
    if len(instances) == 1:
        return 0
    doc = instances[0].doc
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(target, str):
        answers = [str(instance.arguments[1]).strip() for instance in instances]
        target = answers.index(target.strip()) if target.strip() in answers else None
    return target if isinstance(target, int) and 0 <= target < len(instances) else None


def _of_choices(scores: Sequence[Score], sample: Sample) -> Sequence[float]:
    logs = np.array([score.loglikelihood for score in scores])
    right = logs[sample.right]
    return right, right - np.logaddexp.reduce(logs), float(logs.argmax() == sample.right)


def _of_one(scores: Sequence[Score], _sample: Sample) -> Sequence[float]:
    return scores[0].loglikelihood, float(scores[0].greedy)
