"""The steps of attention in words and formulas: what a head reads, where it looks, what it writes.

Each step compares the tensor worked out by a block's formulas with what the model itself computed
there.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.block import Block
from workbench.subjects import Subject

TOLERANCE = 1e-3
"""Deviation above which a step's formula does not hold; float32 rounding is 100 times smaller."""


@dataclass(frozen=True)
class Step:
    """One step of the computation.

    - `formula`: in LaTeX; `words`: what it does
    - `shape`: of the whole tensor
    - `values`: the part that is shown, one row per position; columns are dimensions, or keys with
        `over_keys`
    - `deviation`: the largest difference between the recomputed and the model's own tensor, over
        the model's largest entry (at least 1); None if the model shows nothing to compare with
    - `of_sources`: rows are positions of the other text, in cross-attention
    """

    name: str
    formula: str
    words: str
    shape: str
    values: Float[np.ndarray, "pos column"]
    deviation: float | None
    over_keys: bool = False
    of_sources: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the formula gives the model's own tensor; None if there is nothing to compare."""
        return None if self.deviation is None else self.deviation <= TOLERANCE


def embedding_step(start: Tensor, model: Tensor, formula: str, words: str) -> Step:
    """The step at the start of the residual stream.

    Args:
        start: The stream by formula.
        model: The model's own.
        formula: In LaTeX.
        words: What it does.
    """
    return Step(
        "Embedding", formula, words, _shape(start), as_array(start), deviation(start, model)
    )


def so_far_steps(stream: Tensor, layer: int) -> list[Step]:
    """The stream as it enters a layer after the first."""
    if layer == 0:
        return []
    before = "layer 0 has" if layer == 1 else f"layers 0 to {layer - 1} have"
    words = f"What {before} added to the stream; from here on everything is worked out anew."
    formula = rf"x^{{({layer})}} = x^{{(0)}} + \sum_{{l<{layer}}} (a^{{(l)}} + m^{{(l)}})"
    return [Step("Residual stream", formula, words, _shape(stream), as_array(stream), None)]


def logits_step(ours: Tensor, stream: Tensor, model: Tensor) -> Step:
    """The step of the final norm and the unembedding; the normed stream is shown.

    Args:
        ours: Logits by formula, `[pos, d_vocab]`.
        stream: The normed stream.
        model: The model's own logits.
    """
    return Step(
        "Logits",
        r"\mathrm{logits} = \mathrm{norm}(x^{(L)})\, W_U",
        "After the last layer the stream is normed once more and every token's column of the "
        "unembedding reads it.",
        f"{_shape(ours)}; shown: the normed stream",
        as_array(stream),
        deviation(ours, model),
    )


def next_tokens(
    subject: Subject, logits: Float[Tensor, " d_vocab"], most: int = 10
) -> pd.DataFrame:
    """The likeliest tokens and their probabilities.

    Args:
        subject: The model.
        logits: At one position.
        most: Tokens to give.
    """
    probability, token = logits.softmax(-1).topk(min(most, len(logits)))
    return pd.DataFrame(
        {"token": subject.tokens(token, unrelated=True), "probability": probability.tolist()}
    )


def _shape(values: Tensor) -> str:
    return str(list(values.shape))


def reading_steps(block: Block, head: int) -> list[Step]:
    """The steps of norm, query, key and value of a head, and of their changes before they meet."""
    n = block.n_pos
    d = block.d_head
    steps = [
        Step(
            "Norm",
            block.norm_formula,
            "Each position's vector is brought to unit size, so that heads read its direction.",
            f"[{n}, {block.d_model}]",
            as_array(block.normed),
            deviation(block.normed, block.model("ln1.hook_out")),
        )
    ]
    purposes = {
        "q": "what the token looks for",
        "k": "what it can be found by",
        "v": "what it has to give",
    }
    for part, purpose in purposes.items():
        values = getattr(block, part)
        own_head = block.source(part, head)
        crosses = block.crosses and part != "q"
        stream = "e" if crosses else r"\mathrm{norm}(x)"
        formula = rf"{part} = {stream}\, W_{part.upper()}"
        if block.has_bias(part):
            formula += " + b"
        words = f"{purpose.capitalize()}."
        if part != "q" and block.groups > 1:
            words += f" One of {block.groups} query heads that share it."
        if crosses:
            words += " Read from the encoder's output."
        rows = block.n_keys if crosses else n
        steps.append(
            Step(
                {"q": "Query", "k": "Key", "v": "Value"}[part],
                formula,
                words,
                f"[{rows}, {values.shape[1]} heads, {d}]; shown: head {own_head}",
                as_array(values[:, own_head]),
                deviation(values, block.model(f"attn.{part}.hook_out")),
                of_sources=crosses,
            )
        )
    return steps + [
        Step(
            f"{name} {what}",
            formula,
            words,
            f"[{n}, {values.shape[1]} heads, {d}]",
            as_array(values[:, i]),
            off,
        )
        for name, what, formula, words, values, i, off in block.changes(head)
    ]


