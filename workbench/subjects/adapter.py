"""LoRA adapters in folders of their own, which name the base model and are merged when loaded.

The folder is PEFT's (adapter_config.json, adapter_model.safetensors) with the base's config.json,
the tokenizer, and `base.json`, which names the base model and pins it by its hash.
`adapter_weights` reads the weights.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from safetensors.torch import load_file
from torch import Tensor

from workbench.doors import path_of, read_object, reading
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

MEND = "save the adapter again"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"


class Base(NamedTuple):
    """The base model of an adapter: a name that `load` takes, and its hash ("" where unknown)."""

    name: str
    sha256: str


class Factors(NamedTuple):
    """One update `scale b a`: `a` `[r, in]`, `b` `[out, r]` (Hu et al. 2021)."""

    a: Tensor
    b: Tensor
    scale: float


def is_adapted(model: Any) -> bool:
    """Whether a model is wrapped in PEFT adapters."""
    return hasattr(model, "get_base_model")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / CONFIG).is_file()


def write(folder: Path, model: "PeftModel", weights: dict[str, Tensor] | None = None) -> None:
    """Write the adapter alone into a folder.

    Args:
        folder: An existing folder.
        model: Model with the adapter; its `base_subject`, where set, names the base model.
        weights: State dict to take the adapter's weights from; None is the model's own.
    """
    config = model.peft_config["default"]
    base: Base | None = getattr(model, "base_subject", None)
    if base is not None:
        config.base_model_name_or_path = base.name
        (folder / BASE).write_text(json.dumps(base._asdict(), indent=2) + "\n", encoding="utf-8")
    model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card
    base_model = cast("PreTrainedModel", model.get_base_model())
    base_model.config.save_pretrained(folder)


def base_of(folder: Path) -> Base:
    """The base model of the adapter in a folder.

    Raises:
        WorkbenchError: The folder does not name it.
    """
    name: Any
    sha256: Any = ""
    if (folder / BASE).is_file():
        values = read_object(folder / BASE, MEND)
        name = values.get("name")
        sha256 = values.get("sha256")
    else:
        name = read_object(folder / CONFIG, MEND).get("base_model_name_or_path") or ""
    if not isinstance(name, str) or not isinstance(sha256, str):
        raise WorkbenchError(
            f"The adapter in {folder} names its base by something that is no text; {MEND}."
        )
    if not name or path_of(name, "model").resolve() == folder.resolve():
        raise WorkbenchError(
            f"The adapter in {folder} does not say which model it belongs to; it cannot be used."
        )
    return Base(_from_here(name, folder), sha256)


def _from_here(name: str, folder: Path) -> str:
    """A relative path as an absolute one, looked for from the adapter's folder upwards."""
    path = path_of(name, "model")
    if path.is_absolute() or path.exists():
        return name
    for start in (folder, *folder.resolve().parents):
        if any((start / path / config).is_file() for config in ("config.json", CONFIG)) or (
            path.suffix in (".gguf", ".pt", ".safetensors") and (start / path).is_file()
        ):
            return str((start / path).resolve())
    return name


def factors(folder: Path) -> dict[str, Factors]:
    """The low-rank updates of an adapter, by the name of the weight that each is added to.

    Raises:
        WorkbenchError: The folder cannot be read as a LoRA.
    """
    config = read_object(folder / CONFIG, MEND)
    with reading(f"The adapter in {folder}", MEND):
        # Rank-stabilised LoRA divides by the root of the rank.
        divisor = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
        scale = config["lora_alpha"] / divisor
        weights = load_file(folder / WEIGHTS)
    updates = {}
    for name, a in weights.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = weights[name.replace(".lora_A.", ".lora_B.")]
            updates[f"{module}.weight"] = Factors(a, b, scale)
    return updates


def merged_hash(base: str, adapter: str) -> str:
    """The hash of a merged model: the sha256 of the hashes of base and adapter."""
    return hashlib.sha256(f"{base}+{adapter}".encode()).hexdigest()
