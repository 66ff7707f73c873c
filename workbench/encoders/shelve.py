"""The bundled vision transformer: `python -m workbench.encoders.shelve` trains it anew.

Its settings stand beside its weights, in `training.toml`. It is measured as it is stored, in half
precision, and the numbers go into its card.
"""

import json
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import ViTConfig, ViTForImageClassification

from workbench import paths
from workbench.data.digits import CLASSES, Digits, digits
from workbench.doors import read_toml
from workbench.encoders.accuracy import EncoderAccuracy, encoder_accuracy
from workbench.encoders.reading import stacked
from workbench.encoders.training import Settings, fit, shifted
from workbench.progress import Progress
from workbench.subjects.card import hash_files, write_card
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import PREPROCESSOR, encoder_card, load_encoder
from workbench.subjects.save import write_folder

SHELF = "shelf-vit"
RECIPE = "training.toml"
SCALING = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 8, "width": 8},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}
"""As transformers' own image processor has it; ink is bright."""
PAPER = -1.0
"""Paper after `SCALING`."""


def shelve(folder: Path, *, progress: Progress | None = None) -> EncoderAccuracy:
    """Train the model of a folder's `training.toml`, save it there, and return how well it does.

    Args:
        folder: Where the recipe is, and where to save.
        progress: Called with the share that is done, and a few words.
    """
    recipe = read_toml(folder / RECIPE, "write it anew")
    train: dict[str, Any] = dict(recipe["train"])
    shift = train.pop("shift")
    settings = Settings(**train)
    known = digits("train")
    encoder = untrained(recipe["model"], settings.seed)
    _, values = stacked(encoder, known.images)
    labels = torch.from_numpy(known.labels)
    change = shifted(shift, PAPER)
    losses = fit(
        encoder.model,
        encoder.family.given,
        values,
        labels,
        settings,
        change=change,
        progress=progress,
    )
    _save(folder, encoder, {})
    measured = encoder_accuracy(load_encoder(folder), digits("test").images, digits("test").labels)
    _save(folder, encoder, _facts(folder, recipe, known, losses, measured))
    return measured


def untrained(model: dict[str, Any], seed: int) -> Encoder:
    """A vision transformer of digits with random weights.

    Args:
        model: Fields of its configuration.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    names = {i: name.removeprefix("d") for i, name in enumerate(CLASSES)}
    ids = {name: i for i, name in names.items()}
    config = ViTConfig(id2label=names, label2id=ids, **model)
    built = ViTForImageClassification(config)
    return Encoder(SHELF, built, encoder_card(built, SHELF, Path(), "0" * 64, ""), SCALING)


def _save(folder: Path, encoder: Encoder, facts: dict[str, Any]) -> None:
    """Save the model in half precision with its recipe, how it scales pictures, and its card."""
    recipe = (folder / RECIPE).read_text(encoding="utf-8")
    half = {name: value.half() for name, value in encoder.model.state_dict().items()}

    def write(part: Path) -> None:
        encoder.model.save_pretrained(part, state_dict=half)
        (part / PREPROCESSOR).write_text(json.dumps(SCALING, indent=2) + "\n", encoding="utf-8")
        (part / RECIPE).write_text(recipe, encoding="utf-8")
        write_card(part, facts)

    write_folder(folder, write)


def _facts(
    folder: Path,
    recipe: dict[str, Any],
    known: Digits,
    losses: list[float],
    measured: EncoderAccuracy,
) -> dict[str, Any]:
    """The card's fields."""
    encoder = load_encoder(folder)
    accuracy = measured.accuracy
    return {
        **encoder.card.to_dict(),
        "name": SHELF,
        "source": "bundled",
        "sha256": hash_files(folder.glob("*.safetensors")),
        "licence": recipe["licence"],
        "notes": recipe["notes"],
        "created": date.today().isoformat(),
        "command": "python -m workbench.encoders.shelve",
        "data": f"digits, the part train ({known.n} images)",
        "metrics": {
            "training_loss_nats": losses[-1],
            "epochs": recipe["train"]["epochs"],
            "accuracy_held_out": {
                "mean": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "n": accuracy.n,
            },
        },
    }


if __name__ == "__main__":
    target = Path(*sys.argv[1:]) if sys.argv[1:] else paths.shelf("models") / SHELF
    if not (target / RECIPE).is_file():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.shelf("models") / SHELF / RECIPE, target)
    print(shelve(target, progress=lambda done, words: print(f"{done:4.0%} {words}", flush=True)))
