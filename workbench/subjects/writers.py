"""Which modules of a block write into the residual stream, from the recorded calls of one run."""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

UNKNOWN = "writes into the residual stream in a way that is not known here"


@dataclass(frozen=True)
class Writer:
    """A module of a block whose output, times `scale`, is added to the stream.

    - `module`: its path inside the block
    - `raw`: the path of attention or MLP itself; differs from `module` where a norm follows it
    - `scale`: factor between output and stream
    - `residual`: index or name of the argument that the output contains, where the module itself
      adds the stream
    - `copies`: the model changes the output in place, so hooks must return a copy
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
        """What is added to the stream, from one call of the module.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            out: Output of the call.
        """
        value = first(out)
        if self.residual is not None:
            value = value - _argument(args, kwargs, self.residual)
        return value if self.scale == 1.0 else value * self.scale

    def write(self, value: Tensor, args: tuple, kwargs: dict, out: Any) -> Any:
        """The output that the module must return so that `value` is added to the stream.

        Args:
            value: What to add, of as many elements as the module's output.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            out: Output of the call.
        """
        value = value.reshape(first(out).shape)
        value = value if self.scale == 1.0 else value / self.scale
        if self.residual is not None:
            value = value + _argument(args, kwargs, self.residual)
        value = value.clone() if self.copies else value
        return (value, *out[1:]) if isinstance(out, tuple) else value


@dataclass(frozen=True)
class BlockParts:
    """The parts of one block, as paths inside it.

    - `attn`, `mlp`: the modules that write into the stream
    - `output`: the projection from heads to attention's output (W_O)
    - `neurons`: the projection from neurons to the MLP's output (W_out); None for experts
    - `mlp_norm`: the norm whose output the MLP reads; None where it reads the stream itself
    """

    attn: Writer
    mlp: Writer
    output: str
    neurons: str | None
    mlp_norm: str | None


@dataclass
class Call:
    """One call of a module: copies of its inputs and output, which the model may change later.

    - `out`: copy of the output; `handed`: the output itself, which shows whether it was changed
    """

    args: tuple
    kwargs: dict[str, Any]
    out: Tensor
    handed: Tensor = field(repr=False)

    @property
    def entered(self) -> Tensor | None:
        """The first tensor among the inputs."""
        tensors = [x for x in (*self.args, *self.kwargs.values()) if isinstance(x, Tensor)]
        return tensors[0] if tensors else None


def first(out: Any) -> Tensor:
    """A module's output, or the first of several."""
    return out[0] if isinstance(out, tuple) else out


def _argument(args: tuple, kwargs: dict, where: int | str) -> Tensor:
    return args[where] if isinstance(where, int) else kwargs[where]


class UnlikeError(Exception):
    """A block is not attention and MLP that add to one stream; the message says why."""


def block_parts(
    layer: nn.Module, calls: dict[str, Call], names: Any, i: int, floats: list[float]
) -> BlockParts:
    """The parts of one block, without its MLP's norm.

    Args:
        layer: The block.
        calls: Recorded call of every module by path; "" is the block itself.
        names: Names of the block's components, from TransformerLens's architecture adapter.
        i: Number of the layer, for messages.
        floats: Numbers that a factor may be (`factors_of`).

    Raises:
        UnlikeError: No modules add up to what the block adds to the stream.
    """
    raw = {}
    for part in ("attn", "mlp"):
        path = names[part].name if part in names else None
        if path is None and part == "mlp" and part in names and "out" in names[part].submodules:
            path = names[part].submodules["out"].name  # OPT's MLP is no module of its own
        if path is None or path not in calls:
            what = {"attn": "attention", "mlp": "MLP"}[part]
            raise UnlikeError(f"layer {i} has no {what} that is known by name")
        raw[part] = path
    before = calls[""].entered
    after = calls[""].out
    if before is None or before.shape != after.shape:
        raise UnlikeError(f"layer {i} does not hand on the stream that enters it")
    eps = torch.finfo(after.dtype).eps
    limit = 8 * eps * float(after.double().abs().max())
    for attn in _candidates(raw["attn"], calls, before):
        attn_written = written_by(attn, calls)
        for mlp in _candidates(raw["mlp"], calls, before + attn_written):
            mlp_written = written_by(mlp, calls)
            scales = _scales(after - before, attn_written, mlp_written, limit, floats)
            if scales is None:
                continue
            output = _projection(layer, calls, raw["attn"], _raw_output(attn, calls))
            if output is None:
                raise UnlikeError(f"the heads of layer {i} are not projected by one matrix")
            return BlockParts(
                attn=replace(attn, scale=scales[0]),
                mlp=replace(mlp, scale=scales[1]),
                output=output,
                neurons=_projection(layer, calls, raw["mlp"], _raw_output(mlp, calls)),
                mlp_norm=None,
            )
    raise UnlikeError(f"layer {i} {UNKNOWN}")


