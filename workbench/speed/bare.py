"""A plain PyTorch GPT and training loop of nanoGPT's shape and settings, to measure ours against.

Reference:
    Karpathy (2022), nanoGPT: a pre-norm decoder with learned positions, tied embedding, GELU and
    dropout, trained by AdamW with warm-up and a cosine.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Rows = tuple[Tensor, Tensor]


class BareBlock(nn.Module):
    """Attention and an MLP, each after a LayerNorm and added to the stream."""

    def __init__(self, n_heads: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.ln1, self.ln2 = (nn.LayerNorm(d_model, bias=False) for _ in range(2))
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block, `[batch, pos, d_model]`."""
        dropout = self.dropout if self.training else 0.0
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in self.qkv(self.ln1(x)).chunk(3, -1)
        )
        z = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + F.dropout(self.out(z.transpose(1, 2).flatten(-2)), dropout)
        return x + F.dropout(self.down(F.gelu(self.up(self.ln2(x)))), dropout)


class BareGPT(nn.Module):
    """The model; `[model]` of a recipe gives its shape.

    Args:
        shape: With n_ctx, n_layers, n_heads, d_model and, if any, dropout.
        d_vocab: Tokens of the vocabulary.
    """

    def __init__(self, shape: dict[str, Any], d_vocab: int) -> None:
        super().__init__()
        d_model = shape["d_model"]
        dropout = shape.get("dropout", 0.0)
        self.dropout = dropout
        self.tok = nn.Embedding(d_vocab, d_model)
        self.pos = nn.Embedding(shape["n_ctx"], d_model)
        blocks = [BareBlock(shape["n_heads"], d_model, dropout) for _ in range(shape["n_layers"])]
        self.blocks = nn.ModuleList(blocks)
        self.ln = nn.LayerNorm(d_model, bias=False)
        for name, p in self.named_parameters():
            into_stream = name.endswith(("out.weight", "down.weight"))
            if p.ndim == 2:
                nn.init.normal_(p, 0.0, 0.02 / ((2 * len(blocks)) ** 0.5 if into_stream else 1))

    def forward(
        self, ids: Int[Tensor, "batch pos"], targets: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, ""]:
        """The mean loss in nats."""
        x = self.tok(ids) + self.pos(torch.arange(ids.shape[1], device=ids.device))
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln(x), self.tok.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class BareLoop:
    """AdamW steps of a `BareGPT` in bfloat16, as the shortest script would do them.

    Args:
        model: On its device.
        settings: `[train]` of a recipe with nanoGPT's settings, as keys.
        compiles: Whether the model is compiled.
        parts: Parts in which the rows of a step are computed.
    """

    def __init__(
        self, model: BareGPT, settings: dict[str, Any], *, compiles: bool, parts: int = 1
    ) -> None:
        self.model = model
        self.settings = settings
        self.parts = parts
        self.device = next(model.parameters()).device
        self._loss: Any = torch.compile(model) if compiles else model
        groups = [
            {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim != 2], "weight_decay": 0.0},
        ]
        betas = (0.9, settings["beta2"])
        self.adamw = torch.optim.AdamW(groups, lr=settings["lr"], betas=betas, fused=True)

    def step(self, rows: Rows, number: int) -> None:
        """Update the weights once."""
        self.model.train()
        for x, y in zip(*(part.chunk(self.parts) for part in rows), strict=True):
            (self.loss(x, y) / self.parts).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adamw.param_groups:
            group["lr"] = self._rate(number)
        self.adamw.step()
        self.adamw.zero_grad()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss in nats of rows."""
        fast = self._loss if self.model.training else self.model
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            return fast(ids, targets)

    @torch.no_grad()
    def mean_loss(self, batches: list[Rows]) -> float:
        """The mean loss in nats over all tokens of the batches."""
        self.model.eval()
        losses = [(float(self.loss(x, y)), y.numel()) for x, y in batches]
        return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)

    def _rate(self, number: int) -> float:
        given = self.settings
        if number < given["warmup"]:
            return given["lr"] * (number + 1) / given["warmup"]
        share = (number - given["warmup"]) / (given["steps"] - given["warmup"])
        cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return given["min_lr"] + cosine * (given["lr"] - given["min_lr"])


def segments(
    step: Callable[[int], Any],
    evaluate: Callable[[], float],
    wait: Callable[[], None],
    steps: int,
    every: int,
) -> Iterator[tuple[int, float, float]]:
    """(steps done, seconds of training so far, loss) at every evaluation of a run.

    A GPU is waited for at evaluations only; their own time is not counted.

    Args:
        step: Does a step, by its number.
        evaluate: Returns the validation loss.
        wait: Waits for the device.
        steps: Steps of the run.
        every: Steps between two evaluations.
    """
    seconds = 0.0
    wait()
    began = time.perf_counter()
    for number in range(steps):
        step(number)
        if (number + 1) % every == 0 or number + 1 == steps:
            wait()
            seconds += time.perf_counter() - began
            yield number + 1, seconds, evaluate()
            wait()
            began = time.perf_counter()
