"""The bundled model that reverses strings: `python -m workbench.training.reverse FOLDER` trains it.

A T5 (Raffel et al. 2020) with two layers in encoder and decoder, over single letters. Its data are
generated, so no licence applies, and the right solution is known: cross-attention runs along the
anti-diagonal.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from workbench.statistics import Estimate, estimate_mean
from workbench.subjects import load
from workbench.subjects.card import write_card
from workbench.subjects.save import save
from workbench.training.corpus import held_out
from workbench.training.optim import optimizers, set_rate
from workbench.training.recipe import Optimisation

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST = 2
LONGEST = 14
HELD_OUT = 0.1
PAD = "<pad>"
END = "</s>"
UNKNOWN = "<unk>"
SETTINGS = Optimisation(
    steps=1200,
    batch_size=64,
    lr=4e-3,
    warmup=60,
    decay=0.6,
    weight_decay=0.01,
    optimizer="adamw",
    beta2=0.98,
)
TEST_SEED = 10**6
TESTED = 500


def strings(n: int, seed: int, *, held: bool) -> list[str]:
    """`n` random strings of `SHORTEST` to `LONGEST` letters.

    Args:
        n: Number of strings.
        seed: Of the draw.
        held: Whether they are held-out strings; a string's own hash decides which ones are.
    """
    draw = random.Random(seed)
    texts: list[str] = []
    while len(texts) < n:
        text = "".join(draw.choices(LETTERS, k=draw.randint(SHORTEST, LONGEST)))
        if held_out(text, HELD_OUT) == held:
            texts.append(text)
    return texts


def letters_tokenizer(letters: str = LETTERS) -> PreTrainedTokenizerBase:
    """A tokenizer with one token per letter; `END` follows every text, as T5 expects."""
    vocab = {token: i for i, token in enumerate([PAD, END, UNKNOWN, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocab[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


def fresh(d_vocab: int, seed: int = 0) -> T5ForConditionalGeneration:
    """The untrained model, its weights drawn by `seed`."""
    torch.manual_seed(seed)
    # Fields that transformers keeps, though its signature does not name them.
    unnamed: dict[str, Any] = {"decoder_start_token_id": 0, "n_positions": 32}
    shape = T5Config(
        vocab_size=d_vocab,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=64,  # one per distance up to 16: all positions differ
        relative_attention_max_distance=64,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        **unnamed,
    )
    return T5ForConditionalGeneration(shape)


def rows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> dict[str, Int[Tensor, "batch pos"]]:
    """Inputs for `model(**rows)`: texts with their mask, and the reversed texts as labels."""
    source = tokenizer(list(texts), padding=True, return_tensors="pt")
    reversed_texts = [text[::-1] for text in texts]
    target = tokenizer(reversed_texts, padding=True, return_tensors="pt")
    labels = cast(Tensor, target["input_ids"])
    padding = labels.eq(cast(int, tokenizer.pad_token_id))
    return {
        "input_ids": cast(Tensor, source["input_ids"]),
        "attention_mask": cast(Tensor, source["attention_mask"]),
        "labels": labels.masked_fill(padding, -100),  # not scored
    }


def fit(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, settings: Optimisation
) -> None:
    """Train a model in place.

    Args:
        model: From `fresh`.
        tokenizer: From `letters_tokenizer`.
        settings: Steps, rates and batch size. Step `s` draws its strings with seed `s`, so that a
            second run sees the same.
    """
    opts = optimizers(model, settings)
    model.train()
    for step in range(settings.steps):
        batch = rows(tokenizer, strings(settings.batch_size, step, held=False))
        logits = model(**batch, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        set_rate(opts, step, settings)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        if step % 100 == 0 or step == settings.steps - 1:
            sys.stderr.write(f"step {step}: loss {float(loss.detach()):.4f}\n")
    model.eval()


@torch.no_grad()
def right(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[bool]:
    """Whether greedy decoding reverses each text, letter by letter.

    Args:
        model: Trained by `fit`.
        tokenizer: Of the model.
        texts: Strings to reverse.
    """
    source = tokenizer(list(texts), padding=True, return_tensors="pt")
    generating: Any = model
    out = generating.generate(**source, max_new_tokens=LONGEST + 4, do_sample=False)
    answers = tokenizer.batch_decode(out, skip_special_tokens=True)
    return [answer == text[::-1] for answer, text in zip(answers, texts, strict=True)]


def make(folder: Path, settings: Optimisation = SETTINGS) -> Estimate:
    """Train, save in half precision with a card; returns the share of held-out strings reversed."""
    tokenizer = letters_tokenizer()
    model = fresh(len(tokenizer), settings.seed)
    fit(model, tokenizer, settings)
    model.half().float()  # round to half precision, so that what is stored is what is measured
    correct = right(model, tokenizer, strings(TESTED, TEST_SEED, held=True))
    accuracy = estimate_mean([float(x) for x in correct])
    metrics = {
        "accuracy_held_out": {
            "mean": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "n": accuracy.n,
        }
    }
    card = {
        "source": "bundled",
        "licence": "MIT",
        "command": "python -m workbench.training.reverse models/shelf-reverse",
        "data": (
            f"random strings of {SHORTEST} to {LONGEST} letters, made on the spot; a tenth of "
            "all strings, chosen by their hash, is held out"
        ),
        "notes": (
            "A T5 of two layers a side that writes a string backwards, letter by letter: "
            f"{settings.steps} steps of {settings.batch_size} strings. To look inside on the "
            "Anatomy page: its cross-attention runs against the diagonal."
        ),
        "metrics": {"steps": settings.steps, **metrics},
    }
    save(folder, model, tokenizer, card=card, dtype=torch.float16)
    complete = load(folder, seq2seq=True).card.to_dict() | {
        "name": folder.name,
        "source": "bundled",
    }
    write_card(folder, complete)
    return accuracy


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
