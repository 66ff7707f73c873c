"""What a reader dropped, changed or guessed, counted by reason, for pages and commands to show."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Notes:
    """Counts by reason, with the first place where each occurred, and remarks on whole files.

    - `counts`: number of rows or documents that were dropped or changed, by reason
    - `first`: where a reason first applied, such as "line 17"
    - `remarks`: what was assumed about a whole file, such as its encoding
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def count(self, reason: str, n: int = 1, where: str = "") -> None:
        """Count `n` more rows under a reason.

        Args:
            reason: A sentence part such as "rows dropped: not a record".
            n: How many rows.
            where: Place of the first of them; only a reason's first place is kept.
        """
        self.counts[reason] += n
        if where:
            self.first.setdefault(reason, where)

    def remark(self, text: str) -> None:
        """Add a remark about a whole file, unless it is there already."""
        if text not in self.remarks:
            self.remarks.append(text)

    def lines(self) -> list[str]:
        """One line per remark and per counted reason."""
        counted = [
            f"{reason}: {n:,}"
            + (f" (first at {self.first[reason]})" if reason in self.first else "")
            for reason, n in self.counts.items()
            if n
        ]
        return [*self.remarks, *counted]
