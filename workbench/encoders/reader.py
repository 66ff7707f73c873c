"""Records runs of an Encoder and replaces what one part gives: the engine's reader for signals."""

from collections.abc import Iterator
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.engine.branches import Recording
from workbench.interp.engine.reader import Reader
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone
from workbench.subjects.encoder import Encoder

AT_ONCE = 64
"""Inputs in one forward pass."""


class EncoderReader(Reader):
    """A Reader whose prompts are pictures or sounds; its logits are those of classes."""

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        super().__init__(cast(Subject, encoder))  # it reads name, card and model alone

    def components(self, subject: Any) -> Any:
        """The names of the model's parts."""
        return self.encoder.components

    def trial(self, subject: Any) -> dict[str, Tensor]:
        """Noise of the model's size, to find out how its blocks write."""
        shape = self.encoder.family.shape(self.encoder.model.config)
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        return self.encoder.given(noise)

    @torch.no_grad()
    def record(self, ids: Tensor, embeddings: Tensor | None = None) -> Recording:
        """One ordinary pass, with the activations of every layer; see `Recording`.

        Args:
            ids: Inputs `[batch, *input]`, called so by the engine.
            embeddings: Not used: inputs take gradients themselves.
        """
        recording = Recording()
        with self.lock, self._recording(recording):
            out = self.model(**self.encoder.given(ids))
        recording.logits = getattr(out, "logits", torch.empty(0))
        sides = zip(recording.resid, recording.attn_out, strict=False)
        recording.mid = [before + added for before, added in sides]
        return recording

    @torch.no_grad()
    def run(self, ids: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch label"]:
        """The logits of a run, under the changes of any `changed` context around it."""
        return self.model(**self.encoder.given(ids)).logits


_READERS: WeakKeyDictionary[Encoder, EncoderReader] = WeakKeyDictionary()
_CLONES: WeakKeyDictionary[Encoder, Any] = WeakKeyDictionary()


def encoder_reader(encoder: Encoder) -> EncoderReader:
    """The Encoder's reader, built once."""
    if encoder not in _READERS:
        _READERS[encoder] = EncoderReader(encoder)
    return _READERS[encoder]


@torch.no_grad()
def patterns(
    encoder: Encoder, values: Float[Tensor, "batch *input"]
) -> list[Float[Tensor, "batch head query key"]]:
    """The attention pattern of every layer, as the model itself computes it."""
    if encoder not in _CLONES:
        clone = shared_clone(encoder.model)
        clone.set_attn_implementation("eager")
        _CLONES[encoder] = clone
    out = _CLONES[encoder](**encoder.given(values), output_attentions=True)
    return [pattern.float() for pattern in out.attentions]


def batches(values: Float[Tensor, "n *input"]) -> Iterator[Float[Tensor, "batch *input"]]:
    """Inputs in parts that fit a forward pass."""
    yield from values.split(AT_ONCE)
