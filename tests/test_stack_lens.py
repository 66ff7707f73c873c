"""The lens of encoders and of decoders of encoder-decoders, against the model read by hand."""

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.encoders import SENTENCE, bert, t5
from workbench.errors import WorkbenchError
from workbench.subjects import Subject


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Subject:
    return bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def test_an_encoders_lens_is_its_own_head_on_every_hidden_state(encoder):
    read = wb.lens(encoder, SENTENCE, answer=["mat", "tree"])
    ids = encoder.encode(SENTENCE)
    with torch.no_grad():
        states = encoder.model(ids, output_hidden_states=True).hidden_states
        logits = [encoder.model.cls(state)[0].softmax(-1) for state in states]
    place = encoder.tokenizer.convert_ids_to_tokens(ids[0].tolist()).index("[MASK]")
    assert read.place == place and len(read.top) == 4
    words = encoder.tokenizer.convert_tokens_to_ids(["mat", "tree"])
    for row, probs in enumerate(logits):
        np.testing.assert_allclose(read.prob[row], probs.max(-1).values.numpy(), atol=1e-6)
        for i, word in enumerate(words):
            assert read.answer_prob[i, row, place] == pytest.approx(float(probs[place, word]), 1e-4)
    assert read.checks["lens"] < 1e-4
    assert f"position {place} ends on" in read.headline()


@pytest.mark.parametrize("tied", [True, False])
def test_a_t5s_lens_is_its_norm_and_unembedding_in_the_decoder(tied):
    subject = t5(tie_word_embeddings=tied, scale_decoder_outputs=tied)
    read = wb.lens(subject, "3 1 4 15", target="7 7 2", answer="5")
    target = torch.tensor([[0, 7, 7, 2]])
    model: Any = subject.model
    with torch.no_grad():
        out = model(
            input_ids=subject.encode("3 1 4 15"),
            decoder_input_ids=target,
            output_hidden_states=True,
        )
        # transformers gives the last state with its norm, the others without.
        normed = [model.decoder.final_layer_norm(s) for s in out.decoder_hidden_states[:-1]]
        streams = [*normed, out.decoder_hidden_states[-1]]
        scale = 24**-0.5 if tied else 1.0
        probs = [(model.lm_head(s * scale))[0].softmax(-1) for s in streams]
    for row, expected in enumerate(probs):
        np.testing.assert_allclose(read.prob[row], expected.max(-1).values.numpy(), atol=1e-5)
        assert read.answer_prob[0, row, -1] == pytest.approx(float(expected[-1, 5]), abs=1e-6)
    assert read.tokens == ["0", "7", "7", "2"] and read.place == -1
    assert read.checks["lens"] < 1e-4


def test_what_the_lens_cannot_do_is_one_sentence(encoder, tiny):
    with pytest.raises(WorkbenchError, match="has no tuned lens, which is trained for decoder"):
        wb.lens(encoder, SENTENCE, kind="tuned")
    with pytest.raises(WorkbenchError, match="is 2 tokens"):
        wb.lens(encoder, SENTENCE, answer="cats")
    with pytest.raises(WorkbenchError, match="no target to choose"):
        wb.lens(tiny, "3 1", target="4")
