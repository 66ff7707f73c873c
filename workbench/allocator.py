"""Freed memory stays with the process, so that the next tensor need not be cleared by the system.

Glibc returns large blocks at once, and the system clears every page of the next one: a third of the
time of a long patching map. Threads other than the first have arenas of 64 MB at most, for which
this happens more often. `memory.trim` gives back what has become free.
"""

import ctypes
import os
from functools import cache

ARENAS = -8, 1
"""`M_ARENA_MAX`: all threads share one arena; small blocks come from each thread's own store."""
TRIM = -1, 1 << 30
"""`M_TRIM_THRESHOLD`: bytes that may be free at the arena's end before they are returned."""
MAPPED = -4, 0
"""`M_MMAP_MAX`: no block is mapped by itself, which would be unmapped as soon as it is freed."""
OWN = ("GLIBC_TUNABLES", "MALLOC_")
"""Beginnings of environment variables by which the user sets the allocator."""


@cache
def keep_freed() -> bool:
    """Whether freed memory is kept from now on; elsewhere than with glibc all stays as it is.

    Called once, best before other threads begin. Who sets the allocator by the environment keeps
    that.
    """
    if any(name.startswith(OWN) for name in os.environ):
        return False
    library = c_library()
    # Only glibc has this function; others have a `mallopt` with numbers of their own.
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(*option) for option in (ARENAS, TRIM, MAPPED))


def c_library() -> ctypes.CDLL | None:
    """The C library of this process; None on Windows."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
