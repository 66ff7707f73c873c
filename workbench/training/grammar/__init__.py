"""Grammar-rich text made by this project's own rules, so that a small model learns agreement,
indirect objects and copying beside the English of books.

The frames of the benchmark suite `core` are held out of it; its vocabulary is not.
"""

import random
from collections.abc import Callable
from functools import lru_cache

from workbench.training.grammar.agreement import agreement
from workbench.training.grammar.copies import copies, counting
from workbench.training.grammar.facts import facts
from workbench.training.grammar.giving import giving
from workbench.training.grammar.stories import story

SHARES: dict[Callable[[random.Random], str], float] = {
    agreement: 0.26,
    giving: 0.36,
    story: 0.14,
    facts: 0.12,
    copies: 0.09,
    counting: 0.03,
}
"""The share of documents of each kind."""
COUNT = 48_000
"""Documents of the source `grammar`."""


def grammar(n: int = COUNT, seed: int = 0) -> list[str]:
    """`n` documents of about 300 characters, each of one kind; the same for the same seed."""
    return list(_documents(n, seed))


def letters(sample: int = 1000) -> int:
    """About how many letters the source `grammar` has, within a few percent.

    Args:
        sample: Documents that are made and counted; all of them would take many seconds.
    """
    return round(COUNT * sum(map(len, _made(sample, seed=1))) / sample)


def _made(n: int, seed: int) -> tuple[str, ...]:
    draw = random.Random(seed)
    kinds = draw.choices(list(SHARES), list(SHARES.values()), k=n)
    return tuple(kind(draw) for kind in kinds)


_documents = lru_cache(maxsize=1)(_made)  # a corpus is read several times
