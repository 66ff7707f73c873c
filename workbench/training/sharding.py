"""Sharded models (FSDP2): each process holds a slice of every weight, to save memory."""

from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Shard a model over the processes in place; blocks gather weights while they compute."""
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in model.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are sharded."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from its shards (call on all processes); any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A full tensor, equal on all processes, sharded like a parameter; unchanged if that is not."""
    if not isinstance(parameter, DTensor):
        return tensor
    mesh = parameter.device_mesh
    return DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim).redistribute(
        placements=parameter.placements
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The full weights on the CPU of the first process, {} on the others; call on all processes."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(model, options=options))


def gathered(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state dict with full tensors, as if unsharded; call on all processes."""
    full = {
        i: {k: whole(v) if torch.is_tensor(v) else v for k, v in of.items()}
        for i, of in state["state"].items()
    }
    return {**state, "state": full}


def scatter(optimizer: torch.optim.Optimizer) -> None:
    """Shard the state that an optimiser has just loaded like its parameters, in place."""
    for parameter, state in optimizer.state.items():
        if isinstance(parameter, DTensor):
            for name, value in state.items():
                if (
                    torch.is_tensor(value)
                    and value.shape == parameter.shape
                    and not isinstance(value, DTensor)
                ):
                    state[name] = distribute_tensor(
                        value, parameter.device_mesh, parameter.placements
                    )
