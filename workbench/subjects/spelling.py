"""How a text becomes token ids, and how ids are shown: the one place for special tokens, answers
and labels.

A prompt gets the special tokens that its tokenizer puts before a text, once, and none after it:
what follows an end-of-text token is not what follows the prompt. SentencePiece tokenizers begin
every text with a space of their own, so an answer is what is left of prompt and answer once the
prompt's tokens are gone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError

BROKEN = "\ufffd"
"""What a tokenizer decodes bytes to that are no whole character."""
LONGEST = 12
"""Tokens within which a character must be whole: it has four bytes at most, and a token may end
amid the next.
"""
SPACE = "\u2581"
"""How SentencePiece spells a space."""
SAMPLES = ("a", "0", "the")
"""Texts of which the tokens between special tokens are known."""
STAND_IN = "x"
"""The prompt of an answer that is asked about without one."""
ANCHORS = ("\n", "(", "x", "zq")
"""What an answer is put behind to see its tokens amid a text."""
EVERY_BYTE = "".join(
    [
        *map(chr, range(1, 0x180)),
        *(chr(0x800 + 0x1000 * i) for i in range(15) if i != 13),  # 0xD800 is no character
        *(chr(max(0x10000, 0x40000 * i)) for i in range(5)),
    ]
)
"""Characters whose UTF-8 has every byte that there can be: a tokenizer that spells them spells
everything.
"""


class Frame(NamedTuple):
    """The special tokens that a tokenizer puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Continuation(NamedTuple):
    """An answer's tokens after a prompt; `merged` says that the two together would have split
    otherwise.
    """

    ids: tuple[int, ...]
    merged: bool


_FRAMES: WeakKeyDictionary[Any, dict[Any, Frame]] = WeakKeyDictionary()
_MISSES: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_LEFT_OUT: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()
_HIGHEST: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()


def bare(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text without any special token that it does not spell itself."""
    if not text:
        return []
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The special tokens that a tokenizer puts round a text, found out on `SAMPLES`."""
    settings = tuple(getattr(tokenizer, f"add_{name}_token", None) for name in ("bos", "eos"))
    known = _FRAMES.setdefault(tokenizer, {})
    if settings not in known:
        known[settings] = _frame(tokenizer)
    return known[settings]


def _frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    for sample in SAMPLES:
        inner, whole = bare(tokenizer, sample), list(tokenizer(sample, verbose=False)["input_ids"])
        if inner == whole:
            break
        for start in range(len(whole) - len(inner) + 1):
            if inner and whole[start : start + len(inner)] == inner:
                return Frame(tuple(whole[:start]), tuple(whole[start + len(inner) :]))
    return Frame((), ())


def read(tokenizer: PreTrainedTokenizerBase, text: str, *, end: bool = False) -> list[int]:
    """The ids of a prompt, with the special tokens that belong before it.

    Args:
        tokenizer: Of the model.
        text: The prompt; where it begins with those special tokens itself, they are there once.
        end: Whether those after a text are wanted too, as encoders do.
    """
    inner, around = bare(tokenizer, text), frame(tokenizer)
    ids = inner if begins(inner, around.before) else [*around.before, *inner]
    if end and not (around.after and tuple(ids[-len(around.after) :]) == around.after):
        ids = [*ids, *around.after]
    return ids


def begins(ids: Sequence[int], before: tuple[int, ...]) -> bool:
    """Whether ids begin with these."""
    return tuple(ids[: len(before)]) == before


def offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """From which character to which each token of `read` goes; (0, 0) for special tokens put before
    the text.
    """
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    before = frame(tokenizer).before
    first = [] if begins(found["input_ids"], before) else [(0, 0)] * len(before)
    return [*first, *(tuple(pair) for pair in found["offset_mapping"])]


def continued(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Continuation:
    """The tokens with which an answer goes on from a prompt.

    They are what prompt and answer together have more than the prompt. Where the two would merge,
    they are those that spell the answer, exactly, after the prompt's own tokens.
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
    """An answer's tokens behind an anchor; [] where the two merge."""
    head, whole = bare(tokenizer, anchor), bare(tokenizer, anchor + answer)
    return whole[len(head) :] if whole[: len(head)] == head else []


def decoded(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, skip_special: bool = False
) -> str:
    """The text of ids; one without a token, as padded embeddings have them, shows as `[383]`."""
    spelt = tokenizer.convert_ids_to_tokens(list(ids))
    parts: list[str] = []
    run: list[int] = []

    def close() -> None:
        if run:
            parts.append(
                str(
                    tokenizer.decode(
                        run, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
                    )
                )
            )
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
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, apart: bool = False
) -> list[str]:
    """The text of each token of a running text; `apart` says that they do not follow each other.

    Bytes that make up a character together each show it with their place, as in "ש⟨1/2⟩"; a byte
    whose character is not whole shows as the tokenizer spells it, and an id without a token as
    `[383]`.
    """
    ids = list(ids)
    spelt = tokenizer.convert_ids_to_tokens(ids)
    shown = [_label(tokenizer, i, token) for i, token in zip(ids, spelt, strict=True)]
    at = 0
    while at < len(ids):
        n = 1
        if spelt[at] is not None and BROKEN in shown[at]:
            whole, n = (
                ("", 1)
                if apart
                else _character(tokenizer, ids[at : at + LONGEST], spelt[at : at + LONGEST])
            )
            shown[at : at + n] = (
                [f"{whole}⟨{i}/{n}⟩" for i in range(1, n + 1)] if whole else [spelt[at]]
            )
        at += n
    return shown


def _label(tokenizer: PreTrainedTokenizerBase, i: int, spelt: str | None) -> str:
    if spelt is None:
        return f"[{i}]"
    text = str(tokenizer.decode([i]))
    if (
        SPACE in spelt and SPACE not in text
    ):  # a decoder of SentencePiece drops the space that begins a text
        return spelt.replace(SPACE, " ")
    return text or spelt


def _character(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], spelt: list[str | None]
) -> tuple[str, int]:
    """The text of as few tokens as make whole characters, and how many they are; "" and 1 where
    none do.
    """
    for n in range(2, len(ids) + 1):
        if spelt[n - 1] is None:
            break
        if BROKEN not in (text := str(tokenizer.decode(ids[:n]))):
            return (text, n) if text else ("", 1)
    return "", 1


