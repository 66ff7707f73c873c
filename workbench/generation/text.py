"""The text of tokens that come one by one: whole characters only, and no further than a stop
string.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.subjects.spelling import BROKEN, LONGEST, decoded


class Text:
    """Pieces of text as tokens come.

    - `stopped`: whether a stop string was met; the text ends before it
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], stops: Sequence[str]
    ) -> None:
        self.tokenizer = tokenizer
        # The first token's text hangs on what stands before it: a SentencePiece decoder drops a
        # leading space.
        self._window = list(prompt[-LONGEST:])
        self._settled = self._decode()
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def _decode(self) -> str:
        return decoded(self.tokenizer, self._window, skip_special=True)

    def add(self, token: int) -> str:
        """What can be said now that this token has come."""
        self._window.append(token)
        text = self._decode()
        if text.endswith(BROKEN) and len(self._window) < 4 * LONGEST:
            return ""
        piece = text[len(self._settled) :]
        self._window = self._window[-LONGEST:]
        self._settled = self._decode()
        return self._until_stop(piece)

    def _until_stop(self, piece: str) -> str:
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        if self.stopped:
            return ""
        text = self._decode()[len(self._settled) :]
        return self._until_stop(text) + self._held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )
