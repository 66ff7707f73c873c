"""Runs of an encoder or encoder-decoder in which any activation is looked at or changed."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.interp.hooks import entering
from workbench.interp.stacks.attending import FIELDS, UnknownAttentionError, put_in, touched
from workbench.interp.stacks.structure import (
    CROSS,
    DECODER,
    ENCODER,
    Layer,
    inputs_of,
    structure_of,
)
from workbench.interp.stacks.texts import Texts
from workbench.subjects import Subject
from workbench.subjects.bridge import HALF_TOLERANCE, TOLERANCE, shared_clone
from workbench.subjects.stream import first

PARTS = {
    ENCODER: "encoder self-attention: the text attends to itself, both ways",
    DECODER: "decoder self-attention: what is written attends to what was written before",
    CROSS: "cross-attention: what is written attends to the text",
}
"""The attentions of an encoder-decoder; an encoder has the first."""


class Place(NamedTuple):
    """Where an activation stands: a part (one of `PARTS`), a field and a layer.

    Fields are `resid_pre`, `resid_post`, `mid`, `attn_out`, `mlp_out` `[batch, pos, d_model]`,
    `post` `[batch, pos, neuron]`, `q`, `k`, `v`, `z` `[batch, head, pos, d_head]` and `pattern`
    `[batch, head, query, key]`.
    """

    part: str
    field: str
    layer: int


Change = Callable[[Tensor], Tensor]
"""From the run's own activation to the one that goes on."""


