"""Low-rank adaptation of a Subject through PEFT (Hu et al. 2021): only small matrices train."""

from pathlib import Path
from typing import Any, cast

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from workbench.errors import WorkbenchError
from workbench.subjects import Subject, adapter, adapter_weights, resolve
from workbench.training.recipe_tables import Lora

__all__ = ["Lora", "adapt", "lasting", "restore"]


def adapt(subject: Subject, settings: Lora, name: str) -> PeftModel:
    """The Subject's model with new adapters; only these train, and at first they change nothing.

    Args:
        subject: Its model is changed in place (PEFT inserts its layers); load it again for any
            other use.
        settings: Rank, scale, dropout, and the layers that get adapters.
        name: What `load` takes to get the Subject again; stored with the adapter.

    Raises:
        WorkbenchError: `targets` names no linear layer of the model.
    """
    config = LoraConfig(
        r=settings.r,
        lora_alpha=cast(Any, settings.alpha),  # peft declares int and computes with floats
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    try:
        model = get_peft_model(subject.model, config)
    except ValueError as error:
        raise WorkbenchError(
            f"[lora] targets {settings.targets!r} cannot be adapted in {subject.name}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    assert isinstance(model, PeftModel)
    described: Any = model  # a module takes attributes that its type does not have
    described.base_subject = adapter.Base(name, subject.hash)
    return model


def restore(model: PeftModel, folder: Path) -> None:
    """Load a checkpoint's adapter weights in place. Raises `WorkbenchError` if they do not fit."""
    adapter_weights.fill(
        model, load_file(folder / adapter.WEIGHTS), f"The checkpoint {folder}", "its base"
    )


def lasting(name: str) -> str:
    """A name for the same weights from any folder and later: absolute path or run checkpoint."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else resolve(name)
