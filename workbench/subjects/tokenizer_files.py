"""Tokenizers from the files of a model, tried on a text before anything depends on them."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from workbench.doors import reading

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")
"""By one of these a folder has a tokenizer of its own."""
MEND = "put the tokenizer files that the model was trained with in their place"
SAMPLE = "Anna's cat sat on 3 mats.\n\tIt slept: \u05e9\u05dc\u05d5\u05dd \U0001f600"
"""A text with most kinds of characters."""


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer's own files."""
    return any((folder / name).is_file() for name in FILES)


def read_tokenizer(
    where: str | Path, name: str, *, gguf_file: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, of a Hugging Face id or in a GGUF file (`where` is then its
    folder).

    Args:
        where: What transformers reads from.
        name: What the user called it.
        gguf_file: The file's name.

    Raises:
        UnreadableError: its files are damaged, or it cannot read and write a text.
    """
    with reading(f"The tokenizer of {name}", MEND):
        found = AutoTokenizer.from_pretrained(where, trust_remote_code=False, gguf_file=gguf_file)
        if not isinstance(found, PreTrainedTokenizerBase):
            raise TypeError(f"it is a {type(found).__name__}")
        _try(found)
    return found


def _try(tokenizer: PreTrainedTokenizerBase) -> None:
    """Use a tokenizer as everything here does; raises whatever is wrong with it."""
    ids = [*tokenizer(SAMPLE, verbose=False)["input_ids"], *tokenizer.all_special_ids]
    vocabulary = tokenizer.get_vocab()
    if not all(isinstance(i, int) and i >= 0 for i in [*ids, *vocabulary.values()]):
        raise ValueError("it gives ids that are no numbers from 0 on")
    if not isinstance(tokenizer.decode(ids), str):
        raise ValueError("it gives no text for its ids")
    tokenizer.convert_ids_to_tokens(ids)
    if not isinstance(tokenizer.chat_template, str | dict | None):
        raise ValueError("its chat template is no text")
