"""`workbench bench attention`: reading every pattern, and drawing it, against TransformerLens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workbench.data.passages import TEXTS
from workbench.figures.explorer.payload import Heads, payload
from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.pooling import pooled
from workbench.interp.patterns.prompt_scores import scored_attention
from workbench.speed.timing import in_turn
from workbench.subjects import Subject, load

LENGTHS = (64, 512, 1024)
"""Tokens of the prompts."""


def bench(progress: Callable[[str], None], model: str) -> list[dict[str, Any]]:
    """Two rows for each prompt length: the patterns read, and all that a page does with them.

    Args:
        progress: Called with what is being measured.
        model: The name of the model.
    """
    subject = load(model)
    rows = []
    for length in LENGTHS:
        progress(f"{subject.name}: {length} tokens")
        rows += bench_prompt(subject, _prompt(subject, length))
    return rows


def bench_prompt(subject: Subject, prompt: str) -> list[dict[str, Any]]:
    """Both sides' seconds on one prompt and their largest difference, of two pieces of work.

    TransformerLens caches the patterns, and nothing more; ours

    - `read` does the same
    - `shown` is what the Attention page does before it shows anything: it reads and scores every
      head and packs the explorer's payload, of `payload_kb` kilobytes
    """

    def shown() -> tuple[Attention, bytes]:
        read, scores = scored_attention(subject, prompt)
        heads = Heads(read.pattern, read.tokens, read.subject, read.value_norms, pool=pooled)
        return read, payload(heads, chosen=scores.best())

    def reference() -> list[np.ndarray]:
        with torch.no_grad():
            _, cache = subject.bridge.run_with_cache(
                subject.encode(prompt), names_filter=lambda name: name.endswith("hook_pattern")
            )
        return [cache["pattern", i][0].float().cpu().numpy() for i in range(subject.card.n_layers)]

    shown()  # not timed: it makes the model's copy that both sides run
    read, cached, times = in_turn(lambda: attention(subject, prompt), reference)
    (drawn, block), _, page_times = in_turn(shown, reference)

    def off(ours: Attention) -> float:
        pairs = zip(ours.pattern, cached, strict=True)
        return max(float(np.abs(layer - cached_layer).max()) for layer, cached_layer in pairs)

    n_heads = subject.card.n_layers * subject.card.n_heads
    case = f"{subject.name}, {len(read.tokens)} tokens, {n_heads} heads"
    return [
        {"case": f"{case}, read", **times, "max_abs_diff": off(read)},
        {
            "case": f"{case}, shown",
            **page_times,
            "max_abs_diff": off(drawn),
            "payload_kb": len(block) / 1e3,
        },
    ]


def _prompt(subject: Subject, length: int) -> str:
    ids = subject.ids("\n\n".join(TEXTS + TEXTS))
    return str(subject.tokenizer.decode(ids[: min(length, subject.n_ctx)]))
