"""What training costs: parameters, FLOPs, memory, and the rate that the machine reaches at most."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

SIZES = {"cpu": 1024, "cuda": 8192}
"""Width of the square matrices multiplied to measure the matrix rate, by device."""
DATASHEET = {
    "GH200": 989.4e12,
    "B200": 2250e12,
    "H200 NVL": 835.5e12,
    "H200": 989.4e12,
    "H100 PCIe": 756.5e12,
    "H100 NVL": 835.5e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 FLOP/s with float32 sums, as NVIDIA's datasheets say, by a part of the name."""


def n_parameters(model: nn.Module) -> int:
    """The number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def n_planned(shape: dict[str, Any], d_vocab: int) -> int:
    """The number of parameters of a `WorkbenchGPT`, without allocating it.

    Args:
        shape: The `[model]` table of a recipe.
        d_vocab: Tokens of its vocabulary.
    """
    from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM

    n_layers = int(shape.get("n_layers", WorkbenchGPTConfig.n_layers))
    with torch.device("meta"):
        of_one, of_two = (
            n_parameters(
                WorkbenchGPTForCausalLM(
                    WorkbenchGPTConfig(**{**shape, "n_layers": n}, d_vocab=d_vocab)
                )
            )
            for n in (1, 2)
        )
    return of_one + (n_layers - 1) * (of_two - of_one)


def flops_per_token(model: nn.Module, n_ctx: int) -> float:
    """FLOPs per training token, forward and backward: 6 N + 12 L H d_head T.

    N counts the parameters that multiply, so without embeddings that are only looked up. The
    attention term counts all T positions, as the reference does, though a causal model needs half.
    In an encoder-decoder a token passes one of the two stacks, so half of N.

    Args:
        model: Any causal or encoder-decoder model of transformers.
        n_ctx: Length T of the rows.

    Reference:
        Chowdhery et al. 2022, "PaLM", appendix B.
    """
    causal: Any = model  # nn.Module's type takes every attribute for a tensor
    config = causal.config.get_text_config()
    tables = {
        id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)
    }
    head = causal.get_output_embeddings()
    if head is not None:
        tables.pop(id(head.weight), None)  # tied: looked up and multiplied
    multiplied = n_parameters(model) - sum(tables.values())
    if config.is_encoder_decoder:
        multiplied //= 2
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        6 * multiplied + 12 * config.num_hidden_layers * config.num_attention_heads * d_head * n_ctx
    )


@cache
def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, measured: the best of five after one to warm up."""
    n = SIZES.get(device, 1024)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        synchronize(device)
        began = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def synchronize(device: str) -> None:
    """Wait until the device has finished all queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def matrices(device: str, precision: str) -> Iterator[None]:
    """Lets a GPU multiply float32 matrices by TF32 while training, unless the recipe says "no".

    TF32 keeps ten bits of each factor, bfloat16 seven; sums stay float32.
    """
    if device != "cuda" or precision == "no":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def datasheet_rate(name: str) -> float | None:
    """Dense bfloat16 FLOP/s that a GPU's datasheet promises; None for a card not in the list.

    Args:
        name: As `torch.cuda.get_device_name` gives it.
    """
    return next((rate for part, rate in DATASHEET.items() if part in name), None)


def peak_memory_gb(device: str) -> float:
    """Peak memory so far in GiB: allocated on the GPU, or resident in this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that an allocation failed, on a GPU or on the CPU."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)
