"""From documents to memory-mapped token ids: split, tokenised once, read in batches by step."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench import paths
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.training.recipe import Corpus
from workbench.training.texts import documents, pieces

SPLITS = ("train", "validation")
BATCH = 1_000_000
"""Characters tokenised in one call; `tokenizers` spreads the texts of a call over the cores."""

Progress = Callable[[float, str], None]


def held_out(document: str, share: float) -> bool:
    """Whether a document belongs to the validation split.

    Its own hash decides, so a document never changes sides when texts are added.

    Args:
        document: The whole text.
        share: Expected share of documents that are held out, 0 to 1.
    """
    return _place(document) < share * 2**32


def _place(document: str) -> int:
    """A number from 0 to 2^32 - 1 that depends on the document's text alone."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big")


class Text(NamedTuple):
    """A text and its split; `ends` is False if the next text of the split continues it."""

    split: str
    text: str
    ends: bool = True


def split(corpus: Corpus, notes: Notes | None = None) -> Iterator[Text]:
    """The texts of a corpus with their splits, streamed; no text is in both splits.

    Args:
        corpus: The `[corpus]` table of a recipe.
        notes: Collects what was dropped or assumed.

    Raises:
        WorkbenchError: For a source that cannot be read, and for an unknown kind of split.
    """
    if corpus.split == "tail":
        yield from _tail(corpus, notes)
    elif corpus.split == "document":
        share = _share(corpus, notes)
        for text in _documents(corpus, notes):
            yield Text(SPLITS[held_out(text, share)], text)
    else:
        raise WorkbenchError(f"[corpus] split is {corpus.split!r}; it must be document or tail.")


def _documents(corpus: Corpus, notes: Notes | None = None) -> Iterator[str]:
    return documents(corpus.sources, column=corpus.column, unwrap=corpus.unwrap, notes=notes)


def _share(corpus: Corpus, notes: Notes | None) -> float:
    """The share for `held_out`: the recipe's, unless that leaves a split without a document.

    Of few documents the hash may hold out none. Then those that come first by their hash are held
    out, as many as the recipe's share and at least one. Of many documents it reads the first few.
    """
    places = []
    seen = set()
    for text in _documents(corpus):
        places.append(_place(text))
        seen.add(held_out(text, corpus.validation))
        if len(seen) == 2:
            return corpus.validation
    if len(places) == 1:
        return corpus.validation  # `prepare` says that one document cannot be divided
    n = min(max(1, round(corpus.validation * len(places))), len(places) - 1)
    if notes is not None:
        notes.remark(
            f"The corpus has {len(places)} documents, so few that their hashes would leave a split "
            f"empty; {n} {'is' if n == 1 else 'are'} held out."
        )
    return (sorted(places)[n - 1] + 1) / 2**32


def _tail(corpus: Corpus, notes: Notes | None) -> Iterator[Text]:
    """Split by position: the last share of characters is validation. Reads the sources twice."""
    total = sum(len(piece) for piece in pieces(corpus.sources, column=corpus.column))
    boundary = int(total * (1 - corpus.validation))
    seen = 0
    for piece in pieces(corpus.sources, column=corpus.column, notes=notes):
        before = piece[: max(0, boundary - seen)]
        after = piece[max(0, boundary - seen) :]
        seen += len(piece)
        if before:
            yield Text("train", before, ends=seen >= boundary)
        if after:
            yield Text("validation", after, ends=seen >= total)


def training_texts(corpus: Corpus, limit: int = 200_000_000) -> Iterator[str]:
    """Texts of the training split, to train a tokenizer on.

    Args:
        corpus: The `[corpus]` table of a recipe.
        limit: Characters after which it stops; plenty for a vocabulary, and bounds the time.
    """
    seen = 0
    for name, text, _ in split(corpus):
        if name == "train":
            yield text
            seen += len(text)
        if seen >= limit:
            return


