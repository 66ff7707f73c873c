"""What enters a model's residual stream, and how its end is read: found by asking the model, not by
its name.

One run over a few tokens shows every module's output. The modules (and factors) that fill the gap
between the stream before and after a block are the ones that write into it, whatever norms or
multipliers stand in between: Gemma, OLMo 2 and EXAONE 4 norm what attention gives, Granite
multiplies it, BLOOM's attention adds the stream itself.
"""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.bridge import shared_clone
from workbench.subjects.card import within_context

N_TOKENS = 6
"""Tokens of the run that is asked."""
UNKNOWN = "writes into the residual stream in a way that is not known here"


@dataclass(frozen=True)
class Writer:
    """A module of a block whose output, times `scale`, enters the stream.

    - `module`: its path inside the block; `raw`: the path of attention or MLP itself, the same but
        for a norm after it
    - `residual`: the argument (place or name) that the output already contains, where the module
        adds the stream
    - `copies`: the model changes the output in place, so it gets a copy
    """

    module: str
    raw: str
    scale: float = 1.0
    residual: int | str | None = None
    copies: bool = False

    @property
    def normed(self) -> bool:
        """Whether a norm stands between the part and the stream."""
        return self.module != self.raw

    @property
    def plain(self) -> bool:
        """Whether the module's output is what enters the stream."""
        return self.scale == 1.0 and self.residual is None and not self.copies

    def read(self, args: tuple, kwargs: dict, out: Any) -> Tensor:
        """What enters the stream, from one call of the module."""
        value = first(out)
        if self.residual is not None:
            value = value - _argument(args, kwargs, self.residual)
        return value if self.scale == 1.0 else value * self.scale

    def write(self, value: Tensor, args: tuple, kwargs: dict, out: Any) -> Any:
        """The module's output with which `value` enters the stream."""
        value = value.reshape(first(out).shape)
        value = value if self.scale == 1.0 else value / self.scale
        if self.residual is not None:
            value = value + _argument(args, kwargs, self.residual)
        value = value.clone() if self.copies else value
        return (value, *out[1:]) if isinstance(out, tuple) else value


@dataclass(frozen=True)
class BlockParts:
    """The parts of one block, as paths inside it.

    - `output`: the projection from heads into attention's output
    - `neurons`: the projection from neurons into the MLP's output; None for experts
    - `mlp_norm`: the norm whose output the MLP reads; None where it reads the stream itself
    """

    attn: Writer
    mlp: Writer
    output: str
    neurons: str | None
    mlp_norm: str | None


@dataclass(frozen=True)
class Stream:
    """How a model's blocks write and its end reads; see `stream_of`.

    - `blocks`: one a layer, none where `unlike` says why; `parallel`: attention and MLP read the
        same stream
    - `logit_scale`, `softcap`: of the logits after the unembedding; `norm`: the final norm's path,
        "" for none
    - `unreadable`: why the end is not norm, unembedding, scale and cap; "" where it is
    """

    blocks: tuple[BlockParts, ...]
    parallel: bool
    unlike: str
    norm: str
    logit_scale: float
    softcap: float | None
    unreadable: str


@dataclass
class Call:
    """What one module was given and gave, copied: the model may change it afterwards."""

    args: tuple
    kwargs: dict[str, Any]
    out: Tensor
    handed: Tensor = field(repr=False)

    @property
    def entered(self) -> Tensor | None:
        """The first tensor that the module was given."""
        tensors = [x for x in (*self.args, *self.kwargs.values()) if isinstance(x, Tensor)]
        return tensors[0] if tensors else None


def first(out: Any) -> Tensor:
    """The tensor that a module gives, or the first of several."""
    return out[0] if isinstance(out, tuple) else out


def _argument(args: tuple, kwargs: dict, where: int | str) -> Tensor:
    return args[where] if isinstance(where, int) else kwargs[where]


class _UnlikeError(Exception):
    """Why a block is not attention and MLP that add to one stream."""


