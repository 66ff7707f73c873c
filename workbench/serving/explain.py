"""Why each generated token came: rivals, attribution over the text before it, what each layer says, which heads wrote.

One pass over the whole text gives rivals and lens for every token; heads and attribution take a pass a token.
"""

from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.packed import reader
from workbench.interp.patching.direct import attribute
from workbench.interp.prompts.pairs import Pair
from workbench.serving.fields import Explain
from workbench.serving.shapes import label
from workbench.subjects import Subject

UNITS = {
    "top": "log-probability, nats",
    "attribution": "gradient of the token's log-probability times its embedding less the mean embedding, nats "
    "(first order: it need not add up)",
    "lens": "probability of the token in the stream after each layer, the embedding first",
    "heads": "direct contribution to the token's logit less the logit of `against`, the likeliest other token",
}


def explained(subject: Subject, ids: list[int], n_prompt: int, said: Explain) -> dict[str, Any]:
    """The first generated tokens of a text, each with its reasons.

    Raises `WorkbenchError` for a model whose streams cannot be read.
    """
    packed = reader(subject)
    packed.need_end()
    text = torch.tensor(ids, device=subject.device)
    run = packed.record(text[None])
    tokens = []
    for at in range(n_prompt, min(len(ids), n_prompt + said.tokens)):
        token = ids[at]
        logs = run.logits[0, at - 1].float().log_softmax(-1)
        rivals = logs.topk(min(said.top + 1, len(logs))).indices.tolist()
        against = next(other for other in rivals if other != token)
        tokens.append(
            {
                "position": at,
                "token": token,
                "text": label(subject.tokenizer, token),
                "logprob": float(logs[token]),
                "top": [_of(subject, other, float(logs[other])) for other in rivals[: said.top]],
                "attribution": _attribution(subject, text[:at], token),
                "lens": _lens(subject, packed, [resid[0, at - 1] for resid in run.resid], token),
                "against": label(subject.tokenizer, against),
                "heads": _heads(subject, text[:at], token, against, said.top),
            }
        )
    return {
        "units": UNITS,
        "prompt_tokens": [label(subject.tokenizer, token) for token in ids[:n_prompt]],
        "tokens": tokens,
        "left_out": max(0, len(ids) - n_prompt - said.tokens),
    }


def _of(subject: Subject, token: int, value: float) -> dict[str, Any]:
    return {"token": token, "text": label(subject.tokenizer, token), "logprob": value}


def _attribution(subject: Subject, before: Tensor, token: int) -> list[float]:
    """What each token before adds to the log-probability, to first order."""
    embed: Any = subject.model.get_input_embeddings()
    with torch.enable_grad():
        at = embed(before).detach()[None].requires_grad_()
        logits = subject.model(inputs_embeds=at, use_cache=False).logits[0, -1]
        (gradient,) = torch.autograd.grad(logits.float().log_softmax(-1)[token], at)
    mean = embed.weight.detach().mean(0)
    return (gradient[0] * (at.detach()[0] - mean)).sum(-1).tolist()


@torch.no_grad()
def _lens(subject: Subject, packed: Any, streams: list[Tensor], token: int) -> list[dict[str, Any]]:
    """What the stream says after each layer."""
    found = []
    for layer, logits in enumerate(packed.logits(torch.stack(streams))):
        probabilities = logits.float().softmax(-1)
        best = int(probabilities.argmax())
        found.append(
            {"after_layers": layer, "probability": float(probabilities[token]), "top": label(subject.tokenizer, best)}
        )
    return found


def _heads(subject: Subject, before: Tensor, token: int, against: int, top: int) -> list[dict[str, Any]]:
    """The heads that contribute most, in either direction; [] for a model whose heads cannot be told apart."""
    try:
        heads = attribute(subject, Pair(before, before, (token,), (against,))).heads
    except WorkbenchError:
        return []
    order = abs(heads).ravel().argsort()[::-1][:top]
    places = [divmod(int(place), heads.shape[1]) for place in order]
    return [{"head": f"L{layer}H{head}", "contribution": float(heads[layer, head])} for layer, head in places]
