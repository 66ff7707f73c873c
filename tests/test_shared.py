"""One copy of a model's weights: loaded once, shared by names, users and edits, with no leaks."""

import gc
import threading
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_gpt
from workbench import paths
from workbench.errors import WorkbenchError
from workbench.subjects import load
from workbench.subjects.edits import Edit
from workbench.subjects.intervention import Intervention
from workbench.subjects.shared import loads, shared
from workbench.subjects.tokenizer import id_tokenizer

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved tiny model."""
    where = tmp_path / "tiny"
    tiny_gpt().save_pretrained(where)
    id_tokenizer(100).save_pretrained(where)
    return where


def addresses(subject) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in subject.model.parameters()}


def test_eight_threads_load_a_model_once_and_get_one_object(folder):
    before = loads()
    barrier = threading.Barrier(8)
    subjects = []

    def ask() -> None:
        barrier.wait()
        subjects.append(shared(str(folder)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads() == before + 1 and len(subjects) == 8 and len(set(map(id, subjects))) == 1
    torch.testing.assert_close(
        subjects[0].model(IDS).logits, load(folder).model(IDS).logits, rtol=0, atol=0
    )


def test_pages_and_service_share_weights_but_no_hooks(folder):
    page = shared(str(folder))
    service = shared(str(folder), user="service")
    assert page is not service and addresses(page) == addresses(service)
    before = service.model(IDS).logits
    handle = page.model.model.layers[0].register_forward_hook(lambda _m, _a, out: out * 0)
    other = shared(str(folder), user="another")
    assert not torch.equal(page.model(IDS).logits, before)
    for untouched in (service, other):
        torch.testing.assert_close(untouched.model(IDS).logits, before, rtol=0, atol=0)
    handle.remove()


def test_two_names_of_one_model_share_weights_and_another_dtype_does_not(folder, monkeypatch):
    first = shared(str(folder))
    second = shared(str(folder / ".." / "tiny"))
    assert first is not second and addresses(first) == addresses(second)
    half = shared(str(folder), dtype=torch.bfloat16)
    assert half.hash != first.hash and half.model.dtype == torch.bfloat16
    assert first.model.dtype == torch.float32 and not addresses(half) & addresses(first)


def test_edits_share_the_weights_of_their_base_and_do_not_leak(folder):
    base = shared(str(folder))
    plain = base.model(IDS).logits
    before = loads()
    names = []
    for head in (0, 1):
        change = Intervention(f"without-{head}", str(folder), (Edit(0, "z", (head,)),))
        names.append(change.save())
    edited = [shared(name) for name in names]
    assert loads() == before
    results = [subject.model(IDS).logits for subject in edited]
    for subject, name, result in zip(edited, names, results, strict=True):
        assert addresses(subject) == addresses(base)
        torch.testing.assert_close(result, load(name).model(IDS).logits, rtol=0, atol=0)
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[0], plain)
    torch.testing.assert_close(base.model(IDS).logits, plain, rtol=0, atol=0)


def test_a_copy_lives_as_long_as_its_subjects_and_an_edit_holds_its_base(folder):
    change = Intervention("held", str(folder), (Edit(0, "mlp_out"),))
    edited = shared(change.save())
    before = loads()
    base = shared(str(folder))
    assert loads() == before and addresses(base) == addresses(edited)
    del edited, base
    gc.collect()
    shared(str(folder))
    assert loads() == before + 1


def test_changed_files_are_loaded_again(folder):
    first = shared(str(folder))
    tiny_gpt(seed=1).save_pretrained(folder)
    second = shared(str(folder))
    assert first.hash != second.hash and not addresses(first) & addresses(second)


def test_a_kind_that_is_not_accepted_is_refused_though_it_is_in_memory():
    taken = shared("shelf-reverse", seq2seq=True)
    assert taken.kind == "encoder-decoder"
    with pytest.raises(WorkbenchError, match="is an encoder-decoder model"):
        shared("shelf-reverse")


def test_an_edit_made_from_itself_is_refused():
    folder = paths.home() / "interventions"
    folder.mkdir(exist_ok=True)
    for name, base in (("one", "two"), ("two", "one")):
        text = Intervention(name, f"edit:{base}", (Edit(0, "z"),)).to_json()
        (folder / f"{name}.json").write_text(text)
    with pytest.raises(WorkbenchError, match="made from itself"):
        shared("edit:one")
