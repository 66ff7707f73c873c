"""One hash for one model: weights, configuration, tokenizer, edits and dtype; and files that change
are read anew.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import workbench as wb
from workbench import paths
from workbench.errors import WorkbenchError
from workbench.subjects import adapter, identity, load, stamp
from workbench.subjects.card import read_card, write_card
from workbench.subjects.intervention import Edit, Intervention, Transplant, apply


@pytest.fixture
def copy(tmp_path):
    """A copy of shelf-base, to be changed."""
    return shutil.copytree(paths.shelf("models") / "shelf-base", tmp_path / "copy")


def change(path, **words):
    path.write_text(json.dumps({**json.loads(path.read_text()), **words}))


def test_every_part_of_a_model_is_in_its_hash(copy):
    base = load("shelf-base")
    assert load(copy).hash == base.hash, "another path is the same model"
    seen = {base.hash}
    for name, words in (
        ("config.json", {"rotary_base": 500.0}),
        ("config.json", {"norm_eps": 1e-3}),
        ("tokenizer_config.json", {"chat_template": "{{ messages }}"}),
        ("generation_config.json", {"eos_token_id": 5}),
    ):
        change(copy / name, **words)
        subject = load(copy)
        assert subject.card.sha256 == base.card.sha256, "the weights are the same"
        assert subject.hash not in seen, (name, words)
        seen.add(subject.hash)
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(
        text.replace('"content":"<|endoftext|>"', '"content":"<|end|>"') + " "
    )
    assert load(copy).hash not in seen


def test_what_changes_no_number_changes_no_hash(copy):
    before = load(copy).hash
    change(
        copy / "config.json",
        transformers_version="4.0.0",
        torch_dtype="float16",
        _name_or_path="/elsewhere",
    )
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=4))
    change(copy / "card.json", notes="another note", sha256="f" * 64)
    assert load(copy).hash == before


def test_precision_and_edits_are_in_the_hash():
    subject = load("shelf-base")
    single = subject.hash
    subject.model.double()
    assert subject.hash != single
    subject.model.float()
    assert subject.hash == single
    edited = [
        apply(subject, Intervention("e", "shelf-base", (Edit(0, "z", (0,), "set", v),))).hash
        for v in (0.0, 1.0)
    ]
    assert len({single, *edited}) == 3


def test_a_copy_with_another_rotary_base_has_its_own_scores_and_maps(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    change(copy / "config.json", rotary_base=100.0)
    first = load("shelf-base")
    other = load(copy)
    assert first.card.sha256 == other.card.sha256
    scores = {s.name: wb.evaluate(s, "repeat", limit=10).rows[0].value for s in (first, other)}
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "fresh"))  # nothing is cached here
    alone = wb.evaluate(other, "repeat", limit=10).rows[0].value
    assert scores[other.name] == alone != scores[first.name]
    from workbench.interp.lenses.tuned import lens_file

    assert lens_file(first.hash) != lens_file(other.hash)


def test_pages_read_a_folder_anew_when_its_files_changed(copy):
    from streamlit.testing.v1 import AppTest

    def page(folder):
        import streamlit as st

        from workbench.ui.parts.look import look
        from workbench.ui.parts.models import cached_load

        subject = cached_load(folder)
        shown = look(subject, "The cat sat on the mat. The cat").attention
        st.json(
            {"hash": subject.hash, "object": id(subject), "map": shown.pattern[5].sum(0).tolist()}
        )

    def seen():
        app = AppTest.from_function(page, kwargs={"folder": str(copy)}, default_timeout=60).run()
        assert not app.exception
        return json.loads(app.json[0].value)

    first = seen()
    again = seen()
    assert first["object"] == again["object"], "what did not change is kept"
    change(copy / "config.json", rotary_base=100.0)
    changed = seen()
    assert changed["hash"] != first["hash"] and changed["map"] != first["map"]


def test_a_stamp_follows_files_adapters_bases_and_edits(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / adapter.CONFIG).write_text(json.dumps({"base_model_name_or_path": str(copy)}))
    edit = Intervention("e", str(copy), (Edit(0, "z"),)).save()
    names = (str(copy), str(lora), edit)
    before = {name: stamp(name) for name in names}
    assert before == {name: stamp(name) for name in names}
    change(copy / "config.json", rotary_base=1.0)
    assert all(stamp(name) != before[name] for name in names)
    assert stamp("nobody/no-such-model") == "" and stamp("shelf-base") == stamp("shelf-base") != ""


def test_records_of_the_weights_hash_alone_still_mean_their_model(copy):
    base = load("shelf-base")
    tuned = load("shelf-tuned")
    assert identity.matches(base, base.hash) and identity.matches(base, base.card.sha256)
    assert not identity.matches(tuned, base.hash) and not identity.matches(base, "0" * 64)
    old = Transplant("shelf-tuned", tuned.card.sha256, base.card.sha256, ("L0",))
    new = Transplant("shelf-tuned", tuned.hash, base.hash, ("L0",))
    grafted = [
        apply(base, Intervention("t", "shelf-base", (), transplant=t), donor=tuned)
        for t in (old, new)
    ]
    for one, other in zip(*(s.model.parameters() for s in grafted), strict=True):
        assert torch.equal(one, other)
    change(copy / "config.json", rotary_base=100.0)
    with pytest.raises(WorkbenchError, match="made with another base"):
        apply(load(copy), Intervention("t", "", (), transplant=new), donor=tuned)


def test_a_card_on_disk_keeps_no_hash_of_another_place(tmp_path):
    card = load("shelf-base").card
    write_card(tmp_path, replace(card, loaded="something").to_dict())
    saved = json.loads((tmp_path / "card.json").read_text())
    assert "identity" not in saved and "loaded" not in saved and saved["sha256"] == card.sha256
    (tmp_path / "card.json").write_text(json.dumps({**saved, "identity": "x" * 64}))
    assert "identity" not in read_card(tmp_path)
