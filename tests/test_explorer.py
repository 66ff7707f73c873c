"""The explorer's payload against the attention itself; the page and the frame made of it."""

import gzip
import re
from base64 import b64decode

import numpy as np
import pytest

import workbench as wb
from tests.conftest import subject_of, tiny_gpt
from tests.families import FAMILIES, make
from workbench.figures.explorer import files
from workbench.figures.explorer.payload import (
    Heads,
    payload,
    pooled,
    quantise,
    resolution,
    restore,
    striking,
    unpack,
)
from workbench.interp.patterns.attention import Attention

LENGTHS = (1, 2, 7, 64)


def heads_of(attention: Attention) -> Heads:
    return Heads(attention.pattern, attention.tokens, "tiny", attention.value_norms)


def text(length: int, seed: int = 0) -> str:
    """A prompt of random tokens, which are numbers."""
    ids = np.random.default_rng(seed).integers(3, 99, length)
    return " ".join(map(str, ids))


def weights_of(block: bytes) -> np.ndarray:
    """The weights of all heads, as the browser restores them from a payload."""
    _, parts = unpack(block)
    return restore(parts["levels"], parts["scale"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_every_family_comes_back(family):
    subject = subject_of(make(family), family)
    for length in LENGTHS:
        attention = wb.attention(subject, text(length))
        largest = attention.pattern.max(-1, keepdims=True)
        for budget, levels in (
            (2_000_000, 65535),
            (attention.pattern[..., 0].size * (length + 1) // 2, 255),
        ):
            block = payload(heads_of(attention), chosen=(0, 0), budget=budget)
            _, parts = unpack(block)
            if length > 2:
                assert np.iinfo(parts["levels"].dtype).max == levels
            errors = np.abs(weights_of(block) - attention.pattern)
            assert (errors <= largest * (0.5 / levels) + 1e-7).all(), (family, length)
        assert (weights_of(block)[attention.pattern == 0] == 0).all()  # a window's zeros stay zeros


def test_value_lengths_come_back():
    attention = wb.attention(subject_of(tiny_gpt()), text(20))
    _, parts = unpack(payload(heads_of(attention), chosen=(0, 0)))
    restored = parts["norm_levels"] / np.float32(65535) * parts["norm_scale"][..., None]
    norms = attention.value_norms
    assert norms is not None
    np.testing.assert_allclose(restored, norms, atol=norms.max() / 1e5)


def test_a_pooled_dot_is_the_attention_of_a_block_of_queries_to_a_block_of_keys():
    weights = np.tril(np.random.default_rng(0).random((3, 10, 10), np.float32))
    weights /= weights.sum(-1, keepdims=True)
    dots = pooled(weights, 4)  # blocks start at 0, 2, 5, 7
    np.testing.assert_allclose(dots[:, 1, 0], weights[:, 2:5, 0:2].sum(-1).mean(-1), rtol=1e-6)
    np.testing.assert_allclose(dots[:, 3, 2], weights[:, 7:10, 5:7].sum(-1).mean(-1), rtol=1e-6)
    np.testing.assert_allclose(dots.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("n_pos", [64, 121, 128, 512, pytest.param(1024, marks=pytest.mark.slow)])
def test_first_sight_of_270_heads_stays_below_three_megabytes(n_pos):
    weights = np.zeros((n_pos, n_pos), np.float16)
    weights[:, 0] = 1
    pattern = np.broadcast_to(weights, (30, 9, n_pos, n_pos))
    norms = np.ones((30, 9, n_pos), np.float32)
    block = payload(Heads(pattern, ["·"] * n_pos, "wide", norms), chosen=(3, 1))
    header, parts = unpack(block)
    assert len(block) <= 3_000_000
    if header["side"] < n_pos:
        open_head = restore(parts["one_levels"], parts["one_scale"])
        assert (open_head == weights).all()


def test_resolution_is_the_finest_that_fits():
    assert resolution(270, 64, 2_000_000) == (64, 16)
    assert resolution(270, 110, 2_000_000) == (110, 8)
    assert resolution(270, 512, 2_000_000) == (96, 8)
    assert resolution(10_000, 4096, 1) == (8, 8)


def test_quantise_leaves_rows_of_zeros_alone():
    levels, scale = quantise(np.zeros((2, 5, 5), np.float32), 8)
    assert not levels.any() and not scale.any()
    assert (restore(levels, scale) == 0).all()


def test_the_page_holds_every_head_and_asks_no_network(tmp_path):
    attention = wb.attention(subject_of(tiny_gpt()), "1 2 3 4")
    page = attention.to_html(tmp_path / "page.html", layer=1, head=2).read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?https?:", page) and "import(" not in page
    packed = re.search(r'id="data">([^<]+)<', page)
    assert packed is not None
    block = gzip.decompress(b64decode(packed[1]))
    header, _ = unpack(block)
    assert header["chosen"] == [1, 2] and header["side"] == header["n"] == 4
    np.testing.assert_allclose(weights_of(block), attention.pattern, atol=1e-5)


def test_a_notebook_shows_the_explorer_in_a_frame_of_its_own():
    attention = wb.attention(subject_of(tiny_gpt()), "1 2 3")
    shown = attention._repr_mimebundle_()
    assert (
        shown["text/html"].startswith("<iframe") and shown["text/html"] == attention._repr_html_()
    )
    assert shown["text/plain"] == repr(attention)


def test_what_a_prompt_says_cannot_become_markup():
    page = files.page(b"", title="<img src=x>", text="</script><script>alert(1)</script>")
    assert "<img" not in page and "<script>alert" not in page


def test_the_head_opened_first_looks_elsewhere():
    pattern = np.zeros((1, 3, 4, 4), np.float32)
    pattern[0, 0, :, 0] = 1  # the first token
    pattern[0, 1] = np.eye(4)  # itself
    pattern[0, 2] = np.eye(4, k=-1)  # the token before
    assert striking(pattern) == (0, 2)


def test_the_route_gives_a_head_or_a_mean_and_nothing_else():
    from workbench.ui.parts.explorer import offered, triangle

    attention = wb.attention(subject_of(tiny_gpt()), text(9))
    name = offered(attention)

    def rows(what: str) -> np.ndarray:
        body = triangle(name, what)
        assert body is not None
        scale = np.frombuffer(body, "<f4", 9)
        return restore(np.frombuffer(body, "<u2", offset=36), scale)

    np.testing.assert_allclose(rows("1/2"), attention.pattern[1, 2], atol=1e-5)
    np.testing.assert_allclose(rows("mean/1/attention"), attention.pattern[1].mean(0), atol=1e-5)
    heads = [attention.value_weighted(i, j) for i in range(2) for j in range(4)]
    np.testing.assert_allclose(rows("mean/all/weighted"), np.mean(heads, axis=0), rtol=1e-3)
    for what in ("2/0", "0/4", "-1/0", "0", "0/0/0", "mean/x/attention", "mean/0/other", "¹/0"):
        assert triangle(name, what) is None, what
    assert triangle("unknown", "0/0") is None
