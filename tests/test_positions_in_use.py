"""What models do with positions: rotary frequencies, decoding from the stream, loss by position."""

import numpy as np
import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from tests.families import make
from workbench.errors import WorkbenchError
from workbench.figures import positions_in_use as draw
from workbench.interp import attention_by_distance, head_scores
from workbench.interp.encodings import encoding_study
from workbench.interp.position_loss import loss_by_position
from workbench.interp.position_probe import position_probe
from workbench.interp.rotary import rotary_use

TEXT = " ".join(str(i * 7 % 100) for i in range(40))


@pytest.mark.parametrize("family", ["llama", "neox", "qwen3", "gemma3", "workbench-rotary"])
def test_the_decay_of_one_token_repeated_is_its_scores_by_distance(family):
    """In the first layer every query and key is the same then, so the average is each of them."""
    subject = subject_of(make(family), family)
    prompt = " ".join(["7"] * 6)
    found = rotary_use(subject, [prompt, prompt], max_distance=4)
    _, cache = subject.bridge.run_with_cache(torch.full((1, 6), 7))
    scores = cache["blocks.0.attn.hook_attn_scores"][0].double().numpy()
    last = scores[:, 5, 5:0:-1]  # from the token itself to four back
    if family == "gemma3":
        last = last[:, :4]  # its first layer sees no farther
    np.testing.assert_allclose(found.decay[0][:, : last.shape[1]], last, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.used.sum(-1), 1)
    assert found.n == 2


def test_models_without_rotary_positions_say_so():
    with pytest.raises(WorkbenchError, match="has alibi positions"):
        rotary_use(subject_of(tiny_gpt(positions="alibi")), [TEXT])


def test_a_probe_finds_learned_positions_in_the_embedding_and_nothing_where_nothing_is():
    learned = position_probe(subject_of(tiny_gpt(positions="learned")), sequences=30, length=16)
    assert learned.low[0] > 0.5 and abs(learned.control[0]) < 0.2
    none = position_probe(subject_of(tiny_gpt(positions="none")), sequences=30, length=16)
    assert none.mean[0] < 0.2
    assert learned.n == 5 and len(learned.to_frame()) == 3


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "alibi", "none"])
def test_loss_is_read_beyond_the_context_where_the_encoding_goes_on(positions):
    subject = subject_of(tiny_gpt(positions=positions, n_ctx=48))
    found = loss_by_position(subject, [TEXT, TEXT[3:], TEXT[6:]], width=8)
    assert found.n == 3 and found.start[0] == 0
    assert np.isnan(found.beyond()) == (positions == "learned")
    ids = subject.encode(TEXT)[:, :9]
    expected = subject.model(ids, labels=ids).loss.item()
    if positions != "none":
        one = loss_by_position(subject, [TEXT, TEXT], width=8)
        assert one.mean[0] == pytest.approx(expected, rel=1e-5)


def test_five_encodings_stand_side_by_side():
    subjects = [
        subject_of(tiny_gpt(positions=p, n_ctx=48), p) for p in ("learned", "sinusoidal", "rotary", "alibi", "none")
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
    line = draw.fourier(vectors).data[0]
    assert line.x[int(np.argmax(line.y))] == pytest.approx(16)
    assert len(draw.helix(vectors).data[0].z) == 64
    assert len(draw.helix(vectors[:, :1]).data[0].z) == 64


def test_texts_longer_than_the_context_are_read_as_far_as_it_goes(tiny):
    long = " ".join(["3", "1", "4", "1", "5"] * 40)
    assert head_scores(tiny, texts=[long, long]).length <= tiny.n_ctx
    assert attention_by_distance(tiny, texts=[long, long]).n == rotary_use(tiny, [long, long]).n == 2


def test_texts_that_are_too_short_say_so(tiny):
    with pytest.raises(WorkbenchError, match="shorter than 33 tokens"):
        loss_by_position(tiny, ["1 2 3"])
