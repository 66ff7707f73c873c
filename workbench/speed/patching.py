"""`workbench bench patching`: packed sweeps against TransformerLens, and the FLOPs needed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.interp.engine.packed import engine
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep, run_sweeps
from workbench.interp.patching.pair_maps import SITES
from workbench.interp.prompts.pairs import Pair, pair
from workbench.interp.prompts.probes import generate, read_probe
from workbench.speed.shapes import random_gpt2, random_pairs
from workbench.speed.timing import median_seconds
from workbench.subjects import Subject, load

SAMPLE = 40
"""Cells of each map that the reference runs; its time for the whole map is extrapolated."""

LENGTHS = (8, 16, 32, 64, 128, 256)
IOI = "When Mary and John went to the store, {} gave a drink to"
EARLY = ("Mary went to the store with John, and she", "John went to the store with Mary, and he")
REFERENCE = {"resid_pre": "resid_pre", "z": "z", "z_by_pos": "z"}


def bench(progress: Callable[[str], None], model: str) -> list[dict[str, Any]]:
    """One row per case: our seconds, the reference's (extrapolated), ratio, largest difference."""
    subject = load(model)
    ioi = pair(subject, IOI.format("John"), IOI.format("Mary"), " Mary", " John")
    early = pair(subject, EARLY[0], EARLY[1], " was", " had")
    run_sweep(subject, ioi, Settings())  # warm up
    rows = [
        _against(subject, "IOI pair", ioi, site, progress)
        for site in ("resid_pre", "z", "z_by_pos")
    ]
    rows += [
        _against(subject, "differs from its first word on", early, site, progress)
        for site in ("resid_pre", "z")
    ]
    rows.append(_many(subject, progress))
    if torch.cuda.is_available():
        rows += bench_medium(progress)
    rows += _growth(subject, LENGTHS[:2], progress)
    rows += _growth(load("shelf-base"), LENGTHS, progress)
    return rows


def bench_medium(progress: Callable[[str], None], n_tokens: int = 16) -> list[dict[str, Any]]:
    """The rows of GPT-2 medium's shape with random weights, of which all tokens differ.

    Args:
        progress: Called with what is being measured.
        n_tokens: Tokens of each prompt.
    """
    subject = random_gpt2(24, 16, 1024)
    question = random_pairs(subject, n_tokens, 1)[0]
    run_sweep(subject, question, Settings())  # warm up
    words = f"{n_tokens} tokens that all differ"
    return [
        _against(subject, words, question, site, progress)
        for site in ("resid_pre", "z", "z_by_pos")
    ]


