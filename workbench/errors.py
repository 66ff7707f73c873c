"""The one error that a user can mend; everything else is a bug of ours and keeps its traceback."""

import re

LONGEST_WORD = 300
"""Characters of a name, or of anything without a space in it, beyond which a sentence leaves out
its middle.
"""


class WorkbenchError(Exception):
    """Something in the user's input or surroundings has to change; the message names it and says
    how.

    Pages show the message as it is, the command line prints it and exits with code 2.

        try:
            subject = workbench.load("no-such-model")
        except WorkbenchError as error:
            print(error)
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(re.sub(rf"\S{{{LONGEST_WORD + 1},}}", _shortened, str(message)))


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:180]}…{word[0][-60:]}"
