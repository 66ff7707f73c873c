"""One budget of memory for all caches of the process: who holds how much, and what gives way.

A cache registers itself as a `Holder`. `settle` is called after every run of a page and every
answer of the API: while all caches together hold more than the budget, what was used longest ago
goes. Weights of models are counted apart (`models` in `held`); they have limits of their own.
"""

import gc
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

from workbench.allocator import c_library
from workbench.errors import WorkbenchError
from workbench.storages import storages

VARIABLE = "WORKBENCH_MEMORY"
BUDGET = 2_000_000_000
"""Bytes that caches may hold over the models' weights, unless `WORKBENCH_MEMORY` says otherwise."""
UNITS = {"": 10**9, "gb": 10**9, "mb": 10**6, "gib": 2**30, "mib": 2**20}
SLACK = 64 << 20
"""Bytes by which the process grows before what was freed is given back to the system again."""


@dataclass(frozen=True)
class Entry:
    """One thing in a cache.

    - `key`: its key there
    - `used`: when it was used last, by `time.monotonic`
    - `storages`: bytes of the memory blocks that it holds, by address
    - `in_use`: whether it cannot be dropped now
    """

    key: Hashable
    used: float
    storages: dict[int, int]
    in_use: bool = False


class Holder(Protocol):
    """A cache that keeps tensors or large arrays.

    - `name`: what it holds, for people
    - `weights`: whether that is models, which are counted apart
    """

    name: str
    weights: bool

    def entries(self) -> list[Entry]:
        """What it holds."""
        ...

    def drop(self, key: Hashable) -> None:
        """Let go of an entry; one that is no longer there, or in use again, is left."""
        ...


@dataclass(frozen=True)
class Held:
    """What one kind of caches holds; memory that several share counts for the first alone."""

    name: str
    n_bytes: int
    n_entries: int
    weights: bool = False


_HOLDERS: "WeakSet[Any]" = WeakSet()
_MISSING = object()
_SETTLING = threading.Lock()
_REGISTERING = threading.Lock()


@dataclass
class _State:
    """Whether any cache took something up since the last settling, and the process's size then."""

    grown: bool = False
    after: int = 0


_STATE = _State()


def register(holder: Holder) -> None:
    """Count a cache from now on, for as long as somebody holds it."""
    with _REGISTERING:
        _HOLDERS.add(holder)


def note_growth() -> None:
    """Tell the next `settle` that a cache has taken something up."""
    _STATE.grown = True


class Kept:
    """A cache of results by key: each is computed once, and the one used longest ago goes first.

    Args:
        name: What it holds, for people.
        most: Entries at most.
        weights: Whether it holds models.
    """

    def __init__(self, name: str, most: int = 64, *, weights: bool = False) -> None:
        self.name = name
        self.most = most
        self.weights = weights
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._entries: dict[Hashable, Entry] = {}
        self._lock = threading.Lock()
        self._making: dict[Hashable, _Turn] = {}
        register(self)

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a result for this key."""
        return key in self._values

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The result for a key, which is now the one used last.

        Args:
            key: Of the result.
            default: What is returned where there is none.
        """
        with self._lock:
            if key not in self._values:
                return default
            self._values.move_to_end(key)
            self._entries[key] = Entry(key, time.monotonic(), self._entries[key].storages)
            return self._values[key]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a result."""
        entry = Entry(key, time.monotonic(), storages(value))
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            self._entries[key] = entry
            while len(self._values) > self.most:
                gone, _ = self._values.popitem(last=False)
                del self._entries[gone]
        note_growth()

    def made(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The result for a key; of several threads that ask at once, one makes it.

        Args:
            key: Of the result.
            make: Makes it; what it raises is raised, and the next who asks tries again.
        """
        value = self.get(key, _MISSING)
        if value is _MISSING:
            with self._turn(key):
                value = self.get(key, _MISSING)  # who waited for its turn finds it
                if value is _MISSING:
                    value = make()
                    self.put(key, value)
        return value

    def drop(self, key: Hashable) -> None:
        """Let go of an entry, if it is there."""
        with self._lock:
            self._values.pop(key, None)
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._values.clear()
            self._entries.clear()

    def entries(self) -> list[Entry]:
        """What it holds."""
        with self._lock:
            return list(self._entries.values())

    def _turn(self, key: Hashable) -> "_Turn":
        with self._lock:
            turn = self._making.setdefault(key, _Turn(self._making, self._lock, key))
            turn.waiting += 1
            return turn


