"""Generated sounds: tones of a pitch with overtones, noise and a loudness drawn at random."""

import numpy as np
from jaxtyping import Float

from workbench.errors import WorkbenchError
from workbench.public import public

LONGEST = 60.0
"""Longest tone in seconds."""


@public()
def tone(
    pitch: float,
    *,
    seconds: float = 0.33,
    rate: int = 16_000,
    noise: float = 0.02,
    seed: int = 0,
) -> Float[np.ndarray, " sample"]:
    """A tone with two overtones, as samples from -1 to 1.

    Args:
        pitch: Hertz.
        seconds: How long, up to `LONGEST`.
        rate: Samples a second.
        noise: Standard deviation of the noise.
        seed: Of loudness, beginning and noise.

    Raises:
        WorkbenchError: A value is out of range.
    """
    if not 0 < pitch * 3 < rate / 2 or not 0 < seconds <= LONGEST or not noise >= 0:
        raise WorkbenchError(
            f"A tone of {pitch} Hz, {seconds} seconds and noise {noise} cannot be made at {rate} "
            f"samples a second; give a pitch up to {rate // 6} Hz and at most {LONGEST:.0f} "
            "seconds."
        )
    chance = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate + chance.uniform(0, 1)
    waves = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
    loud = chance.uniform(0.1, 0.4)
    return (loud * waves / 2 + noise * chance.normal(size=len(time))).clip(-1, 1)
