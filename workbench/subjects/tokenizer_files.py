"""Reads the tokenizer of a model and tries it on a text before anything depends on it."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from workbench.doors import reading

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")
"""Files of which each marks a folder that has a tokenizer."""
MEND = "put the tokenizer files that the model was trained with in their place"
SAMPLE = "Anna's cat sat on 3 mats.\n\tIt slept: \u05e9\u05dc\u05d5\u05dd \U0001f600"
"""A text with most kinds of characters."""


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has tokenizer files."""
    return any((folder / name).is_file() for name in FILES)


def read_tokenizer(
    where: str | Path, name: str, *, gguf_file: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a Hugging Face id or a GGUF file.

    Args:
        where: Folder or Hugging Face id; of a GGUF file its folder.
        name: What the user called the model, for errors.
        gguf_file: Name of the GGUF file in the folder.

    Raises:
        UnreadableError: Its files are damaged, or it cannot encode and decode a text.
    """
    with reading(f"The tokenizer of {name}", MEND):
        tokenizer = AutoTokenizer.from_pretrained(
            where, trust_remote_code=False, gguf_file=gguf_file
        )
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise TypeError(f"it is a {type(tokenizer).__name__}")
        _try(tokenizer)
    return tokenizer


def _try(tokenizer: PreTrainedTokenizerBase) -> None:
    """Use every method of a tokenizer that is needed later; raises whatever is wrong with it."""
    ids = [*tokenizer(SAMPLE, verbose=False)["input_ids"], *tokenizer.all_special_ids]
    vocabulary = tokenizer.get_vocab()
    if not all(isinstance(i, int) and i >= 0 for i in [*ids, *vocabulary.values()]):
        raise ValueError("it gives ids that are no numbers from 0 on")
    if not isinstance(tokenizer.decode(ids), str):
        raise ValueError("it gives no text for its ids")
    tokenizer.convert_ids_to_tokens(ids)
    if not isinstance(tokenizer.chat_template, str | dict | None):
        raise ValueError("its chat template is no text")
