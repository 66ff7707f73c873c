"""The cells of one map, as patched runs for the packed engine."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.attend import attend
from workbench.interp.engine.branches import Branches, Edit, Recording
from workbench.interp.engine.packed import PackedEngine
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sources import Source


@dataclass(frozen=True)
class Map:
    """One map to sweep.

    - `run`, `target`: the recorded run, and which of its prompts is patched
    - `source`: the replacing activations
    - `first`: the first position where a patch can change anything
    - `layers`: the rows of the map
    - `window`, `also`: layers replaced at once around each row's layer; a site replaced with `site`
    - `at`: the positions to sweep; None for all
    - `fed`: how many positions at the end belong to the answer; they are not swept, and the metric
        is read from the position before them on
    """

    packed: Reader
    run: Recording
    target: int
    source: Source
    site: str
    first: int
    layers: tuple[int, ...]
    window: int = 1
    at: tuple[int, ...] | None = None
    also: str = ""
    fed: int = 0

    @property
    def pos(self) -> Int[Tensor, " row"]:
        """The positions that can be changed."""
        return torch.arange(self.first, self.run.resid[0].shape[1], device=self.run.resid[0].device)

    def swept_pos(self) -> list[int]:
        """The positions that are patched one by one."""
        every = range(self.first, self.run.resid[0].shape[1] - self.fed)
        return list(every) if self.at is None else [p for p in every if p in self.at]

    def shape(self) -> tuple[int, ...]:
        """The length of each axis of the map."""
        heads = self.run.keys[0].shape[1] if self.site in ("k", "v") else self.run.z[0].shape[2]
        sizes = {
            "layer": len(self.layers),
            "pos": self.run.resid[0].shape[1],
            "head": heads,
            "neuron": self.run.post[self.layers[0]].shape[-1],
        }
        return tuple(sizes[axis] for axis in SITES[self.site])

    def start(self, unpatched: float) -> Float[Tensor, "*axes"]:
        """The map before any patch: NaN where one is to come, elsewhere `unpatched`."""
        values = torch.full(self.shape(), float("nan"), dtype=self.run.resid[0].dtype)
        if SITES[self.site][-1] == "pos":
            values[..., : self.first] = unpatched
            after_all = self.layers[-1] + (self.site != "resid_pre") == len(self.packed.layers)
            alone = self.window == 1 and not self.also  # else `_windows` patches every cell
            if alone and after_all:
                # After the last block nothing moves between positions; see `_by_pos`.
                values[-1, ..., : -1 - self.fed] = unpatched
            if alone and self.site == "resid_pre" and self.layers[0] == 0:
                values[0, self._same_token] = unpatched
        return values

    @cached_property
    def _same_token(self) -> Bool[Tensor, " pos"]:
        """Where what enters the first layer is the same in both runs: nothing is patched there."""
        own = self.run.resid[0][self.target]  # [pos, d_model]
        return (self.source("resid", 0) == own).all(-1).cpu()

    def branches(self) -> Iterator[Branches]:
        """The patched runs; cells before `first` are the target run itself and need none."""
        if self.site == "resid_mid" and self.packed.parallel:
            raise WorkbenchError(
                "This model computes attention and MLP side by side, so it has no resid_mid."
            )
        for row, layer in enumerate(self.layers):
            if SITES[self.site][-1] == "pos":
                yield from self._by_pos(row, layer)
            else:
                yield from self._all_pos(row, layer)

    def _by_pos(self, row: int, layer: int) -> Iterator[Branches]:
        if self.window > 1 or self.also:
            yield from self._windows(row, layer)
            return
        n_layers = len(self.packed.layers)
        enters = layer if self.site == "resid_pre" else layer + 1
        stream = self.run.resid[enters][self.target]  # [pos, d_model], unpatched
        changed = cache(lambda: self.changed(layer))  # once for all positions, when first needed
        n = self.run.z[0].shape[2] if self.site == "z_by_pos" else 1

        def rows_from(p: int) -> Callable[[], Tensor]:
            def rows() -> Tensor:
                patched = stream[p:].expand(n, -1, -1).clone()
                patched[:, 0] = changed()[:, p - self.first]
                return patched

            return rows

        for p in self.swept_pos():
            if enters == n_layers and p < len(stream) - 1 - self.fed:
                continue  # after the last block nothing moves from here to where the answer is read
            if self.site == "resid_pre" and layer == 0 and self._same_token[p]:
                continue
            key = (row, slice(None), p) if self.site == "z_by_pos" else (row, slice(p, p + 1))
            yield Branches(enters, p, n, rows_from(p), key, prompt=self.target)

    def _windows(self, row: int, layer: int) -> Iterator[Branches]:
        """Runs with several layers' or sites' outputs replaced at a position (Meng et al. 2022)."""
        low = max(0, layer - (self.window - 1) // 2)
        high = min(len(self.packed.layers), layer + self.window // 2 + 1)
        sites = [site for site in (self.site, self.also) if site]

        def unpatched_from(p: int) -> Callable[[], Tensor]:
            return lambda: self.run.resid[low][self.target, p:].unsqueeze(0)

        for p in self.swept_pos():
            at = torch.tensor([p], device=self.pos.device)
            edits = [
                Edit(i, s, at, self.source(s, i)[at].unsqueeze(0))
                for i in range(low, high)
                for s in sites
            ]
            key = (row, slice(p, p + 1))
            yield Branches(low, p, 1, unpatched_from(p), key, edits, self.target)

    def _all_pos(self, row: int, layer: int) -> Iterator[Branches]:
        """Runs with one head (or neuron) replaced at every position that can change."""
        n_other = self.shape()[-1]
        size = 64 if self.site == "neurons" else n_other  # a layer's neurons would not fit at once

        def changed_in(part: range) -> Callable[[], Tensor]:
            return lambda: self.changed(layer, part)

        for start in range(0, n_other, size):
            part = range(start, min(start + size, n_other))
            key = (row, slice(part.start, part.stop))
            make = changed_in(part)
            yield Branches(layer + 1, self.first, len(part), make, key, prompt=self.target)

    def changed(self, layer: int, part: range | None = None) -> Float[Tensor, "n row d_model"]:
        """The patched stream: before the layer for `resid_pre`, after it for all other sites.

        Args:
            layer: The layer that is patched.
            part: The neurons to patch, one run each; None for all other sites.

        Returns:
            One run per head or neuron (else a single one), at the positions `self.pos`.
        """
        pos = self.pos
        site = self.site
        if site in ("resid_pre", "resid_post"):
            return self.source("resid", layer + (site == "resid_post"))[pos].unsqueeze(0)
        if site in ("resid_mid", "attn_out", "mlp_out"):
            field = "mid" if site == "resid_mid" else site
            return self._block(layer, **{field: self.source(field, layer)[pos].unsqueeze(0)})
        if site == "neurons":
            assert part is not None
            post = self.run.post[layer][self.target, pos].repeat(len(part), 1, 1)
            incoming = self.source("post", layer)[pos]  # [row, neuron]
            # Run i has neuron part[i] replaced at every row, all other neurons its own.
            post[torch.arange(len(part)), :, torch.tensor(part)] = incoming[:, list(part)].T
            return self._block(layer, post=post)
        if site.startswith("z"):
            own_z = self.run.z[layer][self.target, pos]
            incoming = self.source("z", layer)[pos]
            return self._block(layer, z=self._one_head_each(own_z, incoming))
        own = self.run.attended[layer][self.target, pos]
        return self._block(layer, attended=self._one_head_each(own, self.patched_z(layer)[pos]))

    def _one_head_each(self, own: Float[Tensor, "row head d_head"], theirs: Tensor) -> Tensor:
        """`own` repeated per head, with that head replaced (for `k`, `v` all that share it)."""
        n_variants = self.shape()[1]
        patched = own.repeat(n_variants, 1, 1, 1)
        group = own.shape[1] // n_variants
        for variant in range(n_variants):
            heads = slice(variant * group, (variant + 1) * group)
            patched[variant, :, heads] = theirs[:, heads]
        return patched

    def patched_z(self, layer: int) -> Float[Tensor, "pos head d_head"]:
        """Every head's z with its queries, keys, values or pattern replaced, the rest its own."""
        given = {name: self.source(name, layer) for name in ("queries", "keys", "values")}
        own = {name: getattr(self.run, name)[layer][self.target] for name in given}
        replaced = {
            "q": ("queries",),
            "k": ("keys",),
            "v": ("values",),
            "pattern": ("queries", "keys"),
        }[self.site]
        q, k, v = (given[name] if name in replaced else own[name] for name in own)
        mask = self.run.arguments[layer].get("attention_mask")
        n_pos = q.shape[-2]
        own_mask = None
        if mask is not None:
            # A mask without a batch of its own (length 1) serves every prompt.
            own_mask = mask[min(self.target, len(mask) - 1), :, :n_pos, :n_pos].unsqueeze(0)
        scaling = self.run.scaling[layer]
        return attend(q[None], k[None], v[None], own_mask, *scaling)[0].transpose(0, 1)

    def _block(self, layer: int, **replaced: Tensor) -> Tensor:
        assert isinstance(self.packed, PackedEngine)
        return self.packed.block(self.run, self.target, layer, self.pos, **replaced)
