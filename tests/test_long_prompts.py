"""Attention of prompts longer than a block: what is computed in blocks equals what is not."""

import math

import numpy as np
import pytest
import torch

from tests.conftest import subject_of
from tests.families import FAMILIES, make
from workbench.figures.explorer import payload
from workbench.interp.patterns import looking
from workbench.interp.patterns.heads import text_scores
from workbench.interp.patterns.looking import BLOCK, look_through, written_out
from workbench.interp.patterns.passing import _hooked_patterns
from workbench.interp.patterns.pooling import pooled

N_POS = 2 * BLOCK + 44


def bool_mask(window=N_POS, padded=0):
    """Who may look at whom: back to `window` tokens, not at the first `padded` keys."""
    query = torch.arange(N_POS)[:, None]
    key = torch.arange(N_POS)
    allowed = (key <= query) & (query - key < window) & ((key >= padded) | (key == query))
    return allowed[None, None]


MASKS = {
    "none": None,
    "causal": bool_mask(),
    "window": bool_mask(window=50),
    "padded": bool_mask(padded=70),
    "both ways": torch.ones(1, 1, N_POS, N_POS, dtype=torch.bool),
    "added": torch.where(bool_mask(window=90), 0.0, torch.finfo(torch.float32).min),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_a_long_pattern_is_the_formula(name, softcap):
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, N_POS, 16, generator=draw)
    key = torch.randn(2, 2, N_POS, 16, generator=draw)
    mask = MASKS[name]
    pattern = written_out(query, key, mask, 0.3, softcap)
    scores = 0.3 * query.double() @ key.double().repeat_interleave(2, 1).mT
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    allowed = bool_mask() if mask is None else mask
    allowed = allowed if allowed.dtype == torch.bool else allowed == 0
    weights = torch.exp(scores - scores.amax(-1, keepdim=True)) * allowed
    wanted = weights / weights.sum(-1, keepdim=True)
    assert pattern.dtype == torch.float32
    torch.testing.assert_close(pattern.double(), wanted, atol=2e-6, rtol=0)
    assert (pattern[~allowed.expand_as(pattern)] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_of_every_family_in_blocks_are_those_of_hooks(family, monkeypatch):
    subject = subject_of(make(family), family)
    monkeypatch.setattr(looking, "BLOCK", 16)
    ids = (torch.arange(60) * 7 % 20 + 3)[None]
    seen = {}
    hooked = {}
    look_through(subject, ids, lambda layer, pattern, values: seen.update({layer: pattern}))
    _hooked_patterns(subject, ids, hooked.__setitem__, None)
    for layer in range(subject.card.n_layers):
        torch.testing.assert_close(seen[layer].float(), hooked[layer], atol=2e-6, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_a_long_patterns_scores_are_those_of_its_rows(causal):
    draw = np.random.default_rng(0)
    weights = draw.random((3, N_POS, N_POS)) ** 8
    weights = np.tril(weights) if causal else weights
    rows = weights / weights.sum(-1, keepdims=True)
    rows[1] *= 0.9  # the rest goes to a sink
    ids = torch.from_numpy(draw.integers(0, 40, (1, N_POS)))
    scores = text_scores(torch.from_numpy(rows)[None], ids)
    entropy = np.array([[-sum(p * math.log2(p) for p in row if p > 0) for row in h] for h in rows])
    entropy[1] -= 0.1 * math.log2(0.1)
    np.testing.assert_allclose(scores["attention_entropy"][0], entropy.mean(-1), rtol=1e-9)
    same = [(q, k) for q in range(N_POS) for k in range(q) if ids[0, q] == ids[0, k]]
    queries = len({q for q, _ in same})
    for score, shift in (("duplicate_token_score", 0), ("induction_score", 1)):
        wanted = sum(rows[:, q, k + shift] for q, k in same) / queries
        np.testing.assert_allclose(scores[score][0], wanted, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("n_pos", "side"), [(N_POS, 96), (BLOCK + 1, 128), (129, 8), (257, 24)])
def test_pooled_heads_are_block_sums(dtype, n_pos, side):
    weights = np.tril(np.random.default_rng(1).random((2, n_pos, n_pos))).astype(dtype)
    theirs = payload.pooled(weights, side)
    edges = [*(i * n_pos // side for i in range(side)), n_pos]
    dots = pooled(weights, side)
    for i in range(side):
        block = weights[:, edges[i] : edges[i + 1]].astype(float)
        for j in range(side):
            wanted = block[..., edges[j] : edges[j + 1]].sum((1, 2)) / block.shape[1]
            np.testing.assert_allclose(dots[:, i, j], wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(theirs[:, i, j], wanted, rtol=1e-5, atol=1e-6)
