"""Records as JSON and back: arrays become nested lists, tables lists of rows, NaN null."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np


def plain(value: Any) -> Any:
    """The value made of JSON's types only; NaN and infinities become None.

    Raises:
        TypeError: For a value that has no such form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        to_dict = getattr(value, "to_dict", None)
        if to_dict is not None:
            return plain(to_dict())
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, Path):
        return str(value)
    to_list = getattr(value, "tolist", None)
    if to_list is not None:  # arrays and numbers of NumPy and torch
        return plain(to_list())
    return _table(value)


def _table(value: Any) -> Any:
    """A pandas table as its rows; pandas' missing value as None."""
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict("records")]
    raise TypeError(f"a {type(value).__name__} has no JSON: {value!r}")


SCALARS: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
}
"""JSON types that are accepted for a field of each type."""


def rebuild(kind: Any, value: Any) -> Any:
    """The value of type `kind` from which `plain` made `value`; null in arrays and floats is NaN.

    Args:
        kind: Type annotation of the field.
        value: Value read from JSON.

    Raises:
        TypeError: For a value that `plain` cannot have made of this type.
        ValueError: As `TypeError`.
    """
    if _is_array(kind):
        return None if value is None else _array(value)
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return rebuild(next(arm for arm in inner if arm is not NoneType), value)
    if value is None and kind is float:
        return float("nan")
    if value is None and kind in (Any, object, NoneType):
        return None
    if value is None:
        raise TypeError(f"there is nothing where a {getattr(kind, '__name__', kind)} belongs")
    _check_type(origin or kind, value)
    if origin in (list, tuple, dict):
        return _collection(origin, inner, value)
    if _is_table(kind):
        return kind(value)
    if is_dataclass(kind) and isinstance(kind, type):
        from_dict = getattr(kind, "from_dict", None)
        if from_dict is not None:
            return from_dict(value)
        hints = get_type_hints(kind)
        known = {entry.name for entry in fields(kind)}
        given = {name: rebuild(hints[name], item) for name, item in value.items() if name in known}
        return kind(**given)
    return value


def _check_type(kind: Any, value: Any) -> None:
    """Raise `TypeError` for a value whose JSON type does not fit a field of type `kind`."""
    allowed: tuple[type, ...]
    if is_dataclass(kind) or kind is dict:
        allowed = (dict,)
    elif kind in (list, tuple) or _is_table(kind):
        allowed = (list,)
    else:
        allowed = SCALARS.get(kind, (object,))
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind in (int, float)):
        name = getattr(kind, "__name__", str(kind))
        raise TypeError(f"{str(value)[:60]!r} is no {name}")


def _is_table(kind: Any) -> bool:
    return getattr(kind, "__name__", "") == "DataFrame"


def _collection(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    if origin is dict:
        key, item = inner
        return {(int(k) if key is int else k): rebuild(item, v) for k, v in value.items()}
    if origin is list:
        return [rebuild(inner[0], item) for item in value]
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(rebuild(inner[0], item) for item in value)
    return tuple(rebuild(each, item) for each, item in zip(inner, value, strict=True))


def _is_array(kind: Any) -> bool:
    """Whether a type is a NumPy array, with or without a jaxtyping shape."""
    return kind is np.ndarray or getattr(kind, "array_type", None) is np.ndarray


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype != object:
        return array.astype(object) if array.dtype.kind == "U" else array
    try:
        return np.array(value, dtype=float)  # None is NaN
    except (TypeError, ValueError):
        if not all(isinstance(entry, str | None) for entry in array.flat):
            raise
        return array