@torch.no_grad()
def stream_of(model: PreTrainedModel, mapping: Any) -> Stream:
    """What enters the stream of a model and how it is read, by one run of it without any hooks.

    Args:
        model: Any causal model; hooks that hang on it (edits) are left out of the run.
        mapping: The components' names, from TransformerLens's architecture adapter.

    Raises:
        WorkbenchError: The model has no list of blocks.
    """
    bare = shared_clone(model)
    for module in bare.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    try:
        layers: Any = bare.get_submodule(mapping["blocks"].name)
    except (AttributeError, KeyError) as error:
        raise WorkbenchError(f"{type(model).__name__} has no list of blocks ({error}).") from error
    calls, logits = _run(bare, layers)
    floats = _floats(bare)
    if calls[-1] and "" not in calls[-1]:  # as OpenAI's first GPT, whose blocks give a list
        raise WorkbenchError(
            f"The blocks of {type(model).__name__} do not give the residual stream as one tensor."
        )
    end = calls[-1][""].out if calls[-1] else None
    norm, scale, softcap, unreadable = _end(bare, mapping, end, logits, floats)
    blocks: tuple[BlockParts, ...] = ()
    parallel, unlike = False, ""
    try:
        names = mapping["blocks"].submodules
        blocks = tuple(_block(layers[i], calls[i], names, i, floats) for i in range(len(layers)))
        parallel = _parallel(layers[0], calls[0][""], blocks[0])
        blocks = tuple(_with_norm(block, calls[i], parallel) for i, block in enumerate(blocks))
    except _UnlikeError as error:
        blocks, unlike = (), str(error)
    return Stream(blocks, parallel, unlike, norm, scale, softcap, unreadable)


