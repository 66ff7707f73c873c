"""What can be compared of two Subjects: texts need the same tokens, all else the same shape."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
"""Words, numbers, signs and non-ASCII letters; tokenizers that split it alike count as the same."""
NAMED = 8
"""Added tokens that a sentence names at most."""


def obstacles(base: Subject, tuned: Subject) -> dict[str, str]:
    """The keys of `VIEWS` that cannot be compared, each with the reason in one sentence."""
    reasons = {}
    if not same_tokenizer(base, tuned):
        why = (
            f"{base.name} and {tuned.name} split text into different tokens, so nothing can be "
            "compared token by token."
        )
        reasons |= dict.fromkeys(("text", "layers", "heads"), why)
    shapes = [(s.card.n_layers, s.card.n_heads, s.card.d_model) for s in (base, tuned)]
    architectures = [s.card.architecture for s in (base, tuned)]
    if shapes[0] != shapes[1]:
        words = [
            f"{s.name} has {n_layers} layers of {n_heads} heads, width {d_model}"
            for s, (n_layers, n_heads, d_model) in zip((base, tuned), shapes, strict=True)
        ]
        why = f"{words[0]} and {words[1]}, so parts cannot be compared one to one."
        reasons |= dict.fromkeys(("layers", "heads", "weights"), why)
    elif architectures[0] != architectures[1]:
        reasons["weights"] = (
            f"{base.name} is a {architectures[0]} and {tuned.name} a {architectures[1]}: "
            "no matrix matches."
        )
    return reasons


def what_remains(base: Subject, tuned: Subject) -> str:
    """One sentence on what cannot be compared and what remains; "" if everything can be."""
    missing = obstacles(base, tuned)
    if not missing:
        return ""
    left = [f"{view} ({words})" for view, words in VIEWS.items() if view not in missing]
    return f"{' '.join(dict.fromkeys(missing.values()))} What remains: {', '.join(left)}."


def need(base: Subject, tuned: Subject, view: str) -> None:
    """Check that two Subjects can be compared in one of `VIEWS`.

    Args:
        base: The model before.
        tuned: The model after.
        view: A key of `VIEWS`.

    Raises:
        WorkbenchError: they cannot; says why, and which views remain.
    """
    if view in obstacles(base, tuned):
        raise WorkbenchError(what_remains(base, tuned))


def same_tokenizer(base: Subject, tuned: Subject) -> bool:
    """Whether two tokenizers split text alike, apart from tokens that were added to one of them.

    They must give the same tokens for `SAMPLE`, and one vocabulary must contain the other.
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
    """Tokens that only one of two tokenizers has, in the order of their ids."""
    if base.tokenizer is tuned.tokenizer:
        return []
    small, large = sorted((s.tokenizer.get_vocab() for s in (base, tuned)), key=len)
    return sorted(large.keys() - small.keys(), key=lambda token: large[token])


def whats_new(base: Subject, tuned: Subject) -> str:
    """One sentence on tokens and embedding rows that only one of two models has; "" for none."""
    rows = [s.d_embed for s in (base, tuned)]
    tokens = added_tokens(base, tuned)
    if rows[0] == rows[1] and not tokens:
        return ""
    clauses = []
    if tokens:
        larger = max((base, tuned), key=lambda s: len(s.tokenizer.get_vocab()))
        shown = ", ".join(map(repr, tokens[:NAMED])) + (", ..." if len(tokens) > NAMED else "")
        what = "a token" if len(tokens) == 1 else f"{len(tokens)} tokens"
        clauses.append(f"Only {larger.name} has {what} more ({shown})")
    if rows[0] != rows[1]:
        clauses.append(
            f"the embedding of {base.name} has {rows[0]} rows and that of {tuned.name} {rows[1]}"
        )
    words = "; ".join(clauses)
    return f"{words[0].upper()}{words[1:]}: what follows compares what both have."


def _with_one_tokenizer(base: Subject, tuned: Subject) -> tuple[Subject, Subject]:
    """Both models with the same tokenizer: the one without added tokens."""
    if not added_tokens(base, tuned):
        return base, tuned
    tokenizer = min((base.tokenizer, tuned.tokenizer), key=lambda t: len(t.get_vocab()))
    first, second = (
        s if s.tokenizer is tokenizer else Subject(s.name, s.model, tokenizer, s.card)
        for s in (base, tuned)
    )
    return first, second


def over_shared_rows(base: Subject, tuned: Subject) -> tuple[Subject, Subject]:
    """Both models with one tokenizer, and without embedding rows that only one of them has.

    The given models are not changed.
    """
    base, tuned = _with_one_tokenizer(base, tuned)
    n = min(base.d_embed, tuned.d_embed)
    return _cut(base, n), _cut(tuned, n)


def _cut(subject: Subject, n: int) -> Subject:
    if subject.d_embed == n:
        return subject
    model: Any = own_clone(subject.model)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data[:n]
    return Subject(subject.name, model, subject.tokenizer, replace(subject.card, d_vocab=n))


def same_ids(
    base: Subject, tuned: Subject, texts: Sequence[str], most: int
) -> list[Int[Tensor, "1 pos"]]:
    """Token ids of the beginning of every text that has at least two tokens.

    Args:
        base: Tokenises the texts.
        tuned: Must have the same tokenizer.
        texts: To read.
        most: Tokens of a text at most; fewer if a model's context is shorter.

    Raises:
        WorkbenchError: no text has two tokens.
    """
    most = min(most, base.n_ctx, tuned.n_ctx)
    rows = [ids for text in texts if (ids := beginning(base, text, most)).shape[1] >= 2]
    if not rows:
        raise WorkbenchError(f"No text has two tokens for {base.name}; type a longer one.")
    return rows
