"""Attention of short rows in bfloat16 on a CPU, against float64 and against PyTorch's kernel."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tests.conftest import tiny_gpt
from tests.families import FAMILIES
from workbench.subjects.gpt_config import SHORT_ROWS
from workbench.subjects.positions import ENCODINGS
from workbench.training.attending import LONGEST, _attention, keep_short_patterns
from workbench.training.compiling import part_loss


class Layer(torch.nn.Module):
    """What attention functions read of a layer."""

    def __init__(self, groups: int = 1, *, causal: bool = True) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = causal


def draw(
    n: int, heads: int = 4, kv_heads: int = 4, d_head: int = 32, batch: int = 3
) -> list[torch.Tensor]:
    torch.manual_seed(n + d_head)
    return [torch.randn(batch, each, n, d_head) for each in (heads, kv_heads, kv_heads)]


def by_hand(parts: list[torch.Tensor], allowed: torch.Tensor, scaling: float) -> torch.Tensor:
    """Attention in float64, one query and head at a time: `[batch, pos, head, d_head]`."""
    q, k, v = parts
    groups = q.shape[1] // k.shape[1]
    rows = []
    for i in range(q.shape[2]):
        heads = []
        for h in range(q.shape[1]):
            scores = (k[:, h // groups] * q[:, h, i, None]).sum(-1) * scaling  # batch key
            scores = scores.masked_fill(~allowed[:, i], float("-inf"))
            heads.append((scores.softmax(-1)[..., None] * v[:, h // groups]).sum(1))
        rows.append(torch.stack(heads, 1))
    return torch.stack(rows, 1)


def results(
    attend: Any, layer: Layer, parts: list[torch.Tensor], mask: torch.Tensor | None
) -> list[torch.Tensor]:
    """z and the gradients of queries, keys and values in bfloat16, as float64."""
    inputs = [part.bfloat16().requires_grad_() for part in parts]
    z, _ = attend(layer, *inputs, mask, scaling=0.2)
    (z.float() * weight(z)).sum().backward()
    grads = [part.grad for part in inputs if part.grad is not None]
    return [each.detach().double() for each in (z, *grads)]


def weight(z: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 1, z.numel()).view(z.shape)


CASES = {
    "one token": (draw(1), None, True),
    "causal": (draw(17), None, True),
    "shared keys": (draw(20, heads=6, kv_heads=2), None, True),
    "heads of 64": (draw(64, d_head=64, batch=2), None, True),
    "all seen": (draw(9), None, False),
    "padded": (draw(12), "padded", True),
    "added": (draw(12), "added", True),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_as_near_to_float64_as_the_kernel(case):
    parts, kind, causal = CASES[case]
    n = parts[0].shape[2]
    groups = parts[0].shape[1] // parts[1].shape[1]
    allowed = torch.ones(3, n, n, dtype=torch.bool)[: len(parts[0])]
    allowed = allowed.tril() if causal else allowed
    mask: torch.Tensor | None = None
    if kind is not None:
        allowed[1, :, n - 4 : n - 1] = False  # as where a row ends before the others
        allowed[1].fill_diagonal_(True)
        low = torch.finfo(torch.bfloat16).min
        seen = allowed[:, None]
        mask = seen if kind == "padded" else torch.zeros(seen.shape).masked_fill(~seen, low)
        mask = mask if kind == "padded" else mask.bfloat16()
    exact = [part.bfloat16().double().requires_grad_() for part in parts]
    z = by_hand(exact, allowed, 0.2)
    (z * weight(z).double()).sum().backward()
    truth = [z.detach(), *(part.grad for part in exact)]
    layer = Layer(groups, causal=causal)
    ours = results(_attention, layer, parts, mask)
    kernel = results(sdpa_attention_forward, layer, parts, mask)
    for name, right, mine, other in zip(("z", "q", "k", "v"), truth, ours, kernel, strict=True):
        error = float((mine - right).norm())
        # Scores are rounded once more than in the kernel; bfloat16 itself is good to 0.004.
        assert error <= 2.5 * float((other - right).norm()) + 1e-3 * float(right.norm()), name
        assert error <= 0.01 * float(right.norm()) + 1e-6, name


def test_float32_and_long_rows_go_through_the_kernel():
    for parts, dtype in ((draw(8), torch.float32), (draw(LONGEST + 1, batch=1), torch.bfloat16)):
        q, k, v = (part.to(dtype) for part in parts)
        ours, _ = _attention(Layer(), q, k, v, None, scaling=0.3)
        kernel = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
        assert torch.equal(ours, kernel.transpose(1, 2))


def gradients(model: Any, ids: torch.Tensor, *, mixed: bool) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        loss = part_loss(model, ids, ids.roll(-1, 1))
    loss.backward()
    gradient = torch.cat(
        [p.grad.flatten() for p in model.parameters() if p.grad is not None] + [loss.detach()[None]]
    )
    model.zero_grad(set_to_none=True)
    return gradient.double()


def models() -> dict[str, Any]:
    shape = {"d_vocab": 50, "n_ctx": 32, "n_layers": 2, "n_heads": 2, "d_model": 32}
    ours = {f"gpt {name}": partial(tiny_gpt, **shape, positions=name) for name in ENCODINGS}
    return ours | FAMILIES


@pytest.mark.parametrize("name", models())
def test_gradients_of_a_model_stay_as_near_to_float32(name):
    torch.manual_seed(0)
    model = models()[name]().float().eval()  # without dropout
    ids = torch.randint(1, 50, (3, 12))
    right = gradients(model, ids, mixed=False)
    kernel = float((gradients(model, ids, mixed=True) - right).norm())
    before = model.config._attn_implementation
    keep_short_patterns(model)
    assert model.config._attn_implementation == (SHORT_ROWS if before == "sdpa" else before)
    assert float((gradients(model, ids, mixed=True) - right).norm()) <= 1.25 * kernel
    # Without mixed precision nothing changes at all.
    assert torch.equal(gradients(model, ids, mixed=False), right)


def test_dropout_leaves_out_its_share_of_the_pattern():
    n = 64
    query, key, _ = (part.bfloat16() for part in draw(n, batch=1))
    # With the unit vectors as values, z is the pattern.
    value = torch.eye(n, dtype=torch.bfloat16).expand(1, 4, n, n)
    whole, _ = _attention(Layer(causal=False), query, key, value, None)
    dropped, _ = _attention(Layer(causal=False), query, key, value, None, dropout=0.25)
    gone = dropped == 0
    # 16,384 entries: four standard errors are .0135.
    assert abs(float(gone.float().mean()) - 0.25) < 0.0135
    left = whole[~gone].float() / 0.75
    assert torch.allclose(dropped[~gone].float(), left, rtol=0.02)
