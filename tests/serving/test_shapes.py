"""The bytes of tokens, as clients join them to read characters that several tokens spell."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import workbench as wb
from workbench.serving.shapes import bytes_of

TEXT = "naïve 日本 🙂 – don’t\n\tx = 1;  “ß”"


def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer in SentencePiece's manner: a few words, and a token for every byte."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁na", "ve", "x", "="]
    model: Any = models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True)
    tokenizer: Any = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize("kind", ["byte-level", "byte fallback"])
def test_the_bytes_of_the_tokens_of_a_text_are_those_of_the_text(kind):
    tokenizer = wb.load("shelf-base").tokenizer if kind == "byte-level" else byte_fallback()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    spelt = [bytes_of(tokenizer, token) for token in ids]
    assert None not in spelt
    assert bytes(byte for token in spelt for byte in token or []) == TEXT.encode()
    assert len(ids) > len(TEXT) / 3
