"""Linear probes: they find what is planted, read nothing in noise, and their directions move what
they read.
"""

import json

import numpy as np
import pytest
import torch

from tests.conftest import subject_of, tiny_gpt
from workbench.errors import WorkbenchError
from workbench.interp.linear.fit import code_lengths, fit
from workbench.interp.linear.labels import control_labels, labelled
from workbench.interp.linear.probe import linear_probe
from workbench.interp.linear.stages import SITES, read_stages, stages_of
from workbench.interp.position.probe import position_probe
from workbench.subjects import load
from workbench.subjects.intervention import apply

SEQUENCES = [[5, 9, 31, 44, 7], [3, 8], [62, 18, 77, 23, 1, 4, 9]]


@pytest.mark.parametrize("site", SITES)
def test_activations_of_texts_of_different_lengths_are_those_of_each_text_alone(site):
    subject = subject_of(tiny_gpt())
    at = [[0, 4], [1], [2, 3, 6]]
    activations = read_stages(subject, SEQUENCES, at, site=site, stages=stages_of(subject, site))
    names = {
        "resid_post": "hook_out",
        "attn_out": "hook_attn_out",
        "mlp_out": "hook_mlp_out",
        "z": "attn.hook_z",
    }
    rows = []
    for ids, places in zip(SEQUENCES, at, strict=True):
        _, cache = subject.bridge.run_with_cache(torch.tensor([ids]))
        stages = [cache["blocks.0.hook_in"]] if site == "resid_post" else []
        stages += [cache[f"blocks.{i}.{names[site]}"] for i in range(2)]
        rows.append(torch.stack([x[0, places].flatten(1) for x in stages]))
    np.testing.assert_allclose(activations, torch.cat(rows, 1).numpy(), atol=1e-5)


def test_a_planted_direction_is_found_and_noise_gives_nothing_away():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 400)
    group = np.arange(400) // 2
    values = rng.normal(0, 1, (400, 20))
    values[:, 3] += 6 * classes
    held = group < 50
    fitted = fit(values, classes, group, held, 2)
    assert (
        fitted.right.mean() > 0.98
        and np.abs(fitted.weights[1]).argmax() == 3
        and fitted.weights[1, 3] > 0
    )
    np.testing.assert_allclose(fitted.weights[0], -fitted.weights[1])
    bits = code_lengths(values, classes, group, 2, fitted.strength)
    assert bits[group < 12].mean() == 1  # the first block is sent without a probe
    assert bits.mean() < 0.5  # half of what the labels cost without a probe
    noise = rng.normal(0, 1, (400, 20))
    assert 0.35 < fit(noise, classes, group, held, 2).right.mean() < 0.65
    assert code_lengths(noise, classes, group, 2, 1e-3).mean() > 0.97


def test_learned_positions_are_read_off_the_embedding_where_there_are_any():
    with_positions = linear_probe(
        subject_of(tiny_gpt(positions="learned")), "position", n=2800, layers=[1]
    )
    without = linear_probe(subject_of(tiny_gpt(positions="none")), "position", n=700, layers=[])
    first = with_positions.stages[0]
    assert [s.stage for s in with_positions.stages] == [0, 2]
    # 100 word types can be learned by heart.
    assert first.accuracy.low > 0.4 and first.control.low > 0.3
    assert first.bits.value < with_positions.uniform_bits == 3
    assert without.stages[0].accuracy.low < 0.3  # nothing there tells the eighths of the text apart
    assert with_positions.best.selectivity.difference == max(
        with_positions.to_frame()["selectivity"]
    )
    json.dumps(with_positions.to_dict())


def test_a_direction_moves_the_other_classes_to_where_its_class_is():
    subject = subject_of(tiny_gpt(positions="learned"))
    trained = linear_probe(subject, "position", n=700, layers=[0])
    label = trained.classes[5]
    edited = apply(subject, trained.steering(label, 0, strength=2.0))
    data = labelled(subject, "position", n=700)
    ids = [example.ids for example in data.examples]
    at = [example.at for example in data.examples]
    sides = [read_stages(side, ids, at, stages=[1])[0] for side in (subject, edited)]
    vector = trained.directions[1, 5]
    np.testing.assert_allclose(
        sides[1] - sides[0], np.broadcast_to(2 * vector, sides[0].shape), atol=1e-3
    )
    own = np.array([tag == label for e in data.examples for tag in e.label])
    unit = vector / np.linalg.norm(vector)
    gap = (sides[0][own].mean(0) - sides[0][~own].mean(0)) @ unit
    # Held-out texts are in this mean, not in that.
    assert np.linalg.norm(vector) == pytest.approx(gap, rel=0.25)


