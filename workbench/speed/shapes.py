"""Models of a given shape with random weights, for measures in which only the shape counts."""

from typing import Any

import torch

from workbench.interp.prompts.pairs import Pair
from workbench.subjects import Subject
from workbench.subjects.card import make_card
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.subjects.tokenizer import id_tokenizer

HEAD = 32
"""Width of a head."""


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_gpt(n_layers: int, d_model: int, n_ctx: int, d_vocab: int = 512) -> Subject:
    """Our GPT with random weights, on the GPU where there is one.

    Args:
        n_layers: Blocks.
        d_model: Width of the residual stream; heads are `HEAD` wide.
        n_ctx: Tokens of the context.
        d_vocab: Tokens of the vocabulary.
    """
    torch.manual_seed(0)
    config = WorkbenchGPTConfig(
        n_layers=n_layers,
        n_heads=d_model // HEAD,
        d_model=d_model,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
    )
    name = f"{n_layers} layers of width {d_model}, random weights"
    return _subject(name, WorkbenchGPTForCausalLM(config))


def random_gpt2(n_layers: int, n_heads: int, d_model: int) -> Subject:
    """GPT-2 with random weights, on the GPU where there is one.

    Args:
        n_layers: Blocks.
        n_heads: Heads of a block.
        d_model: Width of the residual stream.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=n_layers, n_head=n_heads, n_embd=d_model)
    name = f"GPT-2 of {n_layers} layers and width {d_model}, random weights"
    return _subject(name, GPT2LMHeadModel(config))


def random_pairs(subject: Subject, n_tokens: int, n: int) -> list[Pair]:
    """Pairs of random prompts that differ at every position.

    Args:
        subject: The model.
        n_tokens: Tokens of each prompt.
        n: Pairs.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (n, 2, n_tokens)
    ids = torch.randint(0, subject.card.d_vocab // 2, shape, generator=generator)
    ids[:, 1] += subject.card.d_vocab // 2  # from the other half of the vocabulary
    ids = ids.to(subject.device)
    return [Pair(clean, corrupted, (5,), (6,)) for clean, corrupted in ids]


def _subject(name: str, model: Any) -> Subject:
    """The Subject round a model in eval mode; its texts are token ids."""
    card = make_card(model, name, "random weights", "0" * 64, {})
    return Subject(name, model.eval().to(best_device()), id_tokenizer(card.d_vocab), card)
