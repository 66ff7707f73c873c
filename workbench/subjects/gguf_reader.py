"""The gguf library's reader, made fast: a file is parsed once, not once for every caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gguf
import numpy as np

from workbench.subjects.claims import ONE_AT_A_TIME


class PlainReader(gguf.GGUFReader):
    """A `GGUFReader` that slices plain arrays.

    The vocabulary alone takes half a million slices, and each slice of a `memmap` builds a new
    `memmap`, four times as slow as a view. Like the original's, the arrays cannot be written to.
    """

    @property
    def data(self) -> np.ndarray:
        """The bytes of the file `[byte]`, read from disk when they are used."""
        return self._data

    @data.setter
    def data(self, data: np.ndarray) -> None:
        self._data = data.view(np.ndarray)


@contextmanager
def parsed_once() -> Iterator[None]:
    """A context in which every `GGUFReader` of the same path is one object.

    transformers parses a file anew for its configuration, its weights and its tokenizer, and asks
    for the table of tensor names once a module. The replacements are visible to other threads, so
    the lock of loading is held.
    """
    parsed = cache(PlainReader)

    def reader(path: Any) -> PlainReader:
        return parsed(str(path))

    library: Any = gguf
    with ONE_AT_A_TIME:
        original = gguf.GGUFReader
        name_map = gguf.get_tensor_name_map
        library.GGUFReader = reader
        library.get_tensor_name_map = cache(name_map)
        try:
            yield
        finally:
            library.GGUFReader = original
            library.get_tensor_name_map = name_map