def spells_ids(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text is token ids such as "3 1 2", as for a model that came without a tokenizer."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "unk_token", None) != "0":
        return False
    last = len(tokenizer) - 1
    return tokenizer.convert_ids_to_tokens([0, last]) == ["0", str(last)]


def unknown_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that stand for what a tokenizer cannot spell."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    names = [
        name
        for name in (tokenizer.unk_token, getattr(model, "unk_token", None))
        if isinstance(name, str)
    ]
    vocabulary = tokenizer.get_vocab()
    return {vocabulary[name] for name in names if name in vocabulary}


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokens that were added to a tokenizer's own vocabulary."""
    return {str(token) for token in tokenizer.added_tokens_decoder.values()}


def unspelt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The pieces of a text that its tokenizer cannot spell: read as its unknown token, or left out."""
    if not misses(tokenizer):
        return []
    return _unspelt(tokenizer, text)


def misses(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether there is any text that a tokenizer cannot spell; byte-level ones spell all."""
    if tokenizer not in _MISSES:
        _MISSES[tokenizer] = bool(_unspelt(tokenizer, EVERY_BYTE))
    return _MISSES[tokenizer]


def _unspelt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    unknown = unknown_ids(tokenizer)
    if not tokenizer.is_fast:
        return [str(tokenizer.unk_token)] * sum(i in unknown for i in bare(tokenizer, text))
    read_as = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    names = set(tokenizer.convert_ids_to_tokens(sorted(unknown)))
    places = zip(read_as["input_ids"], read_as["offset_mapping"], strict=True)
    pieces = [text[start:stop].strip() for i, (start, stop) in places if i in unknown]
    missing = {letter for letter in set(text) if _left_out(tokenizer, letter)}
    return [piece for piece in pieces if piece and piece not in names] + [
        x for x in text if x in missing
    ]


def _left_out(tokenizer: PreTrainedTokenizerBase, letter: str) -> bool:
    """Whether a tokenizer passes over a character, as some without an unknown token do."""
    known = _LEFT_OUT.setdefault(tokenizer, {})
    if letter not in known:
        with_it, without = (bare(tokenizer, text) for text in (STAND_IN + letter, STAND_IN))
        known[letter] = (
            not letter.isspace()
            and with_it == without
            and not decoded(tokenizer, bare(tokenizer, letter)).strip()
        )
    return known[letter]


def check_sizes(tokenizer: PreTrainedTokenizerBase, d_vocab: int, name: str) -> None:
    """Raise `WorkbenchError` where a tokenizer gives ids beyond the rows of the embedding.

    Tokens that were added to it and stand in no ordinary text pass; `check_ids` refuses a prompt
    that has one.
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
            f"The tokenizer of {name} has {len(tokenizer)} tokens, with ids up to {highest}, and the model's embedding "
            f"{d_vocab} rows: they do not belong together. Put the tokenizer files that the model was trained with "
            "into its folder, or resize the model's embeddings to the tokenizer and save it again."
        )


def check_ids(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], d_vocab: int, name: str
) -> None:
    """Raise `WorkbenchError` where a text has a token for which the embedding has no row."""
    if ids and (highest := max(ids)) >= d_vocab:
        word = tokenizer.convert_ids_to_tokens(highest)
        raise WorkbenchError(
            f"The text has the token {word!r} ({highest}), which was added to the tokenizer of {name} but not to the "
            f"model: its embedding has {d_vocab} rows. Leave it out, or resize the model's embeddings and save it."
        )
