"""Private training by DP-SGD: each example's gradient is clipped, and noise is added to their sum.

Per-example gradients, clipping, noise and accounting are Opacus's.

Reference:
    Abadi et al. (2016), "Deep Learning with Differential Privacy".
    Mironov et al. (2019), "Renyi Differential Privacy of the Sampled Gaussian Mechanism".
"""

import inspect
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from workbench.errors import WorkbenchError
from workbench.training.feeding import moved
from workbench.training.optim import set_rate
from workbench.training.recipe import Optimisation
from workbench.training.recipe_tables import Privacy
from workbench.training.rows import Row, collate
from workbench.training.stepper import IGNORED, Batch, Stepper, Trainee

# Opacus's hooks work without a gradient of a layer's input, about which torch warns; and an epsilon
# of an order beyond Opacus's is a bound too, if not the tightest.
warnings.filterwarnings("ignore", message="Full backward hook is firing")
warnings.filterwarnings("ignore", message="Optimal order is the largest alpha")

EQUAL = 1e-3
"""Largest difference of a per-example gradient from one computed alone, as a share of its norm."""


@dataclass(frozen=True)
class Budget:
    """What a private run may spend, and the noise that this needs.

    - `epsilon`, `delta`: the guarantee of the whole run, for one example more or less
    - `noise_multiplier`: standard deviation of the noise over `max_norm`
    - `sample_rate`: probability with which each example is in a step
    - `max_norm`: norm to which each example's gradient is clipped
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    max_norm: float

    def spent(self, steps: int) -> float:
        """Epsilon at `delta` after so many steps, by Renyi accounting."""
        from opacus.accountants.analysis.rdp import get_privacy_spent

        if not steps:
            return 0.0
        orders, of_a_step = self._of_a_step
        epsilon, _ = get_privacy_spent(
            orders=orders, rdp=(of_a_step * steps).tolist(), delta=self.delta
        )
        return float(epsilon)

    @cached_property
    def _of_a_step(self) -> tuple[list[float], Float[np.ndarray, " order"]]:
        """Opacus's orders, and the Renyi divergence of one step at each; steps add up."""
        from opacus.accountants import RDPAccountant
        from opacus.accountants.analysis.rdp import compute_rdp

        orders = RDPAccountant.DEFAULT_ALPHAS
        of_a_step = compute_rdp(
            q=self.sample_rate, noise_multiplier=self.noise_multiplier, steps=1, orders=orders
        )
        return orders, np.asarray(of_a_step)


def budget(settings: Privacy, train: Optimisation, n: int) -> Budget:
    """The budget of a run on `n` examples: as much noise as its epsilon needs.

    Raises:
        WorkbenchError: Where Opacus is missing, a step would take all examples, or no noise reaches
            the epsilon.
    """
    _require()
    from opacus.accountants.utils import get_noise_multiplier

    rate = train.batch_size / n
    if rate >= 1:
        raise WorkbenchError(
            f"[train] batch_size is {train.batch_size} and there are {n} examples; a private run "
            f"draws a part of them for each step, so set batch_size below {n}."
        )
    delta = settings.delta or 1 / (2 * n)
    try:
        noise = get_noise_multiplier(
            target_epsilon=settings.epsilon,
            target_delta=delta,
            sample_rate=rate,
            steps=train.steps,
            accountant="rdp",
        )
    except ValueError as error:
        raise WorkbenchError(
            f"[privacy] epsilon = {settings.epsilon:g} is out of reach with {train.steps} steps of "
            f"{train.batch_size} of {n} examples; raise epsilon, or take fewer or smaller steps."
        ) from error
    return Budget(settings.epsilon, delta, float(noise), rate, settings.max_norm)


def _require() -> None:
    try:
        import opacus  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            'A recipe with [privacy] needs Opacus; install it by pip install "gpt-workbench'
            '[privacy]".'
        ) from error


def batches(rows: Sequence[Row], sample_rate: float) -> Callable[[int], Batch]:
    """The batch of a step: each row is in it with the same probability, whatever else is in it.

    The accounting relies on this draw and on its being secret. So it comes from the operating
    system and is not repeated by a resumed run.
    """
    draws = _secret_generator("cpu")

    def batch(step: int) -> Batch:
        chosen = torch.rand(len(rows), generator=draws) < sample_rate
        numbers = chosen.nonzero().flatten().tolist()
        if not numbers:
            return torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long)
        return collate([rows[number] for number in numbers])

    return batch


def _secret_generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(secrets.randbits(63))


