"""lm-eval's own API model over the live server gives the log-likelihoods of `workbench eval`."""

from typing import Any, cast

import pytest

import workbench
from tests.serving.conftest import ROOT
from workbench.benchmarks.engine.lm import SubjectLM
from workbench.benchmarks.tasks import load_tasks, quiet

TASKS = {"agreement": 8, "intents": 4, "ioi": 8}


def scores(lm: Any, name: str, n: int) -> list[float]:
    """Every log-likelihood of the first documents of a task."""
    from lm_eval.evaluator import evaluate

    tasks: Any = {"tasks": load_tasks(name), "groups": {}}
    output: Any = evaluate(
        lm, tasks, samples={name: list(range(n))}, bootstrap_iters=0, log_samples=True
    )
    return [
        float(answer[0])
        for sample in output["samples"][name]
        for answer in sample["filtered_resps"]
    ]


@pytest.mark.parametrize("which", ["shelf-base", "edit"])
def test_lm_eval_over_the_api_agrees(live, which):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    quiet()
    name = live.edit if which == "edit" else which
    remote = cast("Any", LocalCompletionsAPI)(
        model=name,
        base_url=f"{live.v1}/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(ROOT / "models" / "shelf-base"),
        max_length=257,
        batch_size=8,
    )
    ours = SubjectLM(workbench.load(name))
    for task, n in TASKS.items():
        wanted = scores(ours, task, n)
        assert len(wanted) >= n and scores(remote, task, n) == pytest.approx(wanted, abs=1e-4)
