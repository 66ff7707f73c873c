"""Text to token ids and back: the one place for special tokens, answers and labels.

A prompt gets the special tokens that its tokenizer puts before a text, once, and none after it,
because what follows an end-of-text token is not a continuation of the prompt. SentencePiece
tokenizers begin every text with a space, so an answer's tokens are those of prompt and answer
together without the prompt's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from workbench.doors import reading
from workbench.errors import WorkbenchError

BROKEN = "\ufffd"
"""What a tokenizer decodes incomplete UTF-8 bytes to."""
LONGEST = 12
"""Most tokens that are joined to complete a character, which has at most four bytes."""
SPACE = "\u2581"
"""SentencePiece's character for a space."""
SAMPLES = ("a", "0", "the")
"""Texts on which the special tokens around a text are measured."""
STAND_IN = "x"
"""Prompt that stands in where an answer is tokenized without one."""
ANCHORS = ("\n", "(", "x", "zq")
"""Texts after which an answer is tokenized, to see its tokens in the middle of a text."""
EVERY_BYTE = "".join(
    [
        *map(chr, range(1, 0x180)),
        *(chr(0x800 + 0x1000 * i) for i in range(15) if i != 13),  # 0xD800 is no character
        *(chr(max(0x10000, 0x40000 * i)) for i in range(5)),
    ]
)
"""Characters whose UTF-8 contains every possible byte, to test for byte-level tokenizers."""


class Frame(NamedTuple):
    """The special tokens that a tokenizer puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Continuation(NamedTuple):
    """An answer's tokens after a prompt.

    - `merged`: whether prompt and answer as one text would be tokenized differently
    """

    ids: tuple[int, ...]
    merged: bool


_FRAMES: WeakKeyDictionary[Any, dict[Any, Frame]] = WeakKeyDictionary()
_MISSES: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_LEFT_OUT: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()
_HIGHEST: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()


def bare(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text, without special tokens put around it."""
    if not text:
        return []
    return list(_encoded(tokenizer, text, add_special_tokens=False)["input_ids"])


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, **how: Any) -> Any:
    """What a tokenizer reads a text as.

    Raises:
        WorkbenchError: It cannot read it, such as one whose unknown token is not in its vocabulary.
    """
    with reading("The tokenizer", "download or save it again", "cannot read a text"):
        return tokenizer(text, verbose=False, **how)


def frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The special tokens that a tokenizer puts around a text, measured on `SAMPLES`."""
    settings = tuple(getattr(tokenizer, f"add_{name}_token", None) for name in ("bos", "eos"))
    known = _FRAMES.setdefault(tokenizer, {})
    if settings not in known:
        known[settings] = _frame(tokenizer)
    return known[settings]


def _frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    for sample in SAMPLES:
        inner = bare(tokenizer, sample)
        whole = list(_encoded(tokenizer, sample)["input_ids"])
        if inner == whole:
            break
        for start in range(len(whole) - len(inner) + 1):
            if inner and whole[start : start + len(inner)] == inner:
                return Frame(tuple(whole[:start]), tuple(whole[start + len(inner) :]))
    return Frame((), ())


def read(tokenizer: PreTrainedTokenizerBase, text: str, *, end: bool = False) -> list[int]:
    """The ids of a prompt, with the special tokens that its tokenizer puts before a text.

    Args:
        tokenizer: The model's tokenizer.
        text: The prompt; where it begins with these special tokens itself, they are not repeated.
        end: Whether to add the special tokens after a text too, as encoders need.
    """
    inner = bare(tokenizer, text)
    around = frame(tokenizer)
    ids = inner if begins(inner, around.before) else [*around.before, *inner]
    if end and not (around.after and tuple(ids[-len(around.after) :]) == around.after):
        ids = [*ids, *around.after]
    return ids


def begins(ids: Sequence[int], before: tuple[int, ...]) -> bool:
    """Whether `ids` begin with `before`."""
    return tuple(ids[: len(before)]) == before


def offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """Character range [start, stop) of each token of `read`; (0, 0) for added special tokens."""
    encoded = _encoded(tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
    before = frame(tokenizer).before
    first = [] if begins(encoded["input_ids"], before) else [(0, 0)] * len(before)
    return [*first, *(tuple(pair) for pair in encoded["offset_mapping"])]


def continued(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Continuation:
    """The tokens with which an answer continues a prompt.

    These are the tokens of prompt and answer together after those of the prompt. Where tokens would
    merge across the two, they are tokens that spell exactly the answer after the prompt's own.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The prompt; "" where the answer stands alone.
        answer: The answer, with its leading space where it has one.
    """
    alone = bare(tokenizer, answer)
    if spells_ids(tokenizer):
        return Continuation(tuple(alone), False)
    head = read(tokenizer, prompt) if prompt else bare(tokenizer, STAND_IN)
    rests = [alone, *(_after(tokenizer, anchor, answer) for anchor in ANCHORS)]
    if prompt:
        whole = read(tokenizer, prompt + answer)
        if whole[: len(head)] == head and len(whole) > len(head):
            return Continuation(tuple(whole[len(head) :]), False)
    wanted = decoded(tokenizer, head) + answer
    for rest in rests:
        if rest and decoded(tokenizer, [*head, *rest]) == wanted:
            return Continuation(tuple(rest), bool(prompt))
    return Continuation(tuple(alone), bool(prompt))


def _after(tokenizer: PreTrainedTokenizerBase, anchor: str, answer: str) -> list[int]:
    """An answer's tokens after an anchor; [] where tokens merge across the two."""
    head = bare(tokenizer, anchor)
    whole = bare(tokenizer, anchor + answer)
    return whole[len(head) :] if whole[: len(head)] == head else []


