"""Which analysis works on which model family: every public function on a tiny random model."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.errors import WorkbenchError
from workbench.subjects import Subject, zoo

PROMPT = " John and Mary went to the store, John gave a drink to"
OTHER = " John and Mary went to the store, Mary gave a drink to"
PAIR: dict[str, Any] = {"answer": " Mary", "wrong": " John"}
TEXTS = [zoo.TEXT * 3, zoo.TEXT[40:] * 3]
CLOSE = 1e-4
"""Allowed difference between our attention patterns and transformers' own."""


def functions() -> dict[str, Callable[[Subject], Any]]:
    """Each public analysis by name, with the arguments used here."""
    import workbench as wb

    return {
        "attention": lambda s: wb.attention(s, PROMPT),
        "head_scores": lambda s: wb.head_scores(s, n=2, length=8),
        "head_catalogue": lambda s: wb.head_catalogue(s, n=2, length=8),
        "attention_by_distance": lambda s: wb.attention_by_distance(s, n=2, length=16),
        "position_split": lambda s: wb.position_split(s, n=2, tokens=6, orders=4),
        "position_encoding": wb.position_encoding,
        "rotary_use": lambda s: wb.rotary_use(s, [PROMPT]),
        "loss_by_position": lambda s: wb.loss_by_position(s, TEXTS),
        "position_probe": lambda s: wb.position_probe(s, n=10, length=16),
        "anatomy": lambda s: wb.anatomy(s, PROMPT, layer=1, head=1),
        "composition": wb.composition,
        "strongest_pairs": lambda s: wb.strongest_pairs(s, 1, 1),
        "gradient_attention": lambda s: wb.gradient_attention(s, PROMPT),
        "lens": lambda s: wb.lens(s, PROMPT),
        "input_attribution": lambda s: wb.input_attribution(s, PROMPT, answer=" Mary"),
        "direct": lambda s: wb.direct(s, PROMPT, **PAIR),
        "patch": lambda s: wb.patch(s, PROMPT, OTHER, **PAIR),
    }


@dataclass(frozen=True)
class Family:
    """The outcomes of one family.

    - `loads`: "", or why the family cannot be loaded
    - `bridge`: whether TransformerLens can wrap it
    - `outcome`: by function, "exact", "numbers", a refusal in a sentence, or "FAULT ..." (our bug)
    """

    name: str
    loads: str = ""
    architecture: str = ""
    bridge: bool = False
    outcome: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, str]:
        """The functions that failed by a bug of ours, with what happened."""
        return {name: what for name, what in self.outcome.items() if what.startswith("FAULT")}


def measure(name: str) -> Family:
    """The outcome of every function on a family's tiny model; never raises."""
    return try_all(name, lambda folder: zoo.subject(name, folder), functions(), _words, _has_bridge)


