"""The bench of attention: all heads of a prompt read, scored and drawn, against TransformerLens's
cache of patterns.
"""

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
    """One row a length: seconds of both, how far they are apart, and what the browser is sent."""
    subject = load(model)
    rows = []
    for length in LENGTHS:
        progress(f"{subject.name}: {length} tokens")
        rows.append(_row(subject, _prompt(subject, length), length))
    return rows


def _prompt(subject: Subject, length: int) -> str:
    ids = subject.ids("\n\n".join(TEXTS))
    return subject.tokenizer.decode(ids[: min(length, subject.n_ctx)])


def _row(subject: Subject, prompt: str, length: int) -> dict[str, Any]:
    def ours() -> tuple[Any, Any, draw.Atlas]:
        card = subject.card
        n_pos = subject.encode(prompt).shape[1]
        painter = draw.AtlasPainter(card.n_layers, card.n_heads, n_pos)
        found, scores = scored_attention(
            subject, prompt, also=lambda i, pattern: painter.add(i, pattern.cpu().numpy())
        )
        return found, scores, painter.finish()

    def reference() -> list[np.ndarray]:
        with torch.no_grad():
            _, cache = subject.bridge.run_with_cache(
                subject.encode(prompt), names_filter=lambda name: name.endswith("hook_pattern")
            )
        return [cache["pattern", i][0].float().cpu().numpy() for i in range(subject.card.n_layers)]

    ours()  # both sides warm: clones and bridges are made once
    (found, _, image), theirs, times = in_turn(ours, reference)
    head = draw.head(found.head(0, 0), found.tokens)
    apart = max(float(np.abs(found.pattern[i] - pattern).max()) for i, pattern in enumerate(theirs))
    return {
        "case": (
            f"{subject.name}, {len(found.tokens)} of {length} tokens, "
            f"{found.pattern[:, :, 0, 0].size} heads"
        ),
        **times,
        "max_abs_diff": apart,
        "atlas_kb": len(draw.atlas(image).to_json()) / 1e3,
        "head_kb": len(head.to_json()) / 1e3,
    }
