"""`workbench bench attention`: from a prompt to the explorer's payload, against TransformerLens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workbench.data.passages import TEXTS
from workbench.figures.explorer.payload import Heads, payload
from workbench.interp.patterns.attention import Attention
from workbench.interp.patterns.pooling import pooled
from workbench.interp.patterns.prompt_scores import scored_attention
from workbench.speed.timing import in_turn
from workbench.subjects import Subject, load

LENGTHS = (64, 512, 1024)
"""Tokens of the prompts."""


def bench(progress: Callable[[str], None], model: str) -> list[dict[str, Any]]:
    """One row for each prompt length: seconds of both, largest difference, size of the payload.

    Args:
        progress: Called with what is being measured.
        model: The name of the model.
    """
    subject = load(model)
    rows = []
    for length in LENGTHS:
        progress(f"{subject.name}: {length} tokens")
        rows.append(bench_prompt(subject, _prompt(subject, length)))
    return rows


def bench_prompt(subject: Subject, prompt: str) -> dict[str, Any]:
    """Both sides' seconds on one prompt, their largest difference and the payload's kilobytes.

    Our side is what the Attention page does before it shows anything: it reads and scores every
    head and packs the explorer's payload. TransformerLens
    caches the patterns, and nothing more.
    """

    def ours() -> tuple[Attention, bytes]:
        attention, scores = scored_attention(subject, prompt)
        shown = Heads(
            attention.pattern,
            attention.tokens,
            attention.subject,
            attention.value_norms,
            pool=pooled,
        )
        return attention, payload(shown, chosen=scores.best())

    def reference() -> list[np.ndarray]:
        with torch.no_grad():
            _, cache = subject.bridge.run_with_cache(
                subject.encode(prompt), names_filter=lambda name: name.endswith("hook_pattern")
            )
        return [cache["pattern", i][0].float().cpu().numpy() for i in range(subject.card.n_layers)]

    ours()  # not timed: it makes the model's copy that both sides run
    (attention, block), cached, times = in_turn(ours, reference)
    differences = [
        np.abs(layer - cached_layer).max()
        for layer, cached_layer in zip(attention.pattern, cached, strict=True)
    ]
    n_heads = subject.card.n_layers * subject.card.n_heads
    return {
        "case": f"{subject.name}, {len(attention.tokens)} tokens, {n_heads} heads",
        **times,
        "max_abs_diff": float(max(differences)),
        "payload_kb": len(block) / 1e3,
    }


def _prompt(subject: Subject, length: int) -> str:
    ids = subject.ids("\n\n".join(TEXTS + TEXTS))
    return str(subject.tokenizer.decode(ids[: min(length, subject.n_ctx)]))
