"""Map: the axes and values of one sweep."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.engine.branches import Branches, Edit, Recording
from workbench.interp.engine.packed import PackedEngine, attend
from workbench.interp.engine.reader import Reader
from workbench.interp.engine.sites import SITES
from workbench.interp.engine.sources import Source


@dataclass(frozen=True)
class Map:
    """One map to sweep: a recorded run, the prompt of it that is patched, and what comes in.

    `first` is the first position where a patch can change anything; `layers` limits the map;
    `window` layers are replaced at once round each layer, and the site `also` with it; of positions
    only `at` are swept, where given, and never the last `fed`, which belong to the answer: the runs
    are read from the position before them on.
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
        """The shape of the map."""
        heads = self.run.keys[0].shape[1] if self.site in ("k", "v") else self.run.z[0].shape[2]
        sizes = {
            "layer": len(self.layers),
            "pos": self.run.resid[0].shape[1],
            "head": heads,
            "neuron": self.run.post[self.layers[0]].shape[-1],
        }
        return tuple(sizes[axis] for axis in SITES[self.site])

    def start(self, unpatched: float) -> Float[Tensor, "*axes"]:
        """The map before any patch: NaN where one is to come, `unpatched` where none can change
        anything.
        """
        values = torch.full(self.shape(), float("nan"), dtype=self.run.resid[0].dtype)
        if SITES[self.site][-1] == "pos":
            values[..., : self.first] = unpatched
            if (
                self.window == 1
                and not self.also
                and self.layers[-1] + (self.site != "resid_pre") == len(self.packed.layers)
            ):
                values[-1, ..., : -1 - self.fed] = unpatched
        return values

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
        n_layers, target = len(self.packed.layers), self.run.resid
        enters = layer if self.site == "resid_pre" else layer + 1
        changed = cache(lambda: self.changed(layer))
        n_pos = target[0].shape[1]
        n = self.run.z[0].shape[2] if self.site == "z_by_pos" else 1
        for p in self.swept_pos():
            if enters == n_layers and p < n_pos - 1 - self.fed:
                continue  # after the last block, nothing moves from this position to where the answer is read

            def rows(p=p) -> Tensor:
                found = target[enters][self.target, p:].repeat(n, 1, 1)
                found[:, 0] = changed()[:, p - self.first]
                return found

            key = (row, slice(None), p) if self.site == "z_by_pos" else (row, slice(p, p + 1))
            yield Branches(enters, p, n, rows, key)

    def _windows(self, row: int, layer: int) -> Iterator[Branches]:
        """Runs in which several layers' or sites' outputs are replaced at one position (Meng et al.
        2022).
        """
        low = max(0, layer - (self.window - 1) // 2)
        high = min(len(self.packed.layers), layer + self.window // 2 + 1)
        for p in self.swept_pos():
            at = torch.tensor([p], device=self.pos.device)
            sites = [site for site in (self.site, self.also) if site]
            edits = [
                Edit(i, s, at, self.source(s, i)[at].unsqueeze(0))
                for i in range(low, high)
                for s in sites
            ]
            make = lambda p=p: self.run.resid[low][self.target, p:].unsqueeze(0)  # noqa: E731
            yield Branches(low, p, 1, make, (row, slice(p, p + 1)), edits)

    def _all_pos(self, row: int, layer: int) -> Iterator[Branches]:
        n_other = self.shape()[-1]
        size = 64 if self.site == "neurons" else n_other
        for start in range(0, n_other, size):
            part = range(start, min(start + size, n_other))
            make = lambda part=part: self.changed(layer, part)  # noqa: E731
            yield Branches(
                layer + 1, self.first, len(part), make, (row, slice(part.start, part.stop))
            )

    def changed(self, layer: int, part: range | None = None) -> Float[Tensor, "n row d_model"]:
        """What the stream becomes where it is patched: `resid_pre` before the layer, all other
        sites after it.
        """
        pos, site = self.pos, self.site
        if site in ("resid_pre", "resid_post"):
            return self.source("resid", layer + (site == "resid_post"))[pos].unsqueeze(0)
        if site in ("resid_mid", "attn_out", "mlp_out"):
            field = "mid" if site == "resid_mid" else site
            return self._block(layer, **{field: self.source(field, layer)[pos].unsqueeze(0)})
        if site == "neurons":
            assert part is not None
            own = self.run.post[layer][self.target, pos].repeat(len(part), 1, 1)
            theirs, n = self.source("post", layer)[pos], torch.arange(len(part))
            own[n, :, torch.tensor(part)] = theirs[:, list(part)].T
            return self._block(layer, post=own)
        if site.startswith("z"):
            own, theirs = self.run.z[layer][self.target, pos], self.source("z", layer)[pos]
            return self._block(layer, z=self._one_head_each(own, theirs))
        own = self.run.attended[layer][self.target, pos]
        return self._block(layer, attended=self._one_head_each(own, self.patched_z(layer)[pos]))

    def _one_head_each(self, own: Float[Tensor, "row head d_head"], theirs: Tensor) -> Tensor:
        """`own` once a head, with that head's z (of `k`, `v`: of all heads that share it) replaced."""
        n_heads, n_variants = own.shape[1], self.shape()[1]
        patched = own.repeat(n_variants, 1, 1, 1)
        group = n_heads // n_variants
        for variant in range(n_variants):
            heads = slice(variant * group, (variant + 1) * group)
            patched[variant, :, heads] = theirs[:, heads]
        return patched

    def patched_z(self, layer: int) -> Float[Tensor, "pos head d_head"]:
        """Every head's z with their queries, keys, values or pattern replaced and all else their
        own.
        """
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
        own_mask = (
            None
            if mask is None
            else mask[min(self.target, len(mask) - 1), :, :n_pos, :n_pos].unsqueeze(0)
        )
        scaling = self.run.scaling[layer]
        return attend(q[None], k[None], v[None], own_mask, *scaling)[0].transpose(0, 1)

    def _block(self, layer: int, **replaced: Tensor) -> Tensor:
        assert isinstance(self.packed, PackedEngine)
        return self.packed.block(self.run, self.target, layer, self.pos, **replaced)
