"""Tiny encoders and encoder-decoders made on the spot, with tokenizers over real words."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.conftest import subject_of
from workbench.subjects import Subject, load

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("the", "a", "cat", "dog", "bird", "man", "sat", "ran", "ate", "saw", "on", "under", "mat"),
    *("tree", "big", "small", "red", "is", "not", ".", ",", "and", "fish", "house", "##s", "##ed"),
)
SENTENCE = "The cat sat on the [MASK] and the dog ran ."
OTHER = "The bird sat on the [MASK] and the man ran ."


def word_piece() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 31 words that reads texts as BERT's does."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def bert_model(**changes: Any) -> BertForMaskedLM:
    """Three layers of four heads; weights large enough that attention is not flat."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.25,
    }
    return BertForMaskedLM(BertConfig(**{**shape, **changes})).eval()


def bert_folder(folder: Path, **changes: Any) -> Path:
    """A folder with `bert_model` and `word_piece`."""
    bert_model(**changes).save_pretrained(folder)
    word_piece().save_pretrained(folder)
    return folder


def bert(folder: Path) -> Subject:
    """The Subject of `bert_folder`."""
    return load(bert_folder(folder), encoder=True, device="cpu")


def t5(kind: str = "relu", **changes: Any) -> Subject:
    """Two and three layers of three heads in float64, not flat; ids as text."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 40,
        "d_model": 24,
        "d_kv": 8,
        "d_ff": 32,
        "num_heads": 3,
        "num_layers": 2,
    }
    more = {"num_decoder_layers": 3, "feed_forward_proj": kind, "relative_attention_num_buckets": 8}
    ends = {
        "decoder_start_token_id": 0,
        "initializer_factor": 3.0,
        "relative_attention_max_distance": 12,
    }
    model = T5ForConditionalGeneration(T5Config(**{**shape, **more, **ends, **changes}))
    return subject_of(model.double().eval(), "t5")
