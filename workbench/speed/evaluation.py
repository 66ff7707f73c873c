"""`workbench bench eval`: our engine against lm-eval's `hf` model, on the same tasks and items."""

import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from workbench.benchmarks.documents.sources import MissingDataError
from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.tasks import load_tasks, pick, quiet
from workbench.errors import WorkbenchError

MODEL = "SmolLM2-135M-Instruct.Q4_1"
TASKS = {
    "clinc150": 40,
    "arc_easy": 40,
    "hellaswag": 30,
    "winogrande": 60,
    "blimp": 335,
    "intents": 40,
    "passage": 10,
}
"""The tasks measured, and how many documents of each."""
BATCH_SIZES = (1, 8, 32)


def bench_eval(
    progress: Callable[[str], None], model: str = MODEL, scale: float = 1.0
) -> list[dict[str, Any]]:
    """One row per task: our seconds, the reference's at its best batch size, and how scores differ.

    Args:
        progress: Called with what is being measured.
        model: Any name that `load` takes.
        scale: Factor on the numbers of documents in `TASKS`.

    Returns:
        Rows with

        - `ours_s`, `reference_s`, `ratio`, `reference_batch`: seconds, and the best batch size
        - `max_abs_diff`: largest difference of a log-likelihood, in nats
        - `n_over_1e-3` of `n_scores`: how many differ by more (float32 itself may be off by that
          from float64, in the reference too)
        - `same_accuracy`: whether all accuracies are equal
        - `memory_gb`: that our engine added
        - `tokens`: computed tokens per requested token, padding included
        - `body`, `head`, `rest`: shares of our seconds in the model below the unembedding, in
          unembedding and softmax, and in prompts, planning and metrics

    Raises:
        WorkbenchError: If the data of no task is available.
    """
    from lm_eval.models.huggingface import HFLM

    from workbench.subjects import load

    quiet()
    subject: Any = load(model)
    before = psutil.Process().memory_info().rss
    lm = SubjectLM(subject)
    shared: Any = {"pretrained": subject.model, "tokenizer": subject.tokenizer}
    for side in (lm, HFLM(**shared)):
        _timed(side, "agreement", [0, 1])  # warm up; ours tests the model's abilities once
    rows = []
    for name, count in TASKS.items():
        try:
            task = load_tasks(name)[name]
        except MissingDataError as error:
            progress(f"{name} left out: {error}")
            continue
        progress(
            f"{name}: ours, then lm-eval's hf model with batches of "
            f"{', '.join(map(str, BATCH_SIZES))}"
        )
        documents = pick(task, max(1, int(count * scale)), 0) or list(range(len(task.eval_docs)))
        with Spent(lm) as spent:
            ours_s, ours = _timed(lm, name, documents)
        memory = psutil.Process().memory_info().rss - before
        best: tuple[float, int, Any] | None = None
        for size in BATCH_SIZES:
            seconds, samples = _timed(HFLM(**{**shared, "batch_size": size}), name, documents)
            if best is None or seconds < best[0]:
                best = seconds, size, samples
        assert best is not None
        differences = _differences(ours, best[2])
        rows.append(
            {
                "case": f"{name}, {len(documents)} documents",
                "ours_s": ours_s,
                "reference_s": best[0],
                "ratio": best[0] / ours_s,
                "reference_batch": best[1],
                "max_abs_diff": float(differences.max()),
                "n_scores": len(differences),
                "n_over_1e-3": int((differences > 1e-3).sum()),
                "same_accuracy": _accuracies(ours) == _accuracies(best[2]),
                "memory_gb": round(memory / 2**30, 2),
                **spent.shares(ours_s),
            }
        )
    if not rows:
        raise WorkbenchError("No task of the bench has its data here; set WORKBENCH_DATA.")
    return rows


class Spent:
    """A context that counts an engine's tokens, and its seconds in the parts of the model."""

    def __init__(self, lm: SubjectLM) -> None:
        self._lm = lm
        self.asked = self.computed = 0
        self.scorer_s = self.body_s = 0.0

    def __enter__(self) -> "Spent":
        scorer = self._lm.scorer
        body = self._lm.subject.model.base_model
        run = scorer.run

        def counted(batch: Any) -> Any:
            self.asked += sum(len(request.inputs) for row in batch for request in row.requests)
            self.computed += len(batch) * max(row.length for row in batch)
            hooks = [
                body.register_forward_pre_hook(self._begin),
                body.register_forward_hook(self._end),
            ]
            began = time.perf_counter()
            scores = run(batch)
            self.scorer_s += time.perf_counter() - began
            for hook in hooks:
                hook.remove()
            return scores

        scorer.run = counted
        return self

    def __exit__(self, *_: object) -> None:
        del self._lm.scorer.run

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.body_s += time.perf_counter() - self._began

    def shares(self, seconds: float) -> dict[str, float]:
        """Computed tokens per requested token, and each part's share of `seconds`."""
        parts = {
            "body": self.body_s,
            "head": self.scorer_s - self.body_s,
            "rest": seconds - self.scorer_s,
        }
        shares = {name: round(part / seconds, 3) for name, part in parts.items()}
        return {"tokens": round(self.computed / max(1, self.asked), 3), **shares}


def _timed(lm: Any, name: str, documents: list[int]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of a task with lm-eval's evaluator, and its samples in order of documents."""
    from lm_eval.evaluator import evaluate

    tasks: Any = {"tasks": load_tasks(name), "groups": {}}
    began = time.perf_counter()
    output: Any = evaluate(
        lm, tasks, samples={name: documents}, bootstrap_iters=0, log_samples=True
    )
    return time.perf_counter() - began, sorted(
        output["samples"][name], key=lambda sample: sample["doc_id"]
    )


def _differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> torch.Tensor:
    """The absolute difference of each log-likelihood, in nats: `[score]`."""
    return (_scores(ours) - _scores(theirs)).abs()


def _scores(samples: list[dict[str, Any]]) -> torch.Tensor:
    """The log-likelihoods of all samples in order: `[score]`."""
    answers = [torch.tensor(s["filtered_resps"], dtype=torch.float64) for s in samples]
    return torch.cat([answer[..., :1].flatten() for answer in answers])


def _accuracies(samples: list[dict[str, Any]]) -> list[float]:
    """Every accuracy metric of every sample."""
    return [
        sample[metric]
        for sample in samples
        for metric in sample["metrics"]
        if metric.startswith("acc")
    ]
