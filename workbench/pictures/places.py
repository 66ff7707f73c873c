"""Whether learned positions know that a row of pixels is a picture: similarity as 8 by 8 maps."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.data.digits import PIXELS, SIDE
from workbench.errors import WorkbenchError
from workbench.interp import position_encoding
from workbench.modes import own_modes
from workbench.pictures.palette import palette
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, estimate_mean
from workbench.subjects import Subject, SubjectOrName

ORDERS = 9999
"""Random orders of the positions in the permutation test."""


@dataclass(frozen=True)
class PositionMap(Record):
    """How similar the learned positions of the 64 pixels are.

    - `similarity`: cosine of the position vectors of each two pixels, after their mean is
      subtracted
    - `by_distance`: correlation of similarity with the distance on the picture, over all pairs of
      pixels; -1 would be perfect
    - `by_reading`: correlation with the distance in reading order, which is all that the model is
      told
    - `p`: of `by_distance`, by a permutation test over the order of positions (Mantel 1967)
    - `beyond_reading`: partial correlation of similarity with the distance on the picture, the
      distance in reading order being the same; `p_beyond` its p by the same test
    - `below`: similarity to the pixel below (8 further on) minus that to the pixel 4 further on,
      with an interval over columns; above 0 only if positions are two-dimensional
    """

    subject: str
    sha256: str
    similarity: Float[np.ndarray, "pixel other"]
    by_distance: float
    by_reading: float
    p: float
    beyond_reading: float
    p_beyond: float
    below: Estimate
    seed: int

    def headline(self) -> str:
        """The result in a few words."""
        return (
            f"similarity correlates {self.by_distance:+.2f} with the distance on the picture "
            f"(p = {self.p:.2g}), {self.by_reading:+.2f} with that in reading order"
        )

    def of_pixel(self, pixel: int) -> Float[np.ndarray, "row column"]:
        """The similarity of one pixel's position with all others, as a picture.

        Raises:
            WorkbenchError: There is no such pixel.
        """
        if not 0 <= pixel < PIXELS:
            raise WorkbenchError(f"There is no pixel {pixel}; give 0 to {PIXELS - 1}.")
        return self.similarity[pixel].reshape(SIDE, SIDE)

    def to_frame(self) -> pd.DataFrame:
        """One row per pair of pixels: similarity, and distances on the picture and in reading."""
        pixel, other = np.triu_indices(PIXELS, 1)
        return pd.DataFrame(
            {
                "pixel": pixel,
                "other": other,
                "similarity": self.similarity[pixel, other],
                "distance": _distances()[pixel, other],
                "reading": other - pixel,
            }
        )


@public("subject")
@own_modes
def position_map(subject: SubjectOrName, *, seed: int = 0) -> PositionMap:
    """How similar a model of pictures finds the positions of each two pixels.

    Args:
        subject: A model of pictures with learned positions.
        seed: Of the permutation test.

    Raises:
        WorkbenchError: The model reads no pictures, or has no learned positions.
    """
    subject = cast(Subject, subject)
    palette(subject)
    encoding = position_encoding(subject)
    if encoding.kind != "learned" or encoding.matrix is None:
        raise WorkbenchError(
            f"{subject.name} has the position encoding {encoding.kind}; only learned positions "
            "can turn out two-dimensional, so choose a model that has them."
        )
    vectors = encoding.matrix[1 : PIXELS + 1].astype(float)  # position 0 is the class
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    similarity = unit @ unit.T
    near, near_beyond = _correlations(similarity)
    p, p_beyond = _permuted(similarity, seed)
    return PositionMap(
        subject=subject.name,
        sha256=subject.hash,
        similarity=similarity,
        by_distance=near,
        by_reading=_correlation(similarity, _reading()),
        p=p,
        beyond_reading=near_beyond,
        p_beyond=p_beyond,
        below=_below(similarity),
        seed=seed,
    )


def _distances() -> Float[np.ndarray, "pixel other"]:
    """Euclidean distance of each two pixels on the picture, in pixels."""
    row, column = np.divmod(np.arange(PIXELS), SIDE)
    return np.hypot(np.subtract.outer(row, row), np.subtract.outer(column, column))


def _reading() -> Float[np.ndarray, "pixel other"]:
    """Distance of each two pixels in reading order."""
    return np.abs(np.subtract.outer(np.arange(PIXELS), np.arange(PIXELS))).astype(float)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two symmetric matrices over all pairs of pixels."""
    pairs = np.triu_indices(PIXELS, 1)
    return float(np.corrcoef(one[pairs], other[pairs])[0, 1])


def _correlations(similarity: np.ndarray) -> tuple[float, float]:
    """Correlation with the distance on the picture, plain and with reading distance held fixed."""
    near = _correlation(similarity, _distances())
    read = _correlation(similarity, _reading())
    between = _correlation(_distances(), _reading())
    partial = (near - read * between) / np.sqrt((1 - read**2) * (1 - between**2))
    return near, float(partial)


def _permuted(similarity: np.ndarray, seed: int) -> tuple[float, float]:
    """One-sided p of both correlations: how often a random order of positions has one as low."""
    rng = np.random.default_rng(seed)
    observed = np.array(_correlations(similarity))
    pairs = np.triu_indices(PIXELS, 1)
    distances = np.stack([_distances()[pairs], _reading()[pairs]])
    scaled = distances - distances.mean(1, keepdims=True)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    values = similarity[pairs] - similarity[pairs].mean()
    length = np.linalg.norm(values)
    between = float(scaled[0] @ scaled[1])
    lower = np.zeros(2)
    for _ in range(ORDERS):
        order = rng.permutation(PIXELS)
        shuffled = similarity[order[pairs[0]], order[pairs[1]]]
        near, read = scaled @ (shuffled - similarity[pairs].mean()) / length
        partial = (near - read * between) / np.sqrt((1 - read**2) * (1 - between**2))
        lower += np.array([near, partial]) <= observed
    return tuple(((lower + 1) / (ORDERS + 1)).tolist())


def _below(similarity: np.ndarray) -> Estimate:
    """Similarity 8 further on minus that 4 further on, for all pixels above the last row."""
    pixels = np.arange(PIXELS - SIDE)
    gain = similarity[pixels, pixels + SIDE] - similarity[pixels, pixels + SIDE // 2]
    return estimate_mean(gain, clusters=(pixels % SIDE).tolist())
