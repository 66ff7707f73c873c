"""What a piece of work asks of a machine, by arithmetic, and how long it then takes.

Time here is a sum: floating-point operations at the measured rate of the model's width, bytes at
the rate measured of a small model's blocks besides products, and operations at what one of such
blocks costs however small it is. A GPU does the first two while Python starts the next operation,
so there the longer counts.
"""

from dataclasses import dataclass, replace
from typing import Any

from workbench.budget.gpus import LAUNCH_US, STREAMED, TOGETHER, USED, Gpu
from workbench.budget.machine import Machine

CALLS = 24
"""Operations of one block's forward pass, about: 7 products, 2 norms, rotation, attention, sums."""
BACK = 2.0
"""What a backward pass costs in forward passes."""
FLOAT = 4
"""Bytes of a number."""
STREAM = 70
"""Numbers of a block's forward pass read or written per token besides products, in widths of the
stream: two norms 16, rotation 22, norms of queries and keys 12, sums 6, the curve and its gate 14.
"""
KEPT = 34
"""Of these, the numbers kept for the backward pass (Korthikanti et al. 2022, arXiv:2205.05198)."""
SCORES = 4
"""Times that each attention score is read or written."""
LIBRARIES_GB = 0.45
"""GiB that Python takes with torch and transformers before any model, measured."""


@dataclass(frozen=True)
class Work:
    """What is asked of a machine.

    - `flops`: floating-point operations in matrix products
    - `moved`: bytes read from and written to memory besides
    - `calls`: operations started; `learned`: how many of them have a backward pass
    - `memory_gb`: GiB needed beyond Python's libraries
    - `width`: of the matrices, which decides the rate
    - `python`: seconds of preparing in Python, measured, which no GPU shares
    - `precision`: of products on a GPU, or on a processor that has it: fp32 or bf16
    """

    flops: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    learned: float = 0.0
    memory_gb: float = 0.0
    width: float = 1024.0
    precision: str = "fp32"
    python: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Both, one after the other."""
        wider = self if self.flops >= other.flops else other
        return Work(
            self.flops + other.flops,
            self.moved + other.moved,
            self.calls + other.calls,
            self.learned + other.learned,
            max(self.memory_gb, other.memory_gb),
            wider.width,
            wider.precision,
            self.python + other.python,
        )

    def __mul__(self, times: float) -> "Work":
        """The same so many times, one after the other; memory is needed once."""
        return replace(
            self,
            flops=self.flops * times,
            moved=self.moved * times,
            calls=self.calls * times,
            learned=self.learned * times,
            python=self.python * times,
        )

    def seconds_on(self, machine: Machine) -> float:
        """Seconds on a measured machine's processor."""
        return (
            self.flops / machine.gflops(self.width, self.precision) / 1e9
            + self.moved / machine.block_gbs / 1e9
            + (self.calls - self.learned) * machine.call_us / 1e6
            + self.learned * machine.call_learned_us / 1e6
            + self.python
        )

    def seconds_on_gpus(self, gpu: Gpu, n: int = 1, precision: str = "bf16") -> float:
        """Seconds on GPUs that share the work; what Python starts is not shared.

        Args:
            gpu: From the table.
            n: How many.
            precision: Of the products: bf16 or fp32.
        """
        tflops = gpu.bf16_tflops if precision == "bf16" else gpu.fp32_tflops
        share = 1 / n / (TOGETHER if n > 1 else 1.0)
        computing = self.flops / (tflops * USED) / 1e12
        moving = self.moved / (gpu.bandwidth_gbs * STREAMED) / 1e9
        starting = (self.calls + BACK * self.learned) * LAUNCH_US / 1e6
        return max((computing + moving) * share, starting) + self.python


