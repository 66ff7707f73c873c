"""Sounds as input of an audio model: a log-mel spectrogram (AST) or the waveform (HuBERT)."""

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.encoders.waves import LONGEST, Wave, read_wave
from workbench.errors import WorkbenchError
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import PREPROCESSOR

RATE = 16_000
"""Samples a second where a model's files do not say."""
FRAME = 160
"""Samples between frames of a spectrogram."""
WINDOW = 400
"""Samples of a frame."""
DRAWN = 64
"""Mel bands of the spectrogram that is drawn where the model reads the waveform."""
EPSILON = 1e-7
"""Added to a waveform's variance before it is divided by, as HuBERT's own extractor does."""


def rate_of(encoder: Encoder) -> int:
    """Samples a second that a model hears. Raises `WorkbenchError` for a rate that none has."""
    rate = encoder.settings.get("sampling_rate", RATE)
    if isinstance(rate, bool) or not isinstance(rate, int) or not 4_000 <= rate <= 96_000:
        raise WorkbenchError(
            f"{PREPROCESSOR} of {encoder.name}: sampling_rate is {rate!r}; give samples a second, "
            "such as 16000."
        )
    return rate


def heard(encoder: Encoder, source: Any) -> Wave:
    """A sound at a model's rate, from a WAV file or from an array at that rate.

    Raises:
        WorkbenchError: It is no sound.
    """
    rate = rate_of(encoder)
    if not isinstance(source, np.ndarray):
        return read_wave(source, rate)
    numbers = source.ndim == 1 and source.dtype.kind == "f" and bool(np.isfinite(source).all())
    if not numbers or not 0 < len(source) <= LONGEST * rate or np.abs(source).max() > 1:
        raise WorkbenchError(
            f"The sound is an array of {source.dtype} and of the shape {source.shape}; give "
            f"samples from -1 to 1 at {rate:,} a second, up to {LONGEST:.0f} seconds, or a WAV "
            "file."
        )
    return Wave(source.astype(np.float64), "array", [])


def spectral_values(encoder: Encoder, wave: Wave) -> tuple[Float[Tensor, "frame band"], list[str]]:
    """A sound as AST reads it, padded or cut to the model's length, and what was changed."""
    extractor = _extractor(encoder)
    config: Any = encoder.model.config
    n_frames = max(0, 1 + (len(wave.samples) - WINDOW) // FRAME)
    if n_frames < 1:
        raise WorkbenchError(
            f"{wave.name} has {len(wave.samples)} samples, fewer than one frame of {WINDOW}; give "
            "a longer sound."
        )
    remarks = []
    seconds = config.max_length * FRAME / rate_of(encoder)
    if n_frames > config.max_length:
        remarks.append(f"The first {seconds:.2f} seconds are heard.")
    elif n_frames < config.max_length:
        remarks.append(f"Padded to {seconds:.2f} seconds.")
    values = extractor(
        wave.samples.astype(np.float32),
        sampling_rate=rate_of(encoder),
        return_tensors="pt",
    )["input_values"]
    return torch.as_tensor(values)[0].float(), remarks


def _extractor(encoder: Encoder) -> Any:
    """Transformers' own feature extractor, with settings that fit the model."""
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer as ast,
    )

    stated = encoder.settings
    config: Any = encoder.model.config
    for word, own in (("max_length", config.max_length), ("num_mel_bins", config.num_mel_bins)):
        if stated.get(word, own) != own:
            raise WorkbenchError(
                f"{PREPROCESSOR} of {encoder.name} has {word} {stated[word]!r}, and the model "
                f"reads {own}; correct one of the two."
            )
    numbers = {word: stated[word] for word in ("mean", "std") if word in stated}
    for word, value in numbers.items():
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not np.isfinite(value) or (word == "std" and value <= 0):
            raise WorkbenchError(
                f"{PREPROCESSOR} of {encoder.name}: {word} is {value!r}; give a number, std above "
                "0."
            )
    return ast.ASTFeatureExtractor(
        sampling_rate=rate_of(encoder),
        num_mel_bins=config.num_mel_bins,
        max_length=config.max_length,
        do_normalize=bool(stated.get("do_normalize", True)),
        **numbers,
    )


def wave_values(encoder: Encoder, wave: Wave) -> Float[Tensor, " sample"]:
    """A sound as HuBERT reads it: normalised where its files say so."""
    samples = wave.samples
    (shortest,) = encoder.family.shape(encoder.model.config)
    if len(samples) < shortest:
        raise WorkbenchError(
            f"{wave.name} has {len(samples)} samples; {encoder.name} needs {shortest} for eight "
            "frames: give a longer sound."
        )
    if encoder.settings.get("do_normalize", True):
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + EPSILON)
    return torch.from_numpy(samples.astype(np.float32))


def drawn(wave: Wave, rate: int) -> Float[np.ndarray, "band frame"]:
    """A log-mel spectrogram for the eye alone, in natural logarithms of power."""
    from transformers.audio_utils import spectrogram

    window, filters = _filters(rate)
    padded = np.pad(wave.samples, (0, max(0, WINDOW - len(wave.samples))))
    return spectrogram(
        padded,
        window,
        frame_length=WINDOW,
        hop_length=FRAME,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1e-10,
    )


@cache
def _filters(rate: int) -> tuple[np.ndarray, np.ndarray]:
    from transformers.audio_utils import mel_filter_bank, window_function

    filters = mel_filter_bank(257, DRAWN, 20, rate // 2, rate)
    return window_function(WINDOW, "hann", periodic=False), filters
