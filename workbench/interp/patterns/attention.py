"""Attention patterns of a prompt: every head of every layer, read as the model runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.patterns.looking import UnreadableError, look_through
from workbench.interp.patterns.pooling import pooled
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

FULL_PRECISION = 2**26
"""Pattern entries (a quarter of a gigabyte) above which they go to a file, in half precision.

The file has no name and disappears with them: memory stays bounded for any model and prompt.
"""


@dataclass(frozen=True)
class Attention(Record):
    """The attention of one prompt.

    - `tokens`: one string per position
    - `pattern`: rows (queries, the destinations) sum to 1 over keys (sources), or to less if heads
        may attend to nothing (the learned sinks of gpt-oss); no query sees a later key
    - `value_norms`: `|v W_O|`, the length of what each head would write if it attended to one key
        alone; None if the model does not show its values
    - `warnings`: how the prompt was read
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    pattern: Float[np.ndarray, "layer head query key"]
    value_norms: Float[np.ndarray, "layer head key"] | None = None
    warnings: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The result in a few words."""
        n_layers, n_heads = self.pattern.shape[:2]
        text = self.prompt if len(self.prompt) <= 60 else f"{self.prompt[:59]}…"
        return (
            f"{n_layers} layers of {n_heads} heads over the {len(self.tokens)} tokens of {text!r}"
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
        query, key = np.tril_indices(len(self.tokens))
        return pd.DataFrame(
            {
                "query": query,
                "key": key,
                "query_token": [self.tokens[i] for i in query],
                "key_token": [self.tokens[i] for i in key],
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

        block = self._block(payload.striking(self.pattern), payload.BUDGET)
        return files.frame(block, title=f"Attention of {self.subject}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the explorer."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _block(self, chosen: tuple[int, int], budget: int) -> bytes:
        from workbench.figures.explorer.payload import Heads, payload

        shown = Heads(self.pattern, self.tokens, self.subject, self.value_norms, pool=pooled)
        return payload(shown, chosen=chosen, budget=budget)


@public("subject")
@own_modes
def attention(
    subject: SubjectOrName, prompt: str, *, each_layer: Callable[[int, Tensor], None] | None = None
) -> Attention:
    """The attention patterns of a prompt.

    Args:
        subject: The model.
        prompt: The prompt.
        each_layer: Called with each layer's number and pattern `[head, query, key]` as it is read,
            in single precision (the result may be in half precision).

    Raises:
        WorkbenchError: The prompt is empty or too long, or the model has no attention patterns.
    """
    subject = cast(Subject, subject)
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


def _room(shape: tuple[int, ...]) -> np.ndarray:
    if np.prod(shape) <= FULL_PRECISION:
        return np.zeros(shape, np.float32)
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


@any_family
def each_pattern(
    subject: Subject,
    ids: Int[Tensor, "batch pos"],
    look: Callable[[int, Float[Tensor, "batch head query key"]], None],
    measure: Callable[[int, Float[Tensor, "batch kv_head key d_head"]], None] | None = None,
) -> None:
    """Run the model once and pass each layer's pattern to a function; none is kept.

    Args:
        subject: The model.
        ids: Token ids.
        look: Called with each layer's number and pattern. A layer may come twice; the last time
            counts.
        measure: Called with each layer's number and values, if the model shows them.

    Raises:
        WorkbenchError: The model does not show its patterns.
    """

    def see(layer: int, pattern: Tensor, values: Tensor) -> None:
        look(layer, pattern.float())
        if measure is not None:
            measure(layer, values)

    try:
        look_through(subject, ids, see)
    except UnreadableError:
        _hooked_patterns(subject, ids, look, measure)


def _hooked_patterns(
    subject: Subject, ids: Tensor, look: Callable, measure: Callable | None
) -> None:
    """The same through TransformerLens's hooks, for architectures with attention of their own."""
    names = pattern_hooks(subject)
    shown: set[int] = set()

    def show(pattern: Tensor, hook: Any, layer: int) -> None:
        shown.add(layer)
        look(layer, pattern.detach().float())

    def value(values: Tensor, hook: Any, layer: int) -> None:
        if measure is not None and values.ndim == 4:
            measure(layer, values.detach().transpose(1, 2))

    hooks = [(name, partial(show, layer=i)) for i, name in enumerate(names)]
    hooks += [(f"blocks.{i}.attn.v.hook_out", partial(value, layer=i)) for i in range(len(names))]
    with torch.no_grad():
        subject.bridge.run_with_hooks(ids, fwd_hooks=hooks)
    _check_shown(len(shown), subject)


def pattern_hooks(subject: Subject) -> list[str]:
    """TransformerLens's name of every layer's pattern.

    Raises:
        WorkbenchError: Some layers have none.
    """
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(subject.card.n_layers)]
    _check_shown(sum(name in subject.bridge.hook_dict for name in names), subject)
    return names


def _check_shown(n: int, subject: Subject) -> None:
    if n != subject.card.n_layers:
        raise WorkbenchError(
            f"{subject.name} ({subject.card.architecture}) shows attention patterns in {n} of "
            f"{subject.card.n_layers} layers: some have no attention, or one of a kind that cannot "
            "be read here. Choose a GPT-like model."
        )
