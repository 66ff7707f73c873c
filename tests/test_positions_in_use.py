"""What models do with positions: rotary frequencies, decoding from the stream, loss by position."""

import json

import numpy as np
import pytest
import torch

from tests import other_decoders
from tests.conftest import layout_of, subject_of, tiny_gpt, traces
from tests.families import make
from workbench import paths
from workbench.data.passages import TEXTS
from workbench.errors import WorkbenchError
from workbench.figures import positions_in_use as draw
from workbench.interp import anatomy, attention_by_distance, head_scores
from workbench.interp.position.loss import loss_by_position
from workbench.interp.position.probe import position_probe
from workbench.interp.position.rotary import reading, rotary_use
from workbench.interp.position.study import encoding_study
from workbench.subjects import load
from workbench.subjects.positions import ENCODINGS

TEXT = " ".join(str(i * 7 % 100) for i in range(40))


@pytest.mark.parametrize("family", ["llama", "neox", "qwen3", "gemma3", "workbench-rotary"])
def test_the_decay_of_one_token_repeated_is_its_scores_by_distance(family):
    """In the first layer every query and key is the same then, so the average is each of them."""
    subject = subject_of(make(family), family)
    prompt = " ".join(["7"] * 6)
    use = rotary_use(subject, [prompt, prompt], max_distance=4)
    _, cache = subject.bridge.run_with_cache(torch.full((1, 6), 7))
    scores = cache["blocks.0.attn.hook_attn_scores"][0].double().numpy()
    last = scores[:, 5, 5:0:-1]  # from the token itself to four back
    if family == "gemma3":
        last = last[:, :4]  # its first layer sees no farther
    np.testing.assert_allclose(use.decay[0][:, : last.shape[1]], last, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(use.used.sum(-1), 1)
    assert use.n == 2


def test_models_without_rotary_positions_say_so():
    with pytest.raises(WorkbenchError, match="has alibi positions"):
        rotary_use(subject_of(tiny_gpt(positions="alibi")), [TEXT])


def test_a_probe_finds_learned_positions_in_the_embedding_and_nothing_where_nothing_is():
    learned = position_probe(subject_of(tiny_gpt(positions="learned")), n=30, length=16)
    assert learned.low[0] > 0.5 and abs(learned.control[0]) < 0.2
    none = position_probe(subject_of(tiny_gpt(positions="none")), n=30, length=16)
    assert none.mean[0] < 0.2
    assert learned.n == 8 and len(learned.to_frame()) == 3


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "alibi", "none"])
def test_loss_is_read_beyond_the_context_where_the_encoding_goes_on(positions):
    subject = subject_of(tiny_gpt(positions=positions, n_ctx=48))
    losses = loss_by_position(subject, [TEXT, TEXT[3:], TEXT[6:]], width=8)
    assert losses.n == 3 and losses.start[0] == 0
    assert np.isnan(losses.beyond()) == (positions == "learned")
    ids = subject.encode(TEXT)[:, :9]
    expected = subject.model(ids, labels=ids).loss.item()
    if positions != "none":
        one = loss_by_position(subject, [TEXT, TEXT], width=8)
        assert one.mean[0] == pytest.approx(expected, rel=1e-5)


def test_five_encodings_stand_side_by_side():
    subjects = [
        subject_of(tiny_gpt(positions=p, n_ctx=48), p)
        for p in ("learned", "sinusoidal", "rotary", "alibi", "none")
    ]
    frame = encoding_study(subjects, [TEXT, TEXT[3:]], n=2).to_frame()
    assert frame["encoding"].tolist() == frame["model"].tolist()
    assert np.isfinite(frame["loss"].to_numpy()).all()
    assert frame["loss beyond"].isna().tolist() == [True] + [False] * 4
    with pytest.raises(WorkbenchError, match="at least one model"):
        encoding_study([], [TEXT])


def test_sinusoidal_vectors_have_the_waves_they_were_made_of_and_a_helix():
    place = np.arange(64)[:, None] * 2 * np.pi / 16
    vectors = np.concatenate([np.sin(place), np.cos(place), 0.1 * place], 1)
    line = traces(draw.fourier(vectors))[0]
    assert line.x[int(np.argmax(line.y))] == pytest.approx(16)
    assert len(traces(draw.helix(vectors))[0].z) == 64
    assert len(traces(draw.helix(vectors[:, :1]))[0].z) == 64


def test_texts_longer_than_the_context_are_read_as_far_as_it_goes(tiny):
    long = " ".join(["3", "1", "4", "1", "5"] * 40)
    assert head_scores(tiny, texts=[long, long]).length <= tiny.n_ctx
    assert (
        attention_by_distance(tiny, texts=[long, long]).n == rotary_use(tiny, [long, long]).n == 2
    )


def test_texts_that_are_too_short_say_so(tiny):
    with pytest.raises(WorkbenchError, match="shorter than 33 tokens"):
        loss_by_position(tiny, ["1 2 3"])


def test_catalogues_stand_side_by_side_a_row_a_model_and_a_block_a_score():
    def scores(start):
        mean = np.arange(start, start + 4).reshape(2, 2) / 10
        return {
            name: (mean, mean - 0.05, mean + 0.05)
            for name in ("previous_token_score", "induction_score")
        }

    figure = draw.catalogues({"rotary": scores(0), "none": scores(4)})
    z = np.asarray(traces(figure)[0].z)
    np.testing.assert_allclose(z[:, :4], [[0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]])
    np.testing.assert_allclose(z[:, 5:], z[:, :4])
    assert np.isnan(z[:, 4]).all()
    assert traces(figure)[0].customdata[1, 3] == "<b>L1H1</b> 0.700, 95 % interval 0.650 to 0.750"
    assert layout_of(figure).xaxis.ticktext == ("previous token", "induction")


