"""Why each generated token came: alternatives, input attribution, logit lens and heads.

One pass over the text gives alternatives, lens and heads of every token; attribution takes one
gradient per token.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.packed import reader
from workbench.interp.engine.reader import Reader
from workbench.interp.patching.direct import heads_at
from workbench.interp.prompts.pairs import Pair
from workbench.serving.fields import Explain
from workbench.serving.shapes import label
from workbench.subjects import Subject

UNITS = {
    "top": "log-probability, nats",
    "attribution": (
        "gradient of the token's log-probability times its embedding less the mean "
        "embedding, nats (first order: it need not add up)"
    ),
    "lens": "probability of the token in the stream after each layer, the embedding first",
    "heads": (
        "direct contribution to the token's logit less the logit of `against`, the likeliest "
        "other token"
    ),
}


@dataclass
class Reading:
    """One pass over a text.

    - `run`: the recorded activations
    - `entered`: the token embeddings `[1, pos, d_model]`, with gradient
    """

    subject: Subject
    packed: Reader
    ids: list[int]
    run: Recording
    entered: Tensor


def explained(subject: Subject, ids: list[int], n_prompt: int, settings: Explain) -> dict[str, Any]:
    """The first generated tokens of a text, each with its reasons, as JSON values.

    Args:
        subject: The model that generated them.
        ids: Prompt and answer.
        n_prompt: How many of them are the prompt.
        settings: How many tokens to explain, and how many alternatives and heads each.

    Raises:
        WorkbenchError: For a model whose residual stream cannot be read.
    """
    stop = min(len(ids), n_prompt + settings.tokens)
    reading = _read(subject, ids[:stop])
    return {
        "units": UNITS,
        "prompt_tokens": [label(subject.tokenizer, token) for token in ids[:n_prompt]],
        "tokens": [_reasons(reading, at, settings.top) for at in range(n_prompt, stop)],
        "left_out": len(ids) - stop,
    }


def _read(subject: Subject, ids: list[int]) -> Reading:
    packed = reader(subject)
    packed.need_end()
    text = torch.tensor(ids, device=subject.device)[None]
    embed: Any = subject.model.get_input_embeddings()
    with torch.enable_grad():
        entered = embed(text).detach().requires_grad_()
        run = packed.trace(text, entered)
    return Reading(subject, packed, ids, run, entered)


def _reasons(reading: Reading, at: int, top: int) -> dict[str, Any]:
    """Why the token at a position came."""
    subject = reading.subject
    token = reading.ids[at]
    logs = reading.run.logits[0, at - 1].float().log_softmax(-1)
    known = logs.detach()
    rivals = known.topk(min(top + 1, len(known))).indices.tolist()
    against = next(other for other in rivals if other != token)
    return {
        "position": at,
        "token": token,
        "text": label(subject.tokenizer, token),
        "logprob": float(known[token]),
        "top": [_of(subject, other, float(known[other])) for other in rivals[:top]],
        "attribution": _attribution(reading, logs[token], at),
        "lens": _lens(reading, at, token),
        "against": label(subject.tokenizer, against),
        "heads": _heads(reading, at, token, against, top),
    }


def _of(subject: Subject, token: int, value: float) -> dict[str, Any]:
    return {"token": token, "text": label(subject.tokenizer, token), "logprob": value}


def _attribution(reading: Reading, logprob: Tensor, at: int) -> list[float]:
    """What each earlier token adds to the log-probability, to first order (gradient x input)."""
    embed: Any = reading.subject.model.get_input_embeddings()
    (gradient,) = torch.autograd.grad(logprob, reading.entered, retain_graph=True)
    offset = reading.entered.detach()[0, :at] - embed.weight.detach().mean(0)
    return (gradient[0, :at] * offset).sum(-1).tolist()


@torch.no_grad()
def _lens(reading: Reading, at: int, token: int) -> list[dict[str, Any]]:
    """The logit lens of the residual stream after each layer."""
    streams = torch.stack([resid[0, at - 1] for resid in reading.run.resid])
    layers = []
    for layer, logits in enumerate(reading.packed.logits(streams)):
        probabilities = logits.float().softmax(-1)
        best = int(probabilities.argmax())
        text = label(reading.subject.tokenizer, best)
        layers.append(
            {"after_layers": layer, "probability": float(probabilities[token]), "top": text}
        )
    return layers


def _heads(reading: Reading, at: int, token: int, against: int, top: int) -> list[dict[str, Any]]:
    """The heads with the largest direct contributions of either sign; [] if heads cannot be split.

    A contribution is to the logit of `token` minus that of `against`.
    """
    before = torch.tensor(reading.ids[:at], device=reading.subject.device)
    try:
        heads = heads_at(
            reading.packed, reading.run, at - 1, Pair(before, before, (token,), (against,))
        )
    except WorkbenchError:
        return []
    order = np.abs(heads).ravel().argsort()[::-1][:top]
    places = [divmod(int(place), heads.shape[1]) for place in order]
    return [
        {"head": f"L{layer}H{head}", "contribution": float(heads[layer, head])}
        for layer, head in places
    ]
