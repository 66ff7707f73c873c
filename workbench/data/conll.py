"""CoNLL and CoNLL-U: one word and its tag a line, an empty line between sentences."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workbench.data.notes import Notes
from workbench.errors import WorkbenchError

COMMENT = re.compile(
    r"#\s*(sent_id|text|newdoc|newpar|id|doc|generated|global|source|meta)\b|#\s.*=\s"
)
"""A comment line with metadata, as CoNLL-U writes it; a token "#" has a tag beside it."""
PREFIXED = re.compile(r"([BIESLUbieslu])[-_](.+)", re.DOTALL)
OUTSIDE = {"o", "0", "_", ""}
"""Tags that mean no entity, in lower case."""


def conll(lines: Iterable[str], path: Path, notes: Notes) -> Iterator[dict[str, Any]]:
    """Sentences {tokens, tags} of a CoNLL file: the first column is the word, the last its tag.

    Comments and -DOCSTART- lines are skipped. Tags are converted to BIO (`normalised`).

    Args:
        lines: Lines of the file.
        path: Named in errors and remarks.
        notes: Where conversions are written.

    Raises:
        WorkbenchError: For a line with a word and no tag.
    """
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(_with_end(lines), 1):
        text = line.rstrip("\r\n")
        if not text.strip():
            if words:
                yield {"tokens": words, "tags": normalised(tags, path, notes)}
            words = []
            tags = []
            continue
        cells = text.split("\t") if "\t" in text else text.split()
        if text.startswith("#") and ("\t" not in text) and (COMMENT.match(text) or len(cells) == 1):
            continue
        if cells[0] == "-DOCSTART-":
            continue
        if len(cells) < 2 or not cells[0].strip():
            raise WorkbenchError(
                f"{path}, line {number}, has a word and no tag ({text.strip()[:60]!r}); "
                "give each line a word and its tag, and an empty line between sentences."
            )
        words.append(cells[0].strip())
        tags.append(cells[-1].strip())


def _with_end(lines: Iterable[str]) -> Iterator[str]:
    yield from lines
    yield "\n"


def normalised(tags: list[str], path: Path, notes: Notes) -> list[str]:
    """A sentence's tags as BIO (or I-scheme) tags with upper-case prefixes.

    Bare types (PER) become I- tags, so that neighbouring words of one type are one entity; a remark
    says so.

    Args:
        tags: One per word, as in the file.
        path: Named in the remark.
        notes: Where the remark is written.
    """
    result = []
    for tag in tags:
        match = PREFIXED.fullmatch(tag)
        if tag.lower() in OUTSIDE:
            result.append("O")
        elif match:
            prefix = match[1].upper()
            # BILOU's L(ast) and U(nit) are BIOES's E(nd) and S(ingle).
            prefix = {"L": "E", "U": "S"}.get(prefix, prefix)
            kind = match[2]
            if kind.islower() and match[1].islower():
                kind = kind.upper()
            result.append(f"{prefix}-{kind}")
        else:
            notes.remark(
                f"{path.name} has tags without B- and I-, such as {tag!r}; neighbouring words of "
                "one type are read as one entity."
            )
            result.append(f"I-{tag}")
    return result


def conllu(lines: Iterable[str], path: Path, notes: Notes) -> Iterator[dict[str, Any]]:
    """Sentences {tokens, tags} of a CoNLL-U file: word forms and universal parts of speech.

    Multiword-token lines (ids such as 3-4) and empty nodes (ids such as 3.1) are skipped.

    Args:
        lines: Lines of the file.
        path: Named in errors.
        notes: Not used; every reader of lines takes it.

    Raises:
        WorkbenchError: For a line without a part of speech.
    """
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(_with_end(lines), 1):
        text = line.rstrip("\r\n")
        if not text.strip():
            if words:
                yield {"tokens": words, "tags": tags}
            words = []
            tags = []
            continue
        if text.startswith("#"):
            continue
        cells = text.split("\t")
        if len(cells) < 4:
            raise WorkbenchError(
                f"{path}, line {number}, has {len(cells)} columns and no part of speech (the "
                f"fourth): {text.strip()[:50]!r}."
            )
        if cells[0].isdigit():
            words.append(cells[1])
            tags.append(cells[3])
