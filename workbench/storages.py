"""How much memory a value holds: its blocks by address, so that shared ones count once."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

SMALL = 1024
"""Bytes below which texts are not counted."""
DEEPEST = 30
"""Levels of containers in containers that are followed."""
NUMBER = 32
"""Bytes of a Python number, with its place in a list."""
ATOMS = (int, float, bool, complex, type(None), type)


def storages(value: Any) -> dict[int, int]:
    """The bytes of all memory blocks that a value holds, by their address.

    Counted are the storages of tensors, the memory of arrays and tables, texts, bytes and lists of
    numbers, in containers, dataclasses and objects too. Views count as what they are views of.

    Args:
        value: Any value, such as a record or a model.
    """
    blocks: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        at, depth = waiting.pop()
        if isinstance(at, ATOMS) or id(at) in seen or depth > DEEPEST:
            continue
        seen.add(id(at))
        own = _block(at)
        if own is not None:
            blocks[own[0]] = own[1]
        else:
            waiting += [(part, depth + 1) for part in _parts(at)]
    return blocks


def _block(value: Any) -> tuple[int, int] | None:
    """The block of a value that is one; None for what has parts."""
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch" and hasattr(value, "untyped_storage"):
        storage = value.untyped_storage()
        return (storage.data_ptr() or id(value), storage.nbytes())
    if kind == "numpy" and hasattr(value, "nbytes"):
        return _array(value)
    if kind == "pandas" and hasattr(value, "memory_usage"):
        used = value.memory_usage(deep=True)
        return (id(value), int(used.sum() if hasattr(used, "sum") else used))
    if isinstance(value, str | bytes | bytearray):
        size = len(value)
        return (id(value), size if size >= SMALL else 0)
    if isinstance(value, list | tuple) and value and isinstance(value[0], int | float):
        return (id(value), NUMBER * len(value))
    return None


def _array(value: Any) -> tuple[int, int]:
    """The block of the array that a view is a view of."""
    while type(getattr(value, "base", None)).__module__.partition(".")[0] == "numpy":
        value = value.base
    interface = getattr(value, "__array_interface__", None)  # numbers of numpy have one too
    address = interface["data"][0] if interface else id(value)
    return (address or id(value), int(value.nbytes))


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of; nothing for modules, functions and classes."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if callable(value) and not hasattr(value, "parameters"):
        return ()
    if type(value).__name__ in ("module", "method", "lock", "RLock"):
        return ()
    if is_dataclass(value) and not hasattr(value, "__dict__"):
        return [getattr(value, each.name) for each in fields(value)]
    return list(getattr(value, "__dict__", {}).values()) or _slots(value)


def _slots(value: Any) -> list[Any]:
    names = getattr(type(value), "__slots__", ())
    names = (names,) if isinstance(names, str) else names
    return [getattr(value, name) for name in names if hasattr(value, name)]
