"""Keys and values of several texts in one cache, every text flush right.

Column `end` is where the next tokens go, the same for all rows; a text of 5 tokens fills the 5
columns before it. So texts of different lengths share a forward pass, no text has gaps, and
distances between columns are distances in the text, as rotary, ALiBi and sliding windows need.
"""

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

HEADROOM = 64
"""Free columns of a new cache beyond its texts."""

Block = list[tuple[Tensor, Tensor]]
"""Keys and values of one text, layer by layer: `[head, pos, d_head]` each."""


class Layer(CacheLayerMixin):
    """One layer's keys and values `[row, head, column, d_head]`, written in place."""

    is_sliding = False

    def __init__(self, kv: "KV") -> None:
        super().__init__()
        self.keys: Any = None
        self.values: Any = None
        # A reference cycle would keep whole caches alive until garbage collection.
        self.kv: Any = weakref.proxy(kv)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate keys and values for all rows, with the head dimensions of the given states."""
        self.keys, self.values = (
            x.new_zeros(len(self.kv.starts), x.shape[-3], self.kv.capacity, x.shape[-1])
            for x in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the keys and values of the current columns; returns those of all columns so far.

        Args:
            key_states: `[row, head, column, d_head]` of the current columns.
            value_states: The same for values.
            args: Ignored; transformers passes more.
            kwargs: Ignored; transformers passes more.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        kv = self.kv
        stop = self.kv.end + key_states.shape[-2]
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            here = buffer[:, :, kv.end : stop]
            here.copy_(
                new if kv.real is None else torch.where(kv.real[:, None, :, None], new, here)
            )
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The number of columns that the queries see, and the first of them."""
        return self.kv.end + query_length, 0

    def get_seq_length(self) -> int:
        """The number of columns stored."""
        return self.kv.end

    def get_max_length(self) -> int:
        """-1: the cache grows without limit."""
        return -1


class Place(NamedTuple):
    """A row of a cache."""

    kv: "KV"
    row: int


class KV(Cache):
    """A cache whose texts are flush right.

    - `starts`: the column of each row's first token; `end`: the column after the last stored one
    - `known`: the column up to which each row was filled from a cached beginning
    - `real`: `[row, column]`, which of the columns being stored are neither padding nor known; None
      if all are

    Args:
        starts: The column of each row's first token.
        end: The column where the next tokens go.
        capacity: Allocated columns; `reserve` grows it.
    """

    def __init__(self, starts: Sequence[int], end: int, capacity: int) -> None:
        # transformers calls it without arguments for each layer, as it would a class
        layer_class: Any = partial(_layer_of, weakref.ref(self))
        super().__init__(layer_class_to_replicate=layer_class)
        self.starts = list(starts)
        self.known = list(starts)
        self.end = end
        self.capacity = capacity
        self.real: Tensor | None = None

    def length(self, row: int) -> int:
        """The number of a row's tokens in the cache."""
        return self.end - self.starts[row]

    def block(self, row: int, n: int) -> Block:
        """A copy of the keys and values of a row's first `n` tokens."""
        columns = slice(self.starts[row], self.starts[row] + n)
        layers: Any = self.layers
        return [
            (x.keys[row, :, columns].clone(), x.values[row, :, columns].clone()) for x in layers
        ]

    def reserve(self, n: int) -> None:
        """Make room for `n` more columns."""
        if self.end + n <= self.capacity:
            return
        self.capacity = max(2 * self.capacity, self.end + n)
        layers: Any = self.layers
        for layer in layers:
            layer.keys, layer.values = (
                torch.cat([x, x.new_zeros(*x.shape[:2], self.capacity - x.shape[2], x.shape[3])], 2)
                for x in (layer.keys, layer.values)
            )


def _layer_of(kv: "weakref.ref[KV]") -> Layer:
    owner = kv()
    assert owner is not None
    return Layer(owner)


def with_prefixes(lengths: Sequence[int], prefixes: Sequence[Block | None]) -> KV:
    """A cache for new texts, with their cached beginnings filled in.

    Args:
        lengths: Tokens of each text.
        prefixes: The cached beginning of each text, or None.
    """
    width = max(lengths)
    kv = KV([width - length for length in lengths], 0, width + HEADROOM)
    kv.known = [
        start + (block[0][0].shape[-2] if block else 0)
        for start, block in zip(kv.starts, prefixes, strict=True)
    ]
    kv.end = min(kv.known)
    pattern = next((block for block in prefixes if block), [])
    for index, (keys, values) in enumerate(pattern):
        layer = Layer(kv)
        layer.lazy_initialization(keys, values)
        for row, block in enumerate(prefixes):
            if block:
                _write(layer, row, kv.starts[row], *block[index])
        kv.layers.append(layer)
    return kv


def together(places: Sequence[Place]) -> KV:
    """A new cache made of rows of other caches, in the given order."""
    lengths = [place.kv.length(place.row) for place in places]
    end = max(lengths)
    joined = KV([end - length for length in lengths], end, end + HEADROOM)
    patterns: Any = places[0].kv.layers
    for index, pattern in enumerate(patterns):
        layer = Layer(joined)
        layer.lazy_initialization(pattern.keys[0], pattern.values[0])
        for row, (kv, old) in enumerate(places):
            source: Any = kv.layers[index]
            columns = slice(kv.starts[old], kv.end)
            _write(
                layer,
                row,
                joined.starts[row],
                source.keys[old, :, columns],
                source.values[old, :, columns],
            )
        joined.layers.append(layer)
    return joined


def _write(layer: Layer, row: int, start: int, keys: Tensor, values: Tensor) -> None:
    """Store keys and values `[head, pos, d_head]` in a row, from column `start` on."""
    columns = slice(start, start + keys.shape[-2])
    layer.keys[row, :, columns] = keys
    layer.values[row, :, columns] = values