def decoded(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, skip_special: bool = False
) -> str:
    """The text of ids; an id without a token (padded embeddings have such) shows as `[383]`.

    Args:
        tokenizer: The model's tokenizer.
        ids: Token ids.
        skip_special: Whether to leave out special tokens.
    """
    spelt = tokenizer.convert_ids_to_tokens(list(ids))
    parts: list[str] = []
    run: list[int] = []

    def close() -> None:
        if run:
            text = tokenizer.decode(
                run, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
            )
            parts.append(str(text))
            run.clear()

    for i, token in zip(ids, spelt, strict=True):
        if token is None:
            close()
            parts.append(f"[{i}]")
        else:
            run.append(i)
    close()
    return "".join(parts)


def labels(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, unrelated: bool = False
) -> list[str]:
    """The text of each token.

    Tokens that are bytes of one character each show it with their place, as in "ש⟨1/2⟩". A byte of
    an incomplete character shows as the tokenizer spells it, and an id without a token as `[383]`.

    Args:
        tokenizer: The model's tokenizer.
        ids: Token ids.
        unrelated: Whether the ids are no running text; characters are then not joined.
    """
    ids = list(ids)
    spelt = _spelt(tokenizer, ids)
    shown = [_label(tokenizer, i, token) for i, token in zip(ids, spelt, strict=True)]
    at = 0
    while at < len(ids):
        n = 1
        token = spelt[at]
        if token is not None and BROKEN in shown[at]:
            character = ""
            if not unrelated:
                stop = at + LONGEST
                character, n = _character(tokenizer, ids[at:stop], spelt[at:stop])
            if character:
                shown[at : at + n] = [f"{character}⟨{i}/{n}⟩" for i in range(1, n + 1)]
            else:
                shown[at] = token
        at += n
    return shown


def _spelt(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str | None]:
    """The vocabulary's spelling of each id; None for an id without a token."""
    return cast("list[str | None]", tokenizer.convert_ids_to_tokens(ids))


def _label(tokenizer: PreTrainedTokenizerBase, i: int, spelt: str | None) -> str:
    if spelt is None:
        return f"[{i}]"
    text = str(tokenizer.decode([i]))
    # SentencePiece decoders drop the space at the beginning of a text.
    if SPACE in spelt and SPACE not in text:
        return spelt.replace(SPACE, " ")
    return text or spelt


def _character(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], spelt: list[str | None]
) -> tuple[str, int]:
    """Text and number of the fewest first tokens that give complete characters, else ("", 1)."""
    for n in range(2, len(ids) + 1):
        if spelt[n - 1] is None:
            break
        text = str(tokenizer.decode(ids[:n]))
        if BROKEN not in text:
            return (text, n) if text else ("", 1)
    return "", 1


def spells_ids(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether texts are token ids such as "3 1 2", as for a model without tokenizer files."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "unk_token", None) != "0":
        return False
    last = len(tokenizer) - 1
    return tokenizer.convert_ids_to_tokens([0, last]) == ["0", str(last)]


def unknown_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of a tokenizer's unknown token."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    names = [
        name
        for name in (tokenizer.unk_token, getattr(model, "unk_token", None))
        if isinstance(name, str)
    ]
    ids = (_id_of(tokenizer, name) for name in names)
    return {i for i in ids if i is not None}