def looking_steps(block: Block, head: int) -> list[Step]:
    """The steps of scores, mask and softmax: where a head looks."""
    shown = f"[{block.n_heads} heads, {block.n_pos}, {block.n_keys}]; shown: head {head}"
    model_scores = block.model_scores
    off = None
    if model_scores is not None:
        visible = torch.where(block.mask, model_scores, 0.0)
        off = deviation(block.scores * block.mask, visible)
    steps = [
        Step(
            "Scores",
            block.score_formula,
            f"Every query against every key, {block.score_words}.",
            shown,
            as_array(block.scores[head]),
            off,
            over_keys=True,
        )
    ]
    if not block.mask.all() or block.n_pos == 1:
        window = f" and more than {block.window} back" if block.window else ""
        steps.append(
            Step(
                "Mask",
                r"s_{ij} = -\infty \quad \text{for } j > i",
                f"A token must not see what comes after it: later keys{window} are struck out.",
                shown,
                as_array(block.scores[head].masked_fill(~block.mask, float("nan"))),
                None,
                over_keys=True,
            )
        )
    steps.append(
        Step(
            "Softmax",
            r"a_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}",
            "Each row becomes shares that sum to 1: the attention pattern.",
            shown,
            as_array(block.pattern[head]),
            deviation(block.pattern, block.model("attn.hook_pattern")),
            over_keys=True,
        )
    )
    return steps


def writing_steps(block: Block, head: int) -> list[Step]:
    """The steps from the weighted sum to the stream, then the MLP if it follows this attention."""
    n = block.n_pos
    d = block.d_model
    rows = [
        (
            "Weighted sum",
            r"z_i = \sum_j a_{ij} v_j",
            "Each position takes the values of what it attends to, by their shares.",
            f"[{n}, {block.n_heads} heads, {block.d_head}]; shown: head {head}",
            block.z[:, head],
            deviation(block.z, block.model("attn.o.hook_in").reshape(block.z.shape)),
        ),
        (
            "Concatenation",
            rf"z = [z^1; \ldots; z^{{{block.n_heads}}}]",
            "The heads side by side.",
            f"[{n}, {block.n_heads * block.d_head}]",
            block.z.flatten(1),
            deviation(block.z.flatten(1), block.model("attn.o.hook_in").reshape(n, -1)),
        ),
        (
            "Output projection",
            r"a = z\, W_O" + (r" + b_O" if block.has_bias("o") else ""),
            "Mixes the heads and brings them back to the width of the stream"
            + (", then the norm after attention." if block.attention_norm is not None else "."),
            f"[{n}, {d}]",
            block.attended,
            deviation(block.attended, block.model(block.attended_hook)),
        ),
        (
            "Residual stream",
            r"x' = x + a",
            "Attention adds to the stream; it does not replace it."
            + (
                " This model's MLP reads the same stream beside it, in parallel."
                if block.parallel
                else ""
            ),
            f"[{n}, {d}]",
            block.middle,
            block.off_middle,
        ),
    ]
    rows += _closing(block) if block.ends else []
    return [Step(a, b, c, e, as_array(values), off) for a, b, c, e, values, off in rows]


def _closing(block: Block) -> list[tuple]:
    """The MLP and the stream that leaves the layer."""
    n = block.n_pos
    d = block.d_model
    return [
        (
            "MLP",
            r"m = \mathrm{MLP}(\mathrm{norm}(" + ("x" if block.parallel else "x'") + "))",
            f"Each position by itself: {block.mlp_words}.",
            f"[{n}, {d}]",
            block.mlp_out,
            deviation(block.mlp_out, block.model(block.mlp_hook)),
        ),
        (
            "Layer output",
            r"x'' = x' + m",
            "The stream as the next layer finds it.",
            f"[{n}, {d}]",
            block.out,
            deviation(block.out, block.model("hook_out")),
        ),
    ]


def deviation(ours: Tensor, model: Tensor) -> float:
    """The largest difference over the model's largest entry, or over 1 if that is smaller."""
    return float((ours - model).abs().max() / model.abs().max().clamp_min(1.0))


def as_array(values: Tensor) -> np.ndarray:
    """A step's values in single precision."""
    return values.detach().float().cpu().numpy()
