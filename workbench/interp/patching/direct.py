"""What each part adds to the answer directly.

*Direct logit attribution* splits the logit difference into what the embedding, every head and every
    MLP write along
its direction, the final norm's scale held at its value in this run: the parts add up exactly.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.packed import reader
from workbench.interp.engine.reader import Reader
from workbench.interp.patching.trust import must_hold
from workbench.interp.prompts.pairs import Pair, pair, single
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class Direct(Record):
    """Direct contributions to the logit difference at the last position, in logits.

    `heads` is `[layer, head]`, `mlps` `[layer]`, `attention_rest` what attention adds that is no
    head's (biases), `embedding` and `constant` (the final norm's and the unembedding's bias) the
    rest; their sum is `total`. `neurons` `[layer, neuron]` splits each MLP further, but for its
    bias (NaN in layers of experts, which have none).
    `checks`: the sum against the model's own logit difference, and neurons and bias against their
        MLP. `warnings` say
    how the prompt was read.
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
    neurons: np.ndarray
    embedding: float
    constant: float
    total: float
    checks: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def failed_checks(self) -> list[str]:
        """The checks that did not hold, in words."""
        from workbench.interp.patching.checks import failed

        return failed(self.checks)

    def headline(self) -> str:
        """What was found, in a few words."""
        first = self.to_frame().iloc[0]
        return (
            f"{self.answer!r} against {self.wrong!r}: {self.total:+.3f} logits, "
            f"{first['contribution']:+.3f} of it from {first['part']}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a part, the largest first: `part`, `layer`, `contribution`."""
        n_layers, n_heads = self.heads.shape
        rows = [("embedding", -1, self.embedding)]
        rows += [
            (f"L{i}H{j}", i, float(self.heads[i, j]))
            for i in range(n_layers)
            for j in range(n_heads)
        ]
        rows += [(f"MLP {i}", i, float(self.mlps[i])) for i in range(n_layers)]
        frame = pd.DataFrame(rows, columns=["part", "layer", "contribution"])
        return frame.reindex(
            frame["contribution"].abs().sort_values(ascending=False).index
        ).reset_index(drop=True)

    def layers(self) -> pd.DataFrame:
        """One row a step from the embedding to the answer, in order: `part` and `contribution`;
        they add up.
        """
        rows = [("embedding", self.embedding)]
        for layer, (heads, rest, mlp) in enumerate(
            zip(self.heads, self.attention_rest, self.mlps, strict=True)
        ):
            rows += [
                (f"attention {layer}", float(heads.sum() + rest)),
                (f"MLP {layer}", float(mlp)),
            ]
        rows += [("constant", self.constant)] if self.constant else []
        return pd.DataFrame(rows, columns=["part", "contribution"])

    def top_neurons(self, top: int = 20) -> pd.DataFrame:
        """The neurons that add most, in either direction: `neuron`, `layer`, `index`,
        `contribution`.
        """
        order = np.nan_to_num(np.abs(self.neurons)).ravel().argsort()[::-1][:top]
        layer, index = np.unravel_index(order, self.neurons.shape)
        names = [f"L{i}N{j}" for i, j in zip(layer, index, strict=True)]
        columns = {
            "neuron": names,
            "layer": layer,
            "index": index,
            "contribution": self.neurons[layer, index],
        }
        return pd.DataFrame(columns)


def head_writes(
    packed: Reader, run: Recording, prompt: int, layer: int
) -> tuple[Float[Tensor, "head pos d_model"], Float[Tensor, "pos d_model"]]:
    """What each head of a layer writes into the stream, and what attention adds besides (biases).

    Where a norm stands between attention and stream (Gemma), its scale is held at its value in this
    run; a factor (Granite) is in it.
    """
    z = run.z[layer][prompt]
    n_pos, n_heads, d_head = z.shape
    project = packed.outputs[layer]
    alone = torch.zeros(n_heads + 1, n_pos, n_heads, d_head, dtype=z.dtype, device=z.device)
    for head in range(n_heads):
        alone[head, :, head] = z[:, head]
    written = project(alone.flatten(-2))
    bias = written[-1]
    heads, added = written[:-1] - bias, run.attn_out[layer][prompt]
    heads = _entering(packed, "attn_out", layer, heads, heads.sum(0) + bias, added)
    return heads, added - heads.sum(0)


@torch.no_grad()
def heads_at(
    packed: Reader, run: Recording, pos: int, question: Pair
) -> Float[np.ndarray, "layer head"]:
    """What each head of a recorded run adds, at one position, to the logit difference of the
    answers there.
    """
    here = replace(
        run,
        z=[z[:1, pos : pos + 1] for z in run.z],
        attn_out=[a[:1, pos : pos + 1] for a in run.attn_out],
    )
    direction, _ = answer_direction(packed, run.resid[-1][0, pos], question)
    rows = [
        head_writes(packed, here, 0, layer)[0][:, 0] @ direction
        for layer in range(len(packed.blocks))
    ]
    return torch.stack(rows).float().cpu().numpy()


def _entering(
    packed: Reader, site: str, layer: int, parts: Tensor, whole: Tensor, added: Tensor
) -> Float[Tensor, "part pos d_model"]:
    """Parts of what attention or MLP gives (`whole`) as they enter the stream, to which they add
    `added`.
    """
    _, writer = packed.writer(site, layer)
    norm = packed.norm_after(site, layer)
    if norm is None:
        return parts * writer.scale
    held = norm.held(whole, added / writer.scale)
    return norm.direction(parts) * held * writer.scale


def neuron_writes(
    packed: Reader, run: Recording, layer: int, direction: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, " neuron"], float]:
    """What each neuron of a layer writes along a direction at the last position, and what the MLP's
    bias does.

    Where a norm stands between MLP and stream (Gemma), its scale is held at its value in this run.
    A layer of experts
    has no neurons: it gives none.
    """
    if packed.blocks[layer].neurons is None:
        return torch.zeros(0).to(direction), 0.0
    post, write = run.post[layer][0, -1], packed.neurons[layer]
    added = run.mlp_out[layer][0, -1]
    bias = write(torch.zeros_like(post)[None])[0]
    norm, (_, writer) = packed.norm_after("mlp_out", layer), packed.writer("mlp_out", layer)
    along, offset = direction * writer.scale, 0.0
    if norm is not None:
        held = norm.held(write(post[None])[0], added / writer.scale)
        offset = float(norm.offset @ along)
        along = norm.back(along) * held
    each = torch.cat(
        [(write(part) - bias) @ along for part in torch.eye(len(post)).to(post).split(512)]
    )
    return post * each, float(bias @ along) + offset


