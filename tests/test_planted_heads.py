"""Heads whose weights are built by hand, in several encodings: each gets its label and its share,
and no other.
"""

import numpy as np
import pytest
import torch

from tests import toys
from tests.conftest import blocks, subject_of, tiny_gpt, weight_of
from workbench.interp import head_catalogue, position_split
from workbench.interp.patterns.position_split import variance_shares
from workbench.interp.patterns.standing_out import offset_profile, stands_out

D_VOCAB = 40
N_CTX = 32
D_HEAD = 80
SHARP = 9.0
"""Logits by which the planted key is above the others."""


def planted(looks_for: str, positions: str):
    """One attention layer whose one head looks for its own token, its own place, or the token
    before.

    Tokens are one-hot in the first half of the stream. Learned places are one-hot in the other
    half, so a head can ask for either alone.
    """
    shape = {
        "n_layers": 1,
        "n_heads": 1,
        "d_model": D_HEAD,
        "d_vocab": D_VOCAB,
        "n_ctx": N_CTX,
        "d_mlp": 8,
    }
    fixed = {"norm": "rmsnorm", "norm_eps": 1e20, "bias": True, "tie_word_embeddings": False}
    model = tiny_gpt(positions=positions, **shape, **fixed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)):
            norm.weight.fill_(1e10)  # with that epsilon the identity
        weight_of(model.model.tok)[:, :D_VOCAB] = torch.eye(D_VOCAB)
        attn = blocks(model)[0].attn
        size = (SHARP * D_HEAD**0.5) ** 0.5
        if looks_for == "token":
            for part in (attn.q, attn.k):
                part.weight[:D_VOCAB, :D_VOCAB] = size * torch.eye(D_VOCAB)
        else:
            weight_of(model.model.pos)[:, D_VOCAB : D_VOCAB + N_CTX] = torch.eye(N_CTX)
            wanted = torch.eye(N_CTX) if looks_for == "place" else torch.eye(N_CTX).roll(-1, 0)
            attn.q.weight[:N_CTX, D_VOCAB : D_VOCAB + N_CTX] = size * wanted
            attn.k.weight[:N_CTX, D_VOCAB : D_VOCAB + N_CTX] = size * torch.eye(N_CTX)
    return subject_of(model, f"{looks_for}-{positions}")


@pytest.mark.parametrize("positions", ["learned", "none"])
def test_a_head_that_looks_for_its_own_token_is_all_content_and_not_positional(positions):
    subject = planted("token", positions)
    catalogue = head_catalogue(subject)
    split = position_split(subject)
    assert split.mean["content"][0, 0] > 0.99 and split.mean["position"][0, 0] < 0.01
    assert "positional" not in catalogue.labels(0, 0) and "duplicate token" in catalogue.labels(
        0, 0
    )


@pytest.mark.parametrize("looks_for", ["place", "before"])
def test_a_head_that_looks_at_a_place_is_all_position(looks_for):
    subject = planted(looks_for, "learned")
    catalogue = head_catalogue(subject)
    split = position_split(subject)
    assert split.mean["position"][0, 0] > 0.99 and split.mean["content"][0, 0] < 0.01
    assert "positional" in catalogue.labels(0, 0)
    assert ("previous token" in catalogue.labels(0, 0)) == (looks_for == "before")
    assert "duplicate token" not in catalogue.labels(0, 0) and "induction" not in catalogue.labels(
        0, 0
    )


def test_rotary_positions_alone_are_all_position():
    """Queries and keys that are one constant vector differ by their turn only."""
    subject = planted("token", "rotary")
    attn = blocks(subject.model)[0].attn
    with torch.no_grad():
        for part in (attn.q, attn.k):
            part.weight.zero_()
            part.bias.fill_(0.5)
    assert position_split(subject).mean["position"][0, 0] > 0.99
    assert "positional" in head_catalogue(subject).labels(0, 0)


