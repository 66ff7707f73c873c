"""Families of encoders that see or hear: their input, their blocks, and how a class is read off.

| family | positions | what the classifier reads |
|---|---|---|
| ViT | a class token, then patches row by row | the class token after the final norm |
| AST | two tokens (class, distillation), then patches of frequency by time | the mean of both |
| HuBERT | frames of the waveform | the mean over all frames, after a projection |
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForImageClassification

from workbench.errors import WorkbenchError


class Grid(NamedTuple):
    """How patches lie on what was read, in its pixels (of a spectrogram: mel bands and frames).

    - `rows`, `columns`: number of patches; position `special + row * columns + column`
    - `size`, `step`: height and width of a patch, and distance between patches
    """

    rows: int
    columns: int
    size: tuple[int, int]
    step: tuple[int, int]


@dataclass(frozen=True)
class Family:
    """A family of encoders; the base class of one class a `model_type`.

    - `modality`: what it reads, `picture` or `sound`
    - `given`: name of the model's argument
    - `trunk`: attribute of the model without its classifier
    - `special`: tokens before the patches
    - `reader`: the class of transformers that reads models with a classifier
    """

    modality: ClassVar[str] = ""
    given: ClassVar[str] = ""
    trunk: ClassVar[str] = ""
    special: ClassVar[tuple[str, ...]] = ()
    reader: ClassVar[Any] = AutoModel

    def shape(self, config: Any) -> tuple[int, ...]:
        """The shape of the model's input without a batch axis; a sound's shortest."""
        raise NotImplementedError

    def grid(self, model: Any, shape: tuple[int, ...]) -> Grid:
        """The patches of an input of this shape."""
        raise NotImplementedError

    def normed(self, model: Any, resid: Float[Tensor, "*batch d_model"]) -> Tensor:
        """The residual stream after the last block as the classifier reads it."""
        return self.of(model).layernorm(resid)

    def pool(self, normed: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch d_model"]:
        """What the classifier reads of all positions."""
        raise NotImplementedError

    def classify(self, model: Any, pooled: Float[Tensor, "*batch d_model"]) -> Tensor:
        """The classifier itself."""
        return model.classifier(pooled)

    def of(self, model: Any) -> Any:
        """The model without its classifier."""
        return getattr(model, self.trunk, model)

    def viewed(self, model: Any) -> Any:
        """The part of the model that TransformerLens has a view of."""
        return model

    def check(self, config: Any, name: str) -> None:
        """Raise `WorkbenchError` for a configuration that is not known here."""


class ViT(Family):
    """Vision transformers (Dosovitskiy et al. 2020)."""

    modality = "picture"
    given = "pixel_values"
    trunk = "vit"
    special = ("class",)
    reader = AutoModelForImageClassification

    def shape(self, config: Any) -> tuple[int, ...]:
        """Channels, rows and columns."""
        return config.num_channels, *_pair(config.image_size)

    def grid(self, model: Any, shape: tuple[int, ...]) -> Grid:
        """Patches that do not overlap."""
        size = _pair(model.config.patch_size)
        return Grid(shape[1] // size[0], shape[2] // size[1], size, size)

    def pool(self, normed: Tensor) -> Tensor:
        """The class token."""
        return normed[:, 0]


class AST(Family):
    """Audio spectrogram transformers (Gong et al. 2021)."""

    modality = "sound"
    given = "input_values"
    trunk = "audio_spectrogram_transformer"
    special = ("class", "distillation")
    reader = AutoModelForAudioClassification

    def shape(self, config: Any) -> tuple[int, ...]:
        """Frames and mel bands."""
        return config.max_length, config.num_mel_bins

    def grid(self, model: Any, shape: tuple[int, ...]) -> Grid:
        """Patches of frequency (rows) by time (columns), which may overlap."""
        config = model.config
        size = _pair(config.patch_size)
        step = (config.frequency_stride, config.time_stride)
        rows = (shape[1] - size[0]) // step[0] + 1
        columns = (shape[0] - size[1]) // step[1] + 1
        return Grid(rows, columns, size, step)

    def pool(self, normed: Tensor) -> Tensor:
        """The mean of the class and the distillation token."""
        return (normed[:, 0] + normed[:, 1]) / 2


class Hubert(Family):
    """HuBERT (Hsu et al. 2021), which reads the waveform."""

    modality = "sound"
    given = "input_values"
    trunk = "hubert"
    reader = AutoModelForAudioClassification

    def shape(self, config: Any) -> tuple[int, ...]:
        """Samples of a sound of eight frames."""
        width = 8
        for size, step in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            width = (width - 1) * step + size
        return (width,)

    def grid(self, model: Any, shape: tuple[int, ...]) -> Grid:
        """One row of frames."""
        step = int(torch.tensor(model.config.conv_stride).prod())
        frames = int(self.of(model)._get_feat_extract_output_lengths(torch.tensor(shape[0])))
        return Grid(1, frames, (1, step), (1, step))

    def normed(self, model: Any, resid: Tensor) -> Tensor:
        """The stream itself, unless the blocks norm what they read and not what they write."""
        stable = model.config.do_stable_layer_norm
        return self.of(model).encoder.layer_norm(resid) if stable else resid

    def pool(self, normed: Tensor) -> Tensor:
        """The mean over frames."""
        return normed.mean(1)

    def classify(self, model: Any, pooled: Tensor) -> Tensor:
        """Projection and classifier: both linear, so that they may follow the mean."""
        return model.classifier(model.projector(pooled))

    def viewed(self, model: Any) -> Any:
        """The model without its classifier."""
        return self.of(model)

    def check(self, config: Any, name: str) -> None:
        """Refuse a classifier that reads all layers at once."""
        if getattr(config, "use_weighted_layer_sum", False):
            raise WorkbenchError(
                f"{name} reads its class off a weighted sum of all layers, so that no stream is "
                "what its classifier reads; choose a model with use_weighted_layer_sum off."
            )


FAMILIES: dict[str, Family] = {
    "vit": ViT(),
    "audio-spectrogram-transformer": AST(),
    "hubert": Hubert(),
}
"""`model_type` -> how it is read; `kinds.MODALITIES` has the same keys."""


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a configuration's size, which may be one number for both."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
