"""The budget of memory: what gives way, in which order, that results stay equal, and the sizes."""

import gc
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from tests.conftest import subject_of, tiny_gpt
from workbench import memory
from workbench.errors import WorkbenchError
from workbench.generation import Request
from workbench.generation.batch import Batch
from workbench.storages import storages

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No cache of another test counts, and none of this test's counts later."""
    gc.collect()
    memory.release()
    yield
    memory.release()


def sum_of(*values: Any) -> int:
    """Bytes of tensors and arrays, one storage once: written without the walk of `storages`."""
    sizes = {}
    for value in values:
        if isinstance(value, torch.Tensor):
            sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        else:
            while isinstance(value.base, np.ndarray):
                value = value.base
            sizes[value.ctypes.data] = value.nbytes
    return sum(sizes.values())


def held(name: str) -> memory.Held:
    """What all caches of a name hold."""
    return next((each for each in memory.held() if each.name == name), memory.Held(name, 0, 0))


@pytest.mark.parametrize("n_pos", [3, 17, 64])
def test_the_size_of_a_record_is_that_of_its_arrays(tiny, n_pos):
    result = wb.attention(tiny, " ".join(str(i % 90) for i in range(n_pos)))
    arrays = sum_of(result.pattern, result.value_norms)
    assert arrays > 2 * 4 * n_pos * n_pos * 4
    assert arrays <= sum(storages(result).values()) < arrays + 2000
    twice = storages([result, {"again": result, "view": result.pattern[1:, :2]}])
    assert sum(twice.values()) == sum(storages(result).values())


def test_the_size_of_a_model_is_that_of_its_parameters_and_tied_ones_count_once():
    for tied in (True, False):
        model = tiny_gpt(tie_word_embeddings=tied)
        tensors = sum_of(*model.parameters(), *model.buffers())
        assert tensors <= sum(storages(model).values()) < tensors + 5000
    assert sum(storages(torch.zeros(10, 10)[0]).values()) == 400


def test_tables_texts_and_lists_of_numbers_count():
    table = pd.DataFrame({"a": np.zeros(1000), "b": ["word"] * 1000})
    assert sum(storages(table).values()) == table.memory_usage(deep=True).sum()
    assert sum(storages(["x" * 5000, b"y" * 3000]).values()) == 8000
    assert sum(storages({"many": [0.5] * 10_000}).values()) >= 10_000 * 8


def test_what_was_used_longest_ago_gives_way_and_is_equal_when_computed_again(tiny, monkeypatch):
    prompts = [" ".join(str((i * k) % 90) for i in range(60)) for k in (1, 3, 7, 11)]
    first = memory.Kept("first")
    second = memory.Kept("second")
    caches = [first, second, first, second]
    patterns = []
    for prompt, cache in zip(prompts, caches, strict=True):
        result = cache.made(prompt, partial(wb.attention, tiny, prompt))
        patterns.append(result.pattern.copy())
    each = sum(storages(wb.attention(tiny, prompts[0])).values())
    first.get(prompts[0])  # used last now, though it came first
    assert memory.total() == sum(each_cache.n_bytes for each_cache in memory.held())
    monkeypatch.setenv(memory.VARIABLE, f"{2.5 * each / 1e6:.6f}MB")
    freed = memory.settle()
    assert prompts[0] in first and prompts[3] in second
    assert prompts[1] not in second and prompts[2] not in first
    assert 1.9 * each < freed < 2.1 * each and memory.total() < 2.5 * each
    for prompt, cache, pattern in zip(prompts, caches, patterns, strict=True):
        again = cache.made(prompt, partial(wb.attention, tiny, prompt))
        np.testing.assert_array_equal(again.pattern, pattern)


def test_what_two_caches_share_is_free_only_when_both_let_go(monkeypatch):
    shared = np.zeros(1_000_000, np.uint8)
    caches = [memory.Kept(name) for name in ("one", "two", "three")]
    caches[0].put("a", shared)
    caches[1].put("b", shared[:10])
    caches[2].put("last", np.zeros(1_500_000, np.uint8))
    assert memory.total() == 2_500_000
    monkeypatch.setenv(memory.VARIABLE, "2MB")
    assert memory.settle() == 1_000_000
    assert [len(cache) for cache in caches] == [0, 0, 1]


