"""The work of a search for personal data grows no faster than the length of the text."""

from dataclasses import replace

import pytest

from tests.test_privacy import ALL, KEY
from workbench.privacy.stream import Part, search


class Counting:
    """A kind's pattern that counts the characters it is tried on."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.tried = 0
        self.groupindex = pattern.groupindex

    def search(self, text, start, end):
        match = self.pattern.search(text, start, end)
        self.tried += (match.start() if match else end) - start + 1
        return match

    def fullmatch(self, text, start, end):
        self.tried += end - start + 1
        return self.pattern.fullmatch(text, start, end)


HARD = {
    **{repr(c): c for c in ("a", "1", "@", ".", ":", "-", "=", "(", "/", "_", "\n")},
    **{
        repr(c): c
        for c in ("a@", "1 ", "1.", "a:", "ab:", "://", "1-", "eyJ", "a.b@", "key=", ") 1")
    },
    "PEM": KEY,
}
"""Texts that repeat what begins a match, under the names of the tests."""


@pytest.mark.parametrize("name", HARD)
def test_work_grows_in_step_with_the_text(name):
    """The work is counted in characters that patterns are tried on, not in seconds."""
    work = []
    for size in (100_000, 1_000_000):
        text = (HARD[name] * (size // len(HARD[name]) + 1))[:size]
        spies = [Counting(kind.pattern) for kind in ALL]
        kinds = [replace(kind, pattern=spy) for kind, spy in zip(ALL, spies, strict=True)]
        assert len(list(search([Part(text, True)], kinds))) < size
        work.append(sum(spy.tried for spy in spies))
    assert work[1] <= 12 * work[0] + 10_000, work