def written_by(writer: Writer, calls: dict[str, Call]) -> Tensor:
    """What a writer added to the stream in the recorded run, in the stream's shape."""
    call = calls[writer.module]
    return writer.read(call.args, call.kwargs, call.out).reshape(calls[""].out.shape)


def _raw_output(writer: Writer, calls: dict[str, Call]) -> Tensor:
    """The output of attention or MLP itself, minus the stream where it adds it."""
    call = calls[writer.raw]
    residual = None if writer.normed else writer.residual
    unscaled = replace(writer, residual=residual, scale=1.0)
    return unscaled.read(call.args, call.kwargs, call.out)


def _candidates(raw: str, calls: dict[str, Call], residual: Tensor) -> list[Writer]:
    """Modules that may write into the stream, without their scale.

    These are the part itself, modules that read just its output (norms), and the part minus the
    stream that it was given.
    """
    own = calls[raw]
    writers = []
    if own.out.numel() == residual.numel():
        writers.append(_candidate(Writer(raw, raw), own))
    for name, call in calls.items():
        if name and not name.startswith(f"{raw}.") and name != raw and same(call.entered, own.out):
            if call.out.numel() == residual.numel():
                writers.append(_candidate(Writer(name, raw), call))
    arguments = {**dict(enumerate(own.args)), **own.kwargs}
    for where, value in arguments.items():
        if isinstance(value, Tensor) and same(value, residual):
            writers.append(_candidate(Writer(raw, raw, residual=where), own))
    return writers


def _candidate(writer: Writer, call: Call) -> Writer:
    """The writer, with `copies` set where the model changed the output afterwards."""
    return replace(writer, copies=not torch.equal(call.out, call.handed))


def same(one: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their shapes."""
    return (
        one is not None
        and one.numel() == other.numel()
        and torch.equal(one.flatten(), other.flatten())
    )


def _scales(
    gap: Tensor, attn: Tensor, mlp: Tensor, limit: float, floats: list[float]
) -> tuple[float, float] | None:
    """Factors with which two outputs add up to what a block adds to the stream; None for none.

    Args:
        gap: The stream after the block minus the stream before it.
        attn: What attention writes.
        mlp: What the MLP writes.
        limit: Largest difference that counts as rounding.
        floats: Numbers that a factor may be.
    """
    gap = gap.double().flatten()
    attn = attn.double().flatten()
    mlp = mlp.double().flatten()

    def fills(scales: tuple[float, float]) -> bool:
        return bool((scales[0] * attn + scales[1] * mlp - gap).abs().max() <= limit)

    if fills((1.0, 1.0)):
        return 1.0, 1.0
    solution = torch.linalg.lstsq(torch.stack([attn, mlp], 1), gap[:, None]).solution
    attn_scale, mlp_scale = solution[:, 0].tolist()
    for scales in product(nearby(attn_scale, floats), nearby(mlp_scale, floats)):
        if fills(scales):
            return scales
    return None


def nearby(value: float, floats: list[float]) -> list[float]:
    """1 and the configuration's numbers near a fitted factor, then the factor itself."""
    return [x for x in (1.0, *floats) if abs(x - value) <= 1e-3 * abs(value)] + [value]


def factors_of(model: Any) -> list[float]:
    """The configuration's numbers that a factor may be, and their reciprocals."""
    config = model.config.get_text_config()
    numbers = [
        float(x)
        for x in vars(config).values()
        if isinstance(x, float | int) and not isinstance(x, bool)
    ]
    return [y for x in numbers if x for y in (x, 1 / x)]


def _projection(layer: nn.Module, calls: dict[str, Call], part: str, value: Tensor) -> str | None:
    """Path of the linear layer inside a part (or the part itself) that gives the part's output."""
    path = None
    # Not exact, because subtracting the stream again leaves rounding errors.
    relative = 64 * torch.finfo(value.dtype).eps
    absolute = relative * float(value.abs().max())
    for name, call in calls.items():
        if name != part and not name.startswith(f"{part}."):
            continue
        weight = getattr(layer.get_submodule(name), "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2 and call.out.numel() == value.numel():
            out = call.out.flatten()
            if torch.allclose(out, value.flatten(), rtol=relative, atol=absolute):
                path = name
    return path
