"""From documents to memory-mapped token ids: a split by document, tokenised once, and batches by
step number.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

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
"""Characters tokenised at a time; `tokenizers` shares their texts among the cores."""

Progress = Callable[[float, str], None]


def held_out(document: str, share: float) -> bool:
    """Whether a document belongs to validation; its own hash decides, so a split never moves when
    texts are added.
    """
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") < share * 2**32


class Text(NamedTuple):
    """A text of one split; `ends` is False for a piece whose text goes on in the next of its split."""

    split: str
    text: str
    ends: bool = True


def split(corpus: Corpus, notes: Notes | None = None) -> Iterator[Text]:
    """The texts of a corpus with their splits, streamed; a text is in one split only.

    Raises:
        WorkbenchError: For a source that cannot be read, and for an unknown kind of split.
    """
    if corpus.split == "tail":
        yield from _tail(corpus, notes)
    elif corpus.split == "document":
        texts = documents(corpus.sources, column=corpus.column, unwrap=corpus.unwrap, notes=notes)
        for text in texts:
            yield Text(SPLITS[held_out(text, corpus.validation)], text)
    else:
        raise WorkbenchError(f"[corpus] split is {corpus.split!r}; it must be document or tail.")


def _tail(corpus: Corpus, notes: Notes | None) -> Iterator[Text]:
    """The first characters for training and the last for validation, in pieces; read twice."""
    total = sum(len(piece) for piece in pieces(corpus.sources, column=corpus.column))
    at = int(total * (1 - corpus.validation))
    seen = 0
    for piece in pieces(corpus.sources, column=corpus.column, notes=notes):
        before = piece[: max(0, at - seen)]
        after = piece[max(0, at - seen) :]
        seen += len(piece)
        if before:
            yield Text("train", before, ends=seen >= at)
        if after:
            yield Text("validation", after, ends=seen >= total)


def training_texts(corpus: Corpus, limit: int = 200_000_000) -> Iterator[str]:
    """Texts of the training split, about `limit` characters of them: what a tokenizer is trained
    on.
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
    """A tokenised corpus: memory-mapped ids of the two splits and the hash of what they were made
    from.

    `notes` counts the rows and documents that were left out, and says what was assumed about the
    sources.
    """

    train: np.ndarray
    validation: np.ndarray
    data_hash: str
    notes: Notes = field(default_factory=Notes)

    def batch(
        self, step: int, *, size: int, n_ctx: int, seed: int, repeated: float = 0.0
    ) -> Int[Tensor, "batch pos"]:
        """Training rows of `n_ctx + 1` ids: a pure function of (seed, step), so a resumed run sees
        the same data.
        """
        rng = np.random.default_rng((seed, step))
        starts = rng.integers(0, len(self.train) - n_ctx - 1, size)
        rows = np.stack([self.train[s : s + n_ctx + 1] for s in starts]).astype(np.int64)
        for i in np.flatnonzero(rng.random(size) < repeated):
            span = rows[i][: rng.integers(n_ctx // 8, n_ctx // 2)]
            rows[i] = np.resize(rng.permutation(span) if rng.random() < 0.5 else span, n_ctx + 1)
        return torch.from_numpy(rows)

    def validation_rows(self, n_ctx: int, n_tokens: int) -> Int[Tensor, "row pos"]:
        """Consecutive validation rows of `n_ctx + 1` ids, at most `n_tokens` in all."""
        n = max(1, min(len(self.validation) - 1, n_tokens) // n_ctx)
        rows = [self.validation[i * n_ctx : (i + 1) * n_ctx + 1] for i in range(n)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def prepare(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    n_ctx: int,
    progress: Progress = lambda share, words: None,
) -> Tokens:
    """Tokenise a corpus once; the arrays are kept under the home folder by the hash of texts, split
    and tokenizer.

    Kept arrays are used where their sizes and checksums are those that were written, and made anew
    otherwise, with a remark. Texts are streamed twice, to hash and to tokenise, so memory does not
    grow with the corpus.

    Raises:
        WorkbenchError: When there is no text, or a split is shorter than the context.
    """
    digests = {name: hashlib.sha256() for name in SPLITS}
    counts = 0
    notes = Notes()
    for name, text, ends in split(corpus, notes):
        digests[name].update(text.encode() + (b"\0" if ends else b""))
        counts += len(text)
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
        _tokenise(folder, corpus, tokenizer, dtype, counts, progress)
    arrays = []
    for name in SPLITS:
        path = folder / f"{name}.bin"
        n_tokens = path.stat().st_size // dtype.itemsize
        if n_tokens <= n_ctx + 1:
            raise WorkbenchError(
                f"The {name} split has {n_tokens} tokens, fewer than one row of the context "
                f"{n_ctx}; add text or shorten n_ctx."
            )
        arrays.append(np.memmap(path, dtype=dtype, mode="r"))
    return Tokens(arrays[0], arrays[1], key.hexdigest(), notes)


def _damage(folder: Path, dtype: np.dtype) -> str | None:
    """What is wrong with the kept arrays, in a few words; "" where there are none yet, None where
    they are whole.
    """
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
    """How a tokenizer splits and joins besides its vocabulary: merges, normalisation; "" where it
    is of Python's.
    """
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
    """Write both splits under a temporary name, then give them theirs."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    try:
        with (
            (part / "train.bin").open("wb") as train,
            (part / "validation.bin").open("wb") as validation,
        ):
            out = {"train": train, "validation": validation}
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
    """Texts in batches of about `BATCH` characters: a tokenizer takes hundreds of bytes for each."""
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
    encoded = tokenizer([text for _, text, _ in texts], add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    for (name, _, ends), ids in zip(texts, encoded, strict=True):
        out[name].write(np.array(ids + (end if ends else []), dtype=dtype).tobytes())
