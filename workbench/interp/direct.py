"""What each part adds to the answer directly, and what the stream already says at every layer.

*Direct logit attribution* splits the logit difference into what the embedding, every head and every MLP write along
its direction, the final norm's scale held at its value in this run: the parts add up exactly. The *logit lens* reads
the stream after each layer with the model's own final norm and unembedding (nostalgebraist 2020).
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.interp.branches import Recording
from workbench.interp.packed import PackedEngine, engine
from workbench.interp.pairs import Pair, pair
from workbench.subjects import Subject


@dataclass(frozen=True)
class Direct:
    """Direct contributions to the logit difference at the last position, in logits.

    `heads` is `[layer, head]`, `mlps` `[layer]`, `attention_rest` what attention adds that is no head's (biases),
    `embedding` and `constant` (the final norm's and the unembedding's bias) the rest; their sum is `total`.
    `checks`: the sum against the model's own logit difference.
    """

    subject: str
    sha256: str
    prompt: str
    answer: str
    wrong: str
    tokens: list[str]
    heads: np.ndarray
    mlps: np.ndarray
    attention_rest: np.ndarray
    embedding: float
    constant: float
    total: float
    checks: dict[str, float] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row a part, the largest first: `part`, `layer`, `contribution`."""
        n_layers, n_heads = self.heads.shape
        rows = [("embedding", -1, self.embedding)]
        rows += [(f"L{i}H{j}", i, float(self.heads[i, j])) for i in range(n_layers) for j in range(n_heads)]
        rows += [(f"MLP {i}", i, float(self.mlps[i])) for i in range(n_layers)]
        frame = pd.DataFrame(rows, columns=["part", "layer", "contribution"])
        return frame.reindex(frame["contribution"].abs().sort_values(ascending=False).index).reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}


def head_writes(
    packed: PackedEngine, run: Recording, prompt: int, layer: int
) -> tuple[Float[Tensor, "head pos d_model"], Float[Tensor, "pos d_model"]]:
    """What each head of a layer writes into the stream, and what attention adds besides (biases).

    Where a norm stands between attention and stream (Gemma), its scale is held at its value in this run.
    """
    z = run.z[layer][prompt]
    n_pos, n_heads, d_head = z.shape
    project = packed.outputs[layer]
    alone = torch.zeros(n_heads + 1, n_pos, n_heads, d_head, dtype=z.dtype, device=z.device)
    for head in range(n_heads):
        alone[head, :, head] = z[:, head]
    written = project(alone.flatten(-2))
    bias = written[-1]
    heads = written[:-1] - bias
    added = run.mid[layer][prompt] - run.resid[layer][prompt]
    if packed.adders[layer] is not packed.attentions[layer]:
        heads = heads * (added / torch.where(written.sum(0) == 0, 1.0, run.attn_out[layer][prompt]))
    return heads, added - heads.sum(0)


def answer_direction(
    packed: PackedEngine, final: Float[Tensor, " d_model"], question: Pair
) -> tuple[Float[Tensor, " d_model"], float]:
    """The direction in the last stream whose product with it, plus a constant, is the logit difference.

    The final norm is linear once its scale is fixed: RMS norm stretches each number, layer norm also centres.
    """
    weight, bias = packed.unembed.weight, packed.unembed.bias
    sides = [torch.tensor(side, device=final.device) for side in (question.answers, question.wrongs)]
    column = weight[sides[0]].mean(0) - weight[sides[1]].mean(0)
    constant = 0.0 if bias is None else float(bias[sides[0]].mean() - bias[sides[1]].mean())
    normed = packed.norm(final[None])[0]
    offset = getattr(packed.norm, "bias", None)
    offset = torch.zeros_like(normed) if offset is None else offset
    centred = isinstance(packed.norm, nn.LayerNorm)
    x = final - final.mean() if centred else final
    stretch = torch.where(x.abs() > 0, (normed - offset) / torch.where(x == 0, 1.0, x), 0.0)
    direction = column * stretch
    return (direction - direction.mean() if centred else direction), constant + float(offset @ column)


