"""What pins a Subject: one hash over weights, configuration, tokenizer, edits and dtype; and a
stamp of its files.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from workbench.subjects.subject import Subject

VERSION = 1
"""Raise it when the same files would compute something else."""

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
"""Files of a folder that say how text is cut into tokens, and how a chat is written."""

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
"""Words of configurations that change nothing of what is computed: who wrote the file, from where,
in what precision (weights are read as float32, and what they were stored as is in their bytes)."""


def identity(weights: str, folder: Path | None = None) -> str:
    """The hash of a loaded model: sha256 over its weights' hash and the configuration and tokenizer
    beside them.

    Args:
        weights: sha256 of the files that hold the weights.
        folder: Where the configuration and the tokenizer lie; None where the weights' file holds
            them, or a hash of them is in `weights`.
    """
    digest = hashlib.sha256(f"workbench {VERSION} {weights}".encode())
    for path in _described_by(folder) if folder is not None else []:
        digest.update(f"\n{path.name} {_content(path)}".encode())
    return digest.hexdigest()


def in_dtype(identity_hash: str, dtype: torch.dtype) -> str:
    """The same model in another precision has a hash of its own; float32, in which models load,
    leaves it.
    """
    if dtype == torch.float32:
        return identity_hash
    return hashlib.sha256(f"{identity_hash} {dtype}".encode()).hexdigest()


def matches(subject: "Subject", recorded: str) -> bool:
    """Whether a hash that was written down means this Subject.

    Records of before configuration and tokenizer were part of the hash have that of the weights
    alone.
    """
    return recorded in (subject.hash, subject.card.sha256)


def stamp(path: Path) -> str:
    """What changes when a file changes, or a file in a folder: names, sizes, times. Reads no
    content.
    """
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
    """A file's content as it matters: of settings in JSON what they say, not how it is laid out."""
    raw = path.read_bytes()
    if path.suffix == ".json" and path.name.endswith("config.json"):
        try:
            settings = json.loads(raw)
            kept = {word: value for word, value in settings.items() if word not in VOLATILE}
            return json.dumps(kept, sort_keys=True)
        except (ValueError, AttributeError, RecursionError):
            pass  # no settings after all: its bytes stand for it
    return hashlib.sha256(raw).hexdigest()
