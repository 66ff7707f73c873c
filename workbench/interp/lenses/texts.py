"""Texts to train and measure a tuned lens: a file, a list, the data folder, or the model's own."""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.subjects import Subject

WIDTH = 128
"""Tokens of a row of training text."""
HELD_WIDTH = 64
"""Tokens of a held-out text."""
HELD_OUT = 16
"""Held-out texts."""
WRITTEN = 64
"""Texts that the model writes if there is no other text."""
TRIES = 4000
"""Random places that are tried."""


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens to train on, and texts held out; `source` says where they are from."""

    rows: Int[Tensor, "row pos"]
    held_out: Int[Tensor, "text shorter"]
    source: str

    @property
    def width(self) -> int:
        """The number of tokens of a row."""
        return self.rows.shape[1]

    def batch(self, step: int, size: int) -> Int[Tensor, "{size} pos"]:
        """The batch of a step; the first row follows the last."""
        return self.rows[[(step * size + i) % len(self.rows) for i in range(size)]]


def corpus_of(
    subject: Subject, texts: str | Sequence[str] | None, seed: int, rows: int = 256
) -> Corpus:
    """Rows of a model's tokens to train on; the last tenth of each text is held out.

    Args:
        subject: The model.
        texts: A file, a list of texts, or None: the books of the data folder, and without them what
            the model itself writes.
        seed: Of the draw.
        rows: Rows to draw.

    Raises:
        WorkbenchError: A file cannot be read, or the text is too short.
    """
    width = min(WIDTH, subject.n_ctx)
    held_width = min(HELD_WIDTH, subject.n_ctx)
    folder = paths.data_folder()
    if texts is None and folder is not None and (folder / "books").is_dir():
        whole = [_read(path) for path in sorted((folder / "books").glob("*.txt.gz"))]
        source = "books"
    elif texts is None:
        ids = _written(subject, width, seed)
        n_held = max(1, len(ids) // 4)
        held_out = ids[:n_held][:HELD_OUT, :held_width]
        return Corpus(ids[n_held:], held_out, "written by the model itself")
    elif isinstance(texts, str):
        whole = [_read(Path(texts))]
        source = Path(texts).name
    else:
        whole = list(texts)
        source = f"{len(texts)} texts"
    train = [text[: len(text) * 9 // 10] for text in whole]
    rest = [text[len(text) * 9 // 10 :] for text in whole]
    return Corpus(
        rows=_cut(subject, train, width, rows, seed),
        held_out=_cut(subject, rest, held_width, HELD_OUT, seed),
        source=source,
    )


def _read(path: Path) -> str:
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"The text {path} cannot be read ({error}); name a .txt or .txt.gz file."
        ) from error


def _cut(
    subject: Subject, texts: list[str], width: int, rows: int, seed: int
) -> Int[Tensor, "row pos"]:
    """Up to `rows` rows of `width` tokens from random places, each starting at a word."""
    rng = random.Random(seed)
    cuts: list[list[int]] = []
    tried: set[tuple[int, int]] = set()
    sizes = [max(0, len(text) - 2 * width) for text in texts]
    if not any(sizes):
        raise WorkbenchError(
            f"The text is too short to train a lens on and to measure it; give {40 * width} words."
        )
    for _ in range(TRIES):
        which = rng.choices(range(len(texts)), sizes)[0]
        text = texts[which]
        start = text.find(" ", rng.randrange(sizes[which])) + 1
        if (which, start) in tried:
            continue
        tried.add((which, start))
        ids = subject.ids(" ".join(text[start : start + 12 * width].split()))[:width]
        if len(ids) == width:
            cuts.append(ids)
        if len(cuts) == rows:
            break
    if len(cuts) < 4:
        raise WorkbenchError(
            f"The text is too short to train a lens on and to measure it; give {40 * width} words."
        )
    return torch.tensor(cuts, device=subject.device)


@torch.no_grad()
def _written(subject: Subject, width: int, seed: int) -> Int[Tensor, "row pos"]:
    """Texts drawn from the model, after the beginning-of-sequence token or a random one."""
    torch.manual_seed(seed)
    first: Any = subject.tokenizer.bos_token_id
    model: Any = subject.model
    if first is None:
        # A padded embedding has rows without a token.
        known = min(len(subject.tokenizer), subject.card.d_vocab)
        start = torch.randint(known, (WRITTEN, 1), device=subject.device)
    else:
        start = torch.full((WRITTEN, 1), first, device=subject.device)
    ids = model.generate(start, do_sample=True, min_new_tokens=width - 1, max_new_tokens=width - 1)
    return ids[:, :width]
