"""How the runs of a pass stand in one packed row: laid out, taken apart, and found again."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.interp.engine.attend import Group
from workbench.interp.engine.branches import Branches, Edit


def packed_row(
    rows: dict[int, Float[Tensor, "n row d_model"]], n_pos: int
) -> tuple[Float[Tensor, "1 all_rows d_model"], Int[Tensor, " all_rows"]]:
    """One long row of tokens, and the position that each of them stands at; runs end with it."""
    packed = torch.cat([x.flatten(0, 1) for x in rows.values()]).unsqueeze(0)
    device = packed.device
    at = torch.arange(n_pos, device=device)
    spans = [at[n_pos - x.shape[1] :].expand(len(x), -1).flatten() for x in rows.values()]
    return packed, torch.cat(spans)


def unpacked(
    packed: Float[Tensor, "all_rows d_model"], rows: dict[int, Tensor]
) -> dict[int, Float[Tensor, "n row d_model"]]:
    """The inverse of `packed_row`: a long row in the shapes of `rows`."""
    parts = packed.split([x.shape[:2].numel() for x in rows.values()])
    return {pos: part.view(x.shape) for (pos, x), part in zip(rows.items(), parts, strict=True)}


def edits_at(
    by_pos: dict[int, list[Branches]], groups: list[Group], n_pos: int, layer: int
) -> list[tuple[Tensor, Edit]]:
    """The edits that branches under way have at this layer, with their rows in the packed row."""
    edits: list[tuple[Tensor, Edit]] = []
    group_start = 0
    for pos, prompts in groups:
        length = n_pos - pos  # rows of one run
        start = group_start
        for branch in by_pos[pos]:
            if branch.layer > layer:
                break  # they are sorted by layer, so the rest has not joined yet
            for edit in branch.edits:
                if edit.layer == layer:
                    starts = start + torch.arange(branch.n, device=edit.pos.device) * length
                    rows = starts.unsqueeze(1) + edit.pos - pos  # [n, position of the edit]
                    edits.append((rows.flatten(), edit))
            start += branch.n * length
        group_start += len(prompts) * length
    return edits


def prompts_of(siblings: list[Branches], n: int) -> list[int]:
    """The prompt of each of the first `n` runs of branches that are sorted as they join."""
    return [branch.prompt for branch in siblings for _ in range(branch.n)][:n]
