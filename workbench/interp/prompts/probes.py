"""Probes: questions about a model's inside, one TOML file each, and the prompt pairs they generate.

A file has `title`, `question`, `source`, `metric`, one or more `[[templates]]` (the first that
suits the tokenizer is used) with `clean`, `corrupted`, `answer`, `wrong` and `slots`, and `[lists]`
of words. A slot is filled from its list; slots of one list get different entries. An entry may have
columns, named in `[columns]` and written `{slot.column}`; several answers are separated by `|`. The
list "vocabulary" means ordinary words among the tokenizer's own tokens.

A slot that stands once in both prompts names its position, and so does `{slot#name}`; "last" is the
last token. Aligned by these names, prompts of different lengths make one map. Data sets of the
field are probes too: see `probe_sets`.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import paths
from workbench.doors import path_of, read_toml, reading
from workbench.errors import WorkbenchError
from workbench.interp.prompts.pairs import LengthError, Pair, pair
from workbench.interp.prompts.probe_sets import DATA_PROBES, file_of, texts_of
from workbench.interp.prompts.wordings import (
    FIELDS,
    LAST,
    SLOT,
    Probe,
    Template,
    fill,
    filled_text,
    named_places,
    position_names,
    usable_words,
)
from workbench.subjects import Subject
from workbench.subjects.subject import TokenCountError

MEND = "mend the file; probes/README.md says what it holds"
FEWEST = 5
"""Usable pairs below which a probe says nothing."""

TRIES = 20
"""Random fillings per wanted pair, before giving up."""


@dataclass(frozen=True)
class Item:
    """One prompt pair of a probe, as texts and tokenized."""

    clean: str
    corrupted: str
    answers: tuple[str, ...]
    wrongs: tuple[str, ...]
    pair: Pair


@dataclass(frozen=True)
class Items:
    """The usable pairs of a probe, all of one length.

    - `names`: a label per position
    - `dropped`: unusable candidates, counted by reason
    """

    probe: Probe
    items: list[Item]
    names: list[str]
    dropped: dict[str, int]


def folders() -> list[Path]:
    """The folders of probes: the built-in ones, and `probes/` in the user's home folder."""
    return [paths.shelf("probes"), paths.home() / "probes"]


def available_probes() -> list[str]:
    """Names of all probes: the TOML files, then the data sets whose file is there."""
    files = sorted({path.stem for folder in folders() for path in folder.glob("*.toml")})
    return [*files, *(name for name, probe in DATA_PROBES.items() if file_of(probe) is not None)]


def read_probe(name: str) -> Probe:
    """The probe of that name, or in that file.

    Raises:
        WorkbenchError: There is no such probe, or the file does not hold one.
    """
    if name in DATA_PROBES and file_of(DATA_PROBES[name]) is not None:
        of = DATA_PROBES[name]
        return Probe(name, of.title, of.question, of.source, "logit_difference", (), {}, {})
    named = path_of(name, "probe")
    candidates = (
        [named]
        if name.endswith(".toml")
        else [folder / f"{named.name}.toml" for folder in folders()]
    )
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise WorkbenchError(
            f"There is no probe {name!r}; there are {', '.join(available_probes())}."
        )
    fields = read_toml(path, MEND, "cannot be read")
    with reading(f"The probe {path}", MEND):
        templates = tuple(Template(**template) for template in fields["templates"])
        probe = Probe(
            path.stem,
            fields["title"],
            fields["question"],
            fields.get("source", ""),
            fields.get("metric", "logit_difference"),
            templates,
            fields.get("lists", {}),
            fields.get("columns", {}),
        )
        _check_types(probe)
        for template in templates:
            _check_template(template, probe)
    return probe


def _check_types(probe: Probe) -> None:
    """Raise `TypeError` or `ValueError` for a part of another type than a probe has."""
    if not probe.templates:
        raise ValueError("it has no template")
    words = (probe.title, probe.question, probe.source, probe.metric)
    texts = [text for t in probe.templates for text in (t.clean, t.corrupted, t.answer, t.wrong)]
    if not all(isinstance(text, str) for text in (*words, *texts)):
        raise TypeError("its titles and templates must be texts")
    for name, words in probe.columns.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"the columns of {name} must be a list of names")
    for name, entries in probe.lists.items():
        if not isinstance(entries, list) or not all(
            isinstance(e, str | int | float | list) for e in entries
        ):
            raise TypeError(f"the list {name} must hold words")
        width = len(probe.columns.get(name, ()))
        if width and not all(isinstance(entry, list) and len(entry) >= width for entry in entries):
            raise ValueError(f"each entry of the list {name} must have its {width} columns")


def _check_template(template: Template, probe: Probe) -> None:
    for slot, name in template.slots.items():
        if name != "vocabulary" and name not in probe.lists:
            raise KeyError(f"the slot {slot} is filled from {name!r}, which is no list")
    for text in (getattr(template, name) for name in FIELDS):
        for slot, column, _ in SLOT.findall(text):
            name = template.slots[slot]
            if name != "vocabulary" and not probe.lists[name]:
                raise KeyError(f"the list {name} is empty")
            if column and column not in probe.columns[name]:
                raise KeyError(f"{name} has no column {column}")


