"""What a reader dropped, changed or guessed, counted by reason, so that a page or a command can say
it.
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Notes:
    """Counts by reason, with the first place where each happened, and plain remarks.

    - `counts`: rows or documents that were dropped or changed, by reason
    - `first`: where a reason first applied, such as "line 17"
    - `remarks`: what was assumed about a whole file, such as its encoding
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def count(self, reason: str, n: int = 1, where: str = "") -> None:
        """Count `n` more rows under a reason; the first place is remembered."""
        self.counts[reason] += n
        if where:
            self.first.setdefault(reason, where)

    def remark(self, text: str) -> None:
        """Say something about the whole file, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def lines(self) -> list[str]:
        """One plain sentence a remark or reason."""
        counted = [
            f"{reason}: {n:,}"
            + (f" (first at {self.first[reason]})" if reason in self.first else "")
            for reason, n in self.counts.items()
            if n
        ]
        return [*self.remarks, *counted]
