"""The attention explorer on a page: one element, whose every answer is worked out in the browser.

A prompt of many tokens comes with its heads pooled; the browser then asks `ROUTE` for the whole
triangle of a head that is opened. It does so by HTTP, so that no script of a page runs for it.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st
from jaxtyping import Float
from streamlit.components.v2 import component

from workbench.figures.explorer import files
from workbench.figures.explorer.payload import Heads, payload, quantise
from workbench.figures.style import visible
from workbench.ui.parts.explorer_route import ROUTE

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention
    from workbench.interp.patterns.prompt_scores import PromptScores

_SECRET = secrets.token_bytes(16)
_SHOWN: "WeakValueDictionary[str, Attention]" = WeakValueDictionary()
"""What the browser may ask for, by names that cannot be guessed; gone with the last page of it."""
_component = component(
    "workbench_explorer",
    html='<div class="explorer"></div>',
    css=files.style(),
    js=files.script(),
)


def explorer(
    found: "Attention",
    scores: "PromptScores",
    *,
    chosen: tuple[int, int],
    key: str,
    other: "tuple[Attention, str] | None" = None,
) -> None:
    """Show every head of a prompt.

    Args:
        found: The attention.
        scores: Its scores on the prompt, said when the mouse is over a head.
        chosen: The head that is open at first; what the reader opens later is known to the browser
            and the URL alone.
        key: The element's name on the page.
        other: Attention to be subtracted, and what it is called.
    """
    names = tuple(offered(part) for part in (found, other[0] if other else None) if part)
    block = _block(names, chosen, other[1] if other else "", found, scores, other)
    _component(data=block, key=key)


def offered(found: "Attention") -> str:
    """The name by which the browser may ask for its triangles."""
    said = f"{found.sha256}\0{found.prompt}".encode()
    name = hashlib.blake2b(said, key=_SECRET, digest_size=16).hexdigest()
    _SHOWN[name] = found
    return name


@st.cache_resource(max_entries=8, show_spinner=False)
def _block(
    names: tuple[str, ...],
    chosen: tuple[int, int],
    label: str,
    _found: "Attention",
    _scores: "PromptScores",
    _other: "tuple[Attention, str] | None",
) -> bytes:
    """The payload; made once for a prompt, a head and what is subtracted."""
    url = f"{ROUTE}/{names[0]}"
    if _other is None:
        return payload(heads_of(_found, scores=_scores, url=url), chosen=chosen)
    tokens = _side_by_side(_found.tokens, _other[0].tokens)
    main = heads_of(_found, scores=_scores, url=url, tokens=tokens)
    other = heads_of(_other[0], name=label, url=f"{ROUTE}/{names[1]}")
    return payload(main, chosen=chosen, other=other)


def heads_of(
    found: "Attention",
    *,
    scores: "PromptScores | None" = None,
    name: str = "",
    url: str = "",
    tokens: Sequence[str] = (),
) -> Heads:
    """The attention as the explorer takes it; `tokens` in place of its own where they are given."""
    said = {} if scores is None else _words(scores)
    shown = tokens or found.tokens
    return Heads(found.pattern, shown, name or found.subject, found.value_norms, said, url)


def _side_by_side(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Tokens of two prompts as one: both where they differ."""
    pairs = zip(ours, theirs, strict=True)
    return [a if a == b else f"{visible(a)}|{visible(b)}" for a, b in pairs]


def _words(scores: "PromptScores") -> Mapping[str, Float[np.ndarray, "layer head"]]:
    known = {
        "to the token before": scores.previous_token,
        "to the first token": scores.first_token,
        "to what followed an earlier copy": scores.induction,
        "entropy in bits": scores.entropy,
    }
    return {words: values for words, values in known.items() if values is not None}


def triangle(name: str, what: str) -> bytes | None:
    """A head in 16 bits, a mean over heads, or rows: scales, then levels; None if unknown.

    Args:
        name: What `offered` gave.
        what: "3/1" for L3H1; "mean/3/attention" for the mean of layer 3, "mean/all/weighted" for
            that of all heads; "row/3/17" for what all heads of layer 3 give from position 17.
    """
    found = _SHOWN.get(name)
    if found is None:
        return None
    n_layers, n_heads = found.pattern.shape[:2]
    match what.split("/"):
        case [layer, head] if _within(layer, n_layers) and _within(head, n_heads):
            rows = found.head(int(layer), int(head))
        case ["mean", layer, "attention" | "weighted" as by] if (
            layer == "all" or _within(layer, n_layers)
        ) and (by == "attention" or found.value_norms is not None):
            layers = range(n_layers) if layer == "all" else [int(layer)]
            rows = _mean(found, layers, by)
        case ["row", layer, query] if _within(layer, n_layers) and _within(
            query, len(found.tokens)
        ):
            return _row(found, int(layer), int(query))
        case _:
            return None
    levels, scale = quantise(rows, 16)
    return scale.tobytes() + levels.tobytes()


def _row(found: "Attention", layer: int, query: int) -> bytes:
    """One query's weights in every head of a layer: the heads' scales, then their levels."""
    rows = np.asarray(found.pattern[layer, :, query, : query + 1], np.float32)
    scale = rows.max(-1)
    levels = np.rint(rows / np.where(scale > 0, scale, 1)[:, None] * 65535)
    return scale.astype("<f4").tobytes() + levels.astype("<u2").tobytes()


def _within(text: str, size: int) -> bool:
    return text.isascii() and text.isdigit() and int(text[:9]) < size


def _mean(found: "Attention", layers: Any, by: str) -> Float[np.ndarray, "query key"]:
    """The mean over all heads of some layers, a layer at a time."""
    total = np.zeros(found.pattern.shape[2:], np.float32)
    for layer in layers:
        rows = np.asarray(found.pattern[layer], np.float32)
        if by == "weighted" and found.value_norms is not None:
            rows = rows * found.value_norms[layer][:, None]
        total += rows.mean(0)
    return total / len(layers)
