"""The identity of a Subject: a hash over weights, configuration, tokenizer, edits and dtype."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from workbench.subjects.subject import Subject

VERSION = 1
"""Raise it when loading the same files gives a model that computes something else."""

CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json")
TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
    "meta.json",
    "*.model",
    "*.tiktoken",
)
"""Files of a folder that determine tokenization and the chat template."""

VOLATILE = frozenset(
    {
        "transformers_version",
        "architectures",
        "dtype",
        "torch_dtype",
        "name_or_path",
        "_name_or_path",
        "_commit_hash",
        "_from_model_config",
        "is_local",
        "local_files_only",
        "base_model_name_or_path",
    }
)
"""Fields of configurations that do not affect what is computed.

They say who wrote the file, from where and in which dtype. Weights are always read as float32, and
the dtype they are stored in shows in their bytes.
"""


def identity(weights: str, folder: Path | None = None) -> str:
    """The hash of a loaded model: sha256 over weights, configuration and tokenizer.

    Args:
        weights: sha256 of the weight files.
        folder: Folder of the configuration and the tokenizer; None where the weight file contains
            them, or `weights` covers them.
    """
    digest = hashlib.sha256(f"workbench {VERSION} {weights}".encode())
    for path in _described_by(folder) if folder is not None else []:
        digest.update(f"\n{path.name} {_content(path)}".encode())
    return digest.hexdigest()


def in_dtype(identity_hash: str, dtype: torch.dtype) -> str:
    """The hash of the same model in another dtype; float32, the loading dtype, changes nothing."""
    if dtype == torch.float32:
        return identity_hash
    return hashlib.sha256(f"{identity_hash} {dtype}".encode()).hexdigest()


def matches(subject: "Subject", recorded: str) -> bool:
    """Whether a recorded hash is this Subject's.

    Old records have the hash of the weights alone, without configuration and tokenizer.
    """
    return recorded in (subject.hash, subject.card.sha256)


def stamp(path: Path) -> str:
    """A hash of names, sizes and times of a file, or of a folder's files; reads no content."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(str(path.resolve()).encode())
    for file in files:
        facts = file.stat()
        digest.update(f"\n{file.name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}".encode())
    return digest.hexdigest()


def _described_by(folder: Path) -> Iterable[Path]:
    patterns = (*CONFIGURATION, *TOKENIZER)
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _content(path: Path) -> str:
    """What a file contributes to the hash: of JSON settings the values, of others all bytes."""
    raw = path.read_bytes()
    if path.suffix == ".json" and path.name.endswith("config.json"):
        try:
            settings = json.loads(raw)
            lasting = {word: value for word, value in settings.items() if word not in VOLATILE}
            return json.dumps(lasting, sort_keys=True)
        except (ValueError, AttributeError, RecursionError):
            pass  # not settings after all: use the bytes
    return hashlib.sha256(raw).hexdigest()