def _run(model: Any, layers: Any) -> tuple[list[dict[str, Call]], Tensor]:
    """Every call inside every block ("" is the block itself), and the logits of the run."""
    calls: list[dict[str, Call]] = [{} for _ in layers]
    handles = []

    def keep(where: dict[str, Call], name: str) -> Any:
        def hook(_module: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
            if isinstance(first(out), Tensor):
                given = tuple(_copy(x) for x in args)
                named = {k: _copy(v) for k, v in kwargs.items()}
                where.setdefault(name, Call(given, named, first(out).clone(), first(out)))

        return hook

    for layer, where in zip(layers, calls, strict=True):
        for name, module in layer.named_modules():
            handles.append(module.register_forward_hook(keep(where, name), with_kwargs=True))
    entered: list[Tensor] = []

    def enter(where: dict[str, Call]) -> Any:
        return lambda _m, args, kwargs: entered.append(
            _copy(Call(args, kwargs, None, None).entered)
        )  # pyright: ignore

    handles += [
        layer.register_forward_pre_hook(enter(where), with_kwargs=True)
        for layer, where in zip(layers, calls, strict=True)
    ]
    vocab = model.get_input_embeddings().weight.shape[0]
    ids = (1 + torch.arange(within_context(model.config, N_TOKENS), device=model.device)) % vocab
    try:
        logits = model(input_ids=ids[None], use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits


def _copy(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def _block(
    layer: nn.Module, calls: dict[str, Call], names: Any, i: int, floats: list[float]
) -> BlockParts:
    """The parts of one block. Raises `_UnlikeError`."""
    raw = {}
    for part in ("attn", "mlp"):
        path = names[part].name if part in names else None
        if path is None and part == "mlp" and part in names and "out" in names[part].submodules:
            path = names[part].submodules["out"].name  # OPT's MLP is no module of its own
        if path is None or path not in calls:
            what = {"attn": "attention", "mlp": "MLP"}[part]
            raise _UnlikeError(f"layer {i} has no {what} that is known by name")
        raw[part] = path
    whole = calls[""]
    before, after = whole.entered, whole.out
    if before is None or before.shape != after.shape:
        raise _UnlikeError(f"layer {i} does not hand on the stream that enters it")
    eps = torch.finfo(after.dtype).eps
    limit = 8 * eps * float(after.double().abs().max())
    for attn in _candidates(raw["attn"], calls, before):
        written = attn.read_call(calls)
        middle = before + written
        for mlp in _candidates(raw["mlp"], calls, middle):
            scales = _scales(after - before, written, mlp.read_call(calls), limit, floats)
            if scales is not None:
                attn_writer = replace(attn.writer, scale=scales[0])
                mlp_writer = replace(mlp.writer, scale=scales[1])
                output = _projection(layer, calls, raw["attn"], attn.raw_value(calls))
                neurons = _projection(layer, calls, raw["mlp"], mlp.raw_value(calls))
                if output is None:
                    raise _UnlikeError(f"the heads of layer {i} are not projected by one matrix")
                return BlockParts(attn_writer, mlp_writer, output, neurons, None)
    raise _UnlikeError(f"layer {i} {UNKNOWN}")


@dataclass(frozen=True)
class _Candidate:
    """A module that may be what writes into the stream, without its scale."""

    writer: Writer

    def read_call(self, calls: dict[str, Call]) -> Tensor:
        call = calls[self.writer.module]
        return self.writer.read(call.args, call.kwargs, call.out).reshape(calls[""].out.shape)

    def raw_value(self, calls: dict[str, Call]) -> Tensor:
        """What attention or MLP itself gives, less the stream where it adds it."""
        call = calls[self.writer.raw]
        residual = None if self.writer.normed else self.writer.residual
        return replace(self.writer, residual=residual, scale=1.0).read(
            call.args, call.kwargs, call.out
        )


def _candidates(raw: str, calls: dict[str, Call], residual: Tensor) -> list[_Candidate]:
    """The part itself, the modules that read just its output, and the part less the stream that it
    was given.
    """
    own = calls[raw]
    found = []
    if own.out.numel() == residual.numel():
        found.append(_candidate(Writer(raw, raw), own))
    for name, call in calls.items():
        if name and not name.startswith(f"{raw}.") and name != raw and _same(call.entered, own.out):
            if call.out.numel() == residual.numel():
                found.append(_candidate(Writer(name, raw), call))
    given = {**dict(enumerate(own.args)), **own.kwargs}
    for where, value in given.items():
        if isinstance(value, Tensor) and _same(value, residual):
            found.append(_candidate(Writer(raw, raw, residual=where), own))
    return found


def _candidate(writer: Writer, call: Call) -> _Candidate:
    return _Candidate(replace(writer, copies=not torch.equal(call.out, call.handed)))


def _same(one: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their shape."""
    return (
        one is not None
        and one.numel() == other.numel()
        and torch.equal(one.flatten(), other.flatten())
    )


def _scales(
    gap: Tensor, attn: Tensor, mlp: Tensor, limit: float, floats: list[float]
) -> tuple[float, float] | None:
    """The factors with which two outputs fill the gap between a block's streams, or None."""
    gap, attn, mlp = (x.double().flatten() for x in (gap, attn, mlp))

    def fills(scales: tuple[float, float]) -> bool:
        return bool((scales[0] * attn + scales[1] * mlp - gap).abs().max() <= limit)

    if fills((1.0, 1.0)):
        return 1.0, 1.0
    fitted = torch.linalg.lstsq(torch.stack([attn, mlp], 1), gap[:, None]).solution[:, 0].tolist()
    for scales in product(*(_near(value, floats) for value in fitted)):
        if fills(scales):
            return scales
    return None


def _near(value: float, floats: list[float]) -> list[float]:
    """Round numbers and the config's own near a fitted factor, then the factor itself."""
    return [x for x in (1.0, *floats) if abs(x - value) <= 1e-3 * abs(value)] + [value]


def _floats(model: Any) -> list[float]:
    """The config's numbers that a factor may be, and what they divide by."""
    config = model.config.get_text_config()
    numbers = [
        float(x)
        for x in vars(config).values()
        if isinstance(x, float | int) and not isinstance(x, bool)
    ]
    return [y for x in numbers if x for y in (x, 1 / x)]


def _projection(layer: nn.Module, calls: dict[str, Call], part: str, value: Tensor) -> str | None:
    """The matrix inside a part (or the part itself) whose output is the part's."""
    found = None
    limit = (
        64 * torch.finfo(value.dtype).eps
    )  # where the stream was taken off again, rounding is left
    for name, call in calls.items():
        if name != part and not name.startswith(f"{part}."):
            continue
        weight = getattr(layer.get_submodule(name), "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2 and call.out.numel() == value.numel():
            if torch.allclose(
                call.out.flatten(),
                value.flatten(),
                rtol=limit,
                atol=limit * float(value.abs().max()),
            ):
                found = name
    return found


def _parallel(layer: nn.Module, whole: Call, block: BlockParts) -> bool:
    """Whether what the MLP reads and writes stays as it is when attention's output changes.

    What it reads counts too: an MLP that starts at zero writes the same whatever it reads.
    """
    seen: list[Tensor] = []

    def disturb(_m: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        written = block.attn.read(args, kwargs, out)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(written.shape, generator=generator).to(written)
        return block.attn.write(written + (noise if seen else 0.0), args, kwargs, out)

    def look(_m: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        read = next((x for x in (*args, *kwargs.values()) if torch.is_tensor(x)), None)
        parts = [block.mlp.read(args, kwargs, out), *([] if read is None else [read])]
        seen.append(torch.cat([part.flatten() for part in parts]))

    handles = [
        layer.get_submodule(block.attn.module).register_forward_hook(disturb, with_kwargs=True),
        layer.get_submodule(block.mlp.module).register_forward_hook(look, with_kwargs=True),
    ]
    try:
        for _ in range(2):
            layer(*(_copy(x) for x in whole.args), **{k: _copy(v) for k, v in whole.kwargs.items()})
    finally:
        for handle in handles:
            handle.remove()
    return torch.equal(seen[0], seen[1])


def _with_norm(block: BlockParts, calls: dict[str, Call], parallel: bool) -> BlockParts:
    """The block with the norm whose output its MLP reads, where that norm reads the stream and
    nothing else does.
    """
    entered = calls[block.mlp.raw].entered
    before = calls[""].entered
    assert before is not None
    written = _Candidate(block.attn).read_call(calls)
    stream = before if parallel else before + written
    if entered is None or block.mlp.residual is not None:
        return block
    for name, call in calls.items():
        if name and _same(call.out, entered) and call.entered is not None:
            if call.entered.numel() == stream.numel() and torch.allclose(
                call.entered.reshape(stream.shape), stream
            ):
                return replace(block, mlp_norm=name)
    return block


def _end(
    model: Any, mapping: Any, end: Tensor | None, logits: Tensor, floats: list[float]
) -> tuple[str, float, float | None, str]:
    """The final norm's path, the logits' factor and cap, and why they cannot be read so ("" where
    they can).
    """
    unembed = model.get_output_embeddings()
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if unembed is None or end is None or end.ndim != 3:
        return "", 1.0, softcap, "the model has no unembedding that reads its last stream"
    eps = torch.finfo(logits.dtype).eps
    named = [mapping[part].name for part in ("ln_final",) if part in mapping and mapping[part].name]
    for name in (*named, ""):
        try:
            read = unembed(model.get_submodule(name)(end) if name else end)
        except (AttributeError, RuntimeError):
            continue
        plain = logits if softcap is None else softcap * torch.atanh((logits / softcap).double())
        dot = (read.double() * plain.double()).sum() / read.double().square().sum().clamp_min(
            1e-300
        )
        for scale in (1.0, *_near(float(dot), floats)):
            again = read * scale
            again = again if softcap is None else torch.tanh(again / softcap) * softcap
            if bool((again - logits).abs().max() <= 256 * eps * logits.abs().max().clamp_min(eps)):
                return name, scale, softcap, ""
    return (
        "",
        1.0,
        softcap,
        "its logits are not the final norm and the unembedding of its last stream",
    )
