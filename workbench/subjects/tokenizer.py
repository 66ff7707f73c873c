"""Tokenizers made here: trained byte-level BPE, characters, words, nanoGPT's, plain token ids."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.doors import read_object, reading
from workbench.errors import WorkbenchError

END = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
MOST_WORDS = 65_000
"""Largest vocabulary of words."""
META = "meta.json"
"""nanoGPT's character vocabulary: the content of its meta.pkl as JSON, as pickles are not read."""
MOST_META = 10**7
"""Largest character vocabulary, in bytes; Unicode has 1.1 million characters."""


def train_tokenizer(
    texts: Iterable[str], kind: str = "bpe", d_vocab: int = 4096
) -> PreTrainedTokenizerBase:
    """A tokenizer trained on these texts.

    `END` serves as end-of-document, padding and BOS token. Characters or words that the texts do
    not have become `UNKNOWN` in a tokenizer of characters or words.

    Args:
        texts: Training texts.
        kind: "bpe" (byte-level, with GPT-2's pre-tokenization), "char", or "word" (what stands
            between white space).
        d_vocab: Vocabulary size of a BPE tokenizer.

    Raises:
        WorkbenchError: For another kind, and for more than `MOST_WORDS` words.
    """
    if kind == "bpe":
        tokenizer = _bpe(texts, d_vocab)
    elif kind == "char":
        characters = sorted(set().union(*map(set, texts)))
        vocab = {c: i for i, c in enumerate([END, *characters, UNKNOWN])}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        tokenizer.decoder = decoders.Fuse()
    elif kind == "word":
        tokenizer = _words(texts)
    else:
        raise WorkbenchError(f"The tokenizer's kind is {kind!r}; it must be bpe, char or word.")
    unknown: Any = {} if kind == "bpe" else {"unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        **unknown,
    )


def _words(texts: Iterable[str]) -> Tokenizer:
    words = sorted({word for text in texts for word in text.split()} - {END, UNKNOWN}, key=_natural)
    if len(words) > MOST_WORDS:
        raise WorkbenchError(
            f"The corpus has {len(words):,} different words, and a vocabulary of words may have "
            f'{MOST_WORDS:,}; set kind = "bpe" in [tokenizer].'
        )
    vocab = {word: i for i, word in enumerate([END, *words, UNKNOWN])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _natural(word: str) -> tuple[str, int, str]:
    """Sort key with numbers at the end of words in their order: p2 before p10."""
    stem = word.rstrip("0123456789")
    number = word[len(stem) :]
    return stem, int(number[:18] or 0), word


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
    """A tokenizer for texts of token ids such as "3 1 2", for models without a tokenizer."""
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(d_vocab)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def tokenizer_beside(folder: Path, d_vocab: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder without tokenizer files: from its `META`, else `id_tokenizer`.

    Raises:
        WorkbenchError: `META` is not a character vocabulary.
    """
    path = folder / META
    return nanogpt_tokenizer(path) if path.is_file() else id_tokenizer(d_vocab)


def nanogpt_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The character tokenizer of the `stoi` and `itos` in a JSON file.

    It has no unknown token, so other characters are dropped.

    Raises:
        WorkbenchError: The two are not the inverse of each other over single characters.
    """
    mend = "write the stoi and itos of its meta.pkl into it as JSON"
    fault = "is not nanoGPT's vocabulary"
    meta = read_object(path, mend, fault, largest=MOST_META)
    with reading(path, mend, fault):
        vocab = {str(c): int(i) for c, i in meta["stoi"].items()}
        reverse = (
            meta["itos"].items() if isinstance(meta["itos"], dict) else enumerate(meta["itos"])
        )
        if {c: int(i) for i, c in reverse} != vocab:
            raise ValueError("stoi and itos are not each other's reverse")
        if (
            not vocab
            or any(len(c) != 1 for c in vocab)
            or sorted(vocab.values()) != list(range(len(vocab)))
        ):
            raise ValueError("stoi must number single characters from 0 on")
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    others = "".join(f"\\x{{{ord(c):X}}}" for c in vocab)
    tokenizer.normalizer = normalizers.Replace(Regex(f"[^{others}]"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
