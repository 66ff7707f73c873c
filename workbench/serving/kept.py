"""Saved conversations, as files in the home folder."""

import re
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from workbench import paths
from workbench.doors import made_folder, reading, writing
from workbench.errors import WorkbenchError
from workbench.serving.talk import MEND, Talk

NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
LARGEST = 50_000_000
"""Maximum of bytes of a saved conversation."""


class Kept(NamedTuple):
    """A saved conversation: the name to read it by, when it was saved (Unix time), its title."""

    name: str
    when: float
    title: str


def keep(talk: Talk, name: str = "") -> str:
    """Save a conversation and return its name; a given name overwrites the one saved under it."""
    name = name or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with writing(_file(name)) as part:
        part.write_text(talk.to_json(), encoding="utf-8")
    return name


def read_talk(name: str) -> Talk:
    """The conversation saved under a name. Raises `WorkbenchError` if there is none."""
    file = _file(name)
    if not file.is_file():
        raise WorkbenchError(f"There is no kept conversation {name!r}; choose one of the list.")
    with reading(file, MEND):
        if file.stat().st_size > LARGEST:
            raise WorkbenchError(f"{file} is larger than any conversation; {MEND}.")
        return Talk.from_json(file.read_text(encoding="utf-8"))


def kept(most: int = 50) -> list[Kept]:
    """The newest `most` saved conversations that can be read, newest first."""
    files = sorted(_folder().glob("*.json"), key=lambda file: file.name, reverse=True)[:most]
    conversations = []
    for file in files:
        try:
            conversations.append(
                Kept(file.stem, file.stat().st_mtime, read_talk(file.stem).title())
            )
        except WorkbenchError:
            continue  # a foreign or damaged file is no conversation to offer
    return conversations


def _folder() -> Path:
    return made_folder(paths.home() / "chats")


def _file(name: str) -> Path:
    if not NAME.fullmatch(name):
        raise WorkbenchError(f"{name!r} is no name of a kept conversation; choose one of the list.")
    return _folder() / f"{name}.json"