class Stacks:
    """A Subject with a hold on every activation of its stacks.

    Raises:
        WorkbenchError: The model attends in a way that is not known here, or gives other logits
            with its attention written out.
    """

    def __init__(self, subject: Subject):
        self.what = f"{subject.card.architecture} ({subject.name})"
        self.n_heads = subject.card.n_heads
        self.model: Any = shared_clone(subject.model)
        put_in(self.model)
        try:
            self.structure = structure_of(self.model, self.what)
            self._check(subject)
        except UnknownAttentionError as error:
            raise WorkbenchError(
                f"{self.what} adds something to its attention that is not known here, so its "
                "patterns and activations cannot be read; choose a BERT or a T5."
            ) from error
        self.lock = threading.RLock()

    @property
    def parts(self) -> list[str]:
        """The parts that the model has."""
        return [part for part in PARTS if self.structure.of(part)]

    def n_layers(self, part: str) -> int:
        """The number of layers of a part."""
        return len(self.structure.of(part))

    def need_part(self, part: str) -> str:
        """The part, or the default one for "": cross-attention, or the encoder's.

        Raises:
            WorkbenchError: There is no such part.
        """
        part = part or self.parts[-1]
        if part not in self.parts:
            raise WorkbenchError(
                f"{self.what} has no part {part!r}; choose {' or '.join(self.parts)}."
            )
        return part

    def output(self, part: str, layer: int) -> Float[Tensor, "head d_head d_model"] | None:
        """The output matrix of an attention by head; None where it is no linear layer."""
        module = self.layer(part, layer).out
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear) or not isinstance(weight, Tensor):
            return None
        return weight.detach().T.unflatten(0, (self.n_heads, -1))

    @torch.no_grad()
    def _check(self, subject: Subject) -> None:
        ids = torch.arange(1, 6, device=subject.device)[None] % subject.d_embed
        target = ids[:, :3] if CROSS in self.parts else None
        given = inputs_of(self.model, ids, target)
        ours = self.model(**given).logits
        theirs = subject.model(**given).logits
        limit = TOLERANCE if theirs.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
        if not bool((ours - theirs).abs().max() <= limit * theirs.abs().max()):
            raise WorkbenchError(
                f"{self.what} gives other logits with its attention written out, so its patterns "
                "and activations cannot be read; choose a BERT or a T5."
            )

    def layer(self, part: str, layer: int) -> Layer:
        """One attention with the block around it."""
        return self.structure.of(part)[layer]

    @torch.no_grad()
    def run(
        self,
        ids: Int[Tensor, "batch pos"],
        target: Int[Tensor, "batch written"] | None = None,
        changes: Mapping[Place, Change] | None = None,
    ) -> Float[Tensor, "batch read vocab"]:
        """The logits of a run, at every token of the text or at every written one.

        Args:
            ids: The text.
            target: What the decoder has written so far, from its start token on; None for encoders.
            changes: What happens to activations, by their place.

        Raises:
            WorkbenchError: A place does not exist in this model.
        """
        changes = changes or {}
        calls = {(layer.part, layer.layer): i for i, layer in enumerate(self.structure.layers)}
        inner = {
            (calls[place.part, place.layer], place.field): change
            for place, change in changes.items()
            if place.field in FIELDS
        }

        def touch(call: int, what: str, x: Tensor) -> Tensor:
            change = inner.get((call, what))
            return x if change is None else change(x)

        outer = {place: change for place, change in changes.items() if place.field not in FIELDS}
        with self.lock, self._hung(outer), touched(touch):
            return self.model(**inputs_of(self.model, ids, target)).logits

    def look(
        self,
        texts: Texts,
        part: str,
        see: Callable[[int, Float[Tensor, "1 head query key"]], None],
        measure: Callable[[int, Float[Tensor, "1 kv_head key d_head"]], None] | None = None,
    ) -> None:
        """Run the model once and pass on the pattern of each layer of a part; none is kept.

        Args:
            texts: What the model reads.
            part: One of `parts`.
            see: Called with each layer's number and pattern.
            measure: Called with each layer's number and values.
        """

        def seen(layer: int, say: Callable[[int, Tensor], None]) -> Change:
            def change(x: Tensor) -> Tensor:
                say(layer, x.float())
                return x

            return change

        changes = {}
        for layer in range(self.n_layers(part)):
            changes[Place(part, "pattern", layer)] = seen(layer, see)
            if measure is not None:
                changes[Place(part, "v", layer)] = seen(layer, measure)
        self.run(texts.source, texts.written, changes)

    @contextmanager
    def _hung(self, changes: Mapping[Place, Change]) -> Iterator[None]:
        handles = []
        try:
            for place, change in changes.items():
                handles.append(self._hang(place, change))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hang(self, place: Place, change: Change) -> Any:
        layer = self.layer(place.part, place.layer)
        module = self.module(place)
        if place.field == "resid_pre":
            return module.register_forward_pre_hook(entering(change), with_kwargs=True)
        if place.field == "post":
            return module.register_forward_pre_hook(
                lambda _module, args: (change(args[0]), *args[1:])
            )
        if place.field == "mid" and layer.mid is None:
            raise AssertionError("sums are changed by what is added to them")
        return module.register_forward_hook(_leaving(change))

    def module(self, place: Place) -> nn.Module:
        """The module whose input or output is the activation at a place.

        Raises:
            WorkbenchError: The model has none.
        """
        layer = self.layer(place.part, place.layer)
        module = {
            "resid_pre": layer.block,
            "resid_post": layer.block,
            "mid": layer.mid,
            "attn_out": layer.out,
            "mlp_out": layer.mlp,
            "post": layer.mlp,
        }[place.field]
        if module is None:
            raise WorkbenchError(
                f"{self.what} has no {place.field} that can be told apart here; choose z, q, k, v "
                "or pattern."
            )
        return module

    def readable(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of the stream after the last layer.

        Raises:
            WorkbenchError: The model reads its logits in a way not known here.
        """
        end = self.structure.end
        if end.head is not None:
            return end.head(resid)
        if end.norm is None:
            raise WorkbenchError(
                f"{self.what} reads its logits off the last stream in a way that is not known "
                "here, so there is no lens; choose a BERT or a T5."
            )
        return self.model.get_output_embeddings()(end.norm(resid) * end.scale)


def _leaving(change: Change) -> Any:
    def hook(_module: nn.Module, _args: tuple, out: Any) -> Any:
        changed = change(first(out))
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    return hook


_STACKS: WeakKeyDictionary[Subject, Stacks] = WeakKeyDictionary()


@any_family
def stacks_of(subject: Subject) -> Stacks:
    """The Subject's stacks, found once.

    Raises:
        WorkbenchError: As `Stacks`.
    """
    if subject not in _STACKS:
        _STACKS[subject] = Stacks(subject)
    return _STACKS[subject]
