"""What the field `workbench` adds to an answer: activations, and why each token came."""

import base64
from collections.abc import Sequence
from typing import Any

import torch
from anyio import to_thread
from safetensors.torch import save

from workbench.errors import WorkbenchError
from workbench.generation import Completion
from workbench.serving.explain import explained
from workbench.serving.fields import Capture, Extra
from workbench.serving.limits import ApiError
from workbench.serving.models import Served

STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("q", "k", "v", "z", "pattern")
NEURONS = ("pre", "post")
MOST_BYTES = 16 << 20
"""Maximum of activations in one answer."""


async def looked_inside(
    extra: Extra | None,
    served: Served,
    prompts: Sequence[list[int]],
    completions: Sequence[tuple[int, Completion]],
) -> dict[str, Any]:
    """The activations and explanations that a request asks for, by name; {} for none.

    Args:
        extra: The field `workbench` of the request.
        served: The model.
        prompts: Token ids of the request's prompts.
        completions: The completions, each with the index of its prompt; the first one is read.

    Raises:
        ApiError: For what the model does not have, or too many activations.
    """
    if extra is None or not (extra.capture or extra.explain):
        return {}
    at, completion = completions[0]
    ids = [*prompts[at], *completion.ids]
    readings: dict[str, Any] = {}
    if extra.capture:
        readings["capture"] = await _read(
            "workbench.capture", _captured, served, ids, extra.capture
        )
    if extra.explain:
        readings["explain"] = await _read(
            "workbench.explain", explained, served, ids, len(prompts[at]), extra.explain
        )
    return readings


def check_one(extra: Extra | None, n: int, stream: bool) -> None:
    """Raise `ApiError`, before generation, for readings of a stream or of several texts.

    Args:
        extra: The field `workbench` of the request.
        n: How many texts the request asks for.
        stream: Whether the answer is streamed.
    """
    for name in ("capture", "explain"):
        if extra is None or getattr(extra, name) is None:
            continue
        if stream:
            raise ApiError(
                400,
                f"{name} comes with a whole answer; do not stream it.",
                param=f"workbench.{name}",
            )
        if n != 1:
            raise ApiError(
                400,
                f"{name} is of one text; ask for one prompt and n = 1.",
                param=f"workbench.{name}",
            )


async def _read(field: str, work: Any, served: Served, *arguments: Any) -> dict[str, Any]:
    """`work(subject, *arguments)` in a thread, while no other reading uses the model."""

    def locked() -> dict[str, Any]:
        with served.lock:
            return work(served.subject, *arguments)

    try:
        return await to_thread.run_sync(locked)
    except WorkbenchError as error:
        raise ApiError(400, str(error), param=field) from error


@torch.no_grad()
def _captured(subject: Any, ids: list[int], capture: Capture) -> dict[str, Any]:
    """Activations `[pos, ...]` by TransformerLens's names, as safetensors in base64.

    For `pattern` (`[head, query, key]`) the positions are queries. Raises `WorkbenchError` for an
    unknown site, layer or position, and for more than `MOST_BYTES`.
    """
    names = {
        _name(site, layer): site for site in capture.sites for layer in _layers(subject, capture)
    }
    positions = list(range(len(ids))) if capture.positions is None else capture.positions
    if bad := [p for p in positions if not -len(ids) <= p < len(ids)]:
        raise WorkbenchError(
            f"There is no position {bad[0]}; prompt and answer have {len(ids)} tokens."
        )
    _check_size(subject, names, len(ids), len(positions))
    _, cache = subject.bridge.run_with_cache(
        torch.tensor([ids], device=subject.device), names_filter=lambda name: name in names
    )
    tensors = {}
    for name, site in names.items():
        if name not in cache:
            raise WorkbenchError(f"{subject.name} has no activation {name}.")
        value = cache[name][0]
        tensors[name] = (
            (value[:, positions] if site == "pattern" else value[positions])
            .float()
            .cpu()
            .contiguous()
        )
    data = save(tensors)
    return {
        "format": "safetensors",
        "encoding": "base64",
        "tokens": ids,
        "positions": [p % len(ids) for p in positions],
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "data": base64.b64encode(data).decode(),
    }


def _layers(subject: Any, capture: Capture) -> list[int]:
    n_layers = subject.card.n_layers
    layers = list(range(n_layers)) if capture.layers is None else capture.layers
    if bad := [layer for layer in layers if not 0 <= layer < n_layers]:
        raise WorkbenchError(
            f"{subject.name} has no layer {bad[0]}; it has layers 0 to {n_layers - 1}."
        )
    return layers


def _name(site: str, layer: int) -> str:
    """TransformerLens's full name of an activation."""
    for group, inside in ((STREAM, ""), (HEADS, "attn."), (NEURONS, "mlp.")):
        if site in group:
            return f"blocks.{layer}.{inside}hook_{site}"
    raise WorkbenchError(
        f"There is no site {site!r}; choose of {', '.join((*STREAM, *HEADS, *NEURONS))}."
    )


def _check_size(subject: Any, names: dict[str, str], n_all: int, n: int) -> None:
    """Refuse too many activations before computing them; assumes `d_mlp = 4 d_model`."""
    card = subject.card
    width = {
        **dict.fromkeys(STREAM, card.d_model),
        **dict.fromkeys(HEADS, card.n_heads * card.d_head),
        **dict.fromkeys(NEURONS, 4 * card.d_model),
        "pattern": card.n_heads * n_all,
    }
    size = sum(4 * n * width[site] for site in names.values())
    if size > MOST_BYTES:
        raise WorkbenchError(
            f"This would be {size >> 20} MiB of activations; at most {MOST_BYTES >> 20} MiB come "
            "with an answer. Name fewer sites, layers or positions."
        )