def test_alibi_alone_is_all_position():
    """ALiBi's slope falls with distance whatever the tokens are; a head with no scores has it
    alone.
    """
    alone = position_split(planted("token", "alibi"))
    assert alone.mean["content"][0, 0] > 0.5  # its own token above the slope
    flat = planted("token", "alibi")
    with torch.no_grad():
        blocks(flat.model)[0].attn.q.weight.zero_()
    assert position_split(flat).mean["position"][0, 0] > 0.99
    still = planted("token", "none")
    with torch.no_grad():
        blocks(still.model)[0].attn.q.weight.zero_()
    # Even attention: nothing to explain.
    assert position_split(still).mean["interaction"][0, 0] == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_mixture_of_own_token_and_own_place_is_split_as_least_squares_splits_it(share):
    """Against numpy's least squares with dummy columns: same fits, the same shares."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(np.repeat(np.arange(6), 2)) for _ in range(16)])
    token = (order[:, :, None] == order[:, None, :]).astype(float)
    place = np.broadcast_to(np.eye(12), token.shape)
    scores = share * token + (1 - share) * place + 0.1 * rng.normal(size=token.shape)
    seen = np.tril(np.ones((12, 12), dtype=bool))
    y = scores[:, seen].ravel()
    rows = (np.arange(12)[:, None].repeat(12, 1)[seen] + 12 * np.arange(16)[:, None]).ravel()
    cells = np.tile(np.arange(seen.sum()), 16)
    pairs = (order[:, :, None] * 6 + order[:, None, :])[:, seen].ravel()

    def r_squared(*factors):
        x = np.concatenate([np.eye(f.max() + 1)[f] for f in (rows, *factors)], 1)
        fit, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        return ((y - x @ fit) ** 2).sum() / (len(y) - rank)

    none = r_squared()
    position, content, both = (
        1 - r_squared(*f) / none for f in ((cells,), (pairs,), (cells, pairs))
    )
    alone = both - content, both - position
    expected = alone[0] + alone[0] / sum(alone) * (both - sum(alone))
    shares = variance_shares(torch.tensor(scores)[:, None], torch.tensor(order))
    assert float(shares["position"][0]) == pytest.approx(expected, abs=0.01)
    assert float(shares["content"][0]) == pytest.approx(both - expected, abs=0.01)


def test_the_published_induction_heads_of_a_small_trained_model_get_their_label():
    """By its authors' notes L1H1 to L1H3 are induction heads and no other head is."""
    subject, _ = toys.induction()
    frame = head_catalogue(subject).to_frame()
    labelled = frame[frame["labels"].str.contains("induction")]["name"].tolist()
    assert labelled == ["L1H1", "L1H2", "L1H3"]
    assert not frame["labels"].str.contains("duplicate").any()


def test_random_models_give_no_label_by_offset():
    """Of 6 random models, 8 heads each, none may stand out: the family-wise level is .05, and FLOOR
    is far above.
    """
    for seed in range(6):
        standing_out = stands_out(subject_of(tiny_gpt(seed, initializer_range=0.4)), n=4, length=12)
        assert not any(heads.any() for heads in standing_out.values())


def test_the_profile_is_the_mean_attention_by_offset(tiny):
    from workbench.interp.patterns.heads import repeated_tokens

    ids = repeated_tokens(tiny, 3, 10, 0)
    _, cache = tiny.bridge.run_with_cache(ids)
    layers = [cache[f"blocks.{i}.attn.hook_pattern"] for i in range(2)]
    pattern = torch.stack(layers, 1)  # [n, layer, head, query, key]
    profile = offset_profile(tiny, n=3, length=10, seed=0)
    for offset in (0, 1, 9, 10):
        pairs = [(q, q - offset) for q in range(10, 20) if q - offset >= 1]
        expected = torch.stack([pattern[..., q, k] for q, k in pairs]).mean(0)
        np.testing.assert_allclose(profile[..., offset], expected.detach().numpy(), atol=1e-6)
    assert np.isnan(profile[..., 16]).all()
