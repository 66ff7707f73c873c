"""A model in shards (FSDP2): each process holds its slice of every weight, for models that one
device cannot hold.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Cut a model's weights among the processes, in place; a block's are gathered only while it
    computes.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in model.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are in shards."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from its shards (all processes take part); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on all processes, cut as a parameter is."""
    if not isinstance(parameter, DTensor):
        return tensor
    mesh = parameter.device_mesh
    return DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim).redistribute(
        placements=parameter.placements
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The whole weights on the CPU of the first process, nothing on the others; all take part."""
    return get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )


def gathered(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state with whole tensors, as an optimiser that is not sharded would give it;
    all take part.
    """
    found = {
        i: {k: whole(v) if torch.is_tensor(v) else v for k, v in of.items()}
        for i, of in state["state"].items()
    }
    return {**state, "state": found}


def scatter(optimizer: torch.optim.Optimizer) -> None:
    """Cut the state that an optimiser has just loaded as its parameters are."""
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
