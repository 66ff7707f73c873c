"""Which views two Subjects can share: the same tokens for texts, the same shape for layers, heads
and weights.
"""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import beginning
from workbench.subjects import Subject, spelling
from workbench.subjects.bridge import own_clone

VIEWS = {
    "behaviour": "benchmarks on the same items",
    "text": "every token of a text",
    "layers": "the residual stream, layer by layer",
    "heads": "attention and head scores",
    "weights": "the matrices themselves",
}
SAMPLE = "It was 7 o'clock: the old captain said, “nothing is lost yet”, and read_the(map) again…"
"""Words, numbers, signs and letters beyond ASCII: tokenizers that split it alike are taken for one.
"""
NAMED = 8
"""Added tokens that a sentence names at most."""


def obstacles(base: Subject, tuned: Subject) -> dict[str, str]:
    """The views that these two cannot share, each with the reason in one sentence; empty where all
    of them can.
    """
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
        found["weights"] = (
            f"{base.name} is a {a.architecture} and {tuned.name} a {b.architecture}: no matrix matches."
        )
    return found


def what_remains(base: Subject, tuned: Subject) -> str:
    """One sentence on what cannot be compared and which views remain; "" where everything can."""
    missing = obstacles(base, tuned)
    if not missing:
        return ""
    left = [f"{view} ({words})" for view, words in VIEWS.items() if view not in missing]
    return f"{' '.join(dict.fromkeys(missing.values()))} What remains: {', '.join(left)}."


def need(base: Subject, tuned: Subject, view: str) -> None:
    """Raise `WorkbenchError` with the reason and what remains where two Subjects cannot share a
    view.
    """
    if view in obstacles(base, tuned):
        raise WorkbenchError(what_remains(base, tuned))


def same_tokenizer(base: Subject, tuned: Subject) -> bool:
    """Whether two tokenizers split alike: the same tokens for `SAMPLE`, one vocabulary but for
    tokens added to it.
    """
    if base.tokenizer is tuned.tokenizer:
        return True
    ids = [spelling.read(s.tokenizer, SAMPLE) for s in (base, tuned)]
    small, large = sorted((s.tokenizer.get_vocab() for s in (base, tuned)), key=len)
    added = {token for s in (base, tuned) for token in spelling.added_tokens(s.tokenizer)}
    return (
        ids[0] == ids[1] and small.items() <= large.items() and large.keys() - small.keys() <= added
    )


def added_tokens(base: Subject, tuned: Subject) -> list[str]:
    """The tokens that one of two tokenizers has and the other has not, by their ids."""
    if base.tokenizer is tuned.tokenizer:
        return []
    small, large = sorted((s.tokenizer.get_vocab() for s in (base, tuned)), key=len)
    return sorted(large.keys() - small.keys(), key=lambda token: large[token])


def whats_new(base: Subject, tuned: Subject) -> str:
    """One sentence on tokens and embedding rows that only one of two models has; "" where both have
    the same.
    """
    rows, tokens = [s.d_embed for s in (base, tuned)], added_tokens(base, tuned)
    if rows[0] == rows[1] and not tokens:
        return ""
    found = []
    if tokens:
        larger = max((base, tuned), key=lambda s: len(s.tokenizer.get_vocab()))
        shown = ", ".join(map(repr, tokens[:NAMED])) + (", ..." if len(tokens) > NAMED else "")
        what = "a token" if len(tokens) == 1 else f"{len(tokens)} tokens"
        found.append(f"Only {larger.name} has {what} more ({shown})")
    if rows[0] != rows[1]:
        found.append(
            f"the embedding of {base.name} has {rows[0]} rows and that of {tuned.name} {rows[1]}"
        )
    words = "; ".join(found)
    return f"{words[0].upper()}{words[1:]}: what follows compares what both have."


def _reading_alike(base: Subject, tuned: Subject) -> tuple[Subject, Subject]:
    """Both, reading with one tokenizer: the one without the tokens that were added to the other."""
    if not added_tokens(base, tuned):
        return base, tuned
    tokenizer = min((base.tokenizer, tuned.tokenizer), key=lambda t: len(t.get_vocab()))
    first, second = (
        s if s.tokenizer is tokenizer else Subject(s.name, s.model, tokenizer, s.card)
        for s in (base, tuned)
    )
    return first, second


def over_shared_rows(base: Subject, tuned: Subject) -> tuple[Subject, Subject]:
    """Both, reading alike, without the embedding and unembedding rows that only one has; models
    stay as they are.
    """
    base, tuned = _reading_alike(base, tuned)
    n = min(base.d_embed, tuned.d_embed)
    return _cut(base, n), _cut(tuned, n)


def _cut(subject: Subject, n: int) -> Subject:
    if subject.d_embed == n:
        return subject
    model = own_clone(subject.model)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data[:n]
    return Subject(subject.name, model, subject.tokenizer, replace(subject.card, d_vocab=n))


def same_ids(
    base: Subject, tuned: Subject, texts: Sequence[str], most: int
) -> list[Int[Tensor, "1 pos"]]:
    """The first `most` tokens of every text, fewer where a context is shorter.

    Raises `WorkbenchError` where no text has two tokens.
    """
    most = min(most, base.n_ctx, tuned.n_ctx)
    rows = [ids for text in texts if (ids := beginning(base, text, most)).shape[1] >= 2]
    if not rows:
        raise WorkbenchError(f"No text has two tokens for {base.name}; type a longer one.")
    return rows