def _against(
    subject: Subject, words: str, question: Pair, site: str, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The row of one prompt pair and site."""
    progress(f"{subject.name}, {words}: {site}")
    began = time.perf_counter()
    ours = run_sweep(subject, question, Settings(site)).values
    first = time.perf_counter() - began
    theirs, cells, seconds = _loop(subject, question, site, tuple(ours.shape))
    began = time.perf_counter()
    ours = run_sweep(subject, question, Settings(site)).values
    ours_s = (first + time.perf_counter() - began) / 2
    reference_s = seconds / len(cells) * ours.numel()
    return {
        "case": f"{subject.name}, {words}, {site}",
        "cells": ours.numel(),
        "ours_s": ours_s,
        "reference_s": reference_s,
        "ratio": reference_s / ours_s,
        "reference_cells_run": len(cells),
        "max_abs_diff": max(abs(float(ours[c] - t)) for c, t in zip(cells, theirs, strict=True)),
    }


def _many(subject: Subject, progress: Callable[[str], None]) -> dict[str, Any]:
    """The row of the 50 pairs of a probe: in shared passes, and one after the other."""
    questions = [item.pair for item in generate(subject, read_probe("ioi"), 50, 0).items]
    progress(f"{subject.name}: {len(questions)} IOI pairs")
    began = time.perf_counter()
    ours = run_sweeps(subject, questions, Settings())
    ours_s = time.perf_counter() - began
    began = time.perf_counter()
    alone = [run_sweep(subject, question, Settings()) for question in questions]
    alone_s = time.perf_counter() - began
    return {
        "case": f"{subject.name}, {len(questions)} IOI pairs in shared passes, resid_pre",
        "cells": sum(swept.values.numel() for swept in ours),
        "ours_s": ours_s,
        "reference_s": alone_s,
        "ratio": alone_s / ours_s,
        "max_abs_diff": max(
            float((a.values - b.values).abs().max()) for a, b in zip(ours, alone, strict=True)
        ),
    }


def _loop(
    subject: Subject, question: Pair, site: str, shape: tuple[int, ...]
) -> tuple[list[float], list[tuple[int, ...]], float]:
    """`transformer_lens.patching`'s loop over random cells: their values, the cells, seconds."""
    from transformer_lens import patching as reference

    bridge: Any = subject.bridge
    size = torch.tensor(shape).prod()
    picked = torch.randperm(int(size), generator=torch.Generator().manual_seed(0))[:SAMPLE]
    cells = [tuple(int(x) for x in torch.unravel_index(i, shape)) for i in picked]
    order = [axis for axis in ("layer", "pos", "head") if axis in SITES[site]]
    frame = pd.DataFrame(cells, columns=list(SITES[site]))[order]
    setters = {
        "resid_pre": reference.layer_pos_patch_setter,
        "z": reference.layer_head_vector_patch_setter,
        "z_by_pos": reference.layer_pos_head_vector_patch_setter,
    }

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, question.answer] - logits[0, -1, question.wrong]

    with torch.no_grad():
        _, cache = bridge.run_with_cache(question.clean[None])
        began = time.perf_counter()
        # `frame` fits no overload: pandas' types take a choice of columns for a single one too
        run: Any = reference.generic_activation_patch
        effects = run(
            bridge,
            question.corrupted[None],
            cache,
            metric,
            patch_setter=setters[site],
            activation_name=REFERENCE[site],
            index_df=frame,
        )
        seconds = time.perf_counter() - began
    return [float(x) for x in effects.flatten()], cells, seconds


def _growth(
    subject: Subject, lengths: tuple[int, ...], progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Layer x position sweeps of growing length: seconds against the FLOPs at the matrix rate.

    The first sweep of a model readies the engine; the median of the next three counts.
    """
    rate = matrix_rate(subject)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths:
        progress(f"{subject.name}: {length} tokens")
        ids = torch.randint(
            0, subject.card.d_vocab, (2, min(length, subject.n_ctx)), generator=generator
        )
        ids[1] = torch.where(ids[1] == ids[0], (ids[1] + 1) % subject.card.d_vocab, ids[1])
        question = Pair(ids[0].to(subject.device), ids[1].to(subject.device), (5,), (6,))
        run_sweep(subject, question, Settings())
        seconds = median_seconds(partial(run_sweep, subject, question, Settings()))
        floor = needed_flops(subject, ids.shape[1]) / rate
        case = f"{subject.name}, {ids.shape[1]} tokens, all differ, resid_pre"
        rows.append(
            {
                "case": case,
                "cells": subject.card.n_layers * ids.shape[1],
                "ours_s": seconds,
                "floor_s": floor,
                "over_floor": seconds / floor,
            }
        )
    return rows


def needed_flops(subject: Subject, n_pos: int) -> float:
    """FLOPs that a layer x position sweep needs if each patch recomputes only what follows it.

    Args:
        subject: The model.
        n_pos: Tokens of the prompt, all of them patched.
    """
    packed = engine(subject)
    layers = [
        2.0 * sum(p.numel() for p in layer.parameters() if p.ndim > 1) for layer in packed.layers
    ]
    rows = n_pos * (n_pos + 1) / 2
    attends = (
        4.0
        * subject.card.n_heads
        * subject.card.d_head
        * sum(s * (n_pos - (s - 1) / 2) for s in range(1, n_pos + 1))
    )
    total = 0.0
    # Patches of layers 1 to `entered` all pass through layer `entered`.
    for entered, layer in enumerate(layers, start=1):
        total += entered * (rows * layer + attends)
    return total


def matrix_rate(subject: Subject, seconds: float = 1.0) -> float:
    """FLOP/s of matrix products with the model's own width, measured for so many seconds."""
    width = subject.card.d_model
    a = torch.randn(1024, width, device=subject.device)
    b = torch.randn(width, 4 * width, device=subject.device)
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        torch.mm(a, b)
        count += 1
    if subject.device.type == "cuda":
        torch.cuda.synchronize()
    return count * 2.0 * 1024 * width * 4 * width / (time.perf_counter() - began)
