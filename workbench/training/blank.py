"""The bundled untrained encoder-decoder: `python -m workbench.training.blank FOLDER` makes it.

A recipe of rewriting that begins with it trains a small T5 from nothing. Its tokens are the
printable characters of ASCII, one each.
"""

import string
import sys
from pathlib import Path

import torch

from workbench.subjects import load
from workbench.subjects.card import write_card
from workbench.subjects.save import save
from workbench.training.reverse import fresh, letters_tokenizer

CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " "


def make(folder: Path, seed: int = 0) -> None:
    """Save the untrained model with its card, in half precision."""
    tokenizer = letters_tokenizer(CHARACTERS)
    card = {
        "source": "bundled",
        "licence": "MIT",
        "command": "python -m workbench.training.blank models/shelf-blank",
        "data": "none: the weights are drawn at random",
        "notes": (
            "An untrained T5 of two layers a side that reads and writes the printable characters "
            "of ASCII: the beginning of recipes that train an encoder-decoder from nothing, such "
            "as finetune-dates."
        ),
    }
    save(folder, fresh(len(tokenizer), seed), tokenizer, card=card, dtype=torch.float16)
    complete = load(folder, seq2seq=True).card.to_dict()
    write_card(folder, {**complete, "name": folder.name, "source": "bundled"})


if __name__ == "__main__":
    make(Path(sys.argv[1]))