def answer_direction(
    packed: Reader, final: Float[Tensor, " d_model"], question: Pair
) -> tuple[Float[Tensor, " d_model"], float]:
    """The direction in the last stream whose product with it, plus a constant, is the logit
    difference.

    The final norm is linear once its size is fixed: an RMS norm stretches each number, a layer norm
    also centres. What the norm does is asked of it; the size is one number, so a norm of another
    kind leaves the parts' sum off.
    """
    weight, bias = packed.unembed.weight, packed.unembed.bias
    sides = [
        torch.tensor(side, device=final.device) for side in (question.answers, question.wrongs)
    ]
    column = weight[sides[0]].mean(0) - weight[sides[1]].mean(0)
    constant = 0.0 if bias is None else float(bias[sides[0]].mean() - bias[sides[1]].mean())
    norm, scale = packed.final_norm, packed.stream.logit_scale
    held = norm.held(final, packed.norm(final[None, None])[0, 0])
    return norm.back(column) * held * scale, (constant + float(norm.offset @ column)) * scale


@public("subject")
@own_modes
def direct(
    subject: SubjectOrName,
    clean: str,
    corrupted: str = "",
    *,
    answer: str,
    wrong: str,
    strict: bool = False,
) -> Direct:
    """Split the clean run's logit difference into what every part writes.

    The corrupted prompt, where there is one, is only checked against the clean one. Raises
    `WorkbenchError` as `pair` does, and, where `strict`, for a sum that is off.
    """
    question = (
        pair(subject, clean, corrupted, answer, wrong)
        if corrupted
        else single(subject, clean, answer, wrong)
    )
    if not question.wrongs:
        raise WorkbenchError("A logit difference has two sides; give a wrong answer, of one token.")
    notices = subject.notices(clean, answers=[answer, wrong])
    found = attribute(subject, question)
    must_hold(found.checks, strict)
    return replace(found, prompt=clean, answer=answer, wrong=wrong, warnings=notices)


@torch.no_grad()
def attribute(subject: Subject, question: Pair) -> Direct:
    """`direct` for prompts that are tokenised already; it gives no words."""
    packed = reader(subject)
    packed.need_end()
    run = packed.record(question.clean[None])
    direction, constant = answer_direction(packed, run.resid[-1][0, -1], question)
    heads, rest, mlps, neurons = [], [], [], []
    off = 0.0
    for layer in range(len(packed.blocks)):
        writes, more = head_writes(packed, run, 0, layer)
        heads.append(writes[:, -1] @ direction)
        rest.append(more[-1] @ direction)
        mlps.append(
            (run.resid[layer + 1] - run.resid[layer] - run.attn_out[layer])[0, -1] @ direction
        )
        each, bias = neuron_writes(packed, run, layer, direction)
        neurons.append(each)
        if len(each):
            off = max(off, abs(float(each.sum() + bias - mlps[-1])))
    embedding = float(run.resid[0][0, -1] @ direction)
    width = max(len(side) for side in neurons)
    neurons = [
        torch.nn.functional.pad(side, (0, width - len(side)), value=float("nan"))
        for side in neurons
    ]
    parts = [torch.stack(side).cpu().numpy() for side in (heads, rest, mlps, neurons)]
    total = embedding + constant + float(sum(part.sum(dtype=np.float64) for part in parts[:3]))
    if packed.softcap is None:
        logits = subject.model(question.clean[None]).logits[0, -1]
    else:  # what the cap is put on: contributions add up before it
        logits = (
            packed.unembed(packed.norm(run.resid[-1][:, -1:]))[0, 0] * packed.stream.logit_scale
        )
    wanted = float(logits[list(question.answers)].mean() - logits[list(question.wrongs)].mean())
    return Direct(
        subject.name,
        subject.hash,
        "",
        "",
        "",
        subject.tokens(question.clean),
        parts[0],
        parts[2],
        parts[1],
        parts[3],
        embedding,
        constant,
        total,
        {"direct_sum": abs(total - wanted), "neuron_sum": off},
    )
