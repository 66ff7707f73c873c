"""Pictures that a model draws: digits of a class, and the lower part of a half picture."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from workbench.data.digits import CLASSES, PIXELS, SIDE
from workbench.errors import WorkbenchError
from workbench.generation import Request, Sampling, write
from workbench.modes import own_modes
from workbench.pictures.likelihood import log_likelihoods, posterior
from workbench.pictures.palette import Palette, checked_digit, one, palette, rows_of
from workbench.public import public
from workbench.records import Record
from workbench.subjects import Subject, SubjectOrName

MOST = 200
"""Most pictures drawn at once."""


@dataclass(frozen=True)
class Drawn(Record):
    """Pictures that a model drew.

    - `digits`: the class token that each picture began with
    - `rows`: rows of pixels that were given, from the top; 0 for whole pictures
    - `class_probability`: of each class given these rows; None where the class was given
    - `n`: number of pictures
    """

    subject: str
    sha256: str
    images: Int[np.ndarray, "image row column"]
    digits: Int[np.ndarray, " image"]
    rows: int
    class_probability: Float[np.ndarray, " digit"] | None
    temperature: float
    seed: int
    n: int

    def headline(self) -> str:
        """The result in a few words."""
        shown = ", ".join(map(str, self.digits[:8].tolist()))
        return f"pictures of {shown}" + (f", the first {self.rows} rows given" * (self.rows > 0))

    def to_frame(self) -> pd.DataFrame:
        """One row per picture: its class and its 64 grey levels."""
        columns = [f"pixel_{i}" for i in range(PIXELS)]
        pixels = pd.DataFrame(self.images.reshape(self.n, PIXELS), columns=columns)
        return pd.concat([pd.DataFrame({"digit": self.digits}), pixels], axis=1)


@public("subject")
@own_modes
def draw_digits(
    subject: SubjectOrName, digit: int, n: int = 8, *, temperature: float = 1.0, seed: int = 0
) -> Drawn:
    """Digits of one class, drawn pixel by pixel.

    Args:
        subject: A model of pictures.
        digit: 0 to 9.
        n: How many to draw, each with a random state of its own.
        temperature: 1 draws from the model's own distribution of grey levels; lower is safer, and
            0 takes the likeliest level.
        seed: Of the draws; the first pictures of a longer series are those of a shorter one.

    Raises:
        WorkbenchError: The model reads no pictures, or a value is out of range.
    """
    subject = cast(Subject, subject)
    ids = palette(subject)
    classes = np.full(_number(n), checked_digit(digit))
    images = _drawn(subject, ids, [[ids.classes[digit]]] * n, temperature, seed)
    settings = {"temperature": temperature, "seed": seed, "n": n}
    return Drawn(subject.name, subject.hash, images, classes, 0, None, **settings)


@public("subject")
@own_modes
def complete_picture(
    subject: SubjectOrName,
    image: np.ndarray,
    *,
    rows: int = SIDE // 2,
    digit: int | None = None,
    n: int = 6,
    temperature: float = 1.0,
    seed: int = 0,
) -> Drawn:
    """A picture of which the first rows are given, completed `n` times.

    Args:
        subject: A model of pictures.
        image: Grey levels 0 to 16, `[row, column]`; what is below `rows` does not matter.
        rows: Rows that are given, 1 to 7.
        digit: The class; None draws one for each picture, by the probability that the given rows
            leave it (Bayes' rule with equal priors).
        n: How many to draw.
        temperature: As for `draw_digits`.
        seed: Of the draws.

    Raises:
        WorkbenchError: The model reads no pictures, or a value is out of range.
    """
    subject = cast(Subject, subject)
    ids = palette(subject)
    picture = one(image)
    if not 1 <= rows < SIDE:
        raise WorkbenchError(f"rows is {rows}; give 1 to {SIDE - 1} of the {SIDE} rows.")
    if digit is None:
        chances = posterior(log_likelihoods(subject, picture[None], rows=rows))[0]
        classes = np.random.default_rng(seed).choice(len(CLASSES), _number(n), p=chances)
    else:
        chances = None
        classes = np.full(_number(n), checked_digit(digit))
    given = rows_of(subject, picture[None].repeat(n, 0), classes.tolist())
    prompts = given[:, : 1 + rows * SIDE].tolist()
    images = _drawn(subject, ids, prompts, temperature, seed)
    settings = {"temperature": temperature, "seed": seed, "n": n}
    return Drawn(subject.name, subject.hash, images, classes, rows, chances, **settings)


def _number(n: int) -> int:
    """The number of pictures. Raises `WorkbenchError` where it is out of range."""
    if not 1 <= n <= MOST:
        raise WorkbenchError(f"n is {n}; draw 1 to {MOST} pictures at once.")
    return n


def _drawn(
    subject: Subject, ids: Palette, prompts: list[list[int]], temperature: float, seed: int
) -> Int[np.ndarray, "image row column"]:
    """Pictures that go on from token ids, one of each; only grey levels are drawn."""
    seeds = np.random.SeedSequence(seed).generate_state(len(prompts)).tolist()
    greys = list(ids.greys)
    requests = [
        Request(
            prompt=prompt,
            most=1 + PIXELS - len(prompt),
            sampling=Sampling(temperature=temperature, seed=own),
            allowed=lambda written: greys,
        )
        for prompt, own in zip(prompts, seeds, strict=True)
    ]
    level = {token: number for number, token in enumerate(ids.greys)}
    written = [
        [*prompt[1:], *completion.ids]
        for prompt, completion in zip(prompts, write(subject, requests), strict=True)
    ]
    return np.array([[level[i] for i in row] for row in written]).reshape(-1, SIDE, SIDE)
