"""One readable training loop over `accelerate`, for pretraining and fine-tuning, on one process or
many.

A step's rows are a pure function of its number, and so is its random state: a run that was killed
goes on from its last checkpoint as if nothing had happened.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects.pretrained import read_model
from workbench.subjects.tokenizer_files import read_tokenizer
from workbench.training import checkpoints, resources, sharding
from workbench.training.optim import learning_rate, optimizers
from workbench.training.recipe import Optimisation

Batch = tuple[Int[Tensor, "_batch _pos"], Int[Tensor, "_batch _pos"]]
"""Inputs, and the target of each position (-100: not scored); batches of one list may differ in
size.
"""

IGNORED = -100
FLUSH = {"cuda": 16}
"""Steps between two looks at the loss; each look makes a GPU wait."""


@dataclass
class Trainee:
    """What is trained and where it stands: `first` is the step to go on from, `folder` the
    checkpoint of that step.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    first: int = 0
    folder: Path | None = None


def resumed(tracker: Tracker) -> Trainee | None:
    """The newest whole checkpoint in the run's folder, or None for a fresh run."""
    found = checkpoints.newest_whole(tracker.folder)
    if found is None:
        return None
    model = read_model(found, f"The checkpoint {found}").model
    return Trainee(model, read_tokenizer(found, str(found)), checkpoints.step_of(found), found)


def precision(wanted: str) -> str:
    """Accelerate's word for the mixed precision: bf16 where the hardware multiplies it, else none."""
    if wanted not in ("auto", "no", "bf16"):
        raise WorkbenchError(f"The precision is {wanted!r}; it must be auto, no or bf16.")
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