@torch.no_grad()
def direct(subject: Subject, clean: str, corrupted: str, *, answer: str, wrong: str) -> Direct:
    """Split the clean run's logit difference into what every part writes. Raises `WorkbenchError` as `pair` does."""
    question = pair(subject, clean, corrupted, answer, wrong)
    packed = engine(subject)
    run = packed.record(question.clean[None])
    direction, constant = answer_direction(packed, run.resid[-1][0, -1], question)
    heads, rest, mlps = [], [], []
    for layer in range(len(packed.layers)):
        writes, more = head_writes(packed, run, 0, layer)
        heads.append(writes[:, -1] @ direction)
        rest.append(more[-1] @ direction)
        mlps.append((run.resid[layer + 1][0, -1] - run.resid[layer][0, -1]) @ direction - heads[-1].sum() - rest[-1])
    embedding = float(run.resid[0][0, -1] @ direction)
    parts = [torch.stack(side).cpu().numpy() for side in (heads, rest, mlps)]
    total = embedding + constant + float(sum(part.sum(dtype=np.float64) for part in parts))
    if packed.softcap is None:
        logits = subject.model(question.clean[None]).logits[0, -1]
    else:  # what the cap is put on: contributions add up before it
        logits = packed.unembed(packed.norm(run.resid[-1][:, -1]))[0]
    told = float(logits[list(question.answers)].mean() - logits[list(question.wrongs)].mean())
    return Direct(
        subject.name,
        subject.hash,
        clean,
        answer,
        wrong,
        subject.tokens(question.clean),
        parts[0],
        parts[2],
        parts[1],
        embedding,
        constant,
        total,
        {"direct_sum": abs(total - told)},
    )


@dataclass(frozen=True)
class Lens:
    """What the stream says after each layer, read with the final norm and unembedding.

    Row 0 is the embedding, row i the stream after layer i - 1: `top` `[row, pos]` the likeliest token, `prob` its
    probability, `kl` the divergence of the model's own prediction from it, in nats, `rank` of the token that the model
    predicts in the end (0: first). `checks`: the last row against the model's logits.
    """

    subject: str
    sha256: str
    prompt: str
    tokens: list[str]
    top: list[list[str]]
    prob: np.ndarray
    kl: np.ndarray
    rank: np.ndarray
    kind: str
    checks: dict[str, float] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row a layer and position."""
        row, pos = np.indices(self.prob.shape).reshape(2, -1)
        top = [self.top[i][j] for i, j in zip(row, pos, strict=True)]
        columns = {"row": row, "pos": pos, "token": [self.tokens[j] for j in pos], "top": top}
        return pd.DataFrame({**columns, "prob": self.prob.ravel(), "kl": self.kl.ravel(), "rank": self.rank.ravel()})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}


@torch.no_grad()
def lens(subject: Subject, prompt: str) -> Lens:
    """The logit lens of a prompt, every layer and position. Raises `WorkbenchError` where `encode` does."""
    ids = subject.encode(prompt)
    packed = engine(subject)
    run = packed.record(ids)
    final = subject.model(ids).logits[0]
    log_final = final.log_softmax(-1)
    chosen = final.argmax(-1)
    top, prob, kl, rank, apart = [], [], [], [], 0.0
    for resid in run.resid:
        logits = packed.logits(resid[0])
        apart = float((logits - final).abs().max())
        logs = logits.log_softmax(-1)
        best = logs.max(-1)
        top.append(subject.tokens(best.indices))
        prob.append(best.values.exp().float().cpu().numpy())
        kl.append((log_final.exp() * (log_final - logs)).sum(-1).float().cpu().numpy())
        own: Int[Tensor, " pos"] = (logits > logits.gather(-1, chosen[:, None])).sum(-1)
        rank.append(own.cpu().numpy())
    arrays = [np.stack(side) for side in (prob, kl, rank)]
    tokens = subject.tokens(ids[0])
    return Lens(subject.name, subject.hash, prompt, tokens, top, *arrays, "logit lens", {"lens": apart})
