"""The bundled encoders: `python -m workbench.encoders.shelve shelf-vit` trains one anew.

Settings stand beside the weights, in `training.toml`. A model is measured as it is stored, in half
precision, and the numbers go into its card.
"""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.doors import read_toml
from workbench.encoders.accuracy import EncoderAccuracy, encoder_accuracy
from workbench.encoders.lessons import Lesson, lesson
from workbench.encoders.reading import stacked
from workbench.encoders.training import Settings, fit
from workbench.progress import Progress
from workbench.subjects.card import hash_files, write_card
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import PREPROCESSOR, encoder_card, load_encoder
from workbench.subjects.save import write_folder

RECIPE = "training.toml"


def shelve(folder: Path, *, progress: Progress | None = None) -> EncoderAccuracy:
    """Train the model of a folder's `training.toml`, save it there, and return how well it does.

    Args:
        folder: Where the recipe is, and where to save.
        progress: Called with the share that is done, and a few words.
    """
    recipe = read_toml(folder / RECIPE, "write it anew")
    settings = Settings(**recipe["train"])
    to_learn = lesson(recipe, settings.seed)
    encoder = untrained(to_learn, folder.name)
    _, values = stacked(encoder, to_learn.sources)
    losses = fit(
        encoder.model,
        encoder.family.given,
        values,
        to_learn.labels,
        settings,
        change=to_learn.change,
        progress=progress,
    )
    _save(folder, encoder, {})
    measured = encoder_accuracy(load_encoder(folder), to_learn.held_out, to_learn.true)
    _save(folder, encoder, _facts(folder, recipe, to_learn, losses, measured))
    return measured


def untrained(to_learn: Lesson, name: str) -> Encoder:
    """A lesson's model with random weights.

    Args:
        to_learn: The lesson.
        name: The model's.
    """
    card = encoder_card(to_learn.model, name, Path(), "0" * 64, "")
    return Encoder(name, to_learn.model, card, to_learn.settings)


def _save(folder: Path, encoder: Encoder, facts: dict[str, Any]) -> None:
    """Save the model in half precision with its recipe, its preprocessing, and its card."""
    recipe = (folder / RECIPE).read_text(encoding="utf-8")
    half = {name: value.half() for name, value in encoder.model.state_dict().items()}
    settings = json.dumps(encoder.settings, indent=2) + "\n"

    def write(part: Path) -> None:
        encoder.model.save_pretrained(part, state_dict=half)
        for path in part.iterdir():
            path.chmod(0o644)
        (part / PREPROCESSOR).write_text(settings, encoding="utf-8")
        (part / RECIPE).write_text(recipe, encoding="utf-8")
        write_card(part, facts)

    write_folder(folder, write)


def _facts(
    folder: Path,
    recipe: dict[str, Any],
    learned: Lesson,
    losses: list[float],
    measured: EncoderAccuracy,
) -> dict[str, Any]:
    """The card's fields."""
    accuracy = measured.accuracy
    return {
        **load_encoder(folder).card.to_dict(),
        "source": "bundled",
        "sha256": hash_files(folder.glob("*.safetensors")),
        "licence": recipe["licence"],
        "notes": recipe["notes"],
        "created": date.today().isoformat(),
        "command": f"python -m workbench.encoders.shelve {folder.name}",
        "data": learned.data,
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


def _tell(done: float, words: str) -> None:
    print(f"{done:4.0%} {words}", flush=True)


if __name__ == "__main__":
    print(shelve(paths.shelf("models") / sys.argv[1], progress=_tell))