@dataclass
class _Turn:
    """The lock of one key while it is made; forgotten when nobody waits for it any more."""

    turns: dict[Hashable, "_Turn"]
    lock: threading.Lock
    key: Hashable
    waiting: int = 0
    own: Any = field(default_factory=threading.RLock)

    def __enter__(self) -> None:
        self.own.acquire()

    def __exit__(self, *error: object) -> None:
        self.own.release()
        with self.lock:
            self.waiting -= 1
            if not self.waiting:
                self.turns.pop(self.key, None)


def budget() -> int:
    """Bytes that all caches may hold over the models' weights.

    Raises:
        WorkbenchError: `WORKBENCH_MEMORY` is no size.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return BUDGET
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", given.lower())
    if match is None or match[2] not in UNITS:
        raise WorkbenchError(
            f"{VARIABLE} is {given!r}, which is no size; write 2GB or 500MB, or nothing for "
            f"{BUDGET // 10**9}GB."
        )
    return int(float(match[1]) * UNITS[match[2]])


def held() -> list[Held]:
    """What all caches of the process hold, those of one name together; the largest first."""
    counted: set[int] = set()
    sums: dict[str, Held] = {}
    for holder in _sorted():
        entries = holder.entries()
        n_bytes = sum(_fresh(entries, counted))
        before = sums.get(holder.name, Held(holder.name, 0, 0, holder.weights))
        sums[holder.name] = Held(
            holder.name,
            before.n_bytes + n_bytes,
            before.n_entries + len(entries),
            holder.weights,
        )
    return sorted(sums.values(), key=lambda each: -each.n_bytes)


def total() -> int:
    """Bytes that all caches hold over the models' weights."""
    return sum(each.n_bytes for each in held() if not each.weights)


def due() -> bool:
    """Whether a cache has taken something up since the last settling, or the process has grown."""
    return _STATE.grown or resident() > _STATE.after + SLACK


def settle() -> int:
    """Bytes that caches gave up to come below the budget; memory that is free goes to the system.

    What was used last stays, however large: without it, every click on its page would compute it
    again. Costs some microseconds where nothing has grown.

    Raises:
        WorkbenchError: `WORKBENCH_MEMORY` is no size.
    """
    if not due() or not _SETTLING.acquire(blocking=False):  # or another thread is at it
        return 0
    try:
        _STATE.grown = False
        freed = _give_way(budget())
        if freed or resident() > _STATE.after + SLACK:
            trim()
            _STATE.after = resident()
        return freed
    finally:
        _SETTLING.release()


def release(*, weights: bool = True) -> int:
    """Bytes that caches gave up: all that may be dropped goes, and is computed again when needed.

    Args:
        weights: Whether models go too, if nobody uses them.
    """
    before = sum(each.n_bytes for each in held())
    with _SETTLING:
        for holder in _sorted():
            if weights or not holder.weights:
                for entry in holder.entries():
                    if not entry.in_use:
                        holder.drop(entry.key)
        gc.collect()
        trim()
        _STATE.after = resident()
    return max(0, before - sum(each.n_bytes for each in held()))


def trim() -> bool:
    """Give freed memory back to the system; False where the C library cannot.

    Glibc keeps what was freed, and more of it by `allocator.keep_freed`.
    """
    give_back = getattr(c_library(), "malloc_trim", None)
    return bool(give_back is not None and give_back(0))


def resident() -> int:
    """Bytes of the process that are in memory."""
    import psutil  # a page that computes nothing need not wait for it

    return psutil.Process().memory_info().rss


def _sorted() -> list[Any]:
    """The caches, those of models first: what they hold is no other cache's."""
    with _REGISTERING:
        return sorted(_HOLDERS, key=lambda holder: (not holder.weights, holder.name))


def _fresh(entries: list[Entry], counted: set[int]) -> Iterator[int]:
    """The sizes of the blocks that are not counted yet."""
    for entry in entries:
        for address, n_bytes in entry.storages.items():
            if address not in counted:
                counted.add(address)
                yield n_bytes


def _give_way(limit: int) -> int:
    """Bytes that were dropped until what is left fits into the limit."""
    holders = _sorted()
    weights = {
        address
        for holder in holders
        if holder.weights
        for entry in holder.entries()
        for address in entry.storages
    }
    places = [
        (entry, holder) for holder in holders if not holder.weights for entry in holder.entries()
    ]
    users: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for entry, _ in places:
        for address, n_bytes in entry.storages.items():
            if address not in weights:
                users[address] = users.get(address, 0) + 1
                sizes[address] = n_bytes
    over = sum(sizes.values()) - limit
    freed = 0
    for entry, holder in sorted(places, key=lambda place: place[0].used)[:-1]:
        if freed >= over:
            break
        if entry.in_use:
            continue
        holder.drop(entry.key)
        for address in entry.storages:
            if address in users:
                users[address] -= 1
                freed += 0 if users[address] else sizes[address]
    return freed
