"""`workbench bench attention`: reading, scoring and drawing all heads, against TransformerLens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workbench.data.passages import TEXTS
from workbench.figures import attention as draw
from workbench.interp.patterns.prompt_scores import scored_attention
from workbench.speed.timing import in_turn
from workbench.subjects import Subject, load

LENGTHS = (64, 512)


def bench(progress: Callable[[str], None], model: str) -> list[dict[str, Any]]:
    """One row per prompt length: seconds of both, largest difference, kB sent to the browser."""
    subject = load(model)
    rows = []
    for length in LENGTHS:
        progress(f"{subject.name}: {length} tokens")
        rows.append(_row(subject, _prompt(subject, length), length))
    return rows


def _prompt(subject: Subject, length: int) -> str:
    ids = subject.ids("\n\n".join(TEXTS))
    return str(subject.tokenizer.decode(ids[: min(length, subject.n_ctx)]))


def _row(subject: Subject, prompt: str, length: int) -> dict[str, Any]:
    def ours() -> tuple[Any, Any, draw.Atlas]:
        card = subject.card
        n_pos = subject.encode(prompt).shape[1]
        painter = draw.AtlasPainter(card.n_layers, card.n_heads, n_pos)
        patterns, scores = scored_attention(
            subject, prompt, also=lambda i, pattern: painter.add(i, pattern.cpu().numpy())
        )
        return patterns, scores, painter.finish()

    def reference() -> list[np.ndarray]:
        with torch.no_grad():
            _, cache = subject.bridge.run_with_cache(
                subject.encode(prompt), names_filter=lambda name: name.endswith("hook_pattern")
            )
        return [cache["pattern", i][0].float().cpu().numpy() for i in range(subject.card.n_layers)]

    ours()  # warm up both sides: clones and bridges are made once
    reading, theirs, times = in_turn(ours, reference)
    patterns, _, image = reading
    head = draw.head(patterns.head(0, 0), patterns.tokens)
    differences = [np.abs(patterns.pattern[i] - layer).max() for i, layer in enumerate(theirs)]
    return {
        "case": (
            f"{subject.name}, {len(patterns.tokens)} of {length} tokens, "
            f"{patterns.pattern[:, :, 0, 0].size} heads"
        ),
        **times,
        "max_abs_diff": float(max(differences)),
        "atlas_kb": len(str(draw.atlas(image).to_json())) / 1e3,
        "head_kb": len(str(head.to_json())) / 1e3,
    }
