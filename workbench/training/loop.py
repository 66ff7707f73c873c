"""One readable training loop over `accelerate`, for pretraining and fine-tuning alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.training import checkpoints
from workbench.training.optim import learning_rate, optimizers
from workbench.training.recipe import Optimisation

Batch = tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]
"""Inputs, and the target of each position (-100: not scored)."""


@dataclass
class Trainee:
    """What is trained and where it stands: `first` is the step to go on from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    first: int = 0


def resumed(tracker: Tracker) -> Trainee | None:
    """The newest checkpoint in the run's folder, or None for a fresh run."""
    found = checkpoints.saved(tracker.folder)
    if not found:
        return None
    model = AutoModelForCausalLM.from_pretrained(found[-1], dtype=torch.float32)
    step = int(found[-1].name.removeprefix("step-"))
    return Trainee(model, AutoTokenizer.from_pretrained(found[-1]), step)


def precision(wanted: str) -> str:
    """Accelerate's word for the mixed precision: bf16 where the hardware multiplies it, else none."""
    if wanted not in ("auto", "no", "bf16"):
        raise WorkbenchError(f"The precision is {wanted!r}; it must be auto, no or bf16.")
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def fit(
    trainee: Trainee,
    settings: Optimisation,
    batch: Callable[[int], Batch],
    validation: list[Batch],
    tracker: Tracker,
) -> dict[str, Any]:
    """Train to `settings.steps`; `batch(step)` must be a pure function, so that a resumed run sees the same data.

    Logs loss (nats a token), validation_loss, lr, grad_norm and tokens_per_s; writes checkpoints into the run's
    folder. Raises `WorkbenchError` when the loss is no longer a number; the last checkpoint is then whole.
    """
    AcceleratorState._reset_state()  # else a process could train in one precision only
    accelerator = Accelerator(mixed_precision=precision(settings.precision))
    opts: list[Any] = optimizers(trainee.model, settings)
    if trainee.first:
        saved = checkpoints.state(checkpoints.saved(tracker.folder)[-1])["optimizers"]
        for opt, old in zip(opts, saved, strict=True):
            opt.load_state_dict(old)
    model, *opts = accelerator.prepare(trainee.model, *opts)
    began, seen, latest, best = time.perf_counter(), 0, float("nan"), float("inf")
    for step in range(trainee.first, settings.steps):
        inputs, targets = (x.to(accelerator.device) for x in batch(step))
        loss, norm = _step(accelerator, model, opts, inputs, targets, learning_rate(step, settings), settings.clip)
        if not loss == loss or loss == float("inf"):
            raise WorkbenchError(f"The loss became {loss} at step {step}; lower lr ({settings.lr}) and start again.")
        done, seen = step + 1, seen + inputs.numel()
        rate = seen / (time.perf_counter() - began)
        tracker.log(done, loss=loss, lr=learning_rate(step, settings), grad_norm=norm, tokens_per_s=rate)
        if done % settings.eval_every == 0 or done == settings.steps:
            latest = mean_loss(accelerator, model, validation)
            best = min(best, latest)
            tracker.log(done, validation_loss=latest)
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            training = {"optimizers": [opt.state_dict() for opt in opts]}
            checkpoints.write(tracker.folder, done, accelerator.unwrap_model(model), trainee.tokenizer, training)
        left = (settings.steps - done) * (time.perf_counter() - began) / (done - trainee.first)
        tracker.progress(done / settings.steps, f"step {done} of {settings.steps}, loss {loss:.3f}, {left:.0f} s left")
    return {
        "steps": settings.steps,
        "validation_loss": latest,
        "best_validation_loss": best,
        "seconds": time.perf_counter() - began,
        "checkpoint": str(checkpoints.saved(tracker.folder)[-1]),
    }


def _step(accelerator, model, opts, inputs: Tensor, targets: Tensor, lr: float, clip: float) -> tuple[float, float]:
    """One update; gives the loss and the gradient's norm before clipping."""
    model.train()
    with accelerator.autocast():
        logits = model(inputs, use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), clip)
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = lr
        opt.step()
        opt.zero_grad()
    return loss.item(), float(norm)


@torch.no_grad()
def mean_loss(accelerator: Accelerator, model: PreTrainedModel, batches: list[Batch]) -> float:
    """Mean loss in nats over all scored tokens."""
    model.eval()
    total, count = 0.0, 0
    for inputs, targets in batches:
        targets = targets.to(accelerator.device)
        with accelerator.autocast():
            logits = model(inputs.to(accelerator.device), use_cache=False).logits
        total += F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum").item()
        count += int((targets != -100).sum())
    return total / max(count, 1)
