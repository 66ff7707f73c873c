"""Text to train a tuned lens on, and text to measure it on: from a file, a list, the data folder,
or the model.
"""

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.subjects import Subject

WIDTH, HELD_WIDTH, HELD_OUT = 128, 64, 16
"""Tokens of a row of text; of a text that is measured, and how many of these there are."""
WRITTEN = 64
"""Texts the model writes where there is no other."""
TRIES = 4000


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens to train on, as many as are asked for, and texts held out; `source` says where
    from.
    """

    rows: Int[Tensor, "row pos"]
    held_out: Int[Tensor, "text pos"]
    source: str

    @property
    def width(self) -> int:
        """Tokens of a row."""
        return self.rows.shape[1]

    def batch(self, step: int, size: int) -> Int[Tensor, "{size} pos"]:
        """The batch of a step; after the last row comes the first."""
        return self.rows[[(step * size + i) % len(self.rows) for i in range(size)]]


def corpus_of(
    subject: Subject, texts: str | Sequence[str] | None, seed: int, rows: int = 256
) -> Corpus:
    """Rows of this Subject's tokens; a tenth of the text, at its end, is held out.

    Raises `WorkbenchError` for a file that cannot be read, and for text that is too short.
    """
    width, held = min(WIDTH, subject.n_ctx), min(HELD_WIDTH, subject.n_ctx)
    if (
        texts is None
        and (folder := paths.data_folder()) is not None
        and (folder / "books").is_dir()
    ):
        found, source = (
            [_read(path) for path in sorted((folder / "books").glob("*.txt.gz"))],
            "books",
        )
    elif texts is None:
        ids = _written(subject, width, seed)
        part = max(1, len(ids) // 4)
        return Corpus(ids[part:], ids[:part][:HELD_OUT, :held], "written by the model itself")
    elif isinstance(texts, str):
        found, source = [_read(Path(texts))], Path(texts).name
    else:
        found, source = list(texts), f"{len(texts)} texts"
    train = [text[: len(text) * 9 // 10] for text in found]
    rest = [text[len(text) * 9 // 10 :] for text in found]
    return Corpus(
        _cut(subject, train, width, rows, seed), _cut(subject, rest, held, HELD_OUT, seed), source
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
    """Rows of `width` tokens from random places, beginning at a word; as many as there are, if they
    are few.
    """
    rng, found, seen = random.Random(seed), [], set()
    sizes = [max(0, len(text) - 2 * width) for text in texts]
    if not any(sizes):
        raise WorkbenchError(
            f"The text is too short to train a lens on and to measure it; give {40 * width} words."
        )
    for _ in range(TRIES):
        which = rng.choices(range(len(texts)), sizes)[0]
        text = texts[which]
        start = text.find(" ", rng.randrange(sizes[which])) + 1
        if (which, start) in seen:
            continue
        seen.add((which, start))
        ids = subject.ids(" ".join(text[start : start + 12 * width].split()))[:width]
        if len(ids) == width:
            found.append(ids)
        if len(found) == rows:
            break
    if len(found) < 4:
        raise WorkbenchError(
            f"The text is too short to train a lens on and to measure it; give {40 * width} words."
        )
    return torch.tensor(found, device=subject.device)


@torch.no_grad()
def _written(subject: Subject, width: int, seed: int) -> Int[Tensor, "row pos"]:
    """Texts drawn from the model, each from a random first token or the one that begins every text."""
    torch.manual_seed(seed)
    first = subject.tokenizer.bos_token_id
    known = min(
        len(subject.tokenizer), subject.card.d_vocab
    )  # a padded embedding has rows without a token
    start = torch.randint(known, (WRITTEN, 1), device=subject.device) if first is None else None
    start = torch.full((WRITTEN, 1), first, device=subject.device) if start is None else start
    ids = subject.model.generate(
        start, do_sample=True, min_new_tokens=width - 1, max_new_tokens=width - 1
    )
    return ids[:, :width]
