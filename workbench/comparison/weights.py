"""Weight changes by fine-tuning: how far each matrix moved, and in how many directions.

The numbers are exact, as they need no samples; so they have no intervals.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.comparison.matching import need, whats_new
from workbench.modes import own_modes
from workbench.records import Record
from workbench.subjects import Subject, adapter, identity

ORDER = ("W_Q", "W_K", "W_V", "W_QKV", "W_O", "W_gate", "W_in", "W_out")
VOCABULARY = ("W_E", "W_U")
"""Matrices with one row a token."""
Report = Callable[[float, str], None]
"""Called with (share done, message)."""


@dataclass(frozen=True)
class WeightShift(Record):
    """The update `tuned - base` of every matrix.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        table: One row a matrix; vectors (norms, biases) have rank 1 or 0. Columns: `layer` (-1
            outside the layers), `matrix`, `relative` (|update| / |base|, Frobenius norms), `norm`
            (|update|), `size` (|base|), `rank` (singular values above rounding), `effective_rank`
            (exp of the entropy of the singular values), `most` (full rank), `lora_rank` (of the
            adapter that made it, else 0), `new_rows` (tokens by which the tuned model's embedding
            or unembedding is larger; the update is over the rows that both have).
        heads: Relative change of each head's query, key, value and output matrices together; keys
            and values shared by a group count for each of its heads. None where heads cannot be
            separated.
        news: Names the tokens that only one model has.
    """

    base: str
    tuned: str
    table: pd.DataFrame
    heads: Float[np.ndarray, "layer head"] | None
    news: str = ""

    def headline(self) -> str:
        """The matrix that changed most, in one line."""
        first = self.to_frame().iloc[0]
        return (
            f"most changed: {first['matrix']} of layer {first['layer']}, "
            f"|update| / |base| = {first['relative']:.4f}"
        )

    def grid(self, column: str = "relative") -> tuple[Float[np.ndarray, "layer matrix"], list[str]]:
        """(map, names of its columns) of one column of the table, for matrices inside the layers.

        NaN where a layer has no such matrix.
        """
        inside = self.table[(self.table["layer"] >= 0) & (self.table["most"] > 1)]
        names = sorted(
            set(inside["matrix"]), key=lambda m: (ORDER.index(m) if m in ORDER else len(ORDER), m)
        )
        wide = inside.pivot_table(
            index="layer", columns="matrix", values=column, aggfunc="first", dropna=False
        )
        return wide.reindex(columns=names).to_numpy(float), names

    def to_frame(self) -> pd.DataFrame:
        """The table, most changed first."""
        return self.table.sort_values("relative", ascending=False, ignore_index=True)

    def lora(self) -> str:
        """One sentence on the LoRA adapter that made the tuned model; "" if none did."""
        rows = self.table.loc[self.table["lora_rank"] > 0]
        if rows.empty:
            return ""
        moved = int((rows["norm"] > 0).sum())
        return (
            f"A LoRA made this: rank {rows['lora_rank'].max()} on {len(rows)} matrices, "
            f"{moved} of them changed."
        )

    def to_dict(self) -> dict[str, Any]:
        """The table and all else, ready for JSON."""
        return {**super().to_dict(), "matrices": self.to_frame().to_dict("records")}


@own_modes
@torch.no_grad()
def weight_shift(
    base: Subject, tuned: Subject, *, ranks: bool = True, progress: Report | None = None
) -> WeightShift:
    """The update of every matrix: its norm, rank and effective rank.

    Args:
        base: The model before.
        tuned: The model after; if it is a LoRA of `base`, its factors are used directly.
        ranks: False measures norms only, which needs no singular values; ranks are then NaN.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the two models' weights do not match one to one.
    """
    need(base, tuned, "weights")
    ours = dict(base.model.named_parameters())
    theirs = dict(tuned.model.named_parameters())
    lora = _lora(base, tuned)
    names = _names(base)
    rows = []
    for i, (name, weight) in enumerate(ours.items()):
        if progress is not None:
            progress(i / len(ours), f"weights {i + 1} of {len(ours)}")
        other = theirs.get(name)
        if other is None or other.shape[1:] != weight.shape[1:]:
            continue
        place = _place(name, names)
        factors = lora.get(name)
        new = len(other) - len(weight)
        if new and place["matrix"].partition(" ")[0] not in VOCABULARY:
            continue
        if new:
            shared = min(len(weight), len(other))
            weight = weight[:shared]
            other = other[:shared]
            factors = None  # they are of all rows
        rows.append({**place, **_update(weight, other, factors, ranks), "new_rows": new})
    heads = head_change(base, tuned)
    return WeightShift(base.name, tuned.name, pd.DataFrame(rows), heads, whats_new(base, tuned))


def _update(
    weight: Tensor, other: Tensor, lora: adapter.Factors | None, ranks: bool
) -> dict[str, float | int]:
    """The table's numbers of one matrix."""
    size = float(weight.double().norm())
    most = min(weight.shape) if weight.ndim > 1 else 1
    if lora is None and not ranks:
        values = (other.double() - weight.double().to(other.device)).norm()[None]
    elif lora is None:
        values = singular_values(other.double() - weight.double().to(other.device), floor=size)
    else:
        values = singular_values_of(lora)
    norm = float(values.square().sum().sqrt())
    return {
        "relative": norm / size if size else float(norm > 0),
        "norm": norm,
        "size": size,
        "rank": int((values > 0).sum()) if ranks else float("nan"),
        "effective_rank": effective_rank(values) if ranks else float("nan"),
        "most": most,
        "lora_rank": 0 if lora is None else lora.a.shape[0],
        "parameters": weight.numel(),
    }


