"""Attention patterns of a prompt: every head of every layer, read as the model runs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.passing import each_pattern
from workbench.interp.patterns.pooling import pooled
from workbench.interp.stacks.runs import stacks_of
from workbench.interp.stacks.structure import CROSS, DECODER, ENCODER
from workbench.interp.stacks.texts import texts_of
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

FULL_PRECISION = 2**26
"""Pattern entries (a quarter of a gigabyte) up to which they are kept in single precision.

Twice as many fill as much memory in half precision. More go to a file, which has no name and
disappears with them: memory stays bounded for any model and prompt.
"""


@dataclass(frozen=True)
class Attention(Record):
    """The attention of one prompt.

    - `tokens`: one string per query
    - `pattern`: rows (queries, the destinations) sum to 1 over keys (sources), or to less if heads
        may attend to nothing (the learned sinks of gpt-oss); in a decoder no query sees a later key
    - `value_norms`: `|v W_O|`, the length of what each head would write if it attended to one key
        alone; None if the model does not show its values
    - `warnings`: how the prompt was read
    - `part`: which attention of an encoder or encoder-decoder (`PARTS`); "" for decoders
    - `key_tokens`: one string per key where keys are other tokens than queries (cross-attention)
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    pattern: Float[np.ndarray, "layer head query key"]
    value_norms: Float[np.ndarray, "layer head key"] | None = None
    warnings: list[str] = field(default_factory=list)
    part: str = ""
    key_tokens: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The result in a few words."""
        n_layers, n_heads = self.pattern.shape[:2]
        text = self.prompt if len(self.prompt) <= 60 else f"{self.prompt[:59]}…"
        where = f" ({self.part})" if self.part else ""
        return (
            f"{n_layers} layers of {n_heads} heads over the {len(self.tokens)} tokens of "
            f"{text!r}{where}"
        )

    @property
    def is_causal(self) -> bool:
        """Whether no query sees a later key: so in decoders only."""
        return self.part in ("", DECODER)

    @property
    def is_square(self) -> bool:
        """Whether every token looks at every token of its own text: so in encoders."""
        return self.part == ENCODER

    def joined(self) -> "Attention":
        """Cross-attention as a square over both texts, the one that is read before the written one.

        Rows of the text that is read are empty, as only what is written looks. Attention within one
        text is returned as it is.
        """
        if not self.key_tokens:
            return self
        n_layers, n_heads, n_queries, n_keys = self.pattern.shape
        n_pos = n_queries + n_keys
        square = np.zeros((n_layers, n_heads, n_pos, n_pos), self.pattern.dtype)
        square[:, :, n_keys:, :n_keys] = self.pattern
        norms = None
        if self.value_norms is not None:
            norms = np.pad(self.value_norms, ((0, 0), (0, 0), (0, n_queries)))
        return replace(
            self, tokens=[*self.key_tokens, *self.tokens], pattern=square, value_norms=norms
        )

    def head(self, layer: int, head: int) -> Float[np.ndarray, "query key"]:
        """One head's pattern in single precision.

        Raises:
            WorkbenchError: There is no such head.
        """
        n_layers, n_heads = self.pattern.shape[:2]
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            last = f"L{n_layers - 1}H{n_heads - 1}"
            raise WorkbenchError(f"{self.subject} has no L{layer}H{head}; it has L0H0 to {last}.")
        return self.pattern[layer, head].astype(np.float32)

    def value_weighted(self, layer: int, head: int) -> Float[np.ndarray, "query key"]:
        """Attention times the length of what it moves, `pattern |v W_O|` (Kobayashi et al. 2020).

        Attention to a token with a short value, such as a sink, moves nothing.

        Raises:
            WorkbenchError: There is no such head, or the model does not show its values.
        """
        pattern = self.head(layer, head)
        if self.value_norms is None:
            raise WorkbenchError(
                f"{self.subject} does not show its values, so attention cannot be weighted by them."
            )
        return pattern * self.value_norms[layer, head]

    def to_frame(self, layer: int | None = None, head: int | None = None) -> pd.DataFrame:
        """One head as a table: query and key positions, their tokens, the attention.

        Args:
            layer: The layer; None for all, with a column `layer`.
            head: The head; None for all, with a column `head`.
        """
        if layer is None or head is None:
            n_layers, n_heads = self.pattern.shape[:2]
            layers = range(n_layers) if layer is None else [layer]
            heads = range(n_heads) if head is None else [head]
            tables = {place: self.to_frame(*place) for place in product(layers, heads)}
            names: Any = ["layer", "head"]  # pandas' stub wants the type of the keys, pairs
            frame = pd.concat(tables, names=names)
            return frame.reset_index(["layer", "head"]).reset_index(drop=True)
        pattern = self.head(layer, head)
        query, key = np.indices(pattern.shape).reshape(2, -1)
        if self.is_causal:
            query, key = np.tril_indices(len(self.tokens))
        key_tokens = self.key_tokens or self.tokens
        return pd.DataFrame(
            {
                "query": query,
                "key": key,
                "query_token": [self.tokens[i] for i in query],
                "key_token": [key_tokens[i] for i in key],
                "attention": pattern[query, key],
            }
        )

    def to_html(self, path: str | Path, *, layer: int = 0, head: int = 0) -> Path:
        """Write one self-contained page: every head, to be explored in any browser, and one opened.

        Args:
            path: The file to write.
            layer: Layer of the head shown in full.
            head: The head shown in full.
        """
        from workbench.figures.export import write_page

        return write_page(self.page(layer, head), path)

    def page(self, layer: int = 0, head: int = 0) -> str:
        """The page of `to_html` as a string."""
        from workbench.figures.explorer import files, payload

        self.head(layer, head)  # says which heads there are, if not this one
        block = self._block((layer, head), payload.FILE_BUDGET)
        return files.page(block, title=f"Attention of {self.subject}", text=self.prompt)

    def _repr_html_(self) -> str:
        """The explorer in a frame, for a notebook; long prompts are pooled, to stay small."""
        from workbench.figures.explorer import files, payload

        square = self.joined()
        chosen = payload.striking(square.pattern, causal=not self.is_square)
        block = self._block(chosen, payload.BUDGET)
        return files.frame(block, title=f"Attention of {self.subject}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the explorer."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _block(self, chosen: tuple[int, int], budget: int) -> bytes:
        from workbench.figures.explorer.payload import Heads, payload

        square = self.joined()
        shown = Heads(
            square.pattern,
            square.tokens,
            self.subject,
            square.value_norms,
            pool=pooled,
            causal=not self.is_square,
            read=len(self.key_tokens),
        )
        return payload(shown, chosen=chosen, budget=budget)


@public("subject", seq2seq=True, encoder=True)
@own_modes
def attention(
    subject: SubjectOrName,
    prompt: str,
    *,
    part: str = "",
    target: str | None = None,
    each_layer: Callable[[int, Tensor], None] | None = None,
) -> Attention:
    """The attention patterns of a prompt.

    Args:
        subject: The model.
        prompt: The prompt.
        part: Which attention of an encoder-decoder: encoder, decoder or cross; "" for cross, and
            for models that have one.
        target: What the decoder of such a model has written so far; None for its own answer.
        each_layer: Called with each layer's number and pattern `[head, query, key]` as it is read,
            in single precision (the result may be in half precision).

    Raises:
        WorkbenchError: The prompt is empty or too long, the model has no attention patterns, or no
            such part.
    """
    subject = cast(Subject, subject)
    if subject.kind != DECODER:
        return _of_stack(subject, prompt, part, target, each_layer)
    if part or target is not None:
        raise WorkbenchError(
            f"{subject.name} is a decoder-only model: it has no {part or 'target'} to choose."
        )
    ids = subject.encode(prompt)
    n_pos = ids.shape[1]
    n_layers = subject.card.n_layers
    n_heads = subject.card.n_heads
    patterns = _room((n_layers, n_heads, n_pos, n_pos))
    room = torch.from_numpy(patterns)
    lengths = _value_lengths(subject)
    value_norms = np.zeros((n_layers, n_heads, n_pos), np.float32)
    measured: set[int] = set()

    def keep(layer: int, pattern: Tensor) -> None:
        room[layer].copy_(pattern[0])
        if each_layer is not None:
            each_layer(layer, pattern[0])

    def measure(layer: int, values: Tensor) -> None:
        if lengths is not None:
            value_norms[layer] = lengths(layer, values[0]).cpu().numpy()
            measured.add(layer)

    each_pattern(subject, ids, keep, measure)
    return Attention(
        subject=subject.name,
        sha256=subject.hash,
        prompt=prompt,
        tokens=subject.tokens(ids),
        pattern=patterns,
        value_norms=value_norms if len(measured) == n_layers else None,
        warnings=subject.notices(prompt),
    )


def _of_stack(
    subject: Subject,
    prompt: str,
    part: str,
    target: str | None,
    each_layer: Callable[[int, Tensor], None] | None,
) -> Attention:
    """The attention of one part of an encoder or encoder-decoder."""
    stacks = stacks_of(subject)
    part = stacks.need_part(part)
    texts = texts_of(subject, prompt, target)
    n_layers = stacks.n_layers(part)
    n_heads = subject.card.n_heads
    n_queries = texts.queries(part).shape[1]
    n_keys = texts.keys(part).shape[1]
    patterns = _room((n_layers, n_heads, n_queries, n_keys))
    room = torch.from_numpy(patterns)
    norms = np.zeros((n_layers, n_heads, n_keys), np.float32)
    outputs = [stacks.output(part, layer) for layer in range(n_layers)]

    def keep(layer: int, pattern: Tensor) -> None:
        room[layer].copy_(pattern[0])
        if each_layer is not None:
            each_layer(layer, pattern[0])

    def measure(layer: int, values: Tensor) -> None:
        output = outputs[layer]
        if output is not None:
            each = values[0].repeat_interleave(n_heads // values.shape[1], 0)
            norms[layer] = (each @ output.float()).norm(dim=-1).cpu().numpy()

    stacks.look(texts, part, keep, measure)
    crosses = part == CROSS
    return Attention(
        subject=subject.name,
        sha256=subject.hash,
        prompt=prompt,
        tokens=subject.tokens(texts.queries(part)),
        pattern=patterns,
        value_norms=None if any(output is None for output in outputs) else norms,
        warnings=subject.notices(prompt),
        part=part,
        key_tokens=subject.tokens(texts.keys(part)) if crosses else [],
    )


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """Room for patterns, not cleared: every layer fills its part."""
    if np.prod(shape) <= FULL_PRECISION:
        return np.empty(shape, np.float32)
    if np.prod(shape) <= 2 * FULL_PRECISION:
        return np.empty(shape, np.float16)
    with TemporaryFile(prefix="attention-") as file:
        return np.memmap(file, np.float16, "w+", shape=shape)


class _ValueLengths:
    """`|v W_O|` of every key by head: the root of `v G v` with the small matrix `G = W_O W_O^T`."""

    def __init__(self, subject: Subject):
        output = subject.bridge.W_O.detach()
        self.gram = output @ output.mT  # [layer, head, d_head, d_head]

    def __call__(
        self, layer: int, values: Float[Tensor, "kv_head key d_head"]
    ) -> Float[Tensor, "head key"]:
        """One layer's lengths."""
        gram = self.gram[layer]
        values = values.repeat_interleave(gram.shape[0] // values.shape[0], 0)
        return ((values @ gram) * values).sum(-1).clamp_min(0).sqrt().float()


_LENGTHS: WeakKeyDictionary[Subject, _ValueLengths | None] = WeakKeyDictionary()


def _value_lengths(subject: Subject) -> _ValueLengths | None:
    """The Subject's, made once; None if its output matrices cannot be split by head."""
    if subject not in _LENGTHS:
        try:
            _LENGTHS[subject] = _ValueLengths(subject)
        except (WorkbenchError, AttributeError, KeyError, ValueError, RuntimeError, TypeError):
            _LENGTHS[subject] = None
    return _LENGTHS[subject]