class PrivateStepper(Stepper):
    """Updates a model's weights by DP-SGD; a batch may have any number of rows, also none.

    Args:
        trainee: As for `Stepper`.
        settings: As for `Stepper`; computed in float32.
        saved: As for `Stepper`.
        spend: The run's budget.

    Raises:
        WorkbenchError: For several processes, or a model whose per-example gradients are not exact.
    """

    def __init__(
        self,
        trainee: Trainee,
        settings: Optimisation,
        saved: dict[str, Any] | None = None,
        *,
        spend: Budget,
    ):
        super().__init__(trainee, replace(settings, precision="no"), saved)
        if self.accelerator.num_processes > 1:
            raise WorkbenchError("A recipe with [privacy] runs in one process; start it in one.")
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self.spend = spend
        self._positions = "position_ids" in inspect.signature(_forward_of(self.model)).parameters
        try:
            self._gradients_of = GradSampleModule(self.model, loss_reduction="sum", strict=False)
        except NotImplementedError as error:
            raise _inexact(f"Opacus says {str(error)!r}") from error
        self._noisy: Any = DPOptimizer(
            cast(Any, self.opts[0]).optimizer,
            noise_multiplier=spend.noise_multiplier,
            max_grad_norm=spend.max_norm,
            expected_batch_size=settings.batch_size,
            loss_reduction="sum",
            generator=_secret_generator(self.device),
        )
        self._checked = False

    def step(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Update the weights once; returns the mean of the rows' losses and the gradient's norm.

        Args:
            batch: The rows that were drawn.
            number: Of the step, from 0; decides learning rate and dropout.

        Returns:
            The loss in nats per scored token, NaN where no row was drawn, and the norm of the noisy
            gradient.
        """
        if not self._checked and len(batch[0]):
            self._check(batch)
        torch.manual_seed((self.settings.seed << 32) + number)
        self.model.train()
        losses = [self._part(x, y) for x, y in self._parts(batch)]
        self._noisy.add_noise()
        gradients = [p.grad for p in self._noisy.params]
        for gradient in gradients:
            gradient.div_(self.settings.batch_size)  # the expected rows, not those drawn
        norm = torch.nn.utils.get_total_norm(gradients)
        set_rate([self._noisy], number, self.settings)
        self._noisy.original_optimizer.step()
        self._noisy.zero_grad()
        if self.average is not None:
            self.average.update(self.model)
        return torch.cat(losses).mean(), norm

    def facts(self, done: int) -> dict[str, float]:
        """The epsilon that the first `done` steps have spent."""
        return {"epsilon": self.spend.spent(done)}

    def _parts(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """The rows in as many parts as the recipe says: per-example gradients need memory."""
        inputs, targets = cast(tuple[Tensor, Tensor], batch)  # of decoders only
        if not len(inputs):
            return [(inputs, targets)]
        return list(zip(inputs.chunk(self.parts), targets.chunk(self.parts), strict=True))

    def _part(self, inputs: Tensor, targets: Tensor) -> Float[Tensor, " row"]:
        """The rows' losses; adds their clipped gradients to the sum."""
        device = self.accelerator.device
        losses = self._row_losses(moved(inputs, device), moved(targets, device))
        if len(losses):
            losses.sum().backward()
        else:
            for parameter in self._noisy.params:
                parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
        self._noisy.clip_and_accumulate()
        self._forget()
        return losses.detach()

    def _row_losses(self, inputs: Tensor, targets: Tensor) -> Float[Tensor, " row"]:
        """The mean loss of each row over its scored tokens, in nats."""
        if not len(inputs):
            return torch.zeros(0, device=self.device)
        more = {}
        if self._positions:
            # Position embeddings of one row for all would have one gradient for all.
            positions = torch.arange(inputs.shape[1], device=self.device)
            more["position_ids"] = positions.expand_as(inputs)
        logits = self.model(inputs, use_cache=False, **more).logits  # [row, pos, d_vocab]
        losses = F.cross_entropy(
            logits.float().flatten(0, 1),
            targets.flatten(),
            reduction="none",
            ignore_index=IGNORED,
        )
        scored = (targets != IGNORED).sum(1).clamp(min=1)
        return losses.view_as(targets).sum(1) / scored

    def _check(self, batch: Batch) -> None:
        """Raise unless two rows' gradients equal those of each row alone."""
        inputs = cast(Tensor, batch[0])[:2].to(self.device)
        targets = batch[1][:2].to(self.device)
        # Without dropout, which would differ. Opacus looks at layers in training only.
        self.model.eval()
        for module in self.model.modules():
            module.training = any(p.requires_grad for p in module.parameters(recurse=False))
        try:
            self._gradients_of.disable_hooks()
            alone = [self._alone(inputs[row], targets[row]) for row in range(len(inputs))]
            self._gradients_of.enable_hooks()
            self._row_losses(inputs, targets).sum().backward()
            wrong = self._differing(alone)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            wrong = f"Opacus stops with {type(error).__name__}"
        self._forget()
        if wrong:
            raise _inexact(wrong)
        self._checked = True

    def _alone(self, inputs: Tensor, targets: Tensor) -> list[Tensor | None]:
        """The gradients of one row, by parameter."""
        self._row_losses(inputs[None], targets[None]).sum().backward()
        gradients = [parameter.grad for parameter in self._noisy.params]
        self._forget()
        return gradients

    def _forget(self) -> None:
        """Drop the gradients of the rows, and keep their clipped sum."""
        for parameter in self._noisy.params:
            parameter.grad_sample = None
            parameter.grad = None

    def _differing(self, alone: list[list[Tensor | None]]) -> str:
        """The first parameter whose per-example gradients differ from those of each row alone."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        for at, parameter in enumerate(self._noisy.params):
            together = parameter.grad_sample
            for row, gradients in enumerate(alone):
                expected = gradients[at]
                if expected is None:
                    continue
                if together is None or len(together) != len(alone):
                    return f"{names[id(parameter)]} has one for all rows"
                scale = max(float(expected.norm()), 1e-6)
                if float((together[row] - expected).norm()) > EQUAL * scale:
                    return f"those of {names[id(parameter)]} differ"
        return ""


def _inexact(why: str) -> WorkbenchError:
    return WorkbenchError(
        f"The gradients of single examples are not exact in this model: {why.rstrip('.')}. Add a "
        "[lora] table, which trains plain linear layers only, or choose another base."
    )


def _forward_of(model: Any) -> Callable[..., Any]:
    """The forward of a model below PEFT's shell."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).forward
