"""How likely a model finds a picture under each class: classification without a classifier."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from workbench.data.digits import CLASSES, PIXELS, SIDE, digits
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.pictures.palette import checked, rows_of
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, estimate_mean
from workbench.subjects import Subject, SubjectOrName

BATCH = 256
"""Pictures in one forward pass."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Classified(Record):
    """Images classified by likelihood.

    - `log_likelihood`: of the 64 pixels after each class token, in nats
    - `probability`: of each class given the pixels, all classes being equally likely before
    - `labels`: the true digits; None if they were not given, and then there is no `accuracy` or
      `bits_per_pixel`
    - `accuracy`: share of images whose likeliest class is the true one
    - `bits_per_pixel`: minus the log-likelihood after the true class, in bits, by 64 pixels
    """

    subject: str
    sha256: str
    images: Int[np.ndarray, "image row column"]
    log_likelihood: Float[np.ndarray, "image digit"]
    probability: Float[np.ndarray, "image digit"]
    labels: Int[np.ndarray, " image"] | None
    accuracy: Estimate | None
    bits_per_pixel: Estimate | None
    n: int

    @property
    def predicted(self) -> Int[np.ndarray, " image"]:
        """The likeliest digit of each image."""
        return self.log_likelihood.argmax(1)

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the images, a byte a pixel."""
        return {"images": hashlib.sha256(self.images.astype(np.uint8).tobytes()).hexdigest()}

    def headline(self) -> str:
        """The result in a few words."""
        if self.accuracy is None:
            return f"digits {', '.join(map(str, self.predicted[:8].tolist()))}"
        return (
            f"accuracy {self.accuracy.value:.3f} "
            f"[{self.accuracy.low:.3f}, {self.accuracy.high:.3f}]"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per image and class."""
        image, digit = np.indices(self.probability.shape)
        frame = pd.DataFrame(
            {
                "image": image.ravel(),
                "digit": digit.ravel(),
                "log_likelihood": self.log_likelihood.ravel(),
                "probability": self.probability.ravel(),
            }
        )
        if self.labels is not None:
            frame["label"] = self.labels[frame["image"]]
        return frame


@public("subject")
@own_modes
def classify_pictures(
    subject: SubjectOrName,
    images: np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Classified:
    """Images classified by Bayes' rule: which class token makes the pixels likeliest?

    Args:
        subject: A model of pictures.
        images: Grey levels 0 to 16, `[row, column]` or `[image, row, column]`; None for the digits
            that no model here trained on (`digits("test")`).
        labels: The true digits, if they are known.
        limit: How many images to take from the beginning; None for all.
        progress: Called with the share that is done, and a few words.

    Raises:
        WorkbenchError: The model reads no pictures, or images and labels do not fit.
    """
    subject = cast(Subject, subject)
    if images is None:
        held_out = digits("test")
        images = held_out.images
        labels = held_out.labels
    stack = checked(images)[:limit]
    if not len(stack):
        raise WorkbenchError(f"limit is {limit}; it must be 1 or more.")
    scores = log_likelihoods(subject, stack, progress=progress)
    true = None if labels is None else _labels(labels, checked(images))[: len(stack)]
    accuracy = None
    bits = None
    if true is not None:
        accuracy = estimate_mean((scores.argmax(1) == true).astype(float))
        nats = scores[np.arange(len(true)), true]
        bits = estimate_mean(-nats / PIXELS / np.log(2))
    return Classified(
        subject=subject.name,
        sha256=subject.hash,
        images=stack,
        log_likelihood=scores,
        probability=posterior(scores),
        labels=true,
        accuracy=accuracy,
        bits_per_pixel=bits,
        n=len(stack),
    )


def _labels(labels: Any, images: np.ndarray) -> Int[np.ndarray, " image"]:
    """The labels as an array. Raises `WorkbenchError` where they do not fit the images."""
    true = np.atleast_1d(np.asarray(labels))
    fits = true.dtype.kind in "iu" and true.shape == (len(images),)
    if not fits or not ((true >= 0) & (true < len(CLASSES))).all():
        raise WorkbenchError(
            f"There are {len(images)} images, and the labels are {np.size(true)} values; give one "
            "digit from 0 to 9 for each image."
        )
    return true.astype(np.int64)


def posterior(scores: Float[np.ndarray, "image digit"]) -> Float[np.ndarray, "image digit"]:
    """The probability of each class, from log-likelihoods in nats and equal priors."""
    ratios = np.exp(scores - scores.max(1, keepdims=True))
    return ratios / ratios.sum(1, keepdims=True)


@torch.no_grad()
def log_likelihoods(
    subject: Subject,
    images: Int[np.ndarray, "image row column"],
    *,
    rows: int = SIDE,
    progress: Progress | None = None,
) -> Float[np.ndarray, "image digit"]:
    """The log-likelihood of every image's first rows after each class token, in nats.

    Args:
        subject: A model of pictures.
        images: Grey levels.
        rows: How many rows of pixels count, from the top.
        progress: Called with the share that is done, and a few words.
    """
    n_digits = len(CLASSES)
    stated = np.tile(np.arange(n_digits), len(images))
    ids = rows_of(subject, images.repeat(n_digits, 0), stated.tolist())[:, : rows * SIDE + 1]
    scores = []
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        logits = subject.model(batch[:, :-1], use_cache=False).logits
        log_probs = logits.double().log_softmax(-1)  # [picture, pixel, d_vocab]
        scores.append(log_probs.gather(-1, batch[:, 1:, None])[..., 0].sum(1).cpu())
        if progress is not None:
            done = min(len(ids), first + BATCH)
            progress(done / len(ids), f"{done // n_digits:,} of {len(images):,} pictures")
    return torch.cat(scores).numpy().reshape(len(images), n_digits)