def _id_of(tokenizer: PreTrainedTokenizerBase, name: str) -> int | None:
    """The id of a token; None where the vocabulary has none of this name."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # The whole vocabulary as a dictionary takes a fast tokenizer 25 ms for 50,000 tokens.
    return tokenizer.get_vocab().get(name) if backend is None else backend.token_to_id(name)


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokens that were added to a tokenizer's original vocabulary."""
    return {str(token) for token in tokenizer.added_tokens_decoder.values()}


def unspelt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Pieces of a text that its tokenizer reads as unknown token or leaves out."""
    if not misses(tokenizer):
        return []
    return _unspelt(tokenizer, text)


def misses(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether some text cannot be spelled by a tokenizer; byte-level ones spell everything."""
    if tokenizer not in _MISSES:
        _MISSES[tokenizer] = bool(_unspelt(tokenizer, EVERY_BYTE))
    return _MISSES[tokenizer]


def _unspelt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    unknown = unknown_ids(tokenizer)
    if not tokenizer.is_fast:
        return [str(tokenizer.unk_token)] * sum(i in unknown for i in bare(tokenizer, text))
    read_as = _encoded(tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
    names = set(tokenizer.convert_ids_to_tokens(sorted(unknown)))
    places = zip(read_as["input_ids"], read_as["offset_mapping"], strict=True)
    pieces = [text[start:stop].strip() for i, (start, stop) in places if i in unknown]
    missing = {letter for letter in set(text) if _left_out(tokenizer, letter)}
    return [piece for piece in pieces if piece and piece not in names] + [
        x for x in text if x in missing
    ]


def _left_out(tokenizer: PreTrainedTokenizerBase, letter: str) -> bool:
    """Whether a tokenizer drops a character, as some without an unknown token do."""
    known = _LEFT_OUT.setdefault(tokenizer, {})
    if letter not in known:
        unchanged = bare(tokenizer, STAND_IN + letter) == bare(tokenizer, STAND_IN)
        known[letter] = (
            not letter.isspace()
            and unchanged
            and not decoded(tokenizer, bare(tokenizer, letter)).strip()
        )
    return known[letter]


def check_sizes(tokenizer: PreTrainedTokenizerBase, d_vocab: int, name: str) -> None:
    """Raise `WorkbenchError` where a tokenizer gives ids beyond the rows of the embedding.

    Added tokens do not count, as ordinary text has none; `check_ids` refuses a prompt that has one.

    Args:
        tokenizer: The model's tokenizer.
        d_vocab: Rows of the model's embedding.
        name: Name of the model, for the message.

    Raises:
        WorkbenchError: Tokenizer and model do not belong together.
    """
    if tokenizer not in _HIGHEST:
        added = set(getattr(tokenizer, "added_tokens_decoder", {}))
        ids = list(tokenizer.get_vocab().values())
        _HIGHEST[tokenizer] = (
            max((i for i in ids if i not in added), default=-1),
            max(ids, default=-1),
        )
    highest, _ = _HIGHEST[tokenizer]
    if highest >= d_vocab:
        raise WorkbenchError(
            f"The tokenizer of {name} has {len(tokenizer)} tokens, with ids up to {highest}, and "
            f"the model's embedding {d_vocab} rows: they do not belong together. Put the tokenizer "
            "files that the model was trained with into its folder, or resize the model's "
            "embeddings to the tokenizer and save it again."
        )


def check_ids(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], d_vocab: int, name: str
) -> None:
    """Raise `WorkbenchError` where a text has a token without a row in the embedding.

    Args:
        tokenizer: The model's tokenizer.
        ids: Token ids of the text.
        d_vocab: Rows of the model's embedding.
        name: Name of the model, for the message.

    Raises:
        WorkbenchError: Some id is `d_vocab` or higher.
    """
    highest = max(ids, default=-1)
    if highest >= d_vocab:
        word = tokenizer.convert_ids_to_tokens(highest)
        raise WorkbenchError(
            f"The text has the token {word!r} ({highest}), which was added to the tokenizer of "
            f"{name} but not to the model: its embedding has {d_vocab} rows. Leave it out, or "
            "resize the model's embeddings and save it."
        )