@dataclass(frozen=True)
class Tokens:
    """A tokenised corpus: memory-mapped token ids of both splits.

    - `data_hash`: SHA-256 over texts, split and tokenizer
    - `end`: of rows that begin with a document, the token that ends one; None for rows that begin
      anywhere
    - `notes`: how many rows and documents were dropped, and what was assumed about the sources
    """

    train: np.ndarray
    validation: np.ndarray
    data_hash: str
    notes: Notes = field(default_factory=Notes)
    end: int | None = None

    def batch(
        self, step: int, *, size: int, n_ctx: int, seed: int, repeated: float = 0.0
    ) -> Int[Tensor, "batch pos"]:
        """Training rows of `n_ctx + 1` ids; the last `n_ctx` are the targets of the first.

        Args:
            step: With `seed` decides the rows, so a resumed run sees the same data.
            size: Rows.
            n_ctx: Length of the context.
            seed: Of the run.
            repeated: Share of rows made of one repeated span, which teaches induction heads early;
                half of these spans have their tokens shuffled, so that meaning does not help.
        """
        rng = np.random.default_rng((seed, step))
        starts = self.starts(rng, size, n_ctx)
        rows = np.stack([self.train[s : s + n_ctx + 1] for s in starts]).astype(np.int64)
        for row, ids in self.repeat_spans(rng, starts, n_ctx, repeated).items():
            rows[row] = ids
        return torch.from_numpy(rows)

    def starts(self, rng: np.random.Generator, size: int, n_ctx: int) -> Int[np.ndarray, " row"]:
        """Where the training rows of a step begin, drawn by its generator."""
        if self.end is None:
            return rng.integers(0, len(self.train) - n_ctx - 1, size)
        return rng.choice(self._documents("train", n_ctx), size)

    def repeat_spans(
        self,
        rng: np.random.Generator,
        starts: Int[np.ndarray, " row"],
        n_ctx: int,
        repeated: float,
    ) -> dict[int, Int[np.ndarray, " pos"]]:
        """The rows that are made of one repeated span, by their number; see `batch`."""
        changed = {}
        for row in np.flatnonzero(rng.random(len(starts)) < repeated).tolist():
            n = rng.integers(n_ctx // 8, n_ctx // 2)
            span = self.train[starts[row] :][:n].astype(np.int64)
            changed[row] = np.resize(
                rng.permutation(span) if rng.random() < 0.5 else span, n_ctx + 1
            )
        return changed

    def validation_rows(self, n_ctx: int, n_tokens: int) -> Int[Tensor, "row pos"]:
        """Consecutive validation rows of `n_ctx + 1` ids, about `n_tokens` in all, at least one."""
        n = max(1, min(len(self.validation) - 1, n_tokens) // n_ctx)
        starts = self.validation_starts(n_ctx)[:n]
        rows = [self.validation[start : start + n_ctx + 1] for start in starts]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def validation_starts(self, n_ctx: int) -> Int[np.ndarray, " row"]:
        """Where the rows of the validation split begin: at documents, or one after the other."""
        if self.end is not None:
            return self._documents("validation", n_ctx)
        return np.arange(len(self.validation) // n_ctx) * n_ctx

    def _documents(self, name: str, n_ctx: int) -> Int[np.ndarray, " document"]:
        """Where the documents of a split begin that have a whole row after them."""
        if (name, n_ctx) not in self._begin:
            ids = self.train if name == "train" else self.validation
            starts = np.concatenate([[0], np.flatnonzero(ids == self.end) + 1])
            self._begin[name, n_ctx] = starts[starts + n_ctx < len(ids)]
        return self._begin[name, n_ctx]

    @cached_property
    def _begin(self) -> dict[tuple[str, int], Int[np.ndarray, " document"]]:
        return {}


def prepare(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    n_ctx: int,
    progress: Progress = lambda share, words: None,
) -> Tokens:
    """The tokenised corpus, from the cache in the home folder or made now.

    The cache key is a hash of texts, split and tokenizer. Cached arrays are checked by size and
    checksum and remade if damaged. Texts are streamed twice, to hash and to tokenise, so memory
    does not grow with the corpus.

    Args:
        corpus: The `[corpus]` table of a recipe.
        tokenizer: Its end-of-text token, if it has one, follows every document.
        n_ctx: Length of the context; each split must be longer.
        progress: Called with the share done and what is being done.

    Raises:
        WorkbenchError: When there is no text, or a split is shorter than the context.
    """
    digests = {name: hashlib.sha256() for name in SPLITS}
    n_characters = 0
    notes = Notes()
    for name, text, ends in split(corpus, notes):
        digests[name].update(text.encode() + (b"\0" if ends else b""))
        n_characters += len(text)
    key = hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode())
    for digest in digests.values():
        key.update(digest.digest())
    key.update(_rules(tokenizer).encode())
    folder = paths.home() / "corpora" / key.hexdigest()[:16]
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    damage = _damage(folder, dtype)
    if damage:
        notes.remark(f"The kept tokens of this corpus were damaged ({damage}) and were made anew.")
    if damage is not None:
        _tokenise(folder, corpus, tokenizer, dtype, n_characters, progress)
    arrays = []
    for name in SPLITS:
        path = folder / f"{name}.bin"
        n_tokens = path.stat().st_size // dtype.itemsize
        if n_tokens == 0 and corpus.split == "document":
            raise WorkbenchError(
                f"The {name} split is empty, because the corpus is one document; give more text, "
                'or set split = "tail" to hold out the end of the text.'
            )
        if n_tokens <= n_ctx + 1:
            raise WorkbenchError(
                f"The {name} split has {n_tokens} tokens, fewer than one row of the context "
                f"{n_ctx}; add text, shorten n_ctx, or change the share that is held out "
                f"(validation = {corpus.validation:g})."
            )
        arrays.append(np.memmap(path, dtype=dtype, mode="r"))
    end = _end(tokenizer) if corpus.aligned else None
    return Tokens(arrays[0], arrays[1], key.hexdigest(), notes, end)


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends every document. Raises `WorkbenchError` where there is none."""
    if tokenizer.eos_token_id is None:
        raise WorkbenchError(
            "[corpus] aligned needs a tokenizer with an end-of-text token, which ends every "
            "document; set another kind in [tokenizer]."
        )
    return cast(int, tokenizer.eos_token_id)


def _damage(folder: Path, dtype: np.dtype) -> str | None:
    """What is wrong with the cached arrays; "" if there are none yet, None if they are intact."""
    if not folder.is_dir():
        return ""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        known = {name: (int(meta["bytes"][name]), str(meta["sha256"][name])) for name in SPLITS}
        same_type = meta["dtype"] == dtype.name
    except (OSError, ValueError, KeyError, TypeError):
        return "meta.json holds no checksums"
    if not same_type:
        return "meta.json names another type of number"
    for name, (size, checksum) in known.items():
        path = folder / f"{name}.bin"
        try:
            if path.stat().st_size != size:
                return f"{path.name} has {path.stat().st_size:,} bytes instead of {size:,}"
            if _sha256(path) != checksum:
                return f"the bytes of {path.name} have changed"
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror}"
    return None


def _rules(tokenizer: PreTrainedTokenizerBase) -> str:
    """A tokenizer's merges and normalisation as JSON; "" for one written in Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return ""
    rules = json.loads(backend.to_str())
    return json.dumps(
        {name: rules[name] for name in sorted(rules) if name not in ("padding", "truncation")}
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenise(
    folder: Path,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    dtype: np.dtype,
    n: int,
    progress: Progress,
) -> None:
    """Write both splits into a temporary folder and rename it, so a cache is never half done."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    try:
        with (
            (part / "train.bin").open("wb") as train,
            (part / "validation.bin").open("wb") as validation,
        ):
            out: dict[str, BinaryIO] = {"train": train, "validation": validation}
            done = 0
            for batch in _batches(split(corpus)):
                _append(out, batch, tokenizer, dtype)
                done += sum(len(text) for _, text, _ in batch)
                progress(min(1.0, done / max(n, 1)), f"tokenising {n:,} characters")
        files = {name: part / f"{name}.bin" for name in SPLITS}
        meta = {
            "dtype": dtype.name,
            "sources": corpus.sources,
            "bytes": {name: path.stat().st_size for name, path in files.items()},
            "sha256": {name: _sha256(path) for name, path in files.items()},
        }
        (part / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise WorkbenchError(
            f"{folder} could not be written ({error.strerror}); free some space."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _batches(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Texts in batches of about `BATCH` characters, which bounds the memory of a tokenizer call."""
    batch: list[Text] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.text)
        if size >= BATCH:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


def _append(
    out: dict[str, BinaryIO], texts: list[Text], tokenizer: PreTrainedTokenizerBase, dtype: np.dtype
) -> None:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoding = tokenizer([text for _, text, _ in texts], add_special_tokens=False, verbose=False)
    rows = cast(list[list[int]], encoding["input_ids"])
    for (name, _, ends), ids in zip(texts, rows, strict=True):
        out[name].write(np.array(ids + (end if ends else []), dtype=dtype).tobytes())
