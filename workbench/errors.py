"""The one error that a user can mend; any other exception is a bug and keeps its traceback."""

import re

LONGEST_WORD = 300
"""Longest word of a message; the middle of a longer one, such as a path, is left out."""


class WorkbenchError(Exception):
    """Something that the user can mend; the message names it and says how.

    Pages show the message as it is; the command line prints it and exits with code 2.

        try:
            subject = workbench.load("no-such-model")
        except WorkbenchError as error:
            print(error)
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(re.sub(rf"\S{{{LONGEST_WORD + 1},}}", _shortened, str(message)))


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:180]}…{word[0][-60:]}"
