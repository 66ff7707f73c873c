"""Records runs of a Subject: the residual streams, what each part writes into them, the logits.

Works for any model whose blocks write into one residual stream, by plain hooks on a clone of its
modules; `subjects.stream` finds out which modules those are. The packed engine adds patched runs.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Recording
from workbench.interp.hooks import entering
from workbench.interp.norms import Norm, norm_of
from workbench.subjects import Subject
from workbench.subjects.bridge import shared_clone
from workbench.subjects.stream import BlockParts, Writer, first, stream_of

CACHES = ("cache", "past_key_values", "layer_past", "past_key_value")


class UnpackableError(WorkbenchError):
    """The model cannot be run by the packed engine; the hooks still work."""


class Reader:
    """Records ordinary runs, reads logits off streams, and replaces what one part gives."""

    def __init__(self, subject: Subject):
        mapping: Any = self.components(subject)
        self.what = f"{subject.card.architecture} ({subject.name})"
        self.stream = stream_of(subject.model, mapping, self.trial(subject))
        self.model: Any = shared_clone(subject.model)
        self.layers: Any = self.model.get_submodule(mapping["blocks"].name)
        self.n_heads = subject.card.n_heads
        self.d_model = subject.card.d_model
        self.norm: nn.Module = (
            self.model.get_submodule(self.stream.norm) if self.stream.norm else nn.Identity()
        )
        self.unembed: Any = self.model.get_output_embeddings()

        self.parallel = self.stream.parallel
        self.softcap = self.stream.softcap
        pairs = list(zip(self.layers, self.stream.blocks, strict=False))
        self.outputs: list[Any] = [layer.get_submodule(parts.output) for layer, parts in pairs]
        self.neurons: list[Any] = [
            None if parts.neurons is None else layer.get_submodule(parts.neurons)
            for layer, parts in pairs
        ]
        self.lock = threading.Lock()
        self._final: Norm | None = None

    def components(self, subject: Subject) -> Any:
        """The names of the model's parts, as TransformerLens's architecture adapter has them."""
        return subject.bridge.adapter.component_mapping

    def trial(self, subject: Subject) -> dict[str, Tensor] | None:
        """What the model reads to find out how its blocks write; None for a few tokens."""
        return None

    @property
    def blocks(self) -> tuple[BlockParts, ...]:
        """The parts of every block.

        Raises:
            WorkbenchError: They are not known for this model.
        """
        if self.stream.unlike:
            raise WorkbenchError(
                f"In {self.what} {self.stream.unlike}, so only its streams can be read; use "
                "resid_pre, resid_post or the logit lens."
            )
        return self.stream.blocks

    def need_neurons(self, layer: int) -> None:
        """Raise `WorkbenchError` where a layer's MLP has no neurons of its own."""
        if self.blocks[layer].neurons is None:
            raise WorkbenchError(
                f"The MLP of layer {layer} of {self.what} is no single matrix of neurons (a "
                "mixture of experts, perhaps); choose another site, such as mlp_out."
            )

    def writer(self, site: str, layer: int) -> tuple[nn.Module, Writer]:
        """The module that writes `attn_out` or `mlp_out` into the stream, and how it writes.

        For any other site (`mid`) it is attention's.
        """
        writer = self.blocks[layer].mlp if site == "mlp_out" else self.blocks[layer].attn
        return self.layers[layer].get_submodule(writer.module), writer

    @torch.no_grad()
    def record(
        self,
        ids: Int[Tensor, "batch pos"],
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Recording:
        """One ordinary pass, with the activations of every layer; see `Recording`.

        Args:
            ids: Token ids of prompts of equal length.
            embeddings: What the model reads in place of the tokens' embeddings; None for these.
        """
        return self.trace(ids, embeddings)

    def trace(
        self,
        ids: Int[Tensor, "batch pos"],
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Recording:
        """Like `record`, but keeps gradients where `embeddings` ask for them.

        Args:
            ids: Token ids of prompts of equal length.
            embeddings: What the model reads in place of the tokens' embeddings; None for these.
        """
        recording = Recording()
        given = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
        with self.lock, self._recording(recording):
            recording.logits = self.model(**given, use_cache=False).logits
        sides = zip(recording.resid, recording.attn_out, strict=False)
        recording.mid = [before + added for before, added in sides]
        return recording

    @contextmanager
    def _recording(self, recording: Recording) -> Iterator[None]:
        """Fill a recording with what passes while the context lasts."""
        last: list[Tensor] = []
        handles = [
            layer.register_forward_pre_hook(_enter(recording), with_kwargs=True)
            for layer in self.layers
        ]
        for layer in range(len(self.stream.blocks)):
            for site, where in (("attn_out", recording.attn_out), ("mlp_out", recording.mlp_out)):
                module, writer = self.writer(site, layer)
                keep = _keep_written(writer, where, recording.resid)
                handles.append(module.register_forward_hook(keep, with_kwargs=True))
            keep = _keep_entered(recording.z, recording.resid, self.n_heads)
            handles.append(self.outputs[layer].register_forward_pre_hook(keep))
            if self.neurons[layer] is not None:
                keep = _keep_entered(recording.post, recording.resid, None)
                handles.append(self.neurons[layer].register_forward_pre_hook(keep))
            else:
                keep = _keep_none(recording.post, recording.resid)
                handles.append(self.layers[layer].register_forward_hook(keep))
        end = self.layers[-1]
        handles.append(end.register_forward_hook(lambda _m, _args, out: last.append(first(out))))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        recording.resid += last

    @contextmanager
    def changed(self, site: str, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace the activation at a site by `change` of it while the context lasts.

        Args:
            site: `resid_pre`, `resid_post`, `attn_out`, `mlp_out` `[batch, pos, d_model]`, `z`
                `[batch, pos, head, d_head]` or `post` `[batch, pos, neuron]`; of `resid_mid` what
                attention adds.
            layer: The layer.
            change: From the run's own activation to the one that goes on; it returns a new tensor.
        """
        block = self.layers[layer]
        if site == "resid_pre":
            handles = [block.register_forward_pre_hook(entering(change), with_kwargs=True)]
        elif site == "resid_post":
            handles = [
                block.register_forward_hook(
                    lambda _m, _args, out: (
                        (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
                    )
                )
            ]
        else:
            entered: list[Tensor] = []
            handles = [
                block.register_forward_pre_hook(_keep_stream(entered), with_kwargs=True),
                self._hang(site, layer, change, entered),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hang(
        self, site: str, layer: int, change: Callable[[Tensor], Tensor], entered: list[Tensor]
    ) -> Any:
        """The hook of `changed` inside a block; `entered` holds the stream, for its shape."""
        if site == "post":
            self.need_neurons(layer)
        if site in ("z", "post"):
            heads = self.n_heads if site == "z" else None
            assert self.blocks
            module = (self.outputs if site == "z" else self.neurons)[layer]

            def before(_module: nn.Module, args: tuple) -> tuple:
                value = change(_batched(args[0], entered[-1], heads))
                return (value.reshape(args[0].shape), *args[1:])

            return module.register_forward_pre_hook(before)
        module, writer = self.writer(site, layer)

        def after(_module: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
            value = writer.read(args, kwargs, out).reshape(entered[-1].shape)
            return writer.write(change(value), args, kwargs, out)

        return module.register_forward_hook(after, with_kwargs=True)

    @torch.no_grad()
    def run(self, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The logits of a run, under the changes of any `changed` context around it."""
        return self.model(input_ids=ids, use_cache=False).logits

    @torch.no_grad()
    def logits(
        self, resid: Float[Tensor, "*batch d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*batch token"]:
        """Logits of the residual stream after the last layer, for `tokens` only if given."""
        return self.readable(resid, tokens)

    def readable(
        self, resid: Float[Tensor, "*batch d_model"], tokens: Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*batch token"]:
        """Like `logits`, but keeps gradients.

        Args:
            resid: The residual stream after the last layer, before the final norm.
            tokens: The columns of the vocabulary that are wanted; None for all.

        Raises:
            UnpackableError: The model reads its logits off the stream in a way not known here.
        """
        self.need_end()
        x = self.norm(resid)
        if tokens is None:
            out = self.unembed(x)
        else:
            bias = None if self.unembed.bias is None else self.unembed.bias[tokens]
            out = F.linear(x, self.unembed.weight[tokens], bias)
        return self.capped(out)

    def need_end(self) -> None:
        """Raise `UnpackableError` unless logits are the stream's norm, unembedding and cap."""
        if self.stream.unreadable:
            raise UnpackableError(f"{self.what} is read in its own way: {self.stream.unreadable}.")

    def capped(self, logits: Tensor) -> Tensor:
        """The model's logits from the unembedding's output: scaled (Granite), capped (Gemma 2)."""
        if self.stream.logit_scale != 1.0:
            logits = logits * self.stream.logit_scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    @property
    def final_norm(self) -> Norm:
        """What the final norm does."""
        if self._final is None:
            self._final = norm_of(self.norm, self.d_model, self.unembed.weight)
        return self._final

    def norm_after(self, site: str, layer: int) -> Norm | None:
        """What the norm between a part and the stream does; None if there is none."""
        module, writer = self.writer(site, layer)
        return norm_of(module, self.d_model, self.unembed.weight) if writer.normed else None


def _batched(x: Tensor, like: Tensor, heads: int | None) -> Tensor:
    """An activation with its batch and position axes, and a head axis where `heads` says so."""
    x = x.reshape(*like.shape[:2], -1)
    return x if heads is None else x.unflatten(-1, (heads, -1))


def _enter(recording: Recording) -> Any:
    def hook(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        bound = dict(inspect.signature(layer.forward).bind(*args, **kwargs).arguments)
        bound |= bound.pop("kwargs", {})
        name = next(name for name, value in bound.items() if isinstance(value, Tensor))
        recording.resid.append(bound.pop(name))
        recording.arguments.append({k: v for k, v in bound.items() if k not in CACHES})

    return hook


def _keep_written(writer: Writer, where: list[Tensor], resid: list[Tensor]) -> Any:
    def hook(_module: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        value = writer.read(args, kwargs, out).reshape(resid[-1].shape)
        where.append(value)
        if writer.copies or (value.requires_grad and value is not first(out)):
            # The model goes on with the recorded tensor, so that gradients pass through it.
            return writer.write(value, args, kwargs, out)
        return None

    return hook


def _keep_entered(where: list[Any], resid: list[Tensor], heads: int | None) -> Any:
    def hook(_module: nn.Module, args: tuple) -> Any:
        value = _batched(args[0], resid[-1], heads)
        where.append(value)
        return (value.reshape(args[0].shape), *args[1:]) if value.requires_grad else None

    return hook


def _keep_none(where: list[Any], resid: list[Tensor]) -> Any:
    return lambda _module, _args, _out: where.append(resid[-1].new_zeros(*resid[-1].shape[:2], 0))


def _keep_stream(entered: list[Tensor]) -> Any:
    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        entered[:] = [next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))]

    return hook


_READERS: WeakKeyDictionary[Subject, Reader] = WeakKeyDictionary()


def plain_reader(subject: Subject) -> Reader:
    """The Subject's plain reader, built once; `packed.reader` prefers the packed engine."""
    if subject not in _READERS:
        _READERS[subject] = Reader(subject)
    return _READERS[subject]