class Stepper:
    """Makes updates: the model, its optimisers and its average, wherever accelerate has put them."""

    def __init__(
        self, trainee: Trainee, settings: Optimisation, saved: dict[str, Any] | None = None
    ):
        AcceleratorState._reset_state()  # else a process could train in one precision only
        self.accelerator = Accelerator(mixed_precision=precision(settings.precision))
        self.settings = settings
        self.parts = max(1, settings.accumulate)
        device = self.accelerator.device
        model = trainee.model.to(device)
        self.average = None
        if settings.ema:
            average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=False
            )
            self.average = average
            if saved is not None:  # the checkpoint's weights are the average
                average.n_averaged.fill_(saved["averaged"])
                model.load_state_dict(saved["weights"])
        if settings.checkpointing:
            model.gradient_checkpointing_enable()
        if settings.compile:
            model.compile()
        self.sharded = self._shard(model)
        opts: list[Any] = optimizers(model, settings)
        if saved is not None:
            for opt, old in zip(opts, saved["optimizers"], strict=True):
                opt.load_state_dict(old)
                sharding.scatter(opt)
        self.model = model if self.sharded else self.accelerator.prepare(model)
        self.opts = [self.accelerator.prepare(opt) for opt in opts]
        self.device = device.type
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
        self.rate = resources.matrix_rate(self.device, dtype)
        self.flops_per_token = cache(
            partial(resources.flops_per_token, model)
        )  # walks the model, once a width

    def _shard(self, model: PreTrainedModel) -> bool:
        if not self.settings.sharded or self.accelerator.num_processes == 1:
            return False
        if self.average is not None:
            raise WorkbenchError("[train] sharded and ema exclude each other; set ema = 0.")
        if self.settings.batch_size % self.accelerator.num_processes:
            raise WorkbenchError(
                f"[train] batch_size is {self.settings.batch_size}; sharded over "
                f"{self.accelerator.num_processes} processes it must be a multiple of their "
                "number."
            )
        sharding.shard(model, self.accelerator)
        return True

    def step(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """One update; gives the mean loss of the whole batch and the gradient's norm before
        clipping.
        """
        torch.manual_seed((self.settings.seed << 32) + number)
        rate = learning_rate(number, self.settings)
        while True:
            try:
                loss = self._gradients(*batch)
                break
            except RuntimeError as error:
                if not resources.out_of_memory(error):
                    raise
                self._use_less_memory(len(batch[0]))
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for opt in self.opts:
            for group in opt.param_groups:
                group["lr"] = rate
            opt.step()
            opt.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        return loss, sharding.whole(torch.as_tensor(norm))

    def _gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Leave the gradient of the batch's mean loss; each process and part takes its rows of the
        same batch.
        """
        self.model.train()
        acc = self.accelerator
        count = (targets != IGNORED).sum().clamp(min=1)
        mine = slice(acc.process_index, None, acc.num_processes)
        parts = list(
            zip(inputs[mine].chunk(self.parts), targets[mine].chunk(self.parts), strict=True)
        )
        total = torch.zeros((), device=acc.device)
        for i, (x, y) in enumerate(parts):
            with self._apart(last=i == len(parts) - 1), acc.autocast():
                logits = self.model(x.to(acc.device, non_blocking=True), use_cache=False).logits
                loss = _summed(logits, y.to(acc.device, non_blocking=True)) / count.to(acc.device)
                # Processes average their gradients; the sum over them is wanted.
                acc.backward(loss * acc.num_processes)
            total += loss.detach()
        return acc.reduce(total, "sum") if acc.num_processes > 1 else total

    def _apart(self, *, last: bool) -> Any:
        """Processes add up their gradients once a step, with its last part."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)
        return nullcontext() if last or self.sharded else self.accelerator.no_sync(self.model)

    def _use_less_memory(self, size: int) -> None:
        for opt in self.opts:
            opt.zero_grad()
        if self.settings.accumulate or self.parts >= size:
            fits = max(1, size // self.parts // 2)
            raise WorkbenchError(
                f"Out of memory with {size // self.parts} rows at a time; set accumulate = "
                f"{2 * self.parts} (the same steps, {fits} rows at a time), or 0 to let it find "
                f"out, or batch_size = {fits}."
            )
        self.parts *= 2
        if self.device == "cuda":
            torch.cuda.empty_cache()

    @property
    def best_model(self) -> PreTrainedModel:
        """The model to evaluate and save: the average where there is one."""
        return (
            self.average.module
            if self.average is not None
            else self.accelerator.unwrap_model(self.model)
        )

    def weights(self) -> dict[str, Tensor] | None:
        """What to save where the model itself holds but shards, else None; all processes take part."""
        return sharding.weights(self.best_model) if self.sharded else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights; all processes take part."""
        state: dict[str, Any] = {
            "optimizers": [sharding.gathered(opt.state_dict()) for opt in self.opts]
        }
        if self.average is not None:
            state["averaged"] = int(self.average.n_averaged)
            state["weights"] = self.accelerator.unwrap_model(self.model).state_dict()
        return state


def fit(
    trainee: Trainee,
    settings: Optimisation,
    batch: Callable[[int], Batch],
    validation: list[Batch],
    tracker: Tracker,
) -> dict[str, Any]:
    """Train to `settings.steps`; `batch(step)` must be a pure function, so that a resumed run sees
    the same data.

    Logs loss (nats a token), validation_loss, lr, grad_norm, tokens_per_s, mfu and memory_gb;
    writes checkpoints into the run's folder. Raises `WorkbenchError` when the loss is no longer a
    number; the last checkpoint is then whole.
    """
    saved = checkpoints.state(trainee.folder) if trainee.folder else None
    stepper = Stepper(trainee, settings, saved)
    main = stepper.accelerator.is_main_process
    if main:
        tracker.forget(trainee.first)
    began = time.perf_counter()
    seen = 0
    latest = float("nan")
    shown = float("nan")
    best = saved["best"] if saved else float("inf")
    waiting: list[tuple[int, Tensor, Tensor, float]] = []
    for step in range(trainee.first, settings.steps):
        rows = batch(step)
        loss, norm = stepper.step(rows, step)
        done = step + 1
        seen = seen + rows[0].numel()
        waiting.append((done, loss, norm, seen / (time.perf_counter() - began)))
        evaluates = done % settings.eval_every == 0 or done == settings.steps
        saves = checkpoints.due(done, settings)
        if evaluates or saves or done % FLUSH.get(stepper.device, 1) == 0:
            shown = _log(waiting, stepper, rows, settings, tracker)
        facts: dict[str, float] = {"tokens": done * rows[0].numel()}
        if evaluates:
            facts["validation_loss"] = latest = mean_loss(
                stepper.accelerator, stepper.best_model, validation
            )
            best = min(best, latest)
            tracker.log(
                done, validation_loss=latest, memory_gb=resources.peak_memory_gb(stepper.device)
            )
        if saves:
            training = {**stepper.state(), "best": best}
            weights = stepper.weights()
        if saves and main:
            tracker.flush()  # a run that goes on from here has all that was logged before
            kept = (
                tracker.folder,
                done,
                stepper.best_model,
                trainee.tokenizer,
                training,
                settings,
                facts,
            )
            checkpoints.write(*kept, weights=weights)
        left = (settings.steps - done) * (time.perf_counter() - began) / (done - trainee.first)
        tracker.progress(
            done / settings.steps,
            f"step {done} of {settings.steps}, loss {shown:.3f}, {left:.0f} s left",
        )
    stepper.accelerator.wait_for_everyone()
    if (
        trainee.first >= settings.steps
    ):  # cut short after its last checkpoint: nothing is left but to measure
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


def _log(
    waiting: list, stepper: Stepper, rows: Batch, settings: Optimisation, tracker: Tracker
) -> float:
    """Write down the steps since the last look; gives the newest loss."""
    flops = stepper.flops_per_token(rows[0].shape[1])
    value = float("nan")
    for done, loss, norm, rate in waiting:
        value = float(loss)
        if not value == value or value == float("inf"):
            raise WorkbenchError(
                f"The loss became {value} at step {done - 1}; lower lr ({settings.lr:g}) and "
                "start again. The last checkpoint is from before."
            )
        lr = learning_rate(done - 1, settings)
        mfu = rate * flops / stepper.rate / stepper.accelerator.num_processes
        tracker.log(done, loss=value, lr=lr, grad_norm=float(norm), tokens_per_s=rate, mfu=mfu)
    waiting.clear()
    return value


@torch.no_grad()
def mean_loss(accelerator: Accelerator, model: PreTrainedModel, batches: list[Batch]) -> float:
    """Mean loss in nats over all scored tokens; the processes share the batches."""
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for first in range(0, len(batches), accelerator.num_processes):
        at = first + accelerator.process_index
        inputs, targets = batches[
            min(at, len(batches) - 1)
        ]  # a sharded model needs all processes at every turn
        targets = targets.to(accelerator.device)
        with accelerator.autocast():
            logits = model(inputs.to(accelerator.device), use_cache=False).logits
        if at < len(batches):
            total[0] += _summed(logits, targets)
            total[1] += (targets != IGNORED).sum()
    total = accelerator.reduce(total, "sum") if accelerator.num_processes > 1 else total
    return float(total[0] / total[1].clamp(min=1))


def _summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats, in float32."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="sum", ignore_index=IGNORED
    )
