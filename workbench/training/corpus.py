"""From text files to token arrays: documents, a split by document, a tokenizer, memory-mapped ids."""

import gzip
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.training.generated import stories
from workbench.training.recipe import Corpus

GENERATED = "generated"
"""The source that needs no file: little stories made on the spot."""

DOCUMENT = 2000
"""Characters after which a long text is cut at the next paragraph, so that books can be split at all."""


def _files(source: str) -> list[Path]:
    folders = [Path(source)]
    if (data := paths.data_folder()) is not None:
        folders.append(data / source)
    for path in folders:
        if path.is_file():
            return [path]
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.name.endswith((".txt", ".txt.gz")))
            if found:
                return found
    raise WorkbenchError(
        f"No text found for corpus source {source!r}; give a .txt file or folder, set WORKBENCH_DATA to the "
        "folder that holds it, or use 'generated'."
    )


def _read(path: Path) -> str:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise WorkbenchError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first."
        ) from error


def unwrap(text: str) -> str:
    """Join the lines of hard-wrapped prose into paragraphs; short-lined text such as verse stays as it is."""
    lengths = [len(line) for line in text.split("\n") if line]
    if not lengths or np.median(lengths) < 55:
        return text
    paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", text)]
    return "\n\n".join(p for p in paragraphs if p)


def documents(sources: list[str]) -> list[str]:
    """Documents of about `DOCUMENT` characters, cut at paragraphs, exact duplicates dropped."""
    found: dict[str, None] = {}
    for source in sources:
        if source == GENERATED:
            found.update(dict.fromkeys(stories()))
            continue
        for path in _files(source):
            document = ""
            for paragraph in unwrap(_read(path)).split("\n\n"):
                document += paragraph + "\n\n"
                if len(document) >= DOCUMENT:
                    found[document.strip() + "\n"] = None
                    document = ""
            if document.strip():
                found[document.strip() + "\n"] = None
    if not found:
        raise WorkbenchError(f"The corpus {', '.join(sources)} is empty; give files with text in them.")
    return list(found)


def split(docs: list[str], validation: float) -> tuple[list[str], list[str]]:
    """Train and validation documents; a document's own hash decides, so a split never moves when texts are added."""
    limit = int(validation * 2**32)
    held = [int.from_bytes(hashlib.sha256(d.encode()).digest()[:4], "big") < limit for d in docs]
    train = [d for d, h in zip(docs, held, strict=True) if not h]
    return train, [d for d, h in zip(docs, held, strict=True) if h]


@dataclass(frozen=True)
class Tokens:
    """A tokenised corpus: memory-mapped ids of the two splits and the hash of what they were made from."""

    train: np.ndarray
    validation: np.ndarray
    data_hash: str

    def batch(self, step: int, *, size: int, n_ctx: int, seed: int, repeated: float = 0.0) -> Int[Tensor, "batch pos"]:
        """Training rows of `n_ctx + 1` ids: a pure function of (seed, step), so a resumed run sees the same data."""
        rng = np.random.default_rng((seed, step))
        starts = rng.integers(0, len(self.train) - n_ctx - 1, size)
        rows = np.stack([self.train[s : s + n_ctx + 1] for s in starts]).astype(np.int64)
        for i in np.flatnonzero(rng.random(size) < repeated):
            span = rows[i][: rng.integers(n_ctx // 8, n_ctx // 2)]
            rows[i] = np.resize(rng.permutation(span) if rng.random() < 0.5 else span, n_ctx + 1)
        return torch.from_numpy(rows)

    def validation_rows(self, n_ctx: int, n_tokens: int) -> Int[Tensor, "row pos"]:
        """Consecutive validation rows of `n_ctx + 1` ids, at most `n_tokens` in all."""
        n = min(len(self.validation) - 1, n_tokens) // n_ctx
        rows = [self.validation[i * n_ctx : (i + 1) * n_ctx + 1] for i in range(n)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def prepare(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, n_ctx: int) -> Tokens:
    """Tokenise a corpus once; the arrays are kept under the home folder by the hash of text, split and tokenizer.

    Raises `WorkbenchError` when there is no text or a split is shorter than the context.
    """
    train, validation = split(documents(corpus.sources), corpus.validation)
    digest = hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode())
    for part in (train, ["\0split"], validation):
        for document in part:
            digest.update(document.encode())
    folder = paths.home() / "corpora" / digest.hexdigest()[:16]
    if not (folder / "meta.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        counts = {
            name: _write(folder / f"{name}.bin", part, tokenizer)
            for name, part in (("train", train), ("validation", validation))
        }
        _atomic(folder / "meta.json", json.dumps({"tokens": counts, "sources": corpus.sources}).encode())
    arrays = []
    for name in ("train", "validation"):
        path = folder / f"{name}.bin"
        n_tokens = path.stat().st_size // np.dtype(np.uint32).itemsize
        if n_tokens <= n_ctx + 1:
            raise WorkbenchError(
                f"The {name} split has {n_tokens} tokens, fewer than one row of the context {n_ctx}; "
                "add text or shorten n_ctx."
            )
        arrays.append(np.memmap(path, dtype=np.uint32, mode="r"))
    return Tokens(arrays[0], arrays[1], digest.hexdigest())


def _write(path: Path, docs: list[str], tokenizer: PreTrainedTokenizerBase) -> int:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    found = tokenizer(docs, add_special_tokens=False, verbose=False)["input_ids"] if docs else []
    ids = [np.array(i + end, dtype=np.uint32) for i in found]
    joined = np.concatenate(ids) if ids else np.zeros(0, dtype=np.uint32)
    _atomic(path, joined.tobytes())
    return len(joined)


def _atomic(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
