"""Loads an Encoder: a bundled model of pictures or sounds, or a folder of one."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from workbench import paths
from workbench.doors import read_object, reading
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.subjects import identity
from workbench.subjects.card import OPEN_CONTEXT, Card, hash_files, read_card
from workbench.subjects.claims import MEND
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_families import FAMILIES
from workbench.subjects.kinds import Kind
from workbench.subjects.modules import device_of, moved
from workbench.subjects.names import available, local_path
from workbench.subjects.pretrained import read_model

PREPROCESSOR = "preprocessor_config.json"
LARGEST_SETTINGS = 100_000
"""Largest `preprocessor_config.json` in bytes."""
LARGEST_INPUT = 10_000_000
"""Most numbers of one input: a picture of 3 channels and 1,800 by 1,800 pixels."""
MOST_CLASSES = 50_000


def encoders(modality: str = "") -> list[str]:
    """Names of the encoders on this machine.

    Args:
        modality: `picture` or `sound`; "" for both.
    """
    kinds = (modality,) if modality else ("picture", "sound")
    return [entry.name for entry in available() if entry.kind in kinds]


@own_modes
def load_encoder(
    source: str | Path | Encoder, *, device: str | torch.device | None = None
) -> Encoder:
    """A model of pictures or sounds as an Encoder, in float32.

    Every tensor of the files must have a place in the model and the other way round. Nothing is
    unpickled and no remote code runs.

    Args:
        source: A bundled name (`shelf-vit`), or a folder with `config.json`, safetensors and
            `preprocessor_config.json` of a ViT, AST or HuBERT. An Encoder is returned as it is.
        device: Where to put the weights; the default is the GPU where there is one.

    Raises:
        WorkbenchError: The model cannot be loaded; the message says what to do.
    """
    if isinstance(source, Encoder):
        return source
    name = str(source).strip()
    folder = local_path(name) if name else None
    if folder is None or not folder.is_dir():
        known = ", ".join(encoders()) or "none"
        raise WorkbenchError(
            f"There is no folder {name!r} of a model of pictures or sounds; those on this machine "
            f"are {known}."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise WorkbenchError(
            f"The folder {folder} needs a config.json and a safetensors file (no pickle); save the "
            "model again with save_pretrained."
        )
    kind = _kind(folder, name)
    settings = _settings(folder)
    model = read_model(folder, name, kind=kind).model
    on_shelf = folder.is_relative_to(paths.shelf("models"))
    shown = name if on_shelf and not Path(name).is_absolute() else folder.name
    digest = hash_files(weights)
    pin = identity.identity(f"{digest} {hash_files([folder / PREPROCESSOR])}", folder)
    card = encoder_card(model, shown, folder, digest, pin)
    target = device_of(device)
    return Encoder(shown, moved(model, target), card, settings)


def _kind(folder: Path, name: str) -> Kind:
    """The class that reads the folder, and its configuration.

    Raises:
        WorkbenchError: It is another kind of model, or states sizes that none has.
    """
    with reading(name, MEND):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise WorkbenchError(
            f"{name} is a {config.model_type}, which is none of the kinds that see or hear here "
            f"({', '.join(FAMILIES)}); models of text are loaded with load."
        )
    family.check(config, name)
    with reading(name, MEND, "states sizes that make no input"):
        shape = family.shape(config)
        numbers = 1
        for size in shape:
            numbers *= size
        if min(shape) < 1 or numbers > LARGEST_INPUT or config.num_labels > MOST_CLASSES:
            raise ValueError(f"input of {shape}, {config.num_labels} classes")
    architecture = str((config.architectures or ["Model"])[0])
    return Kind(family.reader if "Classification" in architecture else AutoModel, config)


def _settings(folder: Path) -> dict[str, Any]:
    """How files become input. Raises `WorkbenchError` where the folder does not say."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise WorkbenchError(
            f"The folder {folder} has no {PREPROCESSOR}, so nobody knows how its input was scaled; "
            "copy it from where the model came from."
        )
    return read_object(path, "copy it anew from the model", largest=LARGEST_SETTINGS)


def encoder_card(model: Any, name: str, folder: Path, digest: str, pin: str) -> Card:
    """Sizes from the model itself, the rest from the folder's card.

    Args:
        model: The model.
        name: Name to show.
        folder: Where it came from.
        digest: sha256 of the weight files.
        pin: Hash of weights, configuration and preprocessing.
    """
    config = model.config
    family = FAMILIES[config.model_type]
    grid = family.grid(model, family.shape(config))
    n_positions = len(family.special) + grid.rows * grid.columns
    classes = config.num_labels if hasattr(model, "classifier") else 0
    measured = {
        "name": name,
        "source": str(folder),
        "architecture": type(model).__name__,
        "n_params": sum(p.numel() for p in model.parameters()),
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_attention_heads,
        "d_model": config.hidden_size,
        "d_head": config.hidden_size // config.num_attention_heads,
        "n_ctx": n_positions if family.special else OPEN_CONTEXT,
        "d_vocab": classes,
        "positions": "learned" if family.special else "convolution",
        "sha256": digest,
        "identity": pin,
        "loaded": "",
    }
    return Card(**{**read_card(folder), **measured})
