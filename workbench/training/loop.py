"""One readable training loop over `accelerate`, for pretraining and fine-tuning.

It runs on one process or many. The rows of a step and its random state depend on the step's number
only, so a run that was killed resumes from its last checkpoint as if nothing had happened.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from workbench import threads
from workbench.allocator import keep_freed
from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects.kinds import DECODER, SEQ2SEQ
from workbench.subjects.pretrained import read_model
from workbench.subjects.tokenizer_files import read_tokenizer
from workbench.training import checkpoints, resources
from workbench.training.feeding import moved
from workbench.training.optim import learning_rate
from workbench.training.recipe import Optimisation
from workbench.training.stepper import IGNORED, Batch, Stepper, Trainee, summed_loss
from workbench.training.two_texts import logits_of

__all__ = ["Batch", "Stepper", "Trainee", "fit", "mean_loss", "resumed"]

FLUSH = 16
"""Steps between two looks at the loss where several processes train, which must look together."""
EVERY = 1.0
"""Seconds between two looks at the loss elsewhere: each look makes a GPU wait for its queue."""


def resumed(tracker: Tracker) -> Trainee | None:
    """The model of the newest undamaged checkpoint in the run's folder, or None for a new run."""
    checkpoint = checkpoints.newest_whole(tracker.folder)
    if checkpoint is None:
        return None
    kinds = (DECODER, SEQ2SEQ)
    model = read_model(checkpoint, f"The checkpoint {checkpoint}", kinds=kinds).model
    tokenizer = read_tokenizer(checkpoint, str(checkpoint))
    return Trainee(model, tokenizer, checkpoints.step_of(checkpoint), checkpoint)


class _Pending(NamedTuple):
    """A finished step whose loss has not been read from the device yet; `done` counts updates."""

    done: int
    loss: Tensor
    norm: Tensor
    tokens_per_s: float


def fit(
    trainee: Trainee,
    settings: Optimisation,
    batch: Callable[[int], Batch],
    validation: list[Batch],
    tracker: Tracker,
    stepper_of: Callable[..., Stepper] = Stepper,
) -> dict[str, Any]:
    """Train up to `settings.steps` and return the run's result.

    Logs loss (nats per token), validation_loss, lr, grad_norm, tokens_per_s, mfu and memory_gb, and
    writes checkpoints into the run's folder.

    Args:
        trainee: The model, and the step to start from.
        settings: The `[train]` table of the recipe.
        batch: The rows of a step; must depend on its number only, so that a resumed run sees the
            same data.
        validation: Batches for the validation loss.
        tracker: Of the run.
        stepper_of: Makes what updates the weights, from what `Stepper` takes.

    Returns:
        Steps, the last and the best validation loss, seconds, processes, the last checkpoint.

    Raises:
        WorkbenchError: When the loss becomes NaN or infinite; the last checkpoint is then intact.
    """
    keep_freed()
    # The optimiser's moments: without them a resumed run would not repeat the one that was killed.
    saved = checkpoints.state(trainee.folder) if trainee.folder else None
    stepper = stepper_of(trainee, settings, saved)
    # Metrics and checkpoints are written by one process; the others have a silent tracker.
    if stepper.accelerator.is_main_process:
        tracker.forget(trainee.first)  # what a killed run logged after its last checkpoint
    began = time.perf_counter()
    n_tokens = 0
    latest = float("nan")  # validation loss
    shown = float("nan")  # training loss
    best = saved["best"] if saved else float("inf")
    waiting: list[_Pending] = []
    looked = began
    for step in range(trainee.first, settings.steps):
        threads.fit()
        rows = batch(step)  # inputs and targets, [batch, pos] each
        loss, norm = stepper.step(rows, step)
        done = step + 1
        n_tokens += rows[0].numel()
        # Reading the loss would make a GPU wait for its queue, so steps are logged in groups.
        waiting.append(_Pending(done, loss, norm, n_tokens / (time.perf_counter() - began)))
        evaluates = done % settings.eval_every == 0 or done == settings.steps
        saves = checkpoints.due(done, settings)
        if evaluates or saves or _looks(stepper, done, looked):
            shown = _log(waiting, stepper, rows, settings, tracker)
            looked = time.perf_counter()
        # Stored beside a checkpoint, so that the best one can be told without the log.
        facts: dict[str, float] = {"tokens": done * rows[0].numel()}
        if evaluates:
            # All processes take part: they share the batches, and gather shards.
            latest = mean_loss(stepper.accelerator, stepper.best_model, validation)
            best = min(best, latest)
            facts["validation_loss"] = latest
            memory = resources.peak_memory_gb(stepper.device)
            tracker.log(done, validation_loss=latest, memory_gb=memory)
        if saves:
            _save(stepper, trainee, tracker, done, best, facts)
        # Seconds left, by the mean pace since this process began.
        left = (settings.steps - done) * (time.perf_counter() - began) / (done - trainee.first)
        tracker.progress(
            done / settings.steps,
            f"step {done} of {settings.steps}, loss {shown:.3f}, {left:.0f} s left",
        )
    # The result names the last checkpoint, which the main process may still be writing.
    stepper.accelerator.wait_for_everyone()
    if trainee.first >= settings.steps:
        # The run was killed after its last checkpoint: only the measurement is missing.
        latest = mean_loss(stepper.accelerator, stepper.best_model, validation)
        best = min(best, latest)
    return {
        "steps": settings.steps,
        "validation_loss": latest,
        "best_validation_loss": best,
        "seconds": time.perf_counter() - began,
        "processes": stepper.accelerator.num_processes,
        "checkpoint": str(checkpoints.saved(tracker.folder)[-1]),
    }


