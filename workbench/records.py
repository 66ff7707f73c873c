"""Record: what all results have in common. It is short to look at, draws itself in a notebook, and
writes JSON.

Torch is not imported here: reading a kept result costs no model library.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

from workbench.doors import path_of, reading, writing
from workbench.errors import WorkbenchError
from workbench.jsonable import plain, rebuild
from workbench.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEND = "give a file that a record was saved to"
LONGEST = 280
"""Characters of a record's `repr`."""
ROWS = 20
"""Rows of a table that a notebook shows."""
PLOTLY = "application/vnd.plotly.v1+json"
"""The MIME type under which notebooks draw Plotly's figures."""


class Record:
    """The base of every result; its classes are dataclasses.

    - `provenance`: which call made it, from which models and data, with which versions; None for a
      record that no public function gave
    - `OMITTED`: fields that are too large for JSON, such as trained weights, and are kept elsewhere
    - `UNREADABLE`: why no record can be made from the JSON, and how to have it back; empty where it
        can
    """

    provenance: Provenance | None = None
    OMITTED: ClassVar[tuple[str, ...]] = ()
    UNREADABLE: ClassVar[str] = ""

    def __init_subclass__(cls, **words: Any) -> None:
        """Keep the short `repr`: `dataclass` writes its own, of every number, where a class has
        none itself.
        """
        super().__init_subclass__(**words)
        cls.__repr__ = Record.__repr__

    def headline(self) -> str:
        """What was found, in a few words."""
        return ""

    def failed_checks(self) -> list[str]:
        """The checks of this very result that did not hold, in words; [] where all did or none was
        made.
        """
        return []

    def to_frame(self) -> "pd.DataFrame":
        """The result as a table."""
        raise NotImplementedError(f"{type(self).__name__} has no table.")

    def figure(self) -> "go.Figure | None":
        """The result drawn; None where a table says it better."""
        from workbench.figures.of_records import figure_of

        return figure_of(self)

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of each model that the record is of, by its name."""
        name, sha256 = getattr(self, "subject", None), getattr(self, "sha256", "")
        if isinstance(name, str):
            return {name: sha256}
        base, tuned = getattr(self, "base", None), getattr(self, "tuned", None)
        if isinstance(base, str) and isinstance(tuned, str):
            return {
                base: getattr(self, "base_sha256", ""),
                tuned: getattr(self, "tuned_sha256", ""),
            }
        return {}

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of data that the record knows better than the call that made it; {} for none."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The record in words that JSON has: every field but `OMITTED`, and `provenance`."""
        found: dict[str, Any] = {"record": type(self).__name__}
        for entry in fields(self):  # pyright: ignore[reportArgumentType]
            if entry.name not in self.OMITTED:
                found[entry.name] = plain(getattr(self, entry.name))
        return {**found, "provenance": plain(self.provenance)}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as strict JSON: what is no finite number is null."""
        return json.dumps(plain(self.to_dict()), indent=indent, ensure_ascii=False, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write the JSON to a file, whole or not at all; `read` takes it."""
        path = Path(path)
        with writing(path) as part:
            part.write_text(self.to_json(indent=1), encoding="utf-8")
        return path

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The record that `to_dict` gave; NaN stands for null in arrays and numbers.

        Raises `WorkbenchError` for what is no record of this class.
        """
        if cls.UNREADABLE:
            raise WorkbenchError(f"A {cls.__name__} is not made from its JSON: {cls.UNREADABLE}.")
        said = values.get("record", cls.__name__) if isinstance(values, dict) else None
        if said != cls.__name__:
            raise WorkbenchError(
                f"This is {f'a {said}' if said else 'no record'}, not a {cls.__name__}."
            )
        hints = get_type_hints(cls)
        with reading("The record", MEND, f"is no whole {cls.__name__}"):
            given = {
                entry.name: rebuild(hints[entry.name], values[entry.name])
                for entry in fields(cls)  # pyright: ignore[reportArgumentType]
                if entry.name in values
            }
            found = cls(**given)
            stamp(found, rebuild(Provenance | None, values.get("provenance")))
            found._try()
        return found

    def _try(self) -> None:
        """Use what a person looks at first: whether parts fit together shows there. Raises whatever
        does not fit.
        """
        self.__repr__()
        self.to_frame()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `to_json` wrote. Raises `WorkbenchError` for anything else."""
        with reading("The record", MEND, "is not JSON"):
            values = json.loads(text)
        return cls.from_dict(values)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The record that `save` wrote to a file. Raises `WorkbenchError` for anything else."""
        with reading(path, MEND):
            text = path_of(path).read_text(encoding="utf-8")
        return cls.from_json(text)

    def __repr__(self) -> str:
        """The class, the models, the headline and how many samples it is over, on one line."""
        models = self.model_hashes() or (self.provenance.models if self.provenance else {})
        of = " and ".join(models)
        failed = (
            f"NOT TO BE BELIEVED ({'; '.join(self.failed_checks())})"
            if self.failed_checks()
            else ""
        )
        parts = [type(self).__name__ + (f" of {of}" if of else ""), failed, self.headline()]
        text = " ".join(": ".join(part for part in parts if part).split())
        n = getattr(self, "n", None)
        over = f"; n = {n}" if isinstance(n, int) else ""
        room = LONGEST - len(over)
        return f"<{text if len(text) <= room else text[: room - 1] + '…'}{over}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the figure, by the renderer that Plotly is set to; else the table."""
        shown: dict[str, Any] = {"text/plain": repr(self)}
        figure = self.figure()
        if figure is not None:
            shown |= figure._repr_mimebundle_() or {PLOTLY: json.loads(str(figure.to_json()))}
        if "text/html" not in shown:
            shown["text/html"] = table_html(self.to_frame(), repr(self))
        return shown


def peak(frame: "pd.DataFrame", column: str, at: Sequence[str]) -> str:
    """The largest value of a column, in either direction, and where it stands: "effect +0.981
    (layer 3, pos 13)".
    """
    known = frame[frame[column].notna()]
    if known.empty:
        return f"no {column}"
    row = known.iloc[int(known[column].abs().to_numpy().argmax())]
    return f"{column} {row[column]:+.3f} ({', '.join(f'{name} {row[name]:g}' for name in at)})"


def table_html(frame: "pd.DataFrame", caption: str) -> str:
    """The first rows of a table under a caption, as HTML."""
    from html import escape

    rest = (
        f"<p>{len(frame) - ROWS:,} more rows: <code>.to_frame()</code></p>"
        if len(frame) > ROWS
        else ""
    )
    table = frame.head(ROWS).to_html(
        index=False, float_format=lambda value: f"{value:.4g}", border=0
    )
    return f"<p>{escape(caption)}</p>{table}{rest}"


def stamp(record: Record, where_from: Provenance | None) -> None:
    """Set a record's provenance; its dataclass may be frozen."""
    object.__setattr__(record, "provenance", where_from)