def singular_values(
    update: Float[Tensor, "*shape"], *, floor: float = 0.0
) -> Float[Tensor, " rank"]:
    """Singular values of an update from the eigenvalues of its smaller Gram matrix, largest last.

    Args:
        update: The change of a weight.
        floor: Norm of the weight; singular values below the rounding error of single-precision
            weights of this norm become 0, so that noise does not add to the rank.
    """
    if update.ndim < 2:
        return update.norm()[None]
    flat = update.flatten(1) if update.ndim > 2 else update
    gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    if not gram.any():
        return gram.new_zeros(1)
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    least = max(floor * torch.finfo(torch.float32).eps, float(values.max()) * 1e-7)
    return torch.where(values > least, values, 0.0)


def singular_values_of(lora: adapter.Factors) -> Float[Tensor, " rank"]:
    """Singular values of `scale B A` from its factors: those of the small matrix `R_B R_A^T`."""
    left = torch.linalg.qr(lora.b.double()).R
    right = torch.linalg.qr(lora.a.double().T).R
    return torch.linalg.svdvals(left @ right.T) * lora.scale


def effective_rank(values: Float[Tensor, " rank"]) -> float:
    """`exp(H)` of the singular values as shares of their sum; 0 where there is no update.

    Reference:
        Roy & Vetterli 2007, "The effective rank".
    """
    if not (total := float(values.sum())):
        return 0.0
    share = values[values > 0] / total
    return float((-(share * share.log()).sum()).exp())


def head_change(base: Subject, tuned: Subject) -> Float[np.ndarray, "layer head"] | None:
    """Relative Frobenius change of every head's matrices; None if TransformerLens lacks them."""
    try:
        parts = [
            [getattr(s.bridge, f"W_{part}").detach().double() for part in "QKVO"]
            for s in (base, tuned)
        ]
    except (AttributeError, KeyError, ValueError, RuntimeError, TypeError):
        return None
    n_heads = parts[0][0].shape[1]
    moved = torch.zeros(parts[0][0].shape[:2], dtype=torch.float64, device=base.device)
    total = torch.zeros_like(moved)
    for ours, theirs in zip(*parts, strict=True):
        change = (theirs.to(ours.device) - ours).square().sum((-2, -1))  # [layer, head or group]
        size = ours.square().sum((-2, -1))
        group = n_heads // size.shape[-1]  # heads that share keys and values
        moved = moved + change.repeat_interleave(group, -1)
        total = total + size.repeat_interleave(group, -1)
    return (moved / total.clamp_min(1e-30)).sqrt().cpu().numpy()


def _lora(base: Subject, tuned: Subject) -> dict[str, adapter.Factors]:
    """The factors of the adapter that made `tuned` from `base`, by weight; empty if none did."""
    folder = Path(tuned.card.source)
    if not folder.is_dir() or not adapter.is_adapter(folder):
        return {}
    if not identity.matches(base, adapter.base_of(folder).sha256):
        return {}
    return adapter.factors(folder)


def _names(subject: Subject) -> dict[str, str]:
    """TransformerLens's names of modules, by their path in the model, or in their layer.

    The entry "layers" is the path of the list of layers.
    """
    mapping: Any = subject.bridge.adapter.component_mapping
    outer = {"embed": "W_E", "pos_embed": "W_pos", "unembed": "W_U", "ln_final": "final norm"}
    names = {mapping[k].name: word for k, word in outer.items() if k in mapping}
    names["layers"] = mapping["blocks"].name
    for part, inside in _modules(mapping["blocks"].submodules):
        names[inside] = part
    return names


def _modules(block: Any) -> Iterator[tuple[str, str]]:
    """(name, path) of every module in a layer."""
    words = {"q": "W_Q", "k": "W_K", "v": "W_V", "o": "W_O", "qkv": "W_QKV"}
    for name, word in {**words, "q_norm": "query norm", "k_norm": "key norm"}.items():
        if (part := block["attn"].submodules.get(name)) is not None:
            yield word, f"{block['attn'].name}.{part.name}"
    for name, word in {"in": "W_in", "gate": "W_gate", "out": "W_out"}.items():
        if "mlp" in block and (part := block["mlp"].submodules.get(name)) is not None:
            yield word, f"{block['mlp'].name}.{part.name}"
    for name, part in block.items():
        if name.startswith("ln"):
            yield f"norm {name}", part.name


def _place(name: str, names: dict[str, str]) -> dict[str, Any]:
    """Layer and matrix of a parameter; one without a TransformerLens name keeps its own."""
    module, _, kind = name.rpartition(".")
    layer = -1
    inside = module
    if module.startswith(names["layers"] + "."):
        number, _, inside = module.removeprefix(names["layers"] + ".").partition(".")
        layer = int(number)
    word = names.get(inside, inside)
    return {"layer": layer, "matrix": word if kind == "weight" else f"{word} {kind}"}
