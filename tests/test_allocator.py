"""Freed memory that stays with the process: what the system has to do for a tensor again."""

import os
import subprocess
import sys

import pytest

from workbench import allocator

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(
        not hasattr(allocator.c_library(), "gnu_get_libc_version"), reason="needs glibc"
    ),
]

# Pages that the system clears while eight large tensors come and go, by the thread that makes them:
# the fewest of four rounds, as the first fills the arena, and a small block may come to lie in the
# room of a large one, which is then made once more.
FAULTS = """
import resource, sys, threading
import torch
from workbench import allocator, memory

def faults():
    def work():
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(8):
                torch.ones(size)
            counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    counts = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return min(counts)

keeps = sys.argv[1] == "keep" and allocator.keep_freed()
size = int(sys.argv[2])
cleared = faults()
before = memory.resident()
memory.trim()
print(keeps, cleared, before - memory.resident())
"""


def ran(way: str, size: int) -> tuple[bool, int, int]:
    """Whether memory is kept, pages cleared for the tensors again, bytes that `trim` gave back."""
    others = {name: v for name, v in os.environ.items() if not name.startswith(allocator.OWN)}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, way, str(size)],
        env=others,
        capture_output=True,
        text=True,
        check=True,
    )
    keeps, faults, returned = run.stdout.split()
    return keeps == "True", int(faults), int(returned)


@pytest.mark.parametrize("n_bytes", [4 << 20, 100 << 20])
def test_a_tensor_made_again_needs_no_new_pages(n_bytes):
    pages = 8 * n_bytes // os.sysconf("SC_PAGE_SIZE")
    keeps, again, returned = ran("keep", n_bytes // 4)
    assert keeps and again < pages / 50
    assert returned > n_bytes / 2  # and a trim gives it back


def test_without_it_every_page_of_a_large_tensor_is_cleared_again():
    n_bytes = 100 << 20
    keeps, cleared, _ = ran("leave", n_bytes // 4)
    assert not keeps and cleared > 4 * n_bytes // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")],
)
def test_who_sets_the_allocator_keeps_that(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert not allocator.keep_freed.__wrapped__()
