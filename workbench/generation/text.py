"""Streaming detokenisation: whole characters only, and nothing after a stop string."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.subjects.spelling import BROKEN, LONGEST, decoded


class Text:
    """The text of tokens that arrive one by one.

    - `stopped`: whether a stop string has occurred; the text ends before it

    Args:
        tokenizer: Of the model.
        prompt: The token ids before, on which the text of the first token may depend.
        stops: Strings that end the text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], stops: Sequence[str]
    ) -> None:
        self.tokenizer = tokenizer
        # The first token's text depends on what is before it: SentencePiece decoders drop a
        # leading space.
        self._window = list(prompt[-LONGEST:])
        self._settled = self._decode()
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def _decode(self) -> str:
        return decoded(self.tokenizer, self._window, skip_special=True)

    def add(self, token: int) -> str:
        """The text that this token completes; "" if it ends within a character or a stop string."""
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
        """The text that was held back, to be called at the end."""
        if self.stopped:
            return ""
        text = self._decode()[len(self._settled) :]
        return self._until_stop(text) + self._held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin a stop string."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )
