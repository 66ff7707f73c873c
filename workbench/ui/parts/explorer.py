"""The attention explorer on a page: one element that answers clicks and keys in the browser.

The heads of a long prompt are sent pooled; when one is opened, the browser asks the app for its
whole triangle at `ROUTE`. This is an HTTP request, so the page's script does not run again.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
from jaxtyping import Float
from streamlit.components.v2 import component

from workbench.figures.explorer import files
from workbench.figures.explorer.payload import Heads, payload, quantise
from workbench.figures.style import visible
from workbench.ui.parts.explorer_route import ROUTE
from workbench.ui.parts.kept import kept
from workbench.ui.parts.titles import titled

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention
    from workbench.interp.patterns.prompt_scores import PartPromptScores, PromptScores

_SECRET = secrets.token_bytes(16)
_OFFERED: "WeakValueDictionary[str, Attention]" = WeakValueDictionary()
"""The attention that browsers may ask for, under names that cannot be guessed.

An entry disappears when no page and no cache holds its attention any more.
"""
_component = component(
    "workbench_explorer",
    html='<div class="explorer"></div>',
    css=files.style(),
    js=files.script(),
)


def explorer(
    attention: "Attention",
    scores: "PromptScores | PartPromptScores",
    *,
    chosen: tuple[int, int],
    key: str,
    other: "tuple[Attention, str] | None" = None,
) -> None:
    """Show every head of a prompt; cross-attention as a square over both texts (`joined`).

    Args:
        attention: The attention of the prompt.
        scores: The heads' scores on the prompt, shown when the mouse is over a head.
        chosen: The layer and number of the head that is open at first; which head the reader opens
            later is known only to the browser and the URL.
        key: The element's name on the page.
        other: Attention to subtract, and what it is called.
    """
    attention = attention.joined()
    other = None if other is None else (other[0].joined(), other[1])
    names = [offered(attention)]
    label = ""
    if other is not None:
        names.append(offered(other[0]))
        label = other[1]
    block = _block(tuple(names), chosen, label, attention, scores, other)
    _component(data=block, key=key)


def offered(attention: "Attention") -> str:
    """The name under which the browser may ask for this attention's triangles from now on."""
    texts = "\0".join([attention.prompt, attention.part, *attention.tokens])
    contents = f"{attention.sha256}\0{texts}".encode()
    name = hashlib.blake2b(contents, key=_SECRET, digest_size=16).hexdigest()
    _OFFERED[name] = attention
    return name


@kept("pages of the attention explorer", 8)
def _block(
    names: tuple[str, ...],
    chosen: tuple[int, int],
    label: str,
    _attention: "Attention",
    _scores: "PromptScores | PartPromptScores",
    _other: "tuple[Attention, str] | None",
) -> bytes:
    """The payload, made once for each prompt, open head and attention to subtract."""
    url = f"{ROUTE}/{names[0]}"
    if _other is None:
        return payload(heads_of(_attention, scores=_scores, url=url), chosen=chosen)
    tokens = _side_by_side(_attention.tokens, _other[0].tokens)
    ours = heads_of(_attention, scores=_scores, url=url, tokens=tokens)
    theirs = heads_of(_other[0], name=label, url=f"{ROUTE}/{names[1]}")
    return payload(ours, chosen=chosen, other=theirs)


def heads_of(
    attention: "Attention",
    *,
    scores: "PromptScores | PartPromptScores | None" = None,
    name: str = "",
    url: str = "",
    tokens: Sequence[str] = (),
) -> Heads:
    """An attention in the form that the explorer's payload is made from.

    Args:
        attention: The attention of a prompt.
        scores: The heads' scores on the prompt; None leaves them out.
        name: What the attention is called on the screen; "" for the model's name.
        url: The address that the browser asks for whole triangles; "" where there is no server.
        tokens: One string for each position; empty for the attention's own tokens.
    """
    from workbench.interp.patterns.pooling import pooled  # the first page need not wait for torch

    return Heads(
        pattern=attention.pattern,
        tokens=tokens or attention.tokens,
        name=titled(name or attention.subject),
        value_norms=attention.value_norms,
        scores={} if scores is None else scores.described(),
        url=url,
        pool=pooled,
        causal=not attention.is_square,
        read=len(attention.key_tokens),
    )


def _side_by_side(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """One string for each position of two prompts: both tokens, "one|other", where they differ."""
    pairs = zip(ours, theirs, strict=True)
    return [a if a == b else f"{visible(a)}|{visible(b)}" for a, b in pairs]


def triangle(name: str, what: str) -> bytes | None:
    """A head, a mean over heads or a row of a layer's heads in 16 bits; None if there is no such.

    Args:
        name: The name that `offered` returned.
        what: "3/1" is L3H1, "mean/3/attention" the mean over layer 3, "mean/all/weighted" the mean
            over all heads, weighted by the length of values, and "row/3/17" what position 17
            attends to in every head of layer 3.

    Returns:
        The rows' scales as 32-bit numbers, then their weights as whole numbers of 16 bits.
    """
    attention = _OFFERED.get(name)
    if attention is None:
        return None
    n_layers, n_heads = attention.pattern.shape[:2]
    match what.split("/"):
        case [layer, head] if _within(layer, n_layers) and _within(head, n_heads):
            rows = attention.head(int(layer), int(head))
        case ["mean", layer, "attention" | "weighted" as by] if (
            layer == "all" or _within(layer, n_layers)
        ) and (by == "attention" or attention.value_norms is not None):
            layers = range(n_layers) if layer == "all" else [int(layer)]
            rows = _mean(attention, layers, by)
        case ["row", layer, query] if _within(layer, n_layers) and _within(
            query, len(attention.tokens)
        ):
            return _row(attention, int(layer), int(query))
        case _:
            return None
    levels, scale = quantise(rows, 16, causal=not attention.is_square)
    return scale.tobytes() + levels.tobytes()


def _row(attention: "Attention", layer: int, query: int) -> bytes:
    """One query's weights in every head of a layer: the heads' scales, then the whole numbers."""
    seen = len(attention.tokens) if attention.is_square else query + 1
    rows = np.asarray(attention.pattern[layer, :, query, :seen], np.float32)
    scale = rows.max(-1)
    levels = np.rint(rows / np.where(scale > 0, scale, 1)[:, None] * 65535)
    return scale.astype("<f4").tobytes() + levels.astype("<u2").tobytes()


def _within(text: str, size: int) -> bool:
    """Whether a piece of an address is a whole number below `size`."""
    return text.isascii() and text.isdigit() and int(text[:9]) < size


def _mean(attention: "Attention", layers: Sequence[int], by: str) -> Float[np.ndarray, "query key"]:
    """The mean over all heads of some layers; one layer at a time is read, to save memory."""
    total = np.zeros(attention.pattern.shape[2:], np.float32)
    for layer in layers:
        rows = np.asarray(attention.pattern[layer], np.float32)
        if by == "weighted" and attention.value_norms is not None:
            rows = rows * attention.value_norms[layer][:, None]
        total += rows.mean(0)
    return total / len(layers)
