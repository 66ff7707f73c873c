"""One update of a model's weights: gradients in parts, clipping, optimisers, a moving average.

The random state of a step depends on its number only, so that a resumed run repeats it exactly.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects.gpt import WorkbenchGPTModel
from workbench.training import resources, sharding
from workbench.training.attending import keep_short_patterns
from workbench.training.averaging import Averaged
from workbench.training.compiling import PartLoss, summed_loss
from workbench.training.feeding import moved
from workbench.training.optim import optimizers, set_rate
from workbench.training.recipe import Optimisation
from workbench.training.rows import IGNORED
from workbench.training.two_texts import TwoTexts

__all__ = ["IGNORED", "Batch", "Stepper", "Trainee", "precision", "summed_loss"]

Batch = tuple[Int[Tensor, "_batch _pos"] | TwoTexts, Int[Tensor, "_batch _pos"]]
"""Inputs (of an encoder-decoder both texts), and the target of each position (-100: not scored).
Batches may differ in size.
"""


@dataclass
class Trainee:
    """A model in training.

    - `first`: the step to start from
    - `folder`: the checkpoint that holds the optimiser's state of that step, None for a new run
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    first: int = 0
    folder: Path | None = None


def precision(wanted: str) -> str:
    """Accelerate's name of a mixed precision; "auto" is bf16 where the hardware multiplies it."""
    if wanted not in ("auto", "no", "bf16"):
        raise WorkbenchError(f"The precision is {wanted!r}; it must be auto, no or bf16.")
    if wanted != "auto":
        return wanted
    # bf16 has float32's range, so that no loss scaling is needed; float16 would need it. Where the
    # hardware only emulates bf16, it is slower than float32.
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


