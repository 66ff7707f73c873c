"""Checks that a configuration claims no more than its files hold, before memory is allocated."""

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
"""Held while transformers builds or reads a model.

It then replaces global functions of its own and of torch, such as those that draw weights, and
restores them afterwards. Two threads at once could restore each other's replacements.
"""
INDEX = "model.safetensors.index.json"
NOT_WHOLE = "is not a whole safetensors file"
SPARE = 50_000_000
"""Parameters that a model may have beyond its files: few enough to allocate on any machine."""
MOST_TIMES = 4
"""Most parameters of a model, as a multiple of its files' (tied weights are stored once)."""
LARGEST = 2**63
"""Integers of a configuration must be below this, as tensors hold no larger ones."""
LAYERS = "num_hidden_layers"
COUNTS = ("n_", "num_")
"""How settings begin that count something, and so are never negative."""
MEND = "correct its config.json, or download or save the model again"


class Held(NamedTuple):
    """What the files of a model hold: number of tensors, and number of elements in all of them."""

    tensors: int
    numbers: int


def held_in(shapes: Mapping[str, tuple[int, ...]]) -> Held:
    """Number of tensors and elements, from the shapes by name."""
    return Held(len(shapes), sum(math.prod(shape) for shape in shapes.values()))


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a folder's safetensors files, read from their headers.

    Raises:
        WorkbenchError: A file is damaged, or the index names files that are not there.
    """
    files = sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file() and not (folder / "model.safetensors").is_file():
        files = _indexed(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with (
            reading(path, "download or save it again", NOT_WHOLE),
            safe_open(path, framework="pt") as stream,
        ):
            shapes |= {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}
    return shapes


def _indexed(folder: Path) -> list[Path]:
    """The files that an index names, which must be safetensors files beside it."""
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
                f"{path} names the file {short(name)!r}; only safetensors files beside it are read "
                "(no pickle). Save the model again as safetensors."
            )
        if name not in there:
            raise WorkbenchError(
                f"{path} names {short(name)}, which is not in the folder; download it too."
            )
    return [folder / name for name in dict.fromkeys(names.values())]


def check_claims(config: Any, kind: Any, held: Held, name: str) -> None:
    """Refuse a configuration whose model would be far larger than its files, or not computable.

    Args:
        config: Configuration of the model.
        kind: The class of transformers that builds it.
        held: What its files hold.
        name: What the user called it, for errors.

    Raises:
        WorkbenchError: The configuration claims more than the files hold.
    """
    for word, value in config.get_text_config().to_dict().items():
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise WorkbenchError(
                f"{name} says that its {word} is {short(value, 30)}, which no model's is; {MEND}."
            )
        if isinstance(value, int) and value < 0 and word.startswith(COUNTS):
            raise WorkbenchError(f"{name} says that its {word} is {value}; {MEND}.")
        # Only a forward pass would complain about a dropout, and nothing about another NaN.
        if isinstance(value, float) and (
            math.isnan(value) or ("drop" in word and not 0 <= value <= 1)
        ):
            raise WorkbenchError(f"{name} says that its {word} is {value}; {MEND}.")
    layers = getattr(config.get_text_config(), LAYERS, None)
    if isinstance(layers, int) and layers > held.tensors:
        raise WorkbenchError(
            f"{name} says that it has {layers:,} layers, and its files hold {held.tensors} "
            f"tensors; {MEND}."
        )
    claimed = _numbers(config, kind)
    if claimed is not None and claimed > MOST_TIMES * held.numbers + SPARE:
        raise WorkbenchError(
            f"{name} says that it has {claimed:,} numbers, and its files hold {held.numbers:,}; "
            f"{MEND}."
        )


def _numbers(config: Any, kind: Any) -> int | None:
    """Number of parameters of a configuration's model; None where it cannot be built."""
    try:
        with ONE_AT_A_TIME, torch.device("meta"):
            model = kind.from_config(config)
    except Exception:  # some classes cannot be built on "meta"; reading the weights will tell
        return None
    return sum(t.numel() for t in (*model.parameters(), *model.buffers()))
