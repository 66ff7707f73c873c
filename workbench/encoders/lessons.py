"""What the bundled encoders learn: digits in patches of pixels, and pitches of generated tones."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from workbench.data.digits import CLASSES, digits
from workbench.data.tones import tone
from workbench.encoders.training import Change, shifted

DIGIT_SETTINGS = {
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
"""Paper after `DIGIT_SETTINGS`."""
PITCHES = {"A3": 220.0, "E4": 329.6, "A4": 440.0, "E5": 659.3, "A5": 880.0}
"""The notes that are told apart, in hertz."""
DETUNED = 0.03
"""A tone is off its note by up to this share."""
LEARNED = 500
TESTED = 300
"""Tones to learn from and to be tested on."""


class Lesson(NamedTuple):
    """What a model learns.

    - `model`: with random weights; `settings`: how its input is made
    - `sources`, `labels`: to learn from; `held_out`, `true`: to be tested on
    - `change`: what is done to a batch; None for nothing
    - `data`: the data in words
    """

    model: PreTrainedModel
    settings: dict[str, Any]
    sources: list[np.ndarray]
    labels: Int[Tensor, " n"]
    held_out: list[np.ndarray]
    true: Int[np.ndarray, " n"]
    change: Change | None
    data: str


def lesson(recipe: dict[str, Any], seed: int) -> Lesson:
    """The lesson of a recipe: `data = "digits"` or `data = "tones"`.

    Args:
        recipe: The file's tables.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    return {"digits": _digits, "tones": _tones}[recipe["data"]](recipe)


def _digits(recipe: dict[str, Any]) -> Lesson:
    known = digits("train")
    held_out = digits("test")
    names = [name.removeprefix("d") for name in CLASSES]
    return Lesson(
        ViTForImageClassification(ViTConfig(**_named(names), **recipe["model"])),
        DIGIT_SETTINGS,
        list(known.images),
        torch.from_numpy(known.labels),
        list(held_out.images),
        held_out.labels,
        shifted(recipe["shift"], PAPER),
        f"digits, the part train ({known.n} images)",
    )


def _tones(recipe: dict[str, Any]) -> Lesson:
    model = recipe["model"]
    settings = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "sampling_rate": 16_000,
        "num_mel_bins": model["num_mel_bins"],
        "max_length": model["max_length"],
        "do_normalize": True,
        "mean": recipe["mean"],
        "std": recipe["std"],
    }
    sources, labels = tones(LEARNED, seed=0)
    held_out, true = tones(TESTED, seed=LEARNED)
    return Lesson(
        ASTForAudioClassification(ASTConfig(**_named(list(PITCHES)), **model)),
        settings,
        sources,
        torch.from_numpy(labels),
        held_out,
        true,
        None,
        f"{LEARNED} generated tones (wb.tone), off their note by up to {DETUNED:.0%}",
    )


def tones(n: int, *, seed: int) -> tuple[list[np.ndarray], Int[np.ndarray, " n"]]:
    """Tones of random notes, and the number of each one's note.

    Args:
        n: How many.
        seed: Of the first one; tone `i` has the seed `seed + i`.
    """
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, len(PITCHES), n)
    off = 1 + chance.uniform(-DETUNED, DETUNED, n)
    pitches = np.array(list(PITCHES.values()))[labels] * off
    return [tone(float(p), seed=seed + i) for i, p in enumerate(pitches)], labels


def _named(names: list[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }
