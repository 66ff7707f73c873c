"""Attention and head scores on patterns worked by hand and on models whose answer is known."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt, weight_of
from tests.families import FAMILIES, make
from workbench.comparison import head_shift
from workbench.comparison.heads import distance
from workbench.errors import WorkbenchError
from workbench.interp import attention, attention_by_distance, head_scores, position_encoding
from workbench.interp.patterns.heads import pattern_scores, repeated_tokens
from workbench.interp.patterns.looking import look_through
from workbench.interp.patterns.passing import _hooked_patterns
from workbench.interp.patterns.prompt_scores import PromptScores, scored_attention


def looking_back(n_pos: int, back: int) -> torch.Tensor:
    """A pattern `[1, 1, query, key]` whose every query attends to the key `back` before it, or to
    the first.
    """
    pattern = torch.zeros(1, 1, n_pos, n_pos)
    for query in range(n_pos):
        pattern[0, 0, query, max(query - back, 0)] = 1
    return pattern


def test_hand_made_patterns_have_the_scores_they_were_made_for():
    length = 5
    n_pos = 1 + 2 * length  # a first token, then five tokens twice
    induction = pattern_scores(looking_back(n_pos, length - 1), length)
    assert (
        induction["induction_score"].item() == 1 and induction["duplicate_token_score"].item() == 0
    )
    assert pattern_scores(looking_back(n_pos, 1), length)["previous_token_score"].item() == 1
    assert pattern_scores(looking_back(n_pos, length), length)["duplicate_token_score"].item() == 1
    first = pattern_scores(looking_back(n_pos, n_pos), length)
    assert first["first_token_attention"].item() == 1 and first["attention_entropy"].item() == 0
    even = torch.full((1, 1, 4, 4), 0.25)
    assert pattern_scores(even, 2)["attention_entropy"].item() == 2  # bits


def test_a_trained_induction_circuit_is_found_where_it_is_known_to_be():
    """Two attention-only layers: previous-token head L0H2, induction heads L1H1 to L1H3 (the
    model's own notes).
    """
    folder = os.environ.get("WORKBENCH_MODELS")
    toy = Path(folder or "") / "small/toy/induction_2l_attn_only.safetensors"
    if folder is None or not toy.is_file():
        pytest.skip("needs small/toy below WORKBENCH_MODELS")
    from safetensors.torch import load_file

    w = load_file(toy)
    assert json.loads(toy.with_suffix(".config.json").read_text())
    rng = np.random.default_rng(0)
    once = rng.integers(0, 127, (16, 30))
    ids = torch.from_numpy(np.concatenate([np.full((16, 1), 127), once, once], 1))
    x = w["embed.W_E"].T[ids] + w["pos_embed.W_pos"][: ids.shape[1]]
    scores = []
    for layer in range(2):
        # [head, d_head, d_model], o [d_model, head * d_head].
        q, k, v, o = (w[f"attn_blocks.{layer}.attn.W_{n}"] for n in "QKVO")
        project = [torch.einsum("bpm,hdm->bhpd", x, y) for y in (q, k, v)]
        raw = project[0] @ project[1].transpose(-1, -2) / q.shape[1] ** 0.5
        causal = torch.ones(raw.shape[-2:], dtype=torch.bool).tril()
        pattern = raw.masked_fill(~causal, float("-inf")).softmax(-1)
        scores.append({k: v.mean(0) for k, v in pattern_scores(pattern, 30).items()})
        z = (pattern @ project[2]).transpose(1, 2).flatten(2)
        x = x + z @ o.T
    assert scores[0]["previous_token_score"].argmax() == 2
    assert set((scores[1]["induction_score"] > 0.3).nonzero().flatten().tolist()) == {1, 2, 3}


def test_the_bundled_model_has_induction_heads():
    from workbench.subjects import load

    scores = head_scores(load("shelf-base"))
    name, best = scores.best("induction_score")
    layer, head = (int(x) for x in name[1:].split("H"))
    assert best >= 0.4 and scores.low["induction_score"][layer, head] > 0.3
    assert scores.n == 8 and layer > 0


def test_patterns_are_causal_and_sum_to_one(tiny):
    seen = attention(tiny, "1 2 3 4 5")
    assert seen.pattern.shape == (2, 4, 5, 5) and seen.tokens == ["1", "2", "3", "4", "5"]
    np.testing.assert_allclose(seen.pattern.sum(-1), 1, atol=1e-6)
    assert np.triu(seen.pattern, 1).max() == 0
    frame = seen.to_frame(1, 2)
    assert len(frame) == 15 and sum(frame["attention"]) == pytest.approx(5)
    with pytest.raises(WorkbenchError, match="has no L2H0; it has L0H0 to L1H3"):
        seen.head(2, 0)


def test_the_attention_page_is_self_contained(tiny, tmp_path):
    seen = attention(tiny, "1 2 3")
    page = seen.to_html(tmp_path / "page.html").read_text()
    assert "cdn" not in page.lower().split("plotly.js")[0] and "<script src=" not in page
    assert "Attention of tiny" in page


def test_repeated_sequences_repeat_and_use_no_special_token(tiny):
    ids = repeated_tokens(tiny, 3, 10, seed=1)
    assert ids.shape == (3, 20) and torch.equal(ids[:, :10], ids[:, 10:])
    assert torch.equal(ids, repeated_tokens(tiny, 3, 10, seed=1))


def test_distance_profile_of_alibi_is_its_slopes():
    """With query and key weights at zero, attention falls by e^-slope a token: ALiBi alone."""
    model = tiny_gpt(positions="alibi", n_layers=1)
    attn = blocks(model)[0].attn
    for part in (attn.q, attn.k):
        torch.nn.init.zeros_(part.weight)
    profile = attention_by_distance(subject_of(model), n=2, length=40, max_distance=3)
    steepest = profile.mean[0, 0]
    assert steepest[1] / steepest[0] == pytest.approx(np.exp(-(2.0**-2)), rel=0.05)
    assert profile.mean.shape == (1, 4, 3) and profile.n == 2


def test_encodings_are_read_as_they_are():
    rotary = position_encoding(subject_of(tiny_gpt()))
    assert rotary.wavelengths["all layers"][0] == pytest.approx(2 * np.pi)
    learned = tiny_gpt(positions="learned")
    matrix = position_encoding(subject_of(learned)).matrix
    assert matrix is not None and np.array_equal(matrix, weight_of(learned.model.pos).numpy())
    sinusoidal = position_encoding(subject_of(tiny_gpt(positions="sinusoidal")))
    similarity = sinusoidal.similarity
    assert similarity is not None
    # Closed form: the cosine of two sinusoidal vectors depends on their distance alone.
    frequency = 10000.0 ** (-np.arange(0, 32, 2) / 32)
    assert similarity[10, 17] == pytest.approx(np.cos(7 * frequency).mean(), abs=1e-5)
    slopes = position_encoding(subject_of(tiny_gpt(positions="alibi"))).slopes
    assert slopes is not None and slopes.tolist() == [0.25, 0.0625, 2**-6, 2**-8]
    assert position_encoding(subject_of(tiny_gpt(positions="none"))).matrix is None


def test_the_numbers_of_an_encoding_are_a_table_whatever_its_kind():
    for positions, shape in (
        ("learned", (64, 33)),
        ("rotary", (4, 3)),
        ("alibi", (4, 2)),
        ("none", (0, 0)),
    ):
        assert (
            position_encoding(subject_of(tiny_gpt(positions=positions))).to_frame().shape == shape
        )


def test_a_model_compared_with_itself_has_not_moved(tiny):
    shift = head_shift(tiny, tiny, ["1 2 3 4", "9 8 7 6 5"])
    assert shift.mean.max() == 0 and shift.n == 2


def test_the_one_head_that_was_changed_is_on_top(tiny):
    changed = tiny_gpt()
    with torch.no_grad():
        blocks(changed)[1].attn.q.weight[16:24] *= -1  # head 2 of layer 1
    shift = head_shift(tiny, subject_of(changed), ["1 2 3 4 5 6", "9 8 7 6 5 4"])
    top = shift.to_frame().iloc[0]
    assert top["name"] == "L1H2" and top["distance"] > 0.05
    assert np.count_nonzero(shift.mean) == 1


def test_disjoint_rows_are_one_apart_and_equal_rows_none():
    first = torch.eye(4)[None]
    second = torch.eye(4).roll(1, 0)[None]
    assert distance(first, second).item() == pytest.approx(1) and distance(first, first).item() == 0


def test_models_of_other_shapes_say_so(tiny):
    with pytest.raises(WorkbenchError, match="2 layers of 4 heads, width 32 and big has 3 layers"):
        head_shift(tiny, subject_of(tiny_gpt(n_layers=3), "big"))


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_read_without_hooks_are_those_of_the_hooks(family):
    subject = subject_of(make(family), family)
    ids = subject.encode("3 1 4 15 9 26 5")
    seen, hooked = ([{}, {}] for _ in range(2))

    def look(layer, pattern, values):
        seen[0][layer] = pattern
        seen[1][layer] = values

    look_through(subject, ids, look)
    _hooked_patterns(subject, ids, hooked[0].__setitem__, hooked[1].__setitem__)
    for layer in range(subject.card.n_layers):
        torch.testing.assert_close(seen[0][layer].float(), hooked[0][layer], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            seen[1][layer].double(), hooked[1][layer].double(), atol=1e-6, rtol=1e-5
        )


def test_a_model_without_the_interface_is_read_through_hooks(tiny, monkeypatch):
    wanted = attention(tiny, "1 2 3 1 2")
    monkeypatch.setattr(type(tiny.model), "_supports_attention_backend", False)
    hooked = attention(tiny, "1 2 3 1 2")
    np.testing.assert_allclose(hooked.pattern, wanted.pattern, atol=1e-6)
    assert hooked.value_norms is not None and wanted.value_norms is not None
    np.testing.assert_allclose(hooked.value_norms, wanted.value_norms, atol=1e-5)


def test_scores_on_a_prompt_are_those_of_its_pattern(tiny):
    seen, scores = scored_attention(tiny, "1 2 3 1 2")
    assert isinstance(scores, PromptScores)
    pattern = seen.pattern
    assert scores.duplicate is not None and scores.induction is not None
    np.testing.assert_allclose(
        scores.previous_token, pattern[..., [1, 2, 3, 4], [0, 1, 2, 3]].mean(-1), atol=1e-6
    )
    np.testing.assert_allclose(
        scores.duplicate, (pattern[..., 3, 0] + pattern[..., 4, 1]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        scores.induction, (pattern[..., 3, 1] + pattern[..., 4, 2]) / 2, atol=1e-6
    )
    _, once = scored_attention(tiny, "7")
    assert isinstance(once, PromptScores)
    assert once.induction is None and (once.previous_token == 0).all() and (once.entropy == 0).all()
