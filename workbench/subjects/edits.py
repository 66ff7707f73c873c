"""Edits of activations, and the hooks that set or add their values as a model runs."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.subjects.modules import weight_of
from workbench.subjects.subject import Subject
from workbench.subjects.writers import BlockParts, Writer

SITES = {
    "z": "the outputs of heads, before they are projected into the stream",
    "post": "MLP neurons, after the nonlinearity",
    "attn_out": "what attention adds to the stream",
    "mlp_out": "what the MLP adds to the stream",
    "resid_post": "the stream after a layer",
}
ACTIONS = ("set", "add")


@dataclass(frozen=True)
class Edit:
    """An activation that is set to a value, or gets it added, at every position.

    - `layer`, `site`: where; one of `SITES`
    - `index`: the heads or neurons it is limited to; empty for all
    - `action`: "set" or "add"
    - `value`: a number, or a vector: `[d_model]` at the stream, `[d_head]` (or one vector per head)
      at `z`, one number per neuron at `post`
    """

    layer: int
    site: str
    index: tuple[int, ...] = ()
    action: str = "set"
    value: Any = 0.0


def hang(layer: nn.Module, parts: BlockParts, edit: Edit, subject: Subject) -> None:
    """Register an edit as a hook, which copies of the model keep.

    Args:
        layer: The block of the model to edit.
        parts: Paths of the block's parts.
        edit: The edit.
        subject: The unedited Subject, for sizes and messages.

    Raises:
        WorkbenchError: The layer has no such head or neuron, or the value has another shape.
    """
    if edit.site == "post" and parts.neurons is None:
        raise WorkbenchError(
            f"The MLP of layer {edit.layer} of {subject.name} is no single matrix of neurons; edit "
            "mlp_out instead."
        )
    # z is the input of W_O, and post the input of W_out, so both are edited before these modules.
    w_o = layer.get_submodule(parts.output)
    d_head = _n_inputs(w_o) // subject.card.n_heads
    shape: tuple[int, ...] = (subject.card.d_model,)
    if edit.site == "z":
        _check_index(edit, "head", subject.card.n_heads, subject)
        shape = (d_head,)
        reader = w_o
    elif edit.site == "post" and parts.neurons is not None:
        reader = layer.get_submodule(parts.neurons)
        n_neurons = _n_inputs(reader)
        _check_index(edit, "neuron", n_neurons, subject)
        shape = (len(edit.index) or n_neurons,)
    else:
        reader = None
        if edit.index:
            raise WorkbenchError(f"{edit.site} has no parts to choose from; leave the index empty.")
    value = torch.tensor(edit.value, dtype=subject.model.dtype, device=subject.device)
    _check_shape(edit, value, shape)
    change = _Change(edit.site, edit.action, list(edit.index), value, d_head)
    if reader is not None:
        reader.register_forward_pre_hook(change.before)
    elif edit.site == "resid_post":
        layer.register_forward_hook(change.after)
    else:
        writer = parts.attn if edit.site == "attn_out" else parts.mlp
        module = layer.get_submodule(writer.module)
        module.register_forward_hook(_Written(change, writer), with_kwargs=True)


def _check_index(edit: Edit, what: str, n: int, subject: Subject) -> None:
    """Raise `WorkbenchError` for a head or neuron beyond the layer's `n`."""
    for i in edit.index:
        if not 0 <= i < n:
            raise WorkbenchError(
                f"Layer {edit.layer} of {subject.name} has no {what} {i}; it has {n}."
            )


def _check_shape(edit: Edit, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `WorkbenchError` unless the value is a number, of this shape, or of one per head."""
    one_per_head = edit.site == "z" and value.ndim > 0 and value.shape[-1] == shape[-1]
    if value.ndim and tuple(value.shape) != shape and not one_per_head:
        raise WorkbenchError(
            f"The value for {edit.site} of layer {edit.layer} has shape {list(value.shape)}; "
            f"it must be a number or {list(shape)}."
        )


def _n_inputs(module: nn.Module) -> int:
    """Input features of a linear layer, or of transformers' transposed `Conv1D`."""
    n_inputs = getattr(module, "in_features", None)
    return cast("int", n_inputs) if n_inputs else weight_of(module).shape[0]


@dataclass
class _Change:
    """Applies an edit to an activation."""

    site: str
    action: str
    index: list[int]
    value: Tensor
    d_head: int

    def __call__(self, x: Tensor) -> Tensor:
        x = x.clone()
        view = x.unflatten(-1, (-1, self.d_head)) if self.site == "z" else x
        if not self.index:
            view[...] = self.value if self.action == "set" else view + self.value
        elif self.site == "z":
            view[..., self.index, :] = (
                self.value if self.action == "set" else view[..., self.index, :] + self.value
            )
        else:
            view[..., self.index] = (
                self.value if self.action == "set" else view[..., self.index] + self.value
            )
        return view.flatten(-2) if self.site == "z" else view

    def before(self, _module: nn.Module, args: tuple) -> tuple:
        return (self(args[0]), *args[1:])

    def after(self, _module: nn.Module, _args: tuple, out: Any) -> Any:
        return (self(out[0]), *out[1:]) if isinstance(out, tuple) else self(out)


@dataclass
class _Written:
    """Applies an edit to what a part writes into the stream, after any norm or factor."""

    change: _Change
    writer: Writer

    def __call__(self, _module: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        return self.writer.write(
            self.change(self.writer.read(args, kwargs, out)), args, kwargs, out
        )
