"""Prompt cache: keys and values of texts read before, within a memory budget, oldest out first."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import cast

from workbench import memory
from workbench.generation.kv import Block

SHORTEST = 16
"""Tokens below which caching a text costs more than reading it again."""

MOST = 64
"""Maximum of cached texts: each request is compared with all, and blocks fragment memory."""


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common prefix of two texts."""
    n = min(len(a), len(b))
    if list(a[:n]) == list(b[:n]):
        return n
    return next(i for i in range(n) if a[i] != b[i])


class Prefixes:
    """Texts and their keys and values: at most `MOST` texts within `budget` bytes.

    A holder of `workbench.memory`, whose `drop` any thread may call.
    """

    name = "beginnings of prompts"
    weights = False

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.size = 0
        self._blocks: OrderedDict[tuple[int, ...], Block] = OrderedDict()
        self._entries: dict[tuple[int, ...], memory.Entry] = {}
        self._lock = threading.RLock()
        memory.register(self)

    def __len__(self) -> int:
        """The number of cached texts."""
        return len(self._blocks)

    def keep(self, text: Sequence[int], block: Block) -> None:
        """Cache a text's keys and values, in place of shorter texts that it begins with."""
        key = tuple(text)
        if _bytes(block) > self.budget:
            return
        with self._lock:
            for other in [other for other in self._blocks if other == key[: len(other)]]:
                self.drop(other)
            self._blocks[key] = block
            self._entries[key] = memory.Entry(key, time.monotonic(), memory.storages(block))
            self.size += _bytes(block)
            while self.size > self.budget or len(self._blocks) > MOST:
                self.drop(next(iter(self._blocks)))
        memory.note_growth()

    def best(self, text: Sequence[int]) -> tuple[int, Block | None]:
        """The longest cached prefix of a text: its length, and a block that begins with it."""
        with self._lock:
            lengths = {key: common(key, text) for key in self._blocks}
            key = max(lengths, key=lambda k: lengths[k], default=None)
            if key is None or lengths[key] < SHORTEST:
                return 0, None
            self._blocks.move_to_end(key)
            self._entries[key] = replace(self._entries[key], used=time.monotonic())
            return lengths[key], self._blocks[key]

    def covers(self, text: Sequence[int]) -> bool:
        """Whether a whole text is cached."""
        with self._lock:
            return any(common(key, text) == len(text) for key in self._blocks)

    def entries(self) -> list[memory.Entry]:
        """The cached texts, for the process's account of memory."""
        with self._lock:
            return list(self._entries.values())

    def drop(self, key: Hashable) -> None:
        """Let go of a text, if it is there."""
        with self._lock:
            block = self._blocks.pop(cast("tuple[int, ...]", key), None)
            self._entries.pop(cast("tuple[int, ...]", key), None)
            if block is not None:
                self.size -= _bytes(block)


def cut(block: Block, n: int) -> Block:
    """The first `n` tokens of a block, as a view."""
    return [(keys[:, :n], values[:, :n]) for keys, values in block]


def _bytes(block: Block) -> int:
    return sum(x.numel() * x.element_size() for pair in block for x in pair)
