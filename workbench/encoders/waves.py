"""Sound files: a WAV of PCM samples as numbers from -1 to 1, at the rate that a model hears."""

import io
import wave
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.doors import path_of, reading
from workbench.errors import WorkbenchError

LARGEST = 20_000_000
"""Largest file in bytes."""
LONGEST = 60.0
"""Longest sound in seconds."""
RATES = (1_000, 192_000)
"""Samples a second, at least and at most."""
MEND = "give a WAV file of PCM samples (8, 16, 24 or 32 bits)"


class Wave(NamedTuple):
    """A sound: samples from -1 to 1, its name, and what was changed."""

    samples: Float[np.ndarray, " sample"]
    name: str
    remarks: list[str]


def read_wave(source: str | Path | bytes, rate: int) -> Wave:
    """A WAV file at a rate of samples a second; several channels become their mean.

    Args:
        source: A path, or the bytes of a file.
        rate: Samples a second that are wanted.

    Raises:
        WorkbenchError: It is no WAV of PCM samples, is damaged, empty, too large or too long.
    """
    content, name = _content(source)
    if len(content) > LARGEST:
        raise WorkbenchError(
            f"{name} has {len(content):,} bytes or more; a sound may have {LARGEST:,}: cut it."
        )
    with (
        reading(name, MEND, "is no WAV file that can be read"),
        wave.open(io.BytesIO(content)) as f,
    ):
        own = f.getframerate()
        n_channels = f.getnchannels()
        width = f.getsampwidth()
        raw = f.readframes(LARGEST)
    if not RATES[0] <= own <= RATES[1] or width > 4 or n_channels > 64:
        raise WorkbenchError(
            f"{name} states {own:,} samples a second of {8 * width} bits in {n_channels} channels; "
            f"{MEND} at {RATES[0]:,} to {RATES[1]:,} a second."
        )
    samples = _numbers(raw[: len(raw) // (width * n_channels) * width * n_channels], width)
    if not len(samples):
        raise WorkbenchError(f"{name} holds no sample; {MEND}.")
    samples = samples.reshape(-1, n_channels).mean(1)
    remarks = [f"The mean of {n_channels} channels."] if n_channels > 1 else []
    if len(samples) / own > LONGEST:
        raise WorkbenchError(
            f"{name} lasts {len(samples) / own:,.0f} seconds; a sound may last {LONGEST:.0f}: cut "
            "it."
        )
    if own != rate:
        remarks.append(f"Resampled from {own:,} to {rate:,} samples a second.")
        samples = _resampled(samples, own, rate)
    return Wave(samples, name, remarks)


def _content(source: str | Path | bytes) -> tuple[bytes, str]:
    """The bytes of a file and what messages call it; no more bytes than are needed to refuse it."""
    if isinstance(source, bytes):
        return source, "The sound"
    path = path_of(source, "sound")
    with reading(path, "give the path of a WAV file"), path.open("rb") as file:
        return file.read(LARGEST + 1), path.name


def _numbers(raw: bytes, width: int) -> Float[np.ndarray, " sample"]:
    """PCM samples of `width` bytes as numbers from -1 to 1; those of one byte are unsigned."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts  # the three upper bytes, so that the sign stays where it is
        return wide.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(raw, f"<i{width}") / 2.0 ** (8 * width - 1)


def _resampled(samples: np.ndarray, own: int, rate: int) -> Float[np.ndarray, " sample"]:
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    return resample_poly(samples, rate // common, own // common)
