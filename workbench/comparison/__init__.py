"""What changed between two Subjects: behaviour with paired statistics, and the heads whose attention moved."""

from workbench.comparison.compare import Comparison, compare
from workbench.comparison.heads import HeadShift, head_shift

__all__ = ["Comparison", "HeadShift", "compare", "head_shift"]
