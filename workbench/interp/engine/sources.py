"""Replacing activations: from another run, zeros, noise, or a mean over reference texts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.data.passages import TEXTS
from workbench.interp.engine.branches import Recording
from workbench.interp.engine.packed import reader
from workbench.interp.engine.settings import Settings
from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject
from workbench.subjects.spelling import spells_ids


def noised_input(subject: Subject, question: Pair, settings: Settings) -> tuple[Tensor, Tensor]:
    """The clean prompt twice, and its embeddings with noise in the second row.

    The noise is Gaussian, at the positions where clean and corrupted prompt differ (Meng et al.
    2022).

    Args:
        subject: The model.
        question: The prompts.
        settings: Of which `noise` and `seed` are used.

    Returns:
        Token ids `[2, pos]` and embeddings `[2, pos, d_model]`.
    """
    ids = torch.stack([question.clean, question.clean])
    embed: Any = subject.model.get_input_embeddings()
    embeddings: Tensor = embed(ids).clone()
    generator = torch.Generator().manual_seed(settings.seed)
    differ = question.clean != question.corrupted
    noise = torch.randn(int(differ.sum()), embeddings.shape[-1], generator=generator).to(embeddings)
    embeddings[1, differ] += noise * settings.noise * embedding_spread(subject)
    return ids, embeddings


@torch.no_grad()
def embedding_spread(subject: Subject) -> float:
    """The standard deviation of the embeddings of all tokens.

    It is taken over what the embedding gives, not over its weights, which some models multiply.
    """
    embed: Any = subject.model.get_input_embeddings()
    n = 0
    total = 0.0
    squares = 0.0
    for ids in torch.arange(embed.weight.shape[0], device=subject.device).split(4096):
        vectors = embed(ids).double()
        n += vectors.numel()
        total += float(vectors.sum())
        squares += float(vectors.square().sum())
    return ((squares - total**2 / n) / (n - 1)) ** 0.5


Source = Callable[[str, int], Tensor]
"""(field of a `Recording`, layer) -> the replacing activations of one prompt, `[pos, ...]`."""


def ablation_source(subject: Subject, run: Recording, settings: Settings, fed: int) -> Source:
    """Zeros, the mean over the reference texts, or one of these texts drawn at random.

    Args:
        subject: The model.
        run: The run that is patched, for the shapes.
        settings: Of which `replacement` and `seed` are used.
        fed: Tokens of an answer at the end of the run. The mean leaves out as many positions, so
            that it is the same for all answers.
    """
    n_pos = run.resid[0].shape[1]
    if settings.replacement == "zero":
        return source_of_value("zero", run, None)
    if settings.replacement == "mean":
        recorded = reader(subject).record(reference_ids(subject, n_pos - fed))
        return source_of_value("mean", run, recorded)
    reference = reader(subject).record(reference_ids(subject, n_pos))
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = int(torch.randint(len(reference.resid[0]), (1,), generator=generator))
    return source_of_run(reference, drawn)


def reference_ids(subject: Subject, n_pos: int) -> Tensor:
    """The first `n_pos` tokens of each reference text that is long enough, `[text, pos]`.

    If the tokenizer cannot read text (models over bare token ids), random tokens stand in for it.
    """
    rows = []
    for text in () if spells_ids(subject.tokenizer) else TEXTS:
        ids = subject.ids(text)[:n_pos]
        # A text read as a few tokens over and over (unknown letters) is no reference.
        if len(ids) == n_pos and len(set(ids)) > n_pos // 4:
            rows.append(ids)
    if not rows:
        shape = (len(TEXTS), n_pos)
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(subject.card.d_vocab, shape, generator=generator).tolist()
    return torch.tensor(rows, device=subject.device)


def source_of_run(run: Recording, prompt: int) -> Source:
    """The activations of one recorded prompt."""
    return lambda field, layer: getattr(run, field)[layer][prompt]


def source_by_name(run: Recording, own: Recording, places: Sequence[tuple[int, int]]) -> Source:
    """The patched run's own activations, but another run's at named positions.

    Args:
        run: The run whose activations come in.
        own: The run that is patched, whose layout the result has.
        places: (position in `run`, position in `own`) of each name.
    """

    def value(field: str, layer: int) -> Tensor:
        incoming = getattr(run, field)[layer][0]
        mixed = getattr(own, field)[layer][0].clone()
        for there, here in places:
            mixed[here] = incoming[there]
        return mixed

    return value


def source_of_value(kind: str, like: Recording, reference: Recording | None) -> Source:
    """One value at every position: zeros, or the mean of a recorded batch.

    Args:
        kind: `zero` or `mean`.
        like: The run that is patched, for the shapes.
        reference: The batch, averaged over its prompts and positions; None for zeros.
    """

    def value(field: str, layer: int) -> Tensor:
        own = getattr(like, field)[layer][0]
        if kind == "zero":
            return torch.zeros_like(own)
        assert reference is not None
        return getattr(reference, field)[layer].mean((0, 1)).expand_as(own)

    return value
