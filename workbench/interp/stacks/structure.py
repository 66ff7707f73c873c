"""What an encoder or encoder-decoder is built of, found out by one short run and not by names.

The lengths of queries and keys say which attention a call is: text to text (encoder), written to
written (decoder), written to text (cross). The linear layer called right after an attention is its
output projection, the last one of a block is its MLP's. A block of a *pre-norm* model (T5) adds
what attention and MLP give to its stream; one of a *post-norm* model (BERT) norms the sum, so the
stream between the two is that norm's output.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.interp.stacks.attending import touched
from workbench.subjects.stream import first

SOURCE = 5
TARGET = 3
"""Tokens of the trial's two texts; different, so that the lengths tell the attentions apart."""
ENCODER = "encoder"
DECODER = "decoder"
CROSS = "cross"
NEAR = 1e-4
"""Share of the largest number that counts as rounding."""


@dataclass(frozen=True)
class Layer:
    """One attention with the block around it; modules are None where they were not found.

    - `out`: the output projection of this attention
    - `mid`: the norm whose output is the stream after it (post-norm); None for a plain sum
    - `mlp`: the last linear layer of the block's MLP
    """

    part: str
    layer: int
    block: nn.Module | None
    out: nn.Module | None
    mid: nn.Module | None
    mlp: nn.Module | None


@dataclass(frozen=True)
class Reading:
    """How logits are read off the last stream; unknown where there is neither head nor norm.

    - `head`: a module that gives the logits
    - `norm`, `scale`: else a module, and a factor, before the unembedding
    """

    head: nn.Module | None = None
    norm: nn.Module | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Structure:
    """The attentions of a model in the order of their calls, and how its blocks add up.

    - `sums`: whether blocks add attention and MLP to their stream (pre-norm)
    - `end`: how logits are read off the last stream
    """

    layers: tuple[Layer, ...]
    sums: bool
    end: Reading

    def of(self, part: str) -> list[Layer]:
        """The layers of a part."""
        return [layer for layer in self.layers if layer.part == part]


Event = tuple[str, str, Tensor | None, Tensor | None]
"""("in", "out" or "attention"; the module's path or the call's number; tensor in; tensor out)."""


@dataclass
class _Trial:
    """The events of the trial, in order."""

    events: list[Event] = field(default_factory=list)


def inputs_of(model: Any, ids: Tensor, target: Tensor | None) -> dict[str, Any]:
    """The arguments of a run: the text, and what the decoder, if there is one, has written."""
    given = {"input_ids": ids}
    if target is None:
        return given
    return {**given, "decoder_input_ids": target, "use_cache": False}


@torch.no_grad()
def structure_of(model: PreTrainedModel, name: str) -> Structure:
    """The structure of a model whose attention was put in by `attending.put_in`.

    Args:
        model: An encoder or an encoder-decoder.
        name: The model in words, for errors.

    Raises:
        WorkbenchError: Its attention does not pass through transformers' interface.
    """
    trial, shapes, logits = _tried(model)
    kinds = {(SOURCE, SOURCE): ENCODER, (TARGET, TARGET): DECODER, (TARGET, SOURCE): CROSS}
    parts = [kinds.get(shape, "") for shape in shapes]
    expected = {ENCODER, DECODER, CROSS} if model.config.is_encoder_decoder else {ENCODER}
    if set(parts) != expected:
        raise WorkbenchError(
            f"{name} attends in a way that is not known here, so its patterns and activations "
            "cannot be read; choose a BERT or a T5."
        )
    numbers = [parts[:i].count(part) for i, part in enumerate(parts)]
    blocks = _blocks(model, parts, numbers, trial)
    names = {module: path for path, module in model.named_modules()}
    sums = all(_adds_up(model, names[block], trial) for block in blocks if block is not None)
    layers = []
    for i, (part, number) in enumerate(zip(parts, numbers, strict=True)):
        block = blocks[i]
        modules = {} if block is None else _inside(model, names[block], i, trial, sums)
        layers.append(
            Layer(part, number, block, **{"out": None, "mid": None, "mlp": None, **modules})
        )
    last = layers[-1].block
    end = Reading() if last is None else _reading(model, names[last], trial, logits)
    return Structure(tuple(layers), sums, end)


