"""LoRA adapters in their own folder: written beside what they adapt, merged into it when loaded.

The folder is PEFT's (adapter_config.json, adapter_model.safetensors) with the base's config.json,
the tokenizer, and `base.json`, which says what was adapted and pins it by its hash.
`adapter_weights` reads one.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from workbench.doors import path_of, read_object, reading
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from peft import PeftModel

MEND = "save the adapter again"
CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"


class Base(NamedTuple):
    """What an adapter belongs to: a name that `load` takes, and the Subject's hash ("" where
    unknown).
    """

    name: str
    sha256: str


class Factors(NamedTuple):
    """One update `scale b a`: `a` `[r, in]`, `b` `[out, r]` (Hu et al. 2021)."""

    a: Tensor
    b: Tensor
    scale: float


def is_adapted(model: Any) -> bool:
    """Whether a model is wrapped in adapters of PEFT."""
    return hasattr(model, "get_base_model")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / CONFIG).is_file()


def write(folder: Path, model: "PeftModel", weights: dict[str, Tensor] | None = None) -> None:
    """The adapter alone; `model.base_subject`, where it is set, says what it was trained on.

    `weights` takes the place of the whole model's own.
    """
    config = model.peft_config["default"]
    base: Base | None = getattr(model, "base_subject", None)
    if base is not None:
        config.base_model_name_or_path = base.name
        (folder / BASE).write_text(json.dumps(base._asdict(), indent=2) + "\n", encoding="utf-8")
    model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card
    model.get_base_model().config.save_pretrained(folder)


def base_of(folder: Path) -> Base:
    """What the adapter in a folder belongs to. Raises `WorkbenchError` when the folder does not
    say.
    """
    if (folder / BASE).is_file():
        said = read_object(folder / BASE, MEND)
        found = Base(said.get("name"), said.get("sha256"))
    else:
        found = Base(read_object(folder / CONFIG, MEND).get("base_model_name_or_path") or "", "")
    if not isinstance(found.name, str) or not isinstance(found.sha256, str):
        raise WorkbenchError(
            f"The adapter in {folder} names its base by something that is no text; {MEND}."
        )
    if not found.name or path_of(found.name, "model").resolve() == folder.resolve():
        raise WorkbenchError(
            f"The adapter in {folder} does not say which model it belongs to; it cannot be used."
        )
    return found._replace(name=_from_here(found.name, folder))


def _from_here(name: str, folder: Path) -> str:
    """A relative path made whole, which was written down in a folder that is not this process's."""
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
    """The updates of an adapter by the name of the weight that each is added to.

    Raises `WorkbenchError` when the folder cannot be read as a LoRA.
    """
    config = read_object(folder / CONFIG, MEND)
    with reading(f"The adapter in {folder}", MEND):
        root = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
        scale, weights = config["lora_alpha"] / root, load_file(folder / WEIGHTS)
    found = {}
    for name, a in weights.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            found[f"{module}.weight"] = Factors(
                a, weights[name.replace(".lora_A.", ".lora_B.")], scale
            )
    return found


def merged_hash(base: str, adapter: str) -> str:
    """The hash of a merged model: sha256 of the two hashes, which together pin its weights."""
    return hashlib.sha256(f"{base}+{adapter}".encode()).hexdigest()
