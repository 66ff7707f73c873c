"""Encoder: a model of pictures or sounds with its card; what a Subject is for text."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.records import table_html
from workbench.subjects import identity
from workbench.subjects.bridge import shared_clone
from workbench.subjects.card import Card
from workbench.subjects.encoder_families import FAMILIES, Family, Grid


@dataclass(eq=False, repr=False)
class Encoder:
    """A model that sees or hears, wherever its weights come from.

    - `name`, `card`: as a Subject's; of the card `n_ctx` counts positions and `d_vocab` classes
    - `model`: a plain Hugging Face model in eval mode, without gradients
    - `settings`: `preprocessor_config.json`, how files become its input
    """

    name: str
    model: PreTrainedModel
    card: Card
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    def __repr__(self) -> str:
        """Name, architecture, size and hash on one line."""
        card = self.card
        shape = f"{card.n_layers} layers of {card.n_heads} heads, {card.n_params:,} parameters"
        return f"<Encoder {self.name}: {card.architecture}, {shape}; sha256 {self.hash[:12]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: the card."""
        return {"text/plain": repr(self), "text/html": table_html(self.to_frame(), repr(self))}

    def to_frame(self) -> pd.DataFrame:
        """The card as a table with one row per known fact."""
        facts = {k: v for k, v in self.card.to_dict().items() if v not in ("", {}, None)}
        return pd.DataFrame({"fact": list(facts), "value": [str(v) for v in facts.values()]})

    @property
    def family(self) -> Family:
        """How models of this kind are built and read."""
        return FAMILIES[self.model.config.model_type]

    @property
    def modality(self) -> str:
        """What it reads: `picture` or `sound`."""
        return self.family.modality

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.device

    @property
    def hash(self) -> str:
        """Hexadecimal sha256 over weights, configuration and preprocessing."""
        return identity.in_dtype(self.card.identity or self.card.sha256, self.model.dtype)

    @property
    def classifies(self) -> bool:
        """Whether it has a classifier; a bare HuBERT only encodes."""
        return hasattr(self.model, "classifier")

    @property
    def labels(self) -> list[str]:
        """The names of the classes; [] without a classifier."""
        names: dict[Any, Any] = self.model.config.id2label or {}
        return [str(names[i]) for i in sorted(names)] if self.classifies else []

    @property
    def reads_digits(self) -> bool:
        """Whether it reads 8 by 8 grey pixels as one of ten digits, as the bundled one does."""
        digits = [str(digit) for digit in range(10)]
        shape = self.family.shape(self.model.config)
        return self.modality == "picture" and shape == (1, 8, 8) and self.labels == digits

    def need_classes(self, what: str) -> None:
        """Raise `WorkbenchError` where there is no classifier.

        Args:
            what: What needs one, for the message.
        """
        if not self.classifies:
            raise WorkbenchError(
                f"{self.name} ({self.card.architecture}) has no classifier, so {what} has no "
                "meaning for it; look at its attention, or choose a model that classifies."
            )

    def label_id(self, label: str | int) -> int:
        """The number of a class, given by name or number.

        Raises:
            WorkbenchError: There is no such class.
        """
        known = self.labels
        if isinstance(label, str) and label in known:
            return known.index(label)
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(known):
            return label
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        raise WorkbenchError(f"{self.name} has no class {label!r}; it has {shown}.")

    def grid(self, values: Float[Tensor, "*input"]) -> Grid:
        """The patches of an input without a batch axis."""
        return self.family.grid(self.model, tuple(values.shape))

    def given(self, values: Float[Tensor, "batch *input"]) -> dict[str, Tensor]:
        """Inputs as the model's arguments, on its device and in its dtype."""
        return {self.family.given: values.to(self.device, self.model.dtype)}

    def logits(self, values: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch label"]:
        """The model's logits; keeps gradients."""
        return self.model(**self.given(values)).logits

    def by_position(
        self, resid: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos label"]:
        """The classifier applied to each position of a residual stream, after the final norm."""
        return self.family.classify(self.model, self.family.normed(self.model, resid))

    def pooled(self, resid: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch label"]:
        """The logits of a residual stream after the last block, read as the model reads its own."""
        normed = self.family.normed(self.model, resid)
        return self.family.classify(self.model, self.family.pool(normed))

    @cached_property
    def components(self) -> dict[str, Any]:
        """The names of the model's parts, from TransformerLens's architecture adapter."""
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

        viewed = self.family.viewed(self.model)
        prefix = "" if viewed is self.model else f"{self.family.trunk}."
        clone = shared_clone(viewed)
        clone.set_attn_implementation("eager")
        view = build_bridge_from_module(
            clone, type(clone).__name__, hf_config=clone.config, model_name=self.name
        )
        return {
            name: SimpleNamespace(name=f"{prefix}{part.name}", submodules=part.submodules)
            for name, part in (view.adapter.component_mapping or {}).items()
            if name in ("blocks", "ln_final")
        }


EncoderOrName = str | Path | Encoder
"""An encoder argument of a public function: a name or path, or an Encoder."""