def _looks(stepper: Stepper, done: int, looked: float) -> bool:
    """Whether the loss is looked at after a step that is neither evaluated nor saved."""
    if stepper.device == "cpu":
        return True
    if stepper.accelerator.num_processes > 1:
        return done % FLUSH == 0
    return time.perf_counter() - looked >= EVERY


def _save(
    stepper: Stepper,
    trainee: Trainee,
    tracker: Tracker,
    done: int,
    best: float,
    facts: dict[str, float],
) -> None:
    """Write a checkpoint: all processes gather what is sharded, the main one writes."""
    training = {**stepper.state(), "best": best}
    weights = stepper.weights()
    if not stepper.accelerator.is_main_process:
        return
    tracker.flush()  # a run that resumes here must find all that was logged before
    checkpoints.write(
        tracker.folder,
        done,
        stepper.best_model,
        trainee.tokenizer,
        training,
        stepper.settings,
        facts,
        weights=weights,
    )


def _log(
    waiting: list[_Pending], stepper: Stepper, rows: Batch, settings: Optimisation, tracker: Tracker
) -> float:
    """Log the steps since the last look and empty the list; returns the newest loss."""
    flops = stepper.flops_per_token(rows[0].shape[1])
    value = float("nan")
    # Here a GPU is waited for, once for all steps.
    read = torch.stack([torch.stack([p.loss.float(), p.norm.float()]) for p in waiting]).tolist()
    for (done, _, _, rate), (value, norm) in zip(waiting, read, strict=True):
        if (math.isnan(value) and len(rows[0])) or value == float("inf"):
            raise WorkbenchError(
                f"The loss became {value} at step {done - 1}; lower lr ({settings.lr:g}) and start "
                "again. The last checkpoint is from before."
            )
        # Model FLOPs utilisation: what was computed per second over what the machine multiplies.
        mfu = rate * flops / stepper.rate / stepper.accelerator.num_processes
        lr = learning_rate(done - 1, settings)
        facts = {"lr": lr, "tokens_per_s": rate, "mfu": mfu, **stepper.facts(done)}
        tracker.log(done, loss=value, grad_norm=norm, **facts)
    waiting.clear()
    return value


@torch.no_grad()
def mean_loss(accelerator: Accelerator, model: PreTrainedModel, batches: list[Batch]) -> float:
    """Mean loss in nats over all scored tokens; the processes share the batches.

    Args:
        accelerator: Gives the device, the precision and the processes.
        model: Is left in eval mode.
        batches: The same on all processes.
    """
    model.eval()  # no dropout; `Stepper` switches back with its next step
    # Sum and count, in float64: a float32 sum over many tokens would lose digits.
    total = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for first in range(0, len(batches), accelerator.num_processes):
        at = first + accelerator.process_index
        # Every process runs every turn, as shards are gathered by all; one without a batch of its
        # own repeats the last and does not count it.
        inputs, targets = batches[min(at, len(batches) - 1)]
        targets = moved(targets, accelerator.device)
        with accelerator.autocast():
            logits = logits_of(model, moved(inputs, accelerator.device))
        if at < len(batches):
            total[0] += summed_loss(logits, targets)
            total[1] += (targets != IGNORED).sum()
    if accelerator.num_processes > 1:
        total = cast(Tensor, accelerator.reduce(total, "sum"))
    loss, n_scored = total.tolist()
    return loss / max(1, n_scored)
