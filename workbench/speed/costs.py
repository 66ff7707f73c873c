"""`workbench bench costs`: the time that `costs` predicts against the time that was then taken."""

import time
from collections.abc import Callable
from typing import Any

import torch

from workbench.benchmarks import evaluate
from workbench.budget.machine import machine
from workbench.budget.patching import of_map
from workbench.budget.recipes import of_recipe
from workbench.budget.suites import of_suite
from workbench.budget.work import size_of
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject, load
from workbench.training import Recipe, pretrain
from workbench.training.changes import changed
from workbench.training.finetune import trial
from workbench.training.loop import mean_loss
from workbench.training.stepper import Stepper

STEPS = {"tiny": 60, "shakespeare-char": 30, "shelf-base": 6, "finetune-intents": 4}
"""Measured steps of each recipe."""
TOKENS = 32
"""Of the prompts of a patching map."""
LIMIT = 60
"""Documents of a task."""
EVALUATED = 2048
"""Tokens of a fine-tune's measured evaluation, about those of a batch."""


def bench(progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row a case: predicted and measured seconds, and the share that was predicted."""
    here = machine(again=True)
    rows = []
    for name, steps in STEPS.items():
        progress(f"{name}: {steps} steps")
        recipe = changed(Recipe.read(name), steps=steps, eval_every=steps)
        if recipe.kind == "finetune":
            recipe = unasked(changed(recipe, eval_tokens=EVALUATED))
        case = f"{name}, {steps} steps and an evaluation"
        predicted = of_recipe(recipe).work.seconds_on(here)
        rows.append(_row(case, predicted, *_trained(recipe)))
    subject = load("shelf-base")
    progress("suite core")
    predicted = of_suite("core", subject, LIMIT).work.seconds_on(here)
    took = _timed(lambda: evaluate(subject, "core", limit=LIMIT, cache=False))
    rows.append(_row(f"core, {LIMIT} documents a task", predicted, *took))
    progress("a patching map")
    predicted = of_map(size_of(subject.model), TOKENS).work.seconds_on(here)
    rows.append(_row(f"layer x position, {TOKENS} tokens", predicted, *_mapped(subject)))
    return rows


def unasked(recipe: Recipe) -> Recipe:
    """A fine-tune that answers one question before and after, as those are not measured here."""
    return Recipe.from_dict({**recipe.to_dict(), "task": {**recipe.task, "eval_items": 1}})


def _row(case: str, predicted: float, measured: float, cpu: float) -> dict[str, Any]:
    """A row; beside neighbours, the processor's time says more than the clock's."""
    return {
        "case": case,
        "predicted_s": predicted,
        "measured_s": measured,
        "cpu_s": cpu,
        "ratio": predicted / measured,
        "ratio_to_cpu": predicted / cpu,
    }


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and seconds of the processor for each thread."""
    began = time.perf_counter()
    used = time.process_time()
    work()
    cpu = (time.process_time() - used) / torch.get_num_threads()
    return time.perf_counter() - began, cpu


def _trained(recipe: Recipe) -> tuple[float, float]:
    """Seconds of a recipe's steps and of its last evaluation; data and model are made before."""
    if recipe.kind == "finetune":
        trainee, batch, stepper_of = trial(recipe)
        validation: list[Any] = [batch(0)]
    else:
        trainee, tokens = pretrain.setup(recipe)
        batch, validation = pretrain.batches(recipe, trainee, tokens)
        stepper_of = Stepper
    stepper = stepper_of(trainee, recipe.train)
    stepper.step(batch(0), 0)  # the first one makes the optimiser's moments

    def steps() -> None:
        for step in range(recipe.train.steps):
            loss, _ = stepper.step(batch(step), step)
            float(loss)
        mean_loss(stepper.accelerator, stepper.best_model, validation)

    return _timed(steps)


def _mapped(subject: Subject) -> tuple[float, float]:
    """Seconds of a map of two random prompts that differ everywhere, the engine being warm."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, subject.card.d_vocab, (2, TOKENS), generator=generator)
    ids[1] = torch.where(ids[1] == ids[0], (ids[1] + 1) % subject.card.d_vocab, ids[1])
    question = Pair(ids[0].to(subject.device), ids[1].to(subject.device), (5,), (6,))
    run_sweep(subject, question, Settings())
    return _timed(lambda: run_sweep(subject, question, Settings()))
