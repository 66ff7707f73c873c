"""The anatomy of attention: one layer and head of a real prompt, worked out step by step from the weights.

Every step is computed anew by its formula from the step before, starting at the residual stream that enters the layer,
and compared with what the model itself computed there.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.block import Block
from workbench.subjects import Subject


@dataclass(frozen=True)
class Step:
    """One step: its name, formula (LaTeX), what it does in words, the whole tensor's shape, and what to look at.

    `values` is a matrix with a row a position; its columns are dimensions, or keys where `over_keys`. `deviation` is
    the largest difference between the recomputed and the model's own tensor over the model's largest entry (at least
    1); None where the model shows nothing to compare with.
    """

    name: str
    formula: str
    words: str
    shape: str
    values: Float[np.ndarray, "pos column"]
    deviation: float | None
    over_keys: bool = False


@dataclass(frozen=True)
class Anatomy:
    """The steps of one layer and head, and the next tokens that the model expects after the last position."""

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    layer: int
    head: int
    steps: list[Step]
    next_tokens: pd.DataFrame

    @property
    def deviation(self) -> float:
        """The largest deviation of any step."""
        return max(step.deviation for step in self.steps if step.deviation is not None)

    def to_frame(self) -> pd.DataFrame:
        """One row a step: name, shape, deviation."""
        return pd.DataFrame([{"step": s.name, "shape": s.shape, "deviation": s.deviation} for s in self.steps])


@torch.no_grad()
def anatomy(subject: Subject, prompt: str, *, layer: int, head: int) -> Anatomy:
    """Work one layer and head out by hand, from the embedding to the logits.

    Raises `WorkbenchError` for a prompt that cannot be read, a head that is not there, or a model without the usual
    parts of a decoder block.
    """
    card = subject.card
    if not (0 <= layer < card.n_layers and 0 <= head < card.n_heads):
        raise WorkbenchError(
            f"{subject.name} has no L{layer}H{head}; it has L0H0 to L{card.n_layers - 1}H{card.n_heads - 1}."
        )
    ids = subject.encode(prompt)
    logits, cache = subject.bridge.run_with_cache(ids)
    block = Block(subject, layer, cache, ids.shape[1])
    steps = _input(subject, ids, cache, layer) + _attention(block, head) + _output(block, head)
    final, stream = block.logits(cache[f"blocks.{card.n_layers - 1}.hook_out"])
    steps.append(
        Step(
            "Logits",
            r"\mathrm{logits} = \mathrm{norm}(x^{(L)})\, W_U",
            "After the last layer the stream is normed once more and every token's column of the unembedding reads it.",
            f"[{ids.shape[1]}, {card.d_vocab}]; shown: the normed stream",
            _numpy(stream),
            _deviation(final, logits[0]),
        )
    )
    probability, token = final[-1].softmax(-1).topk(min(10, card.d_vocab))
    expected = pd.DataFrame({"token": subject.tokens(token), "probability": probability.tolist()})
    return Anatomy(subject.name, subject.hash, prompt, subject.tokens(ids), layer, head, steps, expected)


def _input(subject: Subject, ids: Tensor, cache, layer: int) -> list[Step]:
    tokens = subject.model.get_input_embeddings()(ids)[0]
    positions = _position_vectors(subject, ids.shape[1])
    start = tokens if positions is None else tokens + positions.to(tokens)
    added = {
        "rotary": "No position yet: rotary turns queries and keys later.",
        "alibi": "No position yet: ALiBi takes it off the scores later.",
        "none": "No position at all: only the causal mask tells order.",
    }
    words = "Each token's row of the embedding, " + (
        "plus its position's vector." if positions is not None else "as it is. " + added.get(subject.card.positions, "")
    )
    shape = f"[{ids.shape[1]}, {subject.card.d_model}]"
    first = Step(
        "Embedding",
        r"x^{(0)}_t = W_E[\mathrm{token}_t]" + (r" + p_t" if positions is not None else ""),
        words,
        shape,
        _numpy(start),
        _deviation(start, cache["blocks.0.hook_in"][0]),
    )
    if layer == 0:
        return [first]
    stream = cache[f"blocks.{layer}.hook_in"][0]
    before = "layer 0 has" if layer == 1 else f"layers 0 to {layer - 1} have"
    words = f"What {before} added to the stream; from here on everything is worked out anew."
    formula = rf"x^{{({layer})}} = x^{{(0)}} + \sum_{{l<{layer}}} (a^{{(l)}} + m^{{(l)}})"
    return [first, Step("Residual stream", formula, words, shape, _numpy(stream), None)]


def _position_vectors(subject: Subject, n_pos: int) -> Tensor | None:
    from workbench.interp.positional import position_encoding

    if subject.card.positions not in ("learned", "sinusoidal"):
        return None
    matrix = position_encoding(subject).matrix
    assert matrix is not None
    return torch.from_numpy(matrix[-subject.n_ctx :][:n_pos])


def _attention(block: Block, head: int) -> list[Step]:
    n, d = block.n_pos, block.d_head
    steps = [
        Step(
            "Norm",
            block.norm_formula,
            "Each position's vector is brought to unit size, so that heads read its direction.",
            f"[{n}, {block.d_model}]",
            _numpy(block.normed),
            _deviation(block.normed, block.model("ln1.hook_out")),
        )
    ]
    asks = {"q": "what the token looks for", "k": "what it can be found by", "v": "what it has to give"}
    for part, words in asks.items():
        values = getattr(block, part)
        shared = "" if part == "q" or block.groups == 1 else f" One of {block.groups} query heads that share it."
        steps.append(
            Step(
                {"q": "Query", "k": "Key", "v": "Value"}[part],
                rf"{part} = \mathrm{{norm}}(x)\, W_{part.upper()}" + (r" + b" if block.has_bias(part) else ""),
                f"{words.capitalize()}.{shared}",
                f"[{n}, {values.shape[1]} heads, {d}]; shown: head {block.source(part, head)}",
                _numpy(values[:, block.source(part, head)]),
                _deviation(values, block.model(f"attn.{part}.hook_out")),
            )
        )
    steps += [
        Step(f"{name} {what}", formula, words, f"[{n}, {values.shape[1]} heads, {d}]", _numpy(values[:, i]), off)
        for name, what, formula, words, values, i, off in block.changes(head)
    ]
    shown = f"[{block.n_heads} heads, {n}, {n}]; shown: head {head}"
    steps.append(
        Step(
            "Scores",
            block.score_formula,
            f"Every query against every key, divided by √{d} so that scores do not grow with the width"
            f"{block.score_words}.",
            shown,
            _numpy(block.scores[head]),
            _deviation(block.scores * block.mask, torch.where(block.mask, block.model("attn.hook_attn_scores"), 0.0)),
            over_keys=True,
        )
    )
    masked = block.scores[head].masked_fill(~block.mask, float("nan"))
    window = f" and more than {block.window} back" if block.window else ""
    steps.append(
        Step(
            "Mask",
            r"s_{ij} = -\infty \quad \text{for } j > i",
            f"A token must not see what comes after it: later keys{window} are struck out.",
            shown,
            _numpy(masked),
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
            _numpy(block.pattern[head]),
            _deviation(block.pattern, block.model("attn.hook_pattern")),
            over_keys=True,
        )
    )
    return steps


def _output(block: Block, head: int) -> list[Step]:
    n, d = block.n_pos, block.d_model
    parallel = block.parallel
    rows = [
        (
            "Weighted sum",
            r"z_i = \sum_j a_{ij} v_j",
            "Each position takes the values of what it attends to, by their shares.",
            f"[{n}, {block.n_heads} heads, {block.d_head}]; shown: head {head}",
            block.z[:, head],
            _deviation(block.z, block.model("attn.o.hook_in").reshape(block.z.shape)),
        ),
        (
            "Concatenation",
            rf"z = [z^1; \ldots; z^{{{block.n_heads}}}]",
            "The heads side by side.",
            f"[{n}, {block.n_heads * block.d_head}]",
            block.z.flatten(1),
            _deviation(block.z.flatten(1), block.model("attn.o.hook_in").reshape(n, -1)),
        ),
        (
            "Output projection",
            r"a = z\, W_O" + (r" + b_O" if block.has_bias("o") else ""),
            "Mixes the heads and brings them back to the width of the stream"
            + (", then the norm after attention." if block.attention_norm is not None else "."),
            f"[{n}, {d}]",
            block.attended,
            _deviation(block.attended, block.model(block.attended_hook)),
        ),
        (
            "Residual stream",
            r"x' = x + a",
            "Attention adds to the stream; it does not replace it."
            + (" This model's MLP reads the same stream beside it, in parallel." if parallel else ""),
            f"[{n}, {d}]",
            block.middle,
            None,
        ),
        (
            "MLP",
            r"m = \mathrm{MLP}(\mathrm{norm}(" + ("x" if parallel else "x'") + "))",
            f"Each position by itself: {block.mlp_words}.",
            f"[{n}, {d}]",
            block.mlp_out,
            _deviation(block.mlp_out, block.model(block.mlp_hook)),
        ),
        (
            "Layer output",
            r"x'' = x' + m",
            "The stream as the next layer finds it.",
            f"[{n}, {d}]",
            block.out,
            _deviation(block.out, block.model("hook_out")),
        ),
    ]
    return [Step(a, b, c, e, _numpy(values), off) for a, b, c, e, values, off in rows]


def _deviation(ours: Tensor, model: Tensor) -> float:
    return float((ours - model).abs().max() / model.abs().max().clamp_min(1.0))


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
