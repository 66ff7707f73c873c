"""Low-rank adaptation (Hu et al. 2021) of a Subject through PEFT: small matrices are trained, its
weights stay.
"""

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from workbench.errors import WorkbenchError
from workbench.subjects import Subject, adapter, adapter_weights, resolve
from workbench.training.recipe_tables import Lora

__all__ = ["Lora", "adapt", "lasting", "restore"]


def adapt(subject: Subject, settings: Lora, name: str) -> PeftModel:
    """The Subject's model with fresh adapters, which alone can be trained; at first it computes
    what it did.

    Args:
        subject: Its model is changed in place (PEFT puts its layers inside); load it anew for
            anything else.
        settings: Rank, scale, dropout, and where the adapters go.
        name: What `load` takes to have the Subject again; kept with the adapter.

    Raises:
        WorkbenchError: `targets` names no linear layer of the model.
    """
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
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
    model.base_subject = adapter.Base(name, subject.hash)  # pyright: ignore[reportAttributeAccessIssue]
    return model


def restore(model: PeftModel, folder: Path) -> None:
    """Give adapters the weights that a checkpoint kept. Raises `WorkbenchError` where they do not
    all fit.
    """
    adapter_weights.fill(
        model, load_file(folder / adapter.WEIGHTS), f"The checkpoint {folder}", "its base"
    )


def lasting(name: str) -> str:
    """A name that means the same Subject from any folder and at any time: a run's checkpoint, a
    whole path.
    """
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else resolve(name)