def test_the_bundled_five_differ_in_nothing_but_their_encoding():
    folder = paths.shelf("models") / "shelf-positions"
    configs = {}
    for encoding in ENCODINGS:
        subject = load(f"shelf-positions/{encoding}")
        assert subject.card.positions == encoding and subject.name == f"shelf-positions/{encoding}"
        assert (folder / encoding / "model.safetensors").stat().st_size < 1.5e6
        card = json.loads((folder / encoding / "card.json").read_text())
        assert card["sha256"] == subject.card.sha256 and card["licence"]
        config = json.loads((folder / encoding / "config.json").read_text())
        configs[encoding] = {k: v for k, v in config.items() if k != "positions"}
    assert all(config == configs["none"] for config in configs.values())


def test_the_bundled_five_show_what_the_encoding_does():
    """No order at all costs loss; distances that are built in go on beyond the context, absolute
    positions do not.
    """
    study = encoding_study(
        [load(f"shelf-positions/{e}") for e in ("sinusoidal", "rotary", "alibi")], TEXTS, n=4
    )
    frame = study.to_frame().set_index("encoding")
    assert frame.loc["alibi", "loss beyond"] < frame.loc["alibi", "loss"] + 0.2
    assert frame.loc["sinusoidal", "loss beyond"] > frame.loc["sinusoidal", "loss"] + 0.2


TURNING = {
    "gptj": ("attn.q_proj", "attn.k_proj", "neighbours", 2),
    "phi": ("self_attn.q_proj", "self_attn.k_proj", "halves", 2),
    "cohere": ("self_attn.q_proj", "self_attn.k_proj", "neighbours", 4),
    "olmo2": ("self_attn.q_norm", "self_attn.k_norm", "halves", 4),
    "glm": ("self_attn.q_proj", "self_attn.k_proj", "neighbours", 2),
    "llama": ("self_attn.q_proj", "self_attn.k_proj", "halves", 4),
}
"""Where queries and keys come out unturned, which dimensions turn together, and how many pairs (of
d_head 8).
"""


@pytest.mark.parametrize("name", TURNING)
def test_frequencies_in_use_are_those_of_queries_and_keys_caught_by_plain_hooks(name):
    """In float64; some of these models turn a part of the dimensions only, or each with its
    neighbour.
    """
    *paths, pairs, n_pairs = TURNING[name]
    subject = subject_of(other_decoders.make(name), name)
    used = rotary_use(subject, [TEXT], max_distance=4).used
    caught: dict[tuple[str, int], np.ndarray] = {}
    layers = list(subject.model.get_submodule(other_decoders.DECODERS[name].layers).children())
    for i, layer in enumerate(layers):
        for path in paths:

            def keep(module, args, out, where=(path, i)):
                caught[where] = out[0, 1:].detach().numpy()

            layer.get_submodule(path).register_forward_hook(keep)
    subject.model(subject.encode(TEXT))
    for i in range(len(layers)):
        sizes = []
        for path in paths:
            x = caught[path, i].reshape(39, -1, 8)
            x = x.repeat(4 // x.shape[1], 1)
            turning = [
                (j, j + n_pairs) if pairs == "halves" else (2 * j, 2 * j + 1)
                for j in range(n_pairs)
            ]
            sizes.append(np.stack([np.hypot(x[..., a], x[..., b]) for a, b in turning], -1).mean(0))
        product = sizes[0] * sizes[1]
        np.testing.assert_allclose(used[i], product / product.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "name", [*TURNING, "falcon", "cohere2", "olmo3", "exaone4", "olmoe", "ernie45", "neox"]
)
def test_decay_is_what_eager_attention_falls_by_in_other_families(name):
    """One token repeated: in the first layer all queries are alike, so the logarithm of attention
    is their score.
    """
    model = other_decoders.make(name)
    subject = subject_of(model, name)
    decay = rotary_use(subject, ["5 5 5 5 5 5 5 5 5 5"], max_distance=3).decay[0]
    model.set_attn_implementation("eager")
    pattern = (
        model(torch.full((1, 10), 5), output_attentions=True, use_cache=False)
        .attentions[0][0]
        .detach()
    )
    scores = pattern[:, -1].log().flip(-1)[:, :4].numpy()  # by distance, up to a constant
    np.testing.assert_allclose(decay - decay[:, :1], scores - scores[:, :1], atol=1e-5)
    assert np.abs(scores - scores[:, :1]).max() > 0.05


def test_a_block_s_scores_are_the_model_s_where_neighbours_turn_together():
    """Ernie 4.5 turns each dimension with its neighbour; the anatomy page makes scores by the
    block's formulas.
    """
    subject = subject_of(other_decoders.make("ernie45"), "ernie45")
    worked = anatomy(subject, "3 1 4 1 5 9 2 6", layer=1, head=1)
    assert "all agree" in worked.headline()


@pytest.mark.parametrize("name", ["gptj", "phi", "cohere", "olmo2"])
def test_a_block_s_pattern_is_eager_attention_where_the_blocks_are_built_in_another_way(name):
    model = other_decoders.make(name)
    subject = subject_of(model, name)
    ids = subject.encode(TEXT)
    _, cache = subject.bridge.run_with_cache(ids)
    blocks = reading(subject, ids, cache)
    model.set_attn_implementation("eager")
    patterns = model(ids, output_attentions=True, use_cache=False).attentions
    for block, pattern in zip(blocks, patterns, strict=True):
        torch.testing.assert_close(block.pattern, pattern[0], atol=1e-5, rtol=0)
