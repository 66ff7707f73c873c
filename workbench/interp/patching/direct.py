"""Direct logit attribution: what each part of the model adds to the answer directly.

The logit difference is split into what the embedding, every head and every MLP write along its
direction, with the final norm's scale held at its value in this run: the parts add up exactly.
"""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

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

    - `heads`: `[layer, head]`
    - `mlps`: `[layer]`
    - `attention_rest`: `[layer]`, what attention adds beside its heads (biases)
    - `embedding`, and `constant` for the biases of the final norm and the unembedding
    - `total`: the sum of all of these
    - `neurons`: `[layer, neuron]`, each MLP split further, without its bias (NaN for mixtures of
        experts)
    - `checks`: the total against the model's own logit difference, neurons and bias against MLPs
    - `warnings`: how the prompt was read
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
        """The checks that failed, in words."""
        from workbench.interp.patching.checks import failed

        return failed(self.checks)

    def headline(self) -> str:
        """The result in a few words."""
        first = self.to_frame().iloc[0]
        return (
            f"{self.answer!r} against {self.wrong!r}: {self.total:+.3f} logits, "
            f"{first['contribution']:+.3f} of it from {first['part']}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per part, the largest first: `part`, `layer`, `contribution`."""
        n_layers, n_heads = self.heads.shape
        rows = [("embedding", -1, self.embedding)]
        rows += [
            (f"L{i}H{j}", i, float(self.heads[i, j]))
            for i in range(n_layers)
            for j in range(n_heads)
        ]
        rows += [(f"MLP {i}", i, float(self.mlps[i])) for i in range(n_layers)]
        frame = pd.DataFrame(rows, columns=["part", "layer", "contribution"])
        size = cast(pd.Series, frame["contribution"].abs())
        return frame.reindex(size.sort_values(ascending=False).index).reset_index(drop=True)

    def layers(self) -> pd.DataFrame:
        """One row per step from embedding to logits, in order: `part` and `contribution`."""
        rows = [("embedding", self.embedding)]
        for layer in range(len(self.mlps)):
            attention = float(self.heads[layer].sum() + self.attention_rest[layer])
            rows.append((f"attention {layer}", attention))
            rows.append((f"MLP {layer}", float(self.mlps[layer])))
        if self.constant:
            rows.append(("constant", self.constant))
        return pd.DataFrame(rows, columns=["part", "contribution"])

    def top_neurons(self, top: int = 20) -> pd.DataFrame:
        """The `top` neurons of largest absolute contribution, with `layer` and `index`."""
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
    """What each head of a layer writes into the stream, and what attention adds beside them.

    If a norm stands between attention and stream (Gemma), its scale is held at its value in this
    run; a factor (Granite) is included.

    Args:
        packed: The reader of the model.
        run: A recorded run.
        prompt: Which prompt of it.
        layer: The layer.
    """
    z = run.z[layer][prompt]
    n_pos, n_heads, d_head = z.shape
    project = packed.outputs[layer]
    # Row i holds head i alone; the last row holds nothing, so that it gives the bias.
    alone = torch.zeros(n_heads + 1, n_pos, n_heads, d_head, dtype=z.dtype, device=z.device)
    for head in range(n_heads):
        alone[head, :, head] = z[:, head]
    written = project(alone.flatten(-2))
    bias = written[-1]
    heads = written[:-1] - bias
    added = run.attn_out[layer][prompt]
    heads = _entering(packed, "attn_out", layer, heads, heads.sum(0) + bias, added)
    return heads, added - heads.sum(0)


@torch.no_grad()
def heads_at(
    packed: Reader, run: Recording, pos: int, question: Pair
) -> Float[np.ndarray, "layer head"]:
    """What each head adds, at one position, to the logit difference of the answers there.

    Args:
        packed: The reader of the model.
        run: A recorded run of one prompt.
        pos: The position.
        question: The answers.
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
    """Parts of an output (`whole`) as they enter the stream, to which all of it adds `added`."""
    _, writer = packed.writer(site, layer)
    norm = packed.norm_after(site, layer)
    if norm is None:
        return parts * writer.scale
    held = norm.held(whole, added / writer.scale)
    return norm.direction(parts) * held * writer.scale


def neuron_writes(
    packed: Reader, run: Recording, layer: int, direction: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, " neuron"], float]:
    """What each neuron of a layer, and its MLP's bias, writes along a direction at the end.

    If a norm stands between MLP and stream (Gemma), its scale is held at its value in this run. A
    mixture of experts has no neurons and gives none.

    Args:
        packed: The reader of the model.
        run: A recorded run.
        layer: The layer.
        direction: The direction in the stream.
    """
    if packed.blocks[layer].neurons is None:
        return torch.zeros(0).to(direction), 0.0
    post = run.post[layer][0, -1]
    write = packed.neurons[layer]
    added = run.mlp_out[layer][0, -1]
    bias = write(torch.zeros_like(post)[None])[0]
    norm = packed.norm_after("mlp_out", layer)
    _, writer = packed.writer("mlp_out", layer)
    along = direction * writer.scale
    offset = 0.0
    if norm is not None:
        held = norm.held(write(post[None])[0], added / writer.scale)
        offset = float(norm.offset @ along)
        along = norm.back(along) * held
    return post * _along(write, bias, along, len(post)), float(bias @ along) + offset


def _along(
    write: Any, bias: Float[Tensor, " d_model"], along: Float[Tensor, " d_model"], n: int
) -> Float[Tensor, " neuron"]:
    """Each neuron's output weights along a direction.

    Args:
        write: The module that writes the neurons.
        bias: What it writes without any.
        along: The direction.
        n: Neurons.
    """
    if not (write._forward_hooks or write._forward_pre_hooks):  # these may change what it writes
        if type(write) is nn.Linear:
            return along @ write.weight
        if type(write) is Conv1D:
            return write.weight @ along
    one_neuron_each = torch.eye(n).to(bias)  # 512 at a time to spare memory
    return torch.cat([(write(rows) - bias) @ along for rows in one_neuron_each.split(512)])


def answer_direction(
    packed: Reader, final: Float[Tensor, " d_model"], question: Pair
) -> tuple[Float[Tensor, " d_model"], float]:
    """The direction in the last stream, and a constant, that give the logit difference.

    The stream's dot product with the direction, plus the constant, is the logit difference. The
    final norm is linear once its size is fixed: an RMS norm stretches each number, a layer norm
    also centres. A norm of another kind would leave the sum of the parts off, which `checks` shows.

    Args:
        packed: The reader of the model.
        final: The stream after the last layer at the position of the answer.
        question: The answers.
    """
    weight = packed.unembed.weight
    bias = packed.unembed.bias
    answers = torch.tensor(question.answers, device=final.device)
    wrongs = torch.tensor(question.wrongs, device=final.device)
    column = weight[answers].mean(0) - weight[wrongs].mean(0)
    constant = 0.0 if bias is None else float(bias[answers].mean() - bias[wrongs].mean())
    norm = packed.final_norm
    scale = packed.stream.logit_scale
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
    """The clean run's logit difference, split into what every part writes.

    Args:
        subject: The model.
        clean: The prompt.
        corrupted: Optional corrupted prompt, only checked against `clean`. Must tokenize to the
            same length.
        answer: The right answer, one token.
        wrong: The wrong answer, one token.
        strict: Raise if the parts do not add up.

    Raises:
        WorkbenchError: Prompts or answers do not fit, or, with `strict`, the parts do not add up.
    """
    subject = cast(Subject, subject)
    question = (
        pair(subject, clean, corrupted, answer, wrong)
        if corrupted
        else single(subject, clean, answer, wrong)
    )
    if not question.wrongs:
        raise WorkbenchError("A logit difference has two sides; give a wrong answer, of one token.")
    notices = subject.notices(clean, answers=[answer, wrong])
    result = attribute(subject, question)
    must_hold(result.checks, strict)
    return replace(result, prompt=clean, answer=answer, wrong=wrong, warnings=notices)


@torch.no_grad()
def attribute(
    subject: Subject,
    question: Pair,
    run: Recording | None = None,
    logits: Float[Tensor, "1 pos vocab"] | None = None,
) -> Direct:
    """Like `direct`, for prompts that are tokenized already; leaves prompt and answers empty.

    Args:
        subject: The model.
        question: The prompts and answers.
        run: The reader's recording whose first prompt is the clean one; None records it.
        logits: The model's own logits on the clean prompt; None computes them.
    """
    packed = reader(subject)
    packed.need_end()
    run = run or packed.record(question.clean[None])
    direction, constant = answer_direction(packed, run.resid[-1][0, -1], question)
    heads: list[Tensor] = []
    rest: list[Tensor] = []
    mlps: list[Tensor] = []
    neurons: list[Tensor] = []
    neurons_off = 0.0
    for layer in range(len(packed.blocks)):
        writes, others = head_writes(packed, run, 0, layer)
        heads.append(writes[:, -1] @ direction)
        rest.append(others[-1] @ direction)
        mlp_out = run.resid[layer + 1] - run.resid[layer] - run.attn_out[layer]
        mlps.append(mlp_out[0, -1] @ direction)
        by_neuron, bias = neuron_writes(packed, run, layer, direction)
        neurons.append(by_neuron)
        if len(by_neuron):
            neurons_off = max(neurons_off, abs(float(by_neuron.sum() + bias - mlps[-1])))
    embedding = float(run.resid[0][0, -1] @ direction)
    total = embedding + constant + sum(_total(side) for side in (heads, rest, mlps))
    # Layers of different widths (experts have no neurons) share an array, NaN where there is none.
    width = max(len(layer) for layer in neurons)
    padded = [F.pad(layer, (0, width - len(layer)), value=float("nan")) for layer in neurons]
    if packed.softcap is not None:  # contributions add up to what the cap is put on
        uncapped = packed.unembed(packed.norm(run.resid[-1][:1, -1:]))[0, 0]
        ends = uncapped * packed.stream.logit_scale
    elif logits is None:
        ends = subject.model(question.clean[None]).logits[0, -1]
    else:
        ends = logits[0, -1]
    wanted = float(ends[list(question.answers)].mean() - ends[list(question.wrongs)].mean())
    return Direct(
        subject=subject.name,
        sha256=subject.hash,
        prompt="",
        answer="",
        wrong="",
        tokens=subject.tokens(question.clean),
        heads=_array(heads),
        mlps=_array(mlps),
        attention_rest=_array(rest),
        neurons=_array(padded),
        embedding=embedding,
        constant=constant,
        total=total,
        checks={"direct_sum": abs(total - wanted), "neuron_sum": neurons_off},
    )


def _array(layers: list[Tensor]) -> np.ndarray:
    return torch.stack(layers).cpu().numpy()


def _total(layers: list[Tensor]) -> float:
    """The sum over all layers, in double precision."""
    return float(_array(layers).sum(dtype=np.float64))
