"""Tiny encoders of pictures and sounds with random weights, and files that they hear."""

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    HubertModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import encoder_card

RATE = 16_000
AST_SETTINGS = {"sampling_rate": RATE, "num_mel_bins": 32, "max_length": 32}
AST_SETTINGS |= {"mean": -6.0, "std": 4.0, "do_normalize": True}
VIT_SETTINGS = {
    **{"size": {"height": 12, "width": 8}, "resample": 2, "rescale_factor": 1 / 255},
    **{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
}


def encoder_of(model: PreTrainedModel, settings: dict[str, Any], name: str = "tiny") -> Encoder:
    """A model as an Encoder, its weights drawn large enough that attention differs by head."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return Encoder(name, model, encoder_card(model, name, Path(), "0" * 64, ""), settings)


def tiny_vit(**changes: Any) -> Encoder:
    """Pictures of 12 by 8 pixels in colour, 6 by 4 patches, five classes."""
    shape = {"image_size": (12, 8), "patch_size": 2, "num_channels": 3, "num_labels": 5}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = ViTConfig(**{**shape, **small, "intermediate_size": 32, **changes})
    return encoder_of(ViTForImageClassification(config), VIT_SETTINGS)


def tiny_ast(**changes: Any) -> Encoder:
    """Sounds of 32 frames and 32 mel bands, in 4 by 4 patches, four classes."""
    shape = {"max_length": 32, "num_mel_bins": 32, "patch_size": 8, "num_labels": 4}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    steps = {"frequency_stride": 8, "time_stride": 8, "intermediate_size": 32}
    torch.manual_seed(0)
    config = ASTConfig(**{**shape, **small, **steps, **changes})
    return encoder_of(ASTForAudioClassification(config), AST_SETTINGS)


def tiny_hubert(*, classifies: bool = True, stable: bool = False) -> Encoder:
    """Waveforms in frames of 20 samples, three classes."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        id2label={0: "low", 1: "middle", 2: "high"},
        label2id={"low": 0, "middle": 1, "high": 2},
        classifier_proj_size=8,
        do_stable_layer_norm=stable,
        feat_extract_norm="layer" if stable else "group",
    )
    built = HubertForSequenceClassification(config) if classifies else HubertModel(config)
    return encoder_of(built, {"sampling_rate": RATE, "do_normalize": True})


def folder_of(encoder: Encoder, folder: Path) -> Path:
    """The encoder saved as the folder that a user would have."""
    encoder.model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(encoder.settings))
    return folder


def wav(samples: np.ndarray, *, rate: int = RATE, width: int = 2, channels: int = 1) -> bytes:
    """A WAV file of PCM samples."""
    scaled = np.repeat(samples, channels)
    if width == 1:
        raw = np.rint(scaled * 127 + 128).astype(np.uint8).tobytes()
    else:
        wide = np.rint(scaled * (2.0 ** (8 * width - 1) - 1)).astype("<i4")
        raw = wide.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return stream.getvalue()
