"""Which column of a table holds what: named by the user, by its usual name, or guessed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.data.notes import Notes
from workbench.errors import WorkbenchError

Record = dict[str, Any]

USUAL: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "sentence", "content", "review", "body", "document", "story", "comment"),
        *("tweet", "utterance", "message", "article", "passage", "question_text", "input_text"),
        *("query", "utt", "description", "headline", "title"),
    ),
    "label": (
        *("label_text", "label_name", "label", "category", "intent", "sentiment", "class"),
        *("target", "topic", "emotion", "labels", "rating", "stars", "score", "polarity"),
    ),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "ner", "labels", "pos_tags", "upos"),
    "context": ("context", "passage", "paragraph"),
    "question": ("question", "query"),
    "answers": ("answers", "answer", "answer_text"),
    "source": ("source", "src"),
    "target": ("target", "tgt"),
}
"""Usual column names of each part, most specific first, in lower case."""

CHAT = (
    *("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "prompt"),
    *("completion", "response", "instruction", "output", "chosen"),
)
"""Names that only conversations have."""

_KNOWN = {name for names in USUAL.values() for name in names} | set(CHAT)
LOOKED_AT = 200
"""Number of rows from which columns are guessed."""
_MOST_CLASSES = 0.5
"""Most distinct values a label column may have, as a share of its rows."""


def is_known(name: str) -> bool:
    """Whether this is a usual column name, in any case."""
    return name.strip().lower() in _KNOWN


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or blank text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def column_for(part: str, columns: Sequence[str], named: Mapping[str, str]) -> str | None:
    """The column for a part: the user's choice, else the first usual name, else None.

    Args:
        part: A key of `USUAL`, or a part of a conversation, which has no usual column.
        columns: Columns of the table.
        named: The user's columns, by part.

    Raises:
        WorkbenchError: When the user named a column that the table lacks.
    """
    user_column = named.get(part)
    if user_column is not None:
        if user_column in columns:
            return user_column
        raise WorkbenchError(
            f"There is no column {user_column!r} for {part}; the columns are {', '.join(columns)}."
        )
    lowered = {column.strip().lower(): column for column in reversed(columns)}
    return next((lowered[name] for name in USUAL.get(part, ()) if name in lowered), None)


def resolve(
    parts: Sequence[str],
    rows: Sequence[Record],
    named: Mapping[str, str],
    source: str,
    notes: Notes,
) -> dict[str, str]:
    """The column of each part of a table, by the user's names and the usual ones.

    In a file without a header, columns are guessed from their cells, and a remark says so.

    Args:
        parts: Parts that the task needs, such as text and label.
        rows: The table; the first `LOOKED_AT` rows are looked at.
        named: The user's columns, by part.
        source: What the user called the data, for messages.
        notes: Where guesses are written.

    Raises:
        WorkbenchError: When a part has no column, naming those that there are.
    """
    names = list(dict.fromkeys(str(column) for row in rows[:LOOKED_AT] for column in row))
    if not names:
        raise WorkbenchError(f"{source} is empty; give a file with records.")
    chosen = {part: column_for(part, names, named) for part in parts}
    lacking = [part for part, column in chosen.items() if column is None]
    if not lacking:
        return {part: str(column) for part, column in chosen.items()}
    guessed = guess(parts, rows[:LOOKED_AT], named)
    if all(name.isdigit() for name in names) and len(names) == len(parts):
        if len(guessed) < len(parts):
            guessed = dict(zip(parts, names, strict=True))
        words = ", ".join(f"column {column} as the {part}" for part, column in guessed.items())
        notes.remark(f"{source} is read with {words}.")
        return guessed
    example = ", ".join(f'{part} = "{column}"' for part, column in guessed.items())
    raise WorkbenchError(
        f"{source} has no column that is plainly the {lacking[0]}; its columns are "
        f"{', '.join(names)}. Name them"
        + (f", perhaps {example}." if example else f', as in {lacking[0]} = "{names[0]}".')
    )


def guess(parts: Sequence[str], rows: Sequence[Record], named: Mapping[str, str]) -> dict[str, str]:
    """Columns for parts, by name, and for text and label by their cells.

    The label is the column with the fewest distinct values, the text the one with the longest
    cells. A part without a fitting column is left out.

    Args:
        parts: Parts that the task needs.
        rows: Rows to guess from.
        named: The user's columns, by part.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    chosen = {}
    for part in parts:
        column = column_for(part, columns, named)
        if column is not None and column not in chosen.values():
            chosen[part] = column
    left = [column for column in columns if column not in chosen.values()]
    if "label" in parts and "label" not in chosen:
        few = {column: _distinct(column, rows) for column in left}
        usable = [column for column in left if 0 < few[column] <= _MOST_CLASSES]
        if usable:
            chosen["label"] = min(usable, key=few.__getitem__)
            left.remove(chosen["label"])
    if "text" in parts and "text" not in chosen:
        longest = {column: _length(column, rows) for column in left}
        if left and max(longest.values()) > 0:
            chosen["text"] = max(left, key=longest.__getitem__)
    return {part: chosen[part] for part in parts if part in chosen}


def _distinct(column: str, rows: Sequence[Record]) -> float:
    """Distinct values as a share of the cells; above 1 where the cells cannot be labels."""
    cells = [row.get(column) for row in rows]
    cells = [cell for cell in cells if not is_missing(cell)]
    if len(cells) < 2 or not all(isinstance(cell, str | int | float | bool) for cell in cells):
        return 2.0
    values = {str(cell) for cell in cells}
    return len(values) / len(cells) if len(values) > 1 else 2.0


def _length(column: str, rows: Sequence[Record]) -> float:
    texts = [row[column] for row in rows if isinstance(row.get(column), str)]
    return sum(map(len, texts)) / len(rows) if texts else 0.0


def as_text(value: Any) -> str:
    """A cell as text, "" where it is missing; a whole number stored as float loses its ".0".

    Raises:
        WorkbenchError: For a list, a record or bytes, which are not text.
    """
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise WorkbenchError(f"A cell holds {type(value).__name__}, not text: {str(value)[:60]!r}.")
