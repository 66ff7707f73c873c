"""Model cards on pages; those of bundled models are read from their folders, without torch."""

import json
import math
from html import escape
from typing import Any

import streamlit as st

from workbench import paths
from workbench.statistics.words import bracketed

_WORDS = {
    "n_params": "parameters",
    "n_layers": "layers",
    "n_heads": "heads per layer",
    "n_kv_heads": "key/value heads",
    "d_model": "width (d_model)",
    "d_head": "width of a head (d_head)",
    "n_ctx": "context, tokens",
    "d_vocab": "vocabulary",
    "positions": "position encoding",
    "architecture": "architecture",
    "parent": "derived from",
    "data": "training data",
    "licence": "licence",
    "created": "created",
    "source": "source",
    "command": "command",
    "notes": "notes",
    "loaded": "loading report",
    "sha256": "sha256 of the weights",
    "identity": "identity (weights, configuration, tokenizer, edits)",
}
_STYLE = """<style>
.facts { border-collapse: collapse; font-size: 14px; width: 100%; }
.facts th { text-align: left; font-weight: 400; opacity: 0.7; padding: 3px 14px 3px 0;
  vertical-align: top; width: 36%; }
.facts td { padding: 3px 0; overflow-wrap: anywhere; }
</style>"""


def shelf_facts(name: str) -> dict[str, Any]:
    """The facts of a bundled model: from `card.json`, and else from `config.json`."""
    folders = [paths.shelf("models") / name]
    if (more := paths.models_folder()) is not None:
        folders.append(more / name)
    facts: dict[str, Any] = {}
    for folder in folders:
        for file in (folder / "config.json", folder / "card.json"):
            if file.is_file():
                facts |= json.loads(file.read_text(encoding="utf-8"))
        if facts:
            break
    return facts


def rows(facts: dict[str, Any], *names: str) -> dict[str, str]:
    """A card's known facts in words, in a fixed order; `names` selects some of them."""
    return {_WORDS[n]: _spelt(facts[n]) for n in names or _WORDS if facts.get(n)}


def short_count(n: int) -> str:
    """A number of parameters in short form: 135M, 3.4M, 260k."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def measured(value: Any) -> str:
    """A metric in words, with its interval and n where it has them."""
    if isinstance(value, dict):
        if {"low", "high"} <= value.keys():
            low, high = (math.nan if value[end] is None else value[end] for end in ("low", "high"))
            rest = {name: part for name, part in value.items() if name not in ("low", "high")}
            value = {**rest, "95 % interval": bracketed(low, high, ".3g")}
        return ", ".join(f"{name} {measured(v)}" for name, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else _spelt(value)


def _spelt(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(facts: dict[str, str]) -> None:
    """Show facts as a plain table, one per row."""
    body = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in facts.items())
    st.html(f'{_STYLE}<table class="facts">{body}</table>')