class Stepper:
    """Updates a model's weights, one step at a time.

    Holds the model, its optimisers and its moving average, wherever accelerate has put them.

    Args:
        trainee: Its model is moved to the device and trained in place.
        settings: The `[train]` table of the recipe.
        saved: What `state` returned at the checkpoint to resume from; None for a new run.

    Raises:
        WorkbenchError: For settings that exclude each other or do not fit the processes.
    """

    def __init__(
        self, trainee: Trainee, settings: Optimisation, saved: dict[str, Any] | None = None
    ):
        # accelerate keeps the first precision of a process for good, unless its state is reset.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=precision(settings.precision))
        self.settings = settings
        # Gradient accumulation: a batch is computed in so many parts. Doubles when memory runs out.
        self.parts = max(1, settings.accumulate)
        device = self.accelerator.device
        model: PreTrainedModel = cast(Any, trainee.model).to(device)
        self.average = self._averaged(model, saved)
        if settings.checkpointing:
            model.gradient_checkpointing_enable()
        for module in model.modules():
            if isinstance(module, WorkbenchGPTModel):
                module.keep_rotations()
        if device.type == "cpu" and self.accelerator.mixed_precision == "bf16":
            keep_short_patterns(model)
        several = self.accelerator.num_processes > 1
        if settings.compile and several:
            model.compile()  # in place, so that the names of parameters stay as they are
        # Optimisers hold references to parameters, so sharding must replace those first.
        self.sharded = self._shard(model)
        opts: list[Any] = optimizers(model, settings)
        if saved is not None:
            for opt, old in zip(opts, saved["optimizers"], strict=True):
                opt.load_state_dict(old)
                # Checkpoints hold full moments, so that any number of processes can resume.
                sharding.scatter(opt)
        # FSDP2 has wrapped a sharded model already; accelerate would wrap it in DDP once more. In
        # one process it would only copy all logits to float32, which the loss does as it reads.
        wraps = several and not self.sharded
        self.model: Any = self.accelerator.prepare(model) if wraps else model
        self._loss = PartLoss(device.type, settings, alone=not several)
        self.opts = [self.accelerator.prepare(opt) for opt in opts]
        self.device = device.type
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
        self.rate = resources.matrix_rate(self.device, dtype)
        # Counting parameters walks the model: once per width of the batch is enough.
        self.flops_per_token = cache(partial(resources.flops_per_token, model))

    def _averaged(self, model: PreTrainedModel, saved: dict[str, Any] | None) -> Averaged | None:
        """An exponential moving average of the weights, or None where the recipe asks for none."""
        if not self.settings.ema:
            return None
        average = Averaged(model, self.settings.ema)
        if saved is not None:
            # A checkpoint's weights are the average; those in training are part of the state.
            average.n_averaged = saved["averaged"]
            model.load_state_dict(saved["weights"])
        return average

    def _shard(self, model: PreTrainedModel) -> bool:
        """Split the weights over the processes where the recipe says so; whether that was done."""
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
        # Each process takes every P-th row, and FSDP2 needs all of them to run the same passes.
        sharding.shard(model, self.accelerator)
        return True

    def step(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Update the weights once; returns the batch's mean loss and the gradient's norm.

        Args:
            batch: The rows of all processes; each computes its share.
            number: Of the step, from 0; decides learning rate and random state.

        Returns:
            The loss in nats per scored token, and the norm before clipping. Both are tensors, so
            that a GPU need not be waited for.
        """
        # Dropout of a resumed run must be what it would have been: seed by the step's number.
        torch.manual_seed((self.settings.seed << 32) + number)
        with resources.matrices(self.device, self.settings.precision):
            return self._update(batch, number)

    def _update(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        self._loss.begin(number)
        loss = self._fitting_gradients(batch)
        # One norm over all parameters: their relative sizes stay, only the step gets shorter.
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        set_rate(self.opts, number, self.settings)
        for opt in self.opts:
            opt.step()
            opt.zero_grad()
        if self.average is not None:
            self.average.update(self.accelerator.unwrap_model(self.model))
        return loss, sharding.whole(torch.as_tensor(norm))

    def facts(self, done: int) -> dict[str, float]:
        """What is logged with the loss after `done` steps; nothing, but for private training."""
        return {}

    def _fitting_gradients(self, batch: Batch) -> Tensor:
        """Gradients of the batch, computed in more parts as long as memory runs out."""
        while True:
            try:
                return self._gradients(*batch)
            except RuntimeError as error:
                if not resources.out_of_memory(error):
                    raise
                self._use_less_memory(len(batch[0]))

    def _gradients(self, inputs: Tensor | TwoTexts, targets: Tensor) -> Tensor:
        """Accumulate the gradient of the batch's mean loss in `.grad`; returns that loss."""
        self.model.train()
        acc = self.accelerator
        inputs = moved(inputs, acc.device)
        targets = moved(targets, acc.device)
        # The mean is over all scored tokens of the batch, so parts may hold different numbers.
        n_scored = (targets != IGNORED).sum().clamp(min=1)
        # Process p of P takes rows p, p + P, ...: [batch / P, pos]
        mine = slice(acc.process_index, None, acc.num_processes)
        inputs = inputs[mine]
        targets = targets[mine]
        parts = list(zip(inputs.chunk(self.parts), targets.chunk(self.parts), strict=True))
        total = torch.zeros((), device=acc.device)
        for i, (x, y) in enumerate(parts):
            with self._synchronising(last=i == len(parts) - 1), acc.autocast():
                loss = self._loss(self.model, x, y) / n_scored
                # Processes average their gradients, but the sum over them is wanted.
                acc.backward(loss * acc.num_processes)
            total += loss.detach()  # kept on the device: float() would wait for it
        # Each process has summed its own rows, divided by the scored tokens of all.
        return cast(Tensor, acc.reduce(total, "sum")) if acc.num_processes > 1 else total

    def _synchronising(self, *, last: bool) -> AbstractContextManager[Any]:
        """The context of one part's backward pass: gradients are exchanged with the last only."""
        # Exchanging the sum of all parts once costs less than exchanging every part.
        if self.sharded:
            self.model.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def _use_less_memory(self, size: int) -> None:
        """Double the number of parts, or raise where the recipe fixes it or a part is one row."""
        for opt in self.opts:
            opt.zero_grad()  # the gradients of the parts that did fit
        if self.settings.accumulate or self.parts >= size:
            fits = max(1, size // self.parts // 2)
            raise WorkbenchError(
                f"Out of memory with {size // self.parts} rows at a time; set accumulate = "
                f"{2 * self.parts} (the same steps, {fits} rows at a time), or 0 to let it find "
                f"out, or batch_size = {fits}."
            )
        self.parts *= 2
        if self.device == "cuda":
            torch.cuda.empty_cache()  # blocks cached for the large parts do not fit the small ones

    @property
    def best_model(self) -> PreTrainedModel:
        """The model to evaluate and save: the moving average if there is one."""
        if self.average is not None:
            return self.average.module
        return self.accelerator.unwrap_model(self.model)

    def weights(self) -> dict[str, Tensor] | None:
        """The full weights if the model holds only shards, else None; call on all processes."""
        return sharding.weights(self.best_model) if self.sharded else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs besides the weights; call on all processes."""
        state: dict[str, Any] = {
            "optimizers": [sharding.gathered(opt.state_dict()) for opt in self.opts]
        }
        if self.average is not None:
            # The checkpoint's own weights are the average, so those in training come along.
            state["averaged"] = self.average.n_averaged
            state["weights"] = self.accelerator.unwrap_model(self.model).state_dict()
        return state
