"""Translucent colours behind text, which stays readable on a light and on a dark page."""

from workbench.figures.style import BLUE, ORANGE, RED, translucent

DEEPEST = 0.55
"""Opacity of the strongest colour: the page's own ink has a contrast of 4.5 or more on it."""


def signed(share: float) -> str:
    """A CSS colour: red below 0, nothing at 0, blue above.

    Args:
        share: From -1 to 1; what lies beyond is cut.
    """
    return translucent(RED if share < 0 else BLUE, round(DEEPEST * min(1.0, abs(share)), 3))


def warm(share: float) -> str:
    """A CSS colour: nothing at 0, orange at 1.

    Args:
        share: From 0 to 1; what lies beyond is cut.
    """
    return translucent(ORANGE, round(DEEPEST * min(1.0, max(0.0, share)), 3))
