"""Tokenizers made here: byte-level BPE trained on a corpus, and one id a character."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.errors import WorkbenchError

END = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], kind: str = "bpe", d_vocab: int = 4096) -> PreTrainedTokenizerBase:
    """A tokenizer for these texts: `bpe` (byte-level, GPT-2's pre-tokenisation) or `char`.

    `END` marks the end of a document, pads, and begins a text where a model wants a first token.
    """
    if kind == "bpe":
        tokenizer = _bpe(texts, d_vocab)
    elif kind == "char":
        characters = sorted(set().union(*map(set, texts)))
        vocab = {c: i for i, c in enumerate([END, *characters])}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=END))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        raise WorkbenchError(f"The tokenizer's kind is {kind!r}; it must be bpe or char.")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


def _bpe(texts: Iterable[str], d_vocab: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def id_tokenizer(d_vocab: int) -> PreTrainedTokenizerBase:
    """For a model that came without a tokenizer: a text is its token ids, such as "3 1 2"."""
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(d_vocab)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