@dataclass(frozen=True)
class Size:
    """A model's size, as far as its cost depends on it.

    - `parameters`: all of them; `matrices`: rows and columns of the blocks' matrices
    - `forward`: floating-point operations of one token's forward pass at context 0
    - `attention`: more of them for each token of context
    """

    parameters: int
    matrices: list[tuple[int, int]]
    forward: float
    attention: float
    n_layers: int
    n_heads: int
    d_model: int
    d_vocab: int

    def flops(self, context: int) -> float:
        """Floating-point operations of one token's forward pass among so many tokens."""
        return self.forward + self.attention * context

    def scoring(self, tokens: float, context: int, batches: float, logits: float = 1.0) -> Work:
        """The work of forward passes.

        Args:
            tokens: In all.
            context: Tokens of a row, at the mean.
            batches: Forward passes.
            logits: Share of the tokens whose logits are computed.
        """
        head = 2.0 * self.d_model * self.d_vocab * (1 - logits)
        a_batch = tokens / max(1.0, batches)
        scores = SCORES * context * self.n_heads * self.n_layers
        streams = FLOAT * (
            STREAM * self.d_model * self.n_layers + scores + 4 * self.d_vocab * logits
        )
        return Work(
            flops=tokens * (self.flops(context) - head),
            moved=tokens * streams + batches * FLOAT * self.parameters,
            calls=batches * (CALLS * self.n_layers + 20),
            memory_gb=(
                FLOAT * self.parameters + a_batch * FLOAT * (8 * self.d_model + 3 * self.d_vocab)
            )
            / 2**30,
            width=self.d_model,
        )

    def learning(self, rows: int, context: int, trained: float = 1.0) -> Work:
        """The work of gradients of a batch, without the update; see `updating`.

        Args:
            rows: Of the batch.
            context: Tokens of a row.
            trained: Share of the parameters that are trained.
        """
        tokens = rows * context
        forward = self.scoring(tokens, context, 1)
        activations = self.n_layers * KEPT * self.d_model * tokens * FLOAT
        logits = 3 * tokens * self.d_vocab * FLOAT
        calls = CALLS * self.n_layers + 20
        return Work(
            flops=forward.flops * (1 + BACK * (0.5 + 0.5 * trained)),
            moved=forward.moved * (1 + BACK),
            calls=calls,
            learned=calls,
            memory_gb=(FLOAT * self.parameters * (1 + trained) + activations + logits) / 2**30,
            width=self.d_model,
        )

    def updating(self, optimizer: str, trained: float = 1.0) -> Work:
        """The work of one update of the weights, and the memory of the optimiser's moments.

        Args:
            optimizer: muon or adamw.
            trained: Share of the parameters that are trained.
        """
        moments = 1 if optimizer == "muon" else 2
        count = self.parameters * trained
        muon = sum(_orthogonal(*sorted(shape)) for shape in self.matrices)
        return Work(
            flops=muon * trained if optimizer == "muon" else 0.0,
            moved=count * FLOAT * 8,
            calls=(20 if optimizer == "muon" else 2) * len(self.matrices) * trained + 40,
            memory_gb=moments * FLOAT * count / 2**30,
            width=self.d_model,
        )


def _orthogonal(less: int, more: int) -> float:
    """Operations of Muon's five Newton-Schulz steps: three products each."""
    return 5.0 * (4.0 * less * less * more + 2.0 * less**3)


def size_of(model: Any) -> Size:
    """The size of a transformers model; its weights may be on the meta device.

    Args:
        model: Any causal or encoder-decoder model.
    """
    from torch import nn

    from workbench.training.resources import flops_per_token, n_parameters

    config = model.config.get_text_config()
    base = flops_per_token(model, 0) / 3  # of which two thirds are the backward pass
    matrices = [
        (m.weight.shape[0], m.weight.shape[1])
        for m in model.modules()
        if isinstance(m, nn.Linear) and m.weight.ndim == 2
    ]
    head = model.get_output_embeddings()
    blocks = [shape for shape in matrices if head is None or shape != tuple(head.weight.shape)]
    return Size(
        parameters=n_parameters(model),
        matrices=blocks,
        forward=base,
        attention=(flops_per_token(model, 1) / 3 - base),
        n_layers=int(config.num_hidden_layers),
        n_heads=int(config.num_attention_heads),
        d_model=int(config.hidden_size),
        d_vocab=int(config.vocab_size),
    )