def generate(
    subject: Subject, probe: Probe, n: int = 50, seed: int = 0, *, by_name: bool = False
) -> Items:
    """`n` different random prompt pairs of a probe, aligned token by token for this tokenizer.

    Args:
        subject: The model.
        probe: The probe.
        n: Pairs wanted.
        seed: Of the draw.
        by_name: Align them by their named positions instead, so that words may have any number of
            tokens.

    Raises:
        WorkbenchError: There are fewer than five usable pairs; the message counts the reasons.
    """
    best: Items | None = None
    for template in probe.templates or (None,):
        rng = random.Random(f"{probe.name} {seed}")
        candidates: Iterator[Candidate]
        if template is None:
            candidates = ((texts, None, {}) for texts in texts_of(probe.name, rng))
        else:
            candidates = _filled(subject, probe, template, n, rng)
        what = "words too few for the slots" if template else "rows in the file"
        pairs = _collect(subject, probe, candidates, n=n, by_name=by_name, what=what)
        if best is None or len(pairs.items) > len(best.items):
            best = pairs
        if len(pairs.items) >= n:
            break
    assert best is not None
    if len(best.items) < min(n, FEWEST):
        reasons = [f"{count} {reason}" for reason, count in best.dropped.items()]
        raise WorkbenchError(
            f"The probe {probe.name} gives {len(best.items)} usable pairs for the tokenizer of "
            f"{subject.name} (dropped: {', '.join(reasons) or 'too few words'}); choose another "
            "probe or model."
        )
    return best


def own_items(subject: Subject, texts: Sequence[str]) -> Items:
    """A user's own pair as a probe of one item; each position is labelled by its token.

    Args:
        subject: The model.
        texts: Clean prompt, corrupted prompt, answer and wrong answer.

    Raises:
        WorkbenchError: As `pair` does, and if there are not four texts.
    """
    if len(texts) != len(FIELDS):
        raise WorkbenchError(
            f"A pair of your own is {len(FIELDS)} texts ({', '.join(FIELDS)}), not {len(texts)}."
        )
    clean, corrupted, answer, wrong = texts
    tokenized = pair(subject, clean, corrupted, answer, wrong)
    probe = Probe("own prompts", "Own prompts", "", "", "logit_difference", (), {}, {})
    tokens = zip(*(subject.tokens(ids) for ids in tokenized.prompts), strict=True)
    names = [a if a == b else f"{a}|{b.strip()}" for a, b in tokens]
    return Items(probe, [Item(clean, corrupted, (answer,), (wrong,), tokenized)], names, {})


Candidate = tuple[tuple[str, str, str, str], Template | None, dict[str, Any]]
"""The four texts of a pair, and the template with what fills it (None: a row of a data set)."""


def _filled(
    subject: Subject, probe: Probe, template: Template, n: int, rng: random.Random
) -> Iterator[Candidate]:
    """A template filled at random."""
    words = {name: usable_words(subject, probe, name) for name in set(template.slots.values())}
    for _ in range(n * TRIES):
        filled = fill(template, words, rng)
        if filled is None:
            return
        clean, corrupted, answer, wrong = (
            filled_text(getattr(template, name), filled, probe, template) for name in FIELDS
        )
        yield (clean, corrupted, answer, wrong), template, filled


def _collect(
    subject: Subject,
    probe: Probe,
    candidates: Iterator[Candidate],
    *,
    n: int,
    by_name: bool,
    what: str,
) -> Items:
    """The first `n` usable candidates of one length (of any length, by name).

    `what` names what was missing if there is no candidate at all.
    """
    dropped: Counter[str] = Counter()
    by_length: dict[int, list[tuple[Item, Candidate]]] = {}
    seen: set[tuple[str, str]] = set()
    candidate = None
    for candidate in candidates:
        texts, template, filled = candidate
        if texts[:2] in seen:
            continue
        seen.add(texts[:2])
        clean, corrupted, answer, wrong = texts
        answers = tuple(answer.split("|"))
        wrongs = tuple(wrong.split("|"))
        try:
            places: tuple[tuple[str, int, int], ...] = ()
            if by_name and template:
                places = named_places(subject, probe, template, filled)
            elif by_name:
                places = _changed(subject, clean, corrupted)
            tokenized = pair(subject, clean, corrupted, answers, wrongs, places=places, offer=False)
        except WorkbenchError as error:
            dropped[_reason(error)] += 1
            continue
        same_length = by_length.setdefault(0 if by_name else len(tokenized.clean), [])
        same_length.append((Item(clean, corrupted, answers, wrongs, tokenized), candidate))
        if len(same_length) == n:
            break
    if candidate is None:
        dropped[what] += 1
    if not by_length:
        return Items(probe, [], [], dict(dropped))
    most = max(by_length.values(), key=len)
    others = sum(map(len, by_length.values())) - len(most)
    if others:
        dropped["of another length"] = others
    items = [item for item, _ in most]
    names = [name for name, _, _ in items[0].pair.places]
    if not names:
        tokens = [subject.tokens(item.pair.clean) for item in items]
        _, template, filled = most[0][1]
        names = position_names(subject, probe, tokens, template, filled)
    return Items(probe, items, names, dict(dropped))


def _changed(subject: Subject, clean: str, corrupted: str) -> tuple[tuple[str, int, int], ...]:
    """Named positions of two texts without slots: the end of the change, and the last token."""
    a, b = (subject.encode(text)[0].tolist() for text in (clean, corrupted))
    same = 0
    while same < min(len(a), len(b)) - 1 and a[-1 - same] == b[-1 - same]:
        same += 1
    last = (LAST, len(a) - 1, len(b) - 1)
    return (("changed", len(a) - 1 - same, len(b) - 1 - same), last) if same else (last,)


def _reason(error: WorkbenchError) -> str:
    if isinstance(error, LengthError):
        return "whose prompts have unequal lengths"
    several = isinstance(error, TokenCountError)
    return "whose answers are not single tokens" if several else "with prompts or answers alike"