def test_words_are_read_at_their_last_token_and_noun_number_needs_no_data_folder():
    subject = load("shelf-base")
    data = labelled(subject, "number", n=120)
    for example in data.examples[:20]:
        for p, label, word in zip(example.at, example.label, example.word, strict=True):
            ending = str(subject.tokenizer.decode(list(example.ids[: p + 1])))
            assert ending.endswith(word) and label in ("singular", "plural")
    trained = linear_probe(subject, "number", n=200, layers=[0])
    assert (
        trained.stages[-1].accuracy.value > 0.9 > 0.7 > trained.majority.value
        and trained.level == "token"
    )


def test_the_control_gives_every_word_type_one_label_of_its_own():
    words = ["a", "b", "a", "c", "b"] * 40
    labels = control_labels(words, ["x"] * 150 + ["y"] * 50)
    assert len({(w, c) for w, c in zip(words, labels, strict=True)}) == 3
    many = control_labels([str(i) for i in range(2000)], ["x"] * 3 + ["y"])
    assert many.count("x") / 2000 == pytest.approx(0.75, abs=0.05)


def test_files_of_ones_own_are_read_by_word_or_by_text(tmp_path):
    subject = load("shelf-base")
    texts = tmp_path / "texts.tsv"
    texts.write_text(
        "".join(f"The {'old' if i % 2 else 'new'} house {i}\t{i % 2}\n" for i in range(60))
    )
    assert labelled(subject, str(texts)).level == "text"
    rows = [
        {"tokens": ["The", "horse", "ran", "off"], "tags": ["D", "N", "V", "P"]} for _ in range(15)
    ]
    words = tmp_path / "words.jsonl"
    words.write_text("\n".join(map(json.dumps, rows)))
    data = labelled(subject, str(words))
    assert data.level == "token" and data.n == 60 and data.classes == ("D", "N", "P", "V")
    tree = tmp_path / "tree.conllu"
    sentence = (
        "# text = it ran away\n1\tit\tit\tPRON\n1-2\tx\t_\t_\n"
        "2\tran\trun\tVERB\n3\taway\taway\tADV\n\n"
    )
    tree.write_text(sentence * 30)
    assert labelled(subject, str(tree)).classes == ("ADV", "PRON", "VERB")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, d: linear_probe(s, "soul"), "no labelled set 'soul'; choose one of number"),
        (lambda s, d: linear_probe(s, str(d / "none.tsv")), "none.tsv is no"),
        (lambda s, d: linear_probe(s, site="soul"), "site is 'soul'"),
        (lambda s, d: linear_probe(s, "position", layers=[9]), "no layer 9"),
        (
            lambda s, d: linear_probe(s, "number"),
            "came without a tokenizer, so its text is token ids",
        ),
        (lambda s, d: linear_probe(s, written(d, "a\tx\n" * 50)), "of 1 classes"),
        (lambda s, d: linear_probe(s, written(d, "a b c\n")), "no column that is plainly the text"),
    ],
)
def test_bad_input_gets_one_sentence(tiny, tmp_path, ask, message):
    with pytest.raises(WorkbenchError, match=message) as caught:
        ask(tiny, tmp_path)
    assert "\n" not in str(caught.value)


def written(folder, text: str) -> str:
    file = folder / "own.tsv"
    file.write_text(text.replace("a\tx", "3 4 5 6 7\tx"))
    return str(file)


def test_steering_by_a_probe_needs_its_class_its_layer_and_the_stream(tiny):
    trained = linear_probe(tiny, "position", n=600, layers=[1])
    with pytest.raises(WorkbenchError, match="no class 'x'"):
        trained.steering("x", 1)
    with pytest.raises(WorkbenchError, match="Layer 0 was not probed; there are layers 1"):
        trained.steering("1 of 8", 0)
    heads = linear_probe(tiny, "position", site="z", n=600, layers=[1])
    assert [s.stage for s in heads.stages] == [2]
    with pytest.raises(WorkbenchError, match="Only directions of the stream"):
        heads.steering("1 of 8", 1)


def test_position_by_ridge_still_reads_what_is_planted():
    ridge = position_probe(subject_of(tiny_gpt(positions="learned")), n=16, length=32)
    assert ridge.low[0] > 0.1 > ridge.control[0]
