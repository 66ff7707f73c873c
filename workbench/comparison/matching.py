"""Which views two Subjects can share: the same tokens for texts, the same shape for layers, heads and weights."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import beginning
from workbench.subjects import Subject

VIEWS = {
    "behaviour": "benchmarks on the same items",
    "text": "every token of a text",
    "layers": "the residual stream, layer by layer",
    "heads": "attention and head scores",
    "weights": "the matrices themselves",
}
SAMPLE = "It was 7 o'clock: the old captain said, “nothing is lost yet”, and read_the(map) again…"
"""Words, numbers, signs and letters beyond ASCII: tokenizers that split it alike are taken for one."""


def obstacles(base: Subject, tuned: Subject) -> dict[str, str]:
    """The views that these two cannot share, each with the reason in one sentence; empty where all of them can."""
    found = {}
    a, b = base.card, tuned.card
    if not same_tokenizer(base, tuned):
        why = f"{base.name} and {tuned.name} split text into different tokens, so nothing can be laid token on token."
        found |= dict.fromkeys(("text", "layers", "heads"), why)
    shapes = [(c.n_layers, c.n_heads, c.d_model) for c in (a, b)]
    if shapes[0] != shapes[1]:
        words = [
            f"{s.name} has {x[0]} layers of {x[1]} heads, width {x[2]}"
            for s, x in zip((base, tuned), shapes, strict=True)
        ]
        why = f"{words[0]} and {words[1]}, so parts cannot be compared one to one."
        found |= dict.fromkeys(("layers", "heads", "weights"), why)
    elif a.architecture != b.architecture:
        found["weights"] = f"{base.name} is a {a.architecture} and {tuned.name} a {b.architecture}: no matrix matches."
    return found


def what_remains(base: Subject, tuned: Subject) -> str:
    """One sentence on what cannot be compared and which views remain; "" where everything can."""
    missing = obstacles(base, tuned)
    if not missing:
        return ""
    left = [f"{view} ({words})" for view, words in VIEWS.items() if view not in missing]
    return f"{' '.join(dict.fromkeys(missing.values()))} What remains: {', '.join(left)}."


def need(base: Subject, tuned: Subject, view: str) -> None:
    """Raise `WorkbenchError` with the reason and what remains where two Subjects cannot share a view."""
    if view in obstacles(base, tuned):
        raise WorkbenchError(what_remains(base, tuned))


def same_tokenizer(base: Subject, tuned: Subject) -> bool:
    """Whether two tokenizers split alike: one vocabulary, and the same tokens for `SAMPLE`."""
    if base.tokenizer is tuned.tokenizer:
        return True
    ids = [s.tokenizer(SAMPLE, verbose=False)["input_ids"] for s in (base, tuned)]
    return ids[0] == ids[1] and base.tokenizer.get_vocab() == tuned.tokenizer.get_vocab()


def same_ids(base: Subject, tuned: Subject, texts: Sequence[str], most: int) -> list[Int[Tensor, "1 pos"]]:
    """The first `most` tokens of every text, fewer where a context is shorter.

    Raises `WorkbenchError` where no text has two tokens.
    """
    most = min(most, base.n_ctx, tuned.n_ctx)
    rows = [ids for text in texts if (ids := beginning(base, text, most)).shape[1] >= 2]
    if not rows:
        raise WorkbenchError(f"No text has two tokens for {base.name}; type a longer one.")
    return rows
