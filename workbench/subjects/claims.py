"""What a configuration may claim: no more than its files hold, looked at before anything is
allocated.
"""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from workbench.doors import read_object, reading, short
from workbench.errors import WorkbenchError

ONE_AT_A_TIME = threading.RLock()
"""While transformers builds or reads a model it replaces functions of its own and of torch, such as
those that draw weights. Two threads at once would put back what they found, which may be the
other's: no model would be whole any more."""
INDEX = "model.safetensors.index.json"
NOT_WHOLE = "is not a whole safetensors file"
SPARE = 50_000_000
"""Numbers that a model may have beyond its files: so many fit anywhere, and the report on missing
tensors says more.
"""
MOST_TIMES = 4
"""Times as many numbers as its files a model may have; tied weights are in the files once, in a
model's sum twice.
"""
LARGEST = 2**63
"""No whole number of a configuration is as large: tensors hold none such."""
LAYERS = "num_hidden_layers"
MEND = "correct its config.json, or download or save the model again"


class Held(NamedTuple):
    """What the files of a model hold: how many tensors, and how many numbers in all of them."""

    tensors: int
    numbers: int


def held_in(shapes: Mapping[str, tuple[int, ...]]) -> Held:
    """The sum of tensors by name and shape."""
    return Held(len(shapes), sum(math.prod(shape) for shape in shapes.values()))


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a folder's safetensors files, from their headers alone.

    Raises `WorkbenchError` for a damaged file, and for an index that names other files than those.
    """
    files = sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file() and not (folder / "model.safetensors").is_file():
        files = _indexed(folder)
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        with (
            reading(path, "download or save it again", NOT_WHOLE),
            safe_open(path, framework="pt") as stream,
        ):
            found |= {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}
    return found


def _indexed(folder: Path) -> list[Path]:
    """The files that an index names: safetensors beside it and nothing else."""
    path = folder / INDEX
    names = read_object(path, "download or save the model again").get("weight_map")
    if not isinstance(names, dict) or not names:
        raise WorkbenchError(
            f"{path} has no weight_map of tensors and files; download or save the model again."
        )
    there = {file.name for file in folder.iterdir()}
    for name in dict.fromkeys(map(str, names.values())):
        if "/" in name or not name.endswith(".safetensors"):
            raise WorkbenchError(
                f"{path} names the file {short(name)!r}; only safetensors files beside it are read (no pickle). Save "
                "the model again as safetensors."
            )
        if name not in there:
            raise WorkbenchError(
                f"{path} names {short(name)}, which is not in the folder; download it too."
            )
    return [folder / name for name in dict.fromkeys(names.values())]


def check_claims(config: Any, kind: Any, held: Held, name: str) -> None:
    """Raise `WorkbenchError` where building a configuration's model would take far more than its
    files hold.

    Args:
        config: Of the model.
        kind: The class of transformers that builds it.
        held: What its files hold.
        name: What the user called it.
    """
    for word, value in config.get_text_config().to_dict().items():
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise WorkbenchError(
                f"{name} says that its {word} is {short(value, 30)}, which no model's is; {MEND}."
            )
    layers = getattr(config.get_text_config(), LAYERS, None)
    if isinstance(layers, int) and layers > held.tensors:
        raise WorkbenchError(
            f"{name} says that it has {layers:,} layers, and its files hold {held.tensors} tensors; {MEND}."
        )
    claimed = _numbers(config, kind)
    if claimed is not None and claimed > MOST_TIMES * held.numbers + SPARE:
        raise WorkbenchError(
            f"{name} says that it has {claimed:,} numbers, and its files hold {held.numbers:,}; {MEND}."
        )


def _numbers(config: Any, kind: Any) -> int | None:
    """How many numbers a configuration's model would have; None where it cannot be built without
    its weights.
    """
    try:
        with ONE_AT_A_TIME, torch.device("meta"):
            model = kind.from_config(config)
    except (
        Exception
    ):  # some classes cannot be built without memory; reading the weights says what is wrong
        return None
    return sum(t.numel() for t in (*model.parameters(), *model.buffers()))
