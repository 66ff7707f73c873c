"""What replaces an activation: another run, a value, noise, or a mean."""

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
    """The clean prompt twice, and its embeddings: as they are, and noised where the prompts differ."""
    ids = torch.stack([question.clean, question.clean])
    embed: Any = subject.model.get_input_embeddings()
    embeddings = embed(ids).clone()
    generator = torch.Generator().manual_seed(settings.seed)
    differ = question.clean != question.corrupted
    noise = torch.randn(int(differ.sum()), embeddings.shape[-1], generator=generator).to(embeddings)
    embeddings[1, differ] += noise * settings.noise * embedding_spread(subject)
    return ids, embeddings


@torch.no_grad()
def embedding_spread(subject: Subject) -> float:
    """The standard deviation of what the embedding gives, over all tokens: some models multiply
    their weights.
    """
    embed: Any = subject.model.get_input_embeddings()
    n, total, squares = 0, 0.0, 0.0
    for ids in torch.arange(embed.weight.shape[0], device=subject.device).split(4096):
        vectors = embed(ids).double()
        n += vectors.numel()
        total += float(vectors.sum())
        squares += float(vectors.square().sum())
    return ((squares - total**2 / n) / (n - 1)) ** 0.5


def ablation_source(subject: Subject, run: Recording, settings: Settings, fed: int) -> Any:
    """The source of an ablation: zeros, the mean over the reference texts, or one of them drawn at
    random.

    The mean is over as many tokens as the prompt has, without the `fed` tokens of an answer: the
    same for all answers.
    """
    n_pos = run.resid[0].shape[1]
    if settings.replacement == "zero":
        return source_of_value("zero", run, None)
    if settings.replacement == "mean":
        return source_of_value(
            "mean", run, reader(subject).record(reference_ids(subject, n_pos - fed))
        )
    reference = reader(subject).record(reference_ids(subject, n_pos))
    generator = torch.Generator().manual_seed(settings.seed)
    return source_of_run(
        reference, int(torch.randint(len(reference.resid[0]), (1,), generator=generator))
    )


def reference_ids(subject: Subject, n_pos: int) -> Tensor:
    """The first `n_pos` tokens of each reference text that has as many, `[text, pos]`.

    Where the tokenizer cannot read text (models over bare token ids), random tokens stand in for
    it.
    """
    found = []
    for text in () if spells_ids(subject.tokenizer) else TEXTS:
        ids = subject.ids(text)[:n_pos]
        if len(ids) == n_pos and len(set(ids)) > n_pos // 4:
            found.append(ids)
    if not found:
        generator = torch.Generator().manual_seed(0)
        found = torch.randint(
            subject.card.d_vocab, (len(TEXTS), n_pos), generator=generator
        ).tolist()
    return torch.tensor(found, device=subject.device)


Source = Callable[[str, int], Tensor]
"""(field of a `Recording`, layer) -> the replacing activations of one prompt, `[pos, ...]`."""


def source_of_run(run: Recording, prompt: int) -> Source:
    """The activations of one recorded prompt."""
    return lambda field, layer: getattr(run, field)[layer][prompt]


def source_by_name(run: Recording, own: Recording, places: Sequence[tuple[int, int]]) -> Source:
    """The activations of another run at named positions (its own, ours), laid out as ours are; ours
    everywhere else.
    """

    def value(field: str, layer: int) -> Tensor:
        theirs, ours = getattr(run, field)[layer][0], getattr(own, field)[layer][0].clone()
        for there, here in places:
            ours[here] = theirs[there]
        return ours

    return value


def source_of_value(kind: str, like: Recording, reference: Recording | None) -> Source:
    """Zeros, or the mean of a recorded batch over its prompts and positions, at every position."""

    def value(field: str, layer: int) -> Tensor:
        shape = getattr(like, field)[layer][0]
        if kind == "zero":
            return torch.zeros_like(shape)
        assert reference is not None
        return getattr(reference, field)[layer].mean((0, 1)).expand_as(shape)

    return value