def test_the_result_used_last_stays_however_large_it_is(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "1MB")
    cache = memory.Kept("large")
    cache.put("small", np.zeros(1000))
    cache.put("large", np.zeros(10_000_000, np.uint8))
    assert memory.settle() == 8000 and "large" in cache and "small" not in cache


def test_beginnings_of_prompts_give_way_and_the_text_is_the_same(tiny, monkeypatch):
    ids = [int(i * 7 % 90) for i in range(40)]

    def written(batch: Batch) -> list[int]:
        done: list[Any] = []
        batch.add(Request(ids, 8), done.append)
        while batch.step():
            pass
        return list(done[0].ids)

    batch = Batch(tiny)
    text = written(batch)
    block = batch.prefixes.best(ids)[1]
    assert block is not None
    assert held("beginnings of prompts").n_bytes == sum_of(*(x for pair in block for x in pair))
    monkeypatch.setenv(memory.VARIABLE, "0MB")
    memory.Kept("other").put("used last", np.zeros(1000))
    memory.note_growth()
    keep = memory.Kept("newest")
    keep.put("x", np.zeros(1))
    memory.settle()
    assert len(batch.prefixes) == 0 and batch.prefixes.size == 0
    assert written(batch) == text


def test_copies_of_weights_for_writing_give_way_and_the_text_is_the_same():
    subject = subject_of(tiny_gpt(d_model=64, norm="rmsnorm", mlp="swiglu", positions="rotary"))
    batch = Batch(subject)

    def written() -> list[int]:
        done: list[Any] = []
        batch.add(Request([3, 1, 4], 40), done.append)
        while batch.step():
            pass
        return list(done[0].ids)

    text = written()
    shortcut = batch.forward.shortcut
    assert shortcut.n_bytes > 0
    assert held(shortcut.name).n_bytes == shortcut.n_bytes
    memory.release()
    assert shortcut.n_bytes == 0 and held(shortcut.name).n_entries == 0
    assert written() == text


def test_release_lets_go_of_all_and_models_are_counted_apart(tiny):
    models = memory.Kept("models", weights=True)
    results = memory.Kept("results")
    models.put("tiny", tiny)
    results.put("the model and more", [tiny.model, np.zeros(1000)])
    assert held("models").weights and held("results").n_bytes == 8000
    assert held("models").n_bytes >= sum_of(*tiny.model.parameters())
    assert memory.total() == 8000
    assert memory.release(weights=False) == 8000 and len(models) == 1
    assert memory.release() > 0 and not len(models)


def test_eight_threads_that_ask_for_one_result_compute_it_once():
    cache = memory.Kept("slow")
    counted: list[int] = []

    def make() -> object:
        counted.append(1)
        time.sleep(0.05)
        return object()

    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(cache.made("key", make))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1 and len(results) == 8 and len(set(map(id, results))) == 1
    assert not cache._making


def test_a_result_that_failed_is_tried_again_and_none_is_a_result():
    cache = memory.Kept("failing", 2)

    def fail() -> None:
        raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        cache.made("key", fail)
    assert cache.made("key", lambda: None) is None and cache.made("key", fail) is None
    for key in "abc":
        cache.put(key, key)
    assert len(cache) == 2 and "key" not in cache


@pytest.mark.parametrize(
    ("given", "n_bytes"),
    [("", 2_000_000_000), ("2GB", 2_000_000_000), ("500 MB", 500_000_000), ("1.5", 1_500_000_000),
     ("1GiB", 2**30)],
)  # fmt: skip
def test_the_budget_is_read_from_the_environment(given, n_bytes, monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, given)
    assert memory.budget() == n_bytes


@pytest.mark.parametrize("given", ["much", "2 TB", "-1GB", "1GB2"])
def test_a_budget_that_is_no_size_is_named_with_its_mend(given, monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, given)
    with pytest.raises(WorkbenchError, match=r"WORKBENCH_MEMORY is .*write 2GB or 500MB"):
        memory.budget()


def test_freed_memory_goes_back_to_the_system():
    if not memory.trim() and not hasattr(memory.c_library(), "malloc_trim"):
        pytest.skip("needs glibc")
    pieces = [b"x" * 100_000 for _ in range(3000)]  # too small for memory maps of their own
    wall = [b"y" * 100_000 for _ in range(2)]
    full = memory.resident()
    del pieces
    memory.trim()
    assert full - memory.resident() > 200_000_000 and wall
