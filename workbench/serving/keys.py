"""API keys: created and shown once, stored as hashes, compared in constant time."""

import hashlib
import hmac
import secrets
from pathlib import Path

from workbench.errors import WorkbenchError

PREFIX = "wb-"


class Keys:
    """The keys of a service; without any it is open to whoever can reach it."""

    def __init__(self, hashes: list[bytes]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return bool(self._hashes)

    def open(self, key: str) -> bool:
        """Whether this key is one of them."""
        given = _hash(key)
        # A list, not a generator: comparing with all takes the same time whichever matches.
        return any([hmac.compare_digest(given, known) for known in self._hashes])


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest().encode()


def read_keys(path: Path | None) -> Keys:
    """The keys in a file with one SHA-256 (hexadecimal) per line; none for `path=None`.

    Raises:
        WorkbenchError: For a file that cannot be read or holds anything else.
    """
    if path is None:
        return Keys([])
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"The key file {path} cannot be read ({error}); make one with `workbench key {path}`."
        ) from error
    hashes = [line for line in lines if line and not line.startswith("#")]
    if not hashes or any(len(h) != 64 or set(h) - set("0123456789abcdef") for h in hashes):
        raise WorkbenchError(
            f"{path} is not a key file: each line is the sha256 of a key, never the key. "
            f"Make one with `workbench key {path}`."
        )
    return Keys([h.encode() for h in hashes])


def new_key(path: Path) -> str:
    """A new key; its hash is appended to the file, which only its owner can read."""
    key = PREFIX + secrets.token_urlsafe(32)
    path.touch(mode=0o600, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(_hash(key).decode() + "\n")
    return key
