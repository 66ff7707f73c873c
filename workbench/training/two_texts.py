"""What an encoder-decoder learns from: rows of a text that is read and one that is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from workbench.generation.rewriting import padded
from workbench.training.rows import IGNORED, Row


@dataclass(frozen=True)
class TwoTexts:
    """The inputs of a batch, cut, counted and moved as one tensor of token ids would be.

    - `source`: what the encoder reads, padded on the right; `mask` is 1 where it is no padding
    - `written`: what the decoder has before it at each of its positions
    """

    source: Int[Tensor, "_batch _source"]
    mask: Int[Tensor, "_batch _source"]
    written: Int[Tensor, "_batch _pos"]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice) -> "TwoTexts":
        return TwoTexts(self.source[rows], self.mask[rows], self.written[rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and the mean length of the two texts."""
        return len(self), self.numel() // (2 * max(1, len(self)))

    def numel(self) -> int:
        """Tokens of both texts, padding included, as in a row of one text."""
        return self.source.numel() + self.written.numel()

    def chunk(self, parts: int) -> list["TwoTexts"]:
        """The rows in so many parts, as `Tensor.chunk` cuts them."""
        pieces = (tensor.chunk(parts) for tensor in (self.source, self.mask, self.written))
        return [TwoTexts(*piece) for piece in zip(*pieces, strict=True)]

    def map(self, change: Callable[[Tensor], Tensor]) -> "TwoTexts":
        """The rows with each of the three tensors changed, such as moved to a device."""
        return TwoTexts(change(self.source), change(self.mask), change(self.written))


def logits_of(model: Any, inputs: Tensor | TwoTexts) -> Float[Tensor, "batch pos d_vocab"]:
    """A model's logits for a batch, of whichever kind it is.

    Args:
        model: A decoder for a tensor, an encoder-decoder for two texts.
        inputs: On the model's device.
    """
    if isinstance(inputs, Tensor):
        return model(inputs, use_cache=False).logits
    return model(
        input_ids=inputs.source,
        attention_mask=inputs.mask,
        decoder_input_ids=inputs.written,
        use_cache=False,
    ).logits


def collate_two(rows: Sequence[Row], start: int) -> tuple[TwoTexts, Tensor]:
    """A batch of rows whose prompt is read and whose learned tokens are written.

    Args:
        rows: The first learned token ends the text that is read.
        start: The token with which the decoder starts.

    Returns:
        The inputs, and the target of each of the decoder's positions (-100: padding).
    """
    sources = [row.prompt for row in rows]
    targets = [row.ids[len(row.prompt) :] for row in rows]
    mask = padded([[1] * len(source) for source in sources], 0)
    written = padded([[start, *target[:-1]] for target in targets], start)
    return TwoTexts(padded(sources, 0), mask, written), padded(targets, IGNORED)
