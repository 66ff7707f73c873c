"""Record, the base class of all results: one-line repr, drawing in notebooks, JSON.

Torch is not imported here, so that reading a saved result needs no model library.
"""

import json
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import numpy as np

from workbench.doors import parsed_json, path_of, reading, short, writing
from workbench.errors import WorkbenchError
from workbench.jsonable import plain, rebuild
from workbench.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEND = "give a file that a record was saved to"
LONGEST = 280
"""Most characters of a record's `repr`."""
ROWS = 20
"""Number of table rows that a notebook shows."""
PLOTLY = "application/vnd.plotly.v1+json"
"""MIME type of Plotly figures in notebooks."""


class Record:
    """The base class of every result; subclasses are dataclasses.

    - `provenance`: the call, models, data and versions behind the result; None for a record that
      was not returned by a public function
    - `OMITTED`: fields that are too large for JSON, such as trained weights, and are saved
      elsewhere
    - `UNREADABLE`: why a record cannot be made from its JSON, and how to get it back; empty where
      it can
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # every subclass is a dataclass

    provenance: Provenance | None = None
    OMITTED: ClassVar[tuple[str, ...]] = ()
    UNREADABLE: ClassVar[str] = ""

    def __init_subclass__(cls, **words: Any) -> None:
        """Set the short `repr` on the subclass, or `dataclass` would write a long one."""
        super().__init_subclass__(**words)
        cls.__repr__ = Record.__repr__

    def headline(self) -> str:
        """The main finding in a few words."""
        return ""

    def failed_checks(self) -> list[str]:
        """Failed self-checks of this result, in words; empty where all held or none was made."""
        return []

    def to_frame(self) -> "pd.DataFrame":
        """The result as a table."""
        raise NotImplementedError(f"{type(self).__name__} has no table.")

    def figure(self) -> "go.Figure | None":
        """The result as a figure; None where a table shows it better."""
        from workbench.figures.of_records import figure_of

        return figure_of(self)

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of each model that the record is about, by name."""
        name = getattr(self, "subject", None)
        if isinstance(name, str):
            return {name: getattr(self, "sha256", "")}
        base = getattr(self, "base", None)
        tuned = getattr(self, "tuned", None)
        if isinstance(base, str) and isinstance(tuned, str):
            return {
                base: getattr(self, "base_sha256", ""),
                tuned: getattr(self, "tuned_sha256", ""),
            }
        return {}

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of data that the call's arguments do not show, by name."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The record in JSON's types: every field but those in `OMITTED`, and `provenance`."""
        values: dict[str, Any] = {"record": type(self).__name__}
        for entry in fields(self):
            if entry.name not in self.OMITTED:
                values[entry.name] = plain(getattr(self, entry.name))
        return {**values, "provenance": plain(self.provenance)}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as strict JSON: NaN and infinities are null."""
        return json.dumps(plain(self.to_dict()), indent=indent, ensure_ascii=False, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write the JSON to a file, which `read` reads, and return its path."""
        path = Path(path)
        with writing(path) as part:
            part.write_text(self.to_json(indent=1), encoding="utf-8")
        return path

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The record that `to_dict` wrote; null becomes NaN in arrays and floats.

        Raises:
            WorkbenchError: For anything but a record of this class.
        """
        if cls.UNREADABLE:
            raise WorkbenchError(f"A {cls.__name__} is not made from its JSON: {cls.UNREADABLE}.")
        class_name = values.get("record", cls.__name__) if isinstance(values, dict) else None
        if class_name != cls.__name__:
            what = f"a {short(class_name, 60)}" if class_name else "no record"
            raise WorkbenchError(f"This is {what}, not a {cls.__name__}.")
        hints = get_type_hints(cls)
        with reading("The record", MEND, f"is no whole {cls.__name__}"):
            given = {
                entry.name: rebuild(hints[entry.name], values[entry.name])
                for entry in fields(cls)
                if entry.name in values
            }
            record = cls(**given)
            stamp(record, rebuild(Provenance | None, values.get("provenance")))
            record._try()
        return record

    def _try(self) -> None:
        """Make the repr, the table and the figure: they raise where fields do not fit together."""
        self.__repr__()
        self.to_frame()
        self.figure()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `to_json` wrote.

        Raises:
            WorkbenchError: For anything but a record of this class.
        """
        with reading("The record", MEND, "is not JSON"):
            values = parsed_json(text)
        return cls.from_dict(values)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The record that `save` wrote to a file.

        Raises:
            WorkbenchError: For anything but a record of this class.
        """
        with reading(path, MEND):
            text = path_of(path).read_text(encoding="utf-8")
        return cls.from_json(text)

    def __repr__(self) -> str:
        """Class, models, headline and number of samples on one line."""
        models = self.model_hashes() or (self.provenance.models if self.provenance else {})
        of_models = f" of {' and '.join(models)}" if models else ""
        failed = "; ".join(self.failed_checks())
        warning = f"NOT TO BE BELIEVED ({failed})" if failed else ""
        parts = [type(self).__name__ + of_models, warning, self.headline()]
        text = " ".join(": ".join(part for part in parts if part).split())
        n = getattr(self, "n", None)
        over = f"; n = {n}" if isinstance(n, int) else ""
        room = LONGEST - len(over)
        return f"<{text if len(text) <= room else text[: room - 1] + '…'}{over}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the figure, through Plotly's renderer, else the table."""
        shown: dict[str, Any] = {"text/plain": repr(self)}
        figure = self.figure()
        if figure is not None:
            shown |= figure._repr_mimebundle_() or {PLOTLY: json.loads(str(figure.to_json()))}
        if "text/html" not in shown:
            shown["text/html"] = table_html(self.to_frame(), repr(self))
        return shown


def peak(frame: "pd.DataFrame", column: str, at: Sequence[str]) -> str:
    """The value of largest size in a column, and its place: "effect +0.981 (layer 3, pos 13)".

    Args:
        frame: The table.
        column: Column of the values.
        at: Columns that name the place.
    """
    known = frame[frame[column].notna()]
    if known.empty:
        return f"no {column}"
    row = known.iloc[int(np.abs(np.asarray(known[column], dtype=float)).argmax())]
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
    """Set a record's provenance, even where its dataclass is frozen."""
    object.__setattr__(record, "provenance", where_from)