def _tried(model: Any) -> tuple[_Trial, list[tuple[int, int]], Tensor]:
    """One run with every module's calls, the lengths of each attention, and the logits."""
    trial = _Trial()
    shapes: list[tuple[int, int]] = []

    def touch(call: int, what: str, x: Tensor) -> Tensor:
        if what == "pattern":
            shapes.append((x.shape[-2], x.shape[-1]))
        if what == "z":
            trial.events.append(("attention", str(call), None, x))
        return x

    def entering(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple, kwargs: dict) -> None:
            given = next((x for x in (*args, *kwargs.values()) if torch.is_tensor(x)), None)
            trial.events.append(("in", path, given, None))

        return hook

    def leaving(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
            given = next((x for x in (*args, *kwargs.values()) if torch.is_tensor(x)), None)
            value = first(out)
            taken = value if isinstance(value, Tensor) else None
            trial.events.append(("out", path, given, taken))

        return hook

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(entering(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leaving(path), with_kwargs=True))
    n_rows = model.get_input_embeddings().weight.shape[0]
    source = (torch.arange(1, SOURCE + 1, device=model.device) % n_rows)[None]
    target = source[:, :TARGET] if model.config.is_encoder_decoder else None
    try:
        with touched(touch):
            logits = model(**inputs_of(model, source, target)).logits
    finally:
        for handle in handles:
            handle.remove()
    return trial, shapes, logits


def _blocks(
    model: nn.Module, parts: list[str], numbers: list[int], trial: _Trial
) -> list[nn.Module | None]:
    """The block of each attention: item i of the outermost list whose item i holds attention i.

    None for all of a part where there is no such list, as where layers share their weights.
    """
    open_paths: list[str] = []
    around: list[list[str]] = []
    for kind, path, _, _ in trial.events:
        if kind == "in":
            open_paths.append(path)
        elif kind == "out":
            open_paths.remove(path)
        else:
            around.append(list(open_paths))
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    blocks: list[nn.Module | None] = [None] * len(parts)
    for part in set(parts):
        calls = [i for i, each in enumerate(parts) if each == part]
        for name in lists:
            if all(f"{name}.{numbers[i]}" in around[i] for i in calls):
                for i in calls:
                    blocks[i] = model.get_submodule(f"{name}.{numbers[i]}")
                break
    return blocks


def _between(path: str, trial: _Trial) -> list[Event]:
    """The events from a module's call to its return."""
    start = next(i for i, event in enumerate(trial.events) if event[:2] == ("in", path))
    end = next(i for i, event in enumerate(trial.events) if event[:2] == ("out", path))
    return trial.events[start : end + 1]


def _is_linear(model: nn.Module, path: str) -> bool:
    weight = getattr(model.get_submodule(path), "weight", None)
    return not isinstance(model.get_submodule(path), nn.Embedding) and (
        isinstance(weight, Tensor) and weight.ndim == 2
    )


@dataclass(frozen=True)
class _Written:
    """The linear layers of a block that write: each attention's projection by its call, the MLP's.

    With the outputs that they gave in the trial.
    """

    outs: dict[int, tuple[str, Tensor]]
    mlp: tuple[str, Tensor] | None


def _written(model: nn.Module, path: str, trial: _Trial) -> _Written:
    outs: dict[int, tuple[str, Tensor]] = {}
    waiting: int | None = None
    mlp: tuple[str, Tensor] | None = None
    for kind, name, _, value in _between(path, trial):
        if kind == "attention":
            waiting = int(name)
        elif kind == "out" and value is not None and _is_linear(model, name):
            if waiting is not None:
                outs[waiting] = (name, value)
                waiting = None
            else:
                mlp = (name, value)
    return _Written(outs, mlp)


def _adds_up(model: nn.Module, path: str, trial: _Trial) -> bool:
    """Whether a block's output is its input plus what its attentions and its MLP gave."""
    events = _between(path, trial)
    before = events[0][2]
    after = events[-1][3]
    written = _written(model, path, trial)
    if before is None or after is None or written.mlp is None:
        return False
    total = before
    for _, value in (written.mlp, *written.outs.values()):
        if value.shape != before.shape or after.shape != before.shape:
            return False
        total = total + value
    return torch.allclose(total, after, atol=NEAR * float(after.abs().max()))


def _inside(
    model: nn.Module, path: str, call: int, trial: _Trial, sums: bool
) -> dict[str, nn.Module | None]:
    """The modules of one attention and of its block's MLP; see `Layer`."""
    written = _written(model, path, trial)
    out = written.outs.get(call)
    mid = None
    if out is not None and not sums:
        mid = _norm_of_sum(model, path, out, trial)
    return {
        "out": None if out is None else model.get_submodule(out[0]),
        "mid": mid,
        "mlp": None if written.mlp is None else model.get_submodule(written.mlp[0]),
    }


def _norm_of_sum(
    model: nn.Module, path: str, out: tuple[str, Tensor], trial: _Trial
) -> nn.Module | None:
    """The norm that reads the stream plus an attention's output, in a post-norm block."""
    events = _between(path, trial)
    after = events[next(i for i, event in enumerate(events) if event[:2] == ("out", out[0])) :]
    streams = [event[3] for event in events if event[0] == "out" and event[3] is not None]
    streams = [events[0][2], *streams]
    for kind, name, given, value in after:
        if kind != "out" or given is None or value is None or _is_linear(model, name):
            continue
        sums = (stream + out[1] for stream in streams if _same_shape(stream, out[1]))
        if given.shape == out[1].shape and any(torch.allclose(given, one) for one in sums):
            return model.get_submodule(name)
    return None


def _same_shape(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.shape == other.shape


def _reading(model: Any, path: str, trial: _Trial, logits: Tensor) -> Reading:
    """How logits are read off the last stream, which leaves the block at a path."""
    end = _between(path, trial)[-1][3]
    limit = NEAR * float(logits.abs().max())
    unembed = model.get_output_embeddings()
    for kind, name, given, value in trial.events:
        if kind != "out" or given is None or value is None or end is None:
            continue
        if given.shape != end.shape or not torch.equal(given, end):
            continue
        if value.shape == logits.shape and torch.equal(value, logits):
            return Reading(head=model.get_submodule(name))
        if value.shape == end.shape and unembed is not None:
            read = unembed(value).double()
            scale = float((read * logits).sum() / read.square().sum().clamp_min(1e-300))
            scale = min(_factors(model), key=lambda factor: abs(factor - scale))
            if bool((read * scale - logits).abs().max() <= limit):
                return Reading(norm=model.get_submodule(name), scale=scale)
    return Reading()


def _factors(model: Any) -> list[float]:
    """Factors that may stand before the unembedding: none, or T5's for tied embeddings."""
    return [1.0, model.config.hidden_size**-0.5]
