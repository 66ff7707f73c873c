"""The bundled model of pictures: `python -m workbench.pictures.shelve` trains it anew.

It is measured as it is stored, in half precision, and the numbers go into its card.
"""

import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

from workbench import paths
from workbench.pictures.likelihood import Classified, classify_pictures
from workbench.statistics import Estimate
from workbench.store import Run
from workbench.subjects import load
from workbench.subjects.card import hash_files, write_card
from workbench.subjects.save import save
from workbench.training import train

SHELF = "shelf-digits"


def shelve(run: Run, folder: Path) -> Classified:
    """Save a finished run's model with its card, and return how well it does on held-out digits.

    Args:
        run: A run of the recipe.
        folder: Where to save; an existing folder is replaced.
    """
    trained = load(f"run:{run.id}")
    save(folder, trained.model, trained.tokenizer, dtype=torch.float16)
    measured = classify_pictures(load(folder))
    result = run.result or {}
    assert measured.accuracy is not None
    assert measured.bits_per_pixel is not None
    facts = {
        "name": SHELF,
        "source": "bundled",
        "sha256": hash_files(folder.glob("*.safetensors")),
        "created": date.today().isoformat(),
        "command": "python -m workbench.pictures.shelve",
        "data": f"digits, the part train; data hash {result['data_hash']}",
        "metrics": {
            "validation_loss_nats": result["validation_loss"],
            "steps": result["steps"],
            "tokens": result["tokens"],
            "accuracy_held_out": _interval(measured.accuracy),
            "bits_per_pixel_held_out": _interval(measured.bits_per_pixel),
        },
    }
    write_card(folder, {**trained.card.to_dict(), **facts})
    return measured


def _interval(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
    }


if __name__ == "__main__":
    target = Path(*sys.argv[1:]) if sys.argv[1:] else paths.shelf("models") / SHELF
    print(shelve(train(SHELF), target))