def try_all(
    name: str,
    make: Callable[[Path], Subject],
    readings: Mapping[str, Callable[[Subject], Any]],
    words: Callable[[str, Any, Subject], str],
    bridge: Callable[[Subject], bool],
) -> Family:
    """The outcome of some functions on a model that is made for them; never raises.

    Args:
        name: Of the family.
        make: Makes its model in an empty folder.
        readings: The functions by name.
        words: What is said of a result, from the function's name, the result and the model.
        bridge: Whether TransformerLens can wrap the model.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            subject = make(Path(folder))
        except WorkbenchError as error:
            return Family(name, loads=str(error).replace(folder + "/", ""))
        except Exception as error:
            return Family(name, loads=f"FAULT {type(error).__name__}: {error}")

        def outcome(what: str, ask: Callable[[Subject], Any]) -> str:
            try:
                return words(what, ask(subject), subject)
            except WorkbenchError as error:
                return str(error)
            except Exception as error:  # a bug of ours: the table shows it, and the tests fail
                return f"FAULT {type(error).__name__}: {str(error)[:120]}"

        outcomes = {what: outcome(what, ask) for what, ask in readings.items()}
        return Family(name, "", subject.card.architecture, bridge(subject), outcomes)


def _words(what: str, result: Any, subject: Subject) -> str:
    if what == "attention":
        return _against_eager(subject, result.pattern)
    if what == "anatomy":
        n_wrong = len(result.disagreeing)
        return f"numbers; {n_wrong} steps marked as not holding" if n_wrong else "exact"
    return "numbers"


@torch.no_grad()
def eager_patterns(subject: Subject) -> np.ndarray | None:
    """Transformers' own patterns `[layer, head, query, key]`, or None if it has none to trust.

    Eager attention of some models gives other logits than the attention they run with; it proves
    nothing then.
    """
    from workbench.subjects.bridge import TOLERANCE, shared_clone

    clone = shared_clone(subject.model)
    ids = subject.encode(PROMPT)
    try:
        clone.set_attn_implementation("eager")
        out = clone(input_ids=ids, output_attentions=True, use_cache=False)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return None
    logits = subject.model(input_ids=ids, use_cache=False).logits
    if not (out.logits - logits).abs().max() <= TOLERANCE * logits.abs().max():
        return None
    patterns = [p[0].double().numpy() for p in out.attentions or () if p is not None]
    shape = (subject.card.n_heads, ids.shape[1], ids.shape[1])
    return np.stack(patterns) if patterns and all(p.shape == shape for p in patterns) else None


def _against_eager(subject: Subject, pattern: np.ndarray) -> str:
    theirs = eager_patterns(subject)
    if theirs is None or theirs.shape != pattern.shape:
        return "numbers"
    off = float(np.abs(theirs - pattern).max())
    return "exact" if off <= CLOSE else f"FAULT off by {off:.2g} from eager attention"


def _has_bridge(subject: Subject) -> bool:
    try:
        return subject.bridge is not None
    except WorkbenchError:
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings and log lines of loading a hundred architectures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(level)


def markdown(families: list[Family]) -> str:
    """The page of families: a table with one row per family, those not loaded, and faults."""
    names = list(functions())
    loaded = [f for f in families if not f.loads]
    n_bridges = sum(f.bridge for f in loaded)
    lines = [
        "# Families",
        "",
        (
            "Made by `workbench families --out docs/families.md`, from a tiny random model of "
            "every causal language model"
        ),
        "that transformers lists (two layers, four heads, 32 dimensions).",
        "",
        (
            "- `=` numbers, and they were held against the model's own: attention against "
            "transformers' eager patterns"
        ),
        "  (within 1e-4), the anatomy against every step of the model (within 1e-3)",
        "- `+` numbers",
        "- `-` a sentence that says why not",
        "- `!` a fault",
        "",
        (
            f"{len(families)} families: {len(loaded)} are loaded, {n_bridges} of them have a view "
            "in TransformerLens that computes the model's own logits (column TL)."
        ),
        "",
        "Encoders of pictures and sounds (ViT, AST, HuBERT) are no language models; what works on "
        "them stands in",
        "[Encoders that see and hear](concepts/vision.md).",
        "",
        "| family | TL | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for family in loaded:
        marks = [mark(family.outcome[name]) for name in names]
        lines.append(
            f"| {family.name} | {'yes' if family.bridge else 'no'} | " + " | ".join(marks) + " |"
        )
    lines += ["", "## Not asked", ""]
    lines += [f"- {f.name}: {f.loads}" for f in families if f.loads]
    lines += ["", "## Faults", ""]
    lines += [f"- {f.name}, {what}: {why}" for f in loaded for what, why in f.faults.items()] or [
        "None."
    ]
    return "\n".join(lines) + "\n"


def mark(outcome: str) -> str:
    """The sign that stands for an outcome in the tables."""
    if outcome == "exact":
        return "="
    if outcome.startswith("numbers"):
        return "+"
    return "!" if outcome.startswith("FAULT") else "-"
