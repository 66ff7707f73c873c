"""An accelerator that is not there: its tensors hold real values, and an operation over two devices
is an error.

    pretend_accelerator.switch_on()
    subject = wb.load("shelf-base", device=pretend_accelerator.DEVICE)
    wb.attention(subject, "The cat")  # fails where code forgets on which device a tensor is

A device of its own is what torch calls PrivateUse1. Each of its tensors wraps one on the CPU; one
function, `carry_out`, does every operation on what is wrapped and wraps the results again. It rests
on a part of torch that is experimental, so that `AVAILABLE` must be asked first.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "pretend"
DEVICE = f"{NAME}:0"
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

ops = torch.ops.aten
MOVES = {ops._to_copy.default, ops.copy_.default}
"""What alone may take tensors of two devices."""
LOOKUPS = {
    ops.index.Tensor,
    ops.index_put.default,
    ops.index_put_.default,
    ops._index_put_impl_.default,
}
"""As on CUDA, whose tensors can be indexed by tensors of the CPU."""
READERS = {
    ops._local_scalar_dense.default,
    ops.nonzero.default,
    ops.masked_select.default,
    ops.equal.default,
    ops.is_nonzero.default,
}
"""What gives the processor a number, or a tensor whose size depends on the values."""
MAKERS = (
    "empty_strided",
    "arange",
    "arange.start",
    "arange.start_step",
    "eye",
    "eye.m",
    "linspace",
    "randperm",
    "randperm.generator",
)
"""What makes a tensor of a size that torch would else settle later, which a wrapper cannot follow.
"""
_LIBRARIES: list[Any] = []
WAITS: list[str] = []
"""What made the processor wait for the accelerator: each operation that gave it a number, or a
tensor on the CPU, and each copy to the accelerator that is not asked to be `non_blocking`.
"""
_LATE: list[tuple[Tensor, Tensor]] = []
"""Tensors on the CPU that a copy which is not waited for has yet to fill, with what comes."""


def synchronize() -> None:
    """Wait for the accelerator, as `torch.cuda.synchronize` does."""
    WAITS.append("synchronize")
    _arrive()


def _arrive() -> None:
    for target, values in _LATE:
        target.copy_(values)
    _LATE.clear()


def _late(values: Tensor) -> Tensor:
    """What is on the CPU before an unawaited copy is there: numbers that nothing can be made of."""
    poison = values.clone()
    poison.fill_(float("nan") if values.is_floating_point() else -(2**7) + 1)
    _LATE.append((poison, values.clone()))
    return poison


class PretendTensor(Tensor):
    """A tensor that says it is on the accelerator, round `held`, which is on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendTensor":
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE),
        )
        wrapper.held = held
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return carry_out(operation, *args, **(kwargs or {}))

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: "PretendTensor") -> None:
        assert other.shape == self.shape
        self.held = other.held

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"PretendTensor({self.held})"

    def tolist(self):
        WAITS.append("tolist")
        _arrive()
        return self.held.tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError(f"can't convert {DEVICE} tensor to numpy; use Tensor.cpu() first")

    __array__ = numpy


def carry_out(operation, *args, **kwargs):
    """An operation's result, on the accelerator where an argument is or `device` asks for it."""
    device = kwargs.pop("device", None)
    kwargs.pop("pin_memory", None)
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    _check(operation, args, tensors, ours)
    stays = bool(ours) if device is None else torch.device(device).type == NAME
    plain_args, plain_kwargs = tree_map_only(
        PretendTensor, lambda tensor: tensor.held, (args, kwargs)
    )
    if device is not None:
        plain_kwargs["device"] = torch.device("cpu") if stays else device
    leaves = bool(ours) and not stays
    if operation is ops.copy_.default:
        leaves = len(ours) == 1 and isinstance(args[1], PretendTensor)
    enters = operation in MOVES and stays and len(ours) < len(tensors)
    asks = operation is ops.copy_.default and args[2:] == (True,)
    later = asks or bool(kwargs.get("non_blocking"))
    if ((leaves or enters) and not later) or _reads(operation, args):
        WAITS.append(str(operation))
        _arrive()
    if operation is ops.copy_.default:
        operation(*plain_args, **plain_kwargs)
        if leaves and later:
            args[0].copy_(_late(args[0]))
            _LATE[-1] = (args[0], _LATE[-1][1])
        return args[0]
    result = operation(*plain_args, **plain_kwargs)
    if not stays:
        return _late(result) if leaves and later else result
    wrapped = tree_map_only(Tensor, PretendTensor, result)
    if _aliases(operation):
        wrapped = return_and_correct_aliasing(operation, args, kwargs, wrapped)
    if any(tensor.shape != tensor.held.shape for tensor in ours):
        raise AssertionError(
            f"{operation} gives a tensor another size, which its wrapper cannot follow"
        )
    return wrapped


def _check(operation, args, tensors: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
    """Raise where devices mix; a single number may come from the CPU, as everywhere in torch."""
    if operation in MOVES or not ours:
        return
    if operation in LOOKUPS:
        if isinstance(args[0], PretendTensor):
            return
        raise RuntimeError(f"{operation}: indices on {DEVICE} for a tensor on the cpu")
    for tensor in tensors:
        if tensor.dim() and not isinstance(tensor, PretendTensor):
            raise RuntimeError(
                f"{operation}: a tensor on {DEVICE} meets one of {tuple(tensor.shape)} on the cpu"
            )


def _reads(operation, args) -> bool:
    """Whether an operation waits for values: to hand out a number, or to know a size."""
    if operation in LOOKUPS and isinstance(args[0], PretendTensor):
        masks = (torch.bool, torch.uint8)
        return any(isinstance(index, PretendTensor) and index.dtype in masks for index in args[1])
    return operation in READERS and any(isinstance(arg, PretendTensor) for arg in args)


def _aliases(operation) -> bool:
    """Whether its results share memory with its arguments, or are them: views, and changes in
    place.
    """
    return any(returned.alias_info is not None for returned in operation._schema.returns)


BackendModule: Any = backend_registration._DummyBackendModule if AVAILABLE else object


class Backend(BackendModule):
    """What `torch.pretend` answers."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device=None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device=None) -> None:
        torch.set_rng_state(state)


def switch_on() -> None:
    """Make the accelerator known to torch; once a process is enough."""
    if _LIBRARIES:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(carry_out, "PrivateUse1")
    few = torch.library.Library("aten", "IMPL")
    few.impl(
        "_copy_from",
        lambda source, target, *more: carry_out(ops.copy_.default, target, source, *more),
        "PrivateUse1",
    )
    for name in MAKERS:
        packet, _, overload = name.partition(".")
        few.impl(
            name,
            partial(carry_out, getattr(getattr(ops, packet), overload or "default")),
            "PrivateUse1",
        )
    _LIBRARIES.append(everything)
    _LIBRARIES.append(few)
    torch.__future__.set_swap_module_params_on_conversion(True)
