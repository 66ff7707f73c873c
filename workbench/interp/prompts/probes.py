"""Probes: questions put to a model's inside, each one TOML file, and the prompt pairs made from it
for a tokenizer.

A file has `title`, `question`, `source`, `metric`, one or more `[[templates]]` (the first that
suits the tokenizer is used) with `clean`, `corrupted`, `answer`, `wrong` and `slots`, and `[lists]`
of words. A slot is filled from its list; slots of one list get different entries. An entry may have
columns, named in `[columns]` and written `{slot.column}`; several answers are parted by `|`. The
list "vocabulary" means ordinary words among the tokenizer's own tokens.

A slot that stands once in both prompts names its position, and so does `{slot#name}`; "last" is the
last token. Aligned by these names, prompts of different lengths make one map. Data sets of the
field are probes too: see `probe_data`.
"""

import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import paths
from workbench.doors import path_of, read_toml, reading
from workbench.errors import WorkbenchError
from workbench.interp.prompts.pairs import LengthError, Pair, pair
from workbench.interp.prompts.probe_sets import DATA_PROBES, file_of, texts_of
from workbench.subjects import Subject
from workbench.subjects.spelling import offsets
from workbench.subjects.subject import TokenCountError

MEND = "mend the file; probes/README.md says what it holds"
FEWEST = 5
"""Usable items below which a probe says nothing."""

TRIES = 20
FIELDS = ("clean", "corrupted", "answer", "wrong")
SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?(?:#(\w+))?\}")
LAST = "last"


@dataclass(frozen=True)
class Template:
    """One wording: four texts with slots, and the list that fills each slot."""

    clean: str
    corrupted: str
    answer: str
    wrong: str
    slots: dict[str, str]

    @property
    def named(self) -> list[str]:
        """The positions that have a name in both prompts, in the clean prompt's order; the last
        token is always one.
        """
        sides = [
            [m[3] or m[1] for m in SLOT.finditer(text)] for text in (self.clean, self.corrupted)
        ]
        return [
            *(name for name in sides[0] if sides[0].count(name) == 1 == sides[1].count(name)),
            LAST,
        ]


@dataclass(frozen=True)
class Probe:
    """A question: what it asks in words, where it comes from, its wordings and word lists."""

    name: str
    title: str
    question: str
    source: str
    metric: str
    templates: tuple[Template, ...]
    lists: dict[str, list]
    columns: dict[str, list[str]]


@dataclass(frozen=True)
class Item:
    """One prompt pair of a probe, tokenised."""

    clean: str
    corrupted: str
    answers: tuple[str, ...]
    wrongs: tuple[str, ...]
    pair: Pair


@dataclass(frozen=True)
class Items:
    """The usable pairs, all of one length: `names` labels the positions; `dropped` counts what was
    not usable.
    """

    probe: Probe
    items: list[Item]
    names: list[str]
    dropped: dict[str, int]


def folders() -> list[Path]:
    """Where probes lie: the shelf, and `probes/` in the user's home folder."""
    return [paths.shelf("probes"), paths.home() / "probes"]


def available_probes() -> list[str]:
    """Names of the probes there are: the files, then the data sets that are here."""
    files = sorted({path.stem for folder in folders() for path in folder.glob("*.toml")})
    return [*files, *(name for name, found in DATA_PROBES.items() if file_of(found) is not None)]


def read_probe(name: str) -> Probe:
    """The probe of that name, or in that file. Raises `WorkbenchError` for none, and for a file
    that is not one.
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
    said = read_toml(path, MEND, "cannot be read")
    with reading(f"The probe {path}", MEND):
        templates = tuple(Template(**t) for t in said["templates"])
        found = Probe(
            path.stem,
            said["title"],
            said["question"],
            said.get("source", ""),
            said.get("metric", "logit_difference"),
            templates,
            said.get("lists", {}),
            said.get("columns", {}),
        )
        _check_types(found)
        for template in templates:
            _check_template(template, found)
    return found


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
    """`n` different pairs that are token-aligned for this tokenizer, drawn at random.

    `by_name` aligns them by their named positions instead, so that words may be of any number of
    tokens. Raises `WorkbenchError` when fewer than five can be made, saying what was in the way.
    """
    best: Items | None = None
    for template in probe.templates or (None,):
        rng = random.Random(f"{probe.name} {seed}")
        if template is None:
            candidates: Iterator[Candidate] = (
                (texts, None, {}) for texts in texts_of(probe.name, rng)
            )
        else:
            candidates = _filled(subject, probe, template, n, rng)
        what = "words too few for the slots" if template else "rows in the file"
        found = _collect(subject, probe, candidates, n=n, by_name=by_name, what=what)
        if best is None or len(found.items) > len(best.items):
            best = found
        if len(found.items) >= n:
            break
    assert best is not None
    if len(best.items) < min(n, FEWEST):
        why = (
            ", ".join(f"{count} {reason}" for reason, count in best.dropped.items())
            or "too few words"
        )
        raise WorkbenchError(
            f"The probe {probe.name} gives {len(best.items)} usable pairs for the tokenizer of {subject.name} "
            f"(dropped: {why}); choose another probe or model."
        )
    return best


def own_items(subject: Subject, texts: Sequence[str]) -> Items:
    """One pair of the user's own as a probe of one item; positions are called by their tokens.

    Raises `WorkbenchError` as `pair` does, and for other than four texts.
    """
    if len(texts) != len(FIELDS):
        raise WorkbenchError(
            f"A pair of your own is {len(FIELDS)} texts ({', '.join(FIELDS)}), not {len(texts)}."
        )
    clean, corrupted, answer, wrong = texts
    made = pair(subject, clean, corrupted, answer, wrong)
    asked = Probe("own prompts", "Own prompts", "", "", "logit_difference", (), {}, {})
    tokens = zip(*(subject.tokens(ids) for ids in made.prompts), strict=True)
    names = [a if a == b else f"{a}|{b.strip()}" for a, b in tokens]
    return Items(asked, [Item(clean, corrupted, (answer,), (wrong,), made)], names, {})


Candidate = tuple[tuple[str, str, str, str], Template | None, dict[str, Any]]
"""The four texts of a pair, and the template with what fills it (None: a row of a data set)."""


def _filled(
    subject: Subject, probe: Probe, template: Template, n: int, rng: random.Random
) -> Iterator[Candidate]:
    """A template filled at random."""
    words = {name: _usable(subject, probe, name) for name in set(template.slots.values())}
    for _ in range(n * TRIES):
        filled = _fill(template, words, rng)
        if filled is None:
            return
        clean, corrupted, answer, wrong = (
            _text(getattr(template, name), filled, probe, template) for name in FIELDS
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
    """The first `n` usable candidates of one length (of any, by name); `what` says what there were
    none of.
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
        answers, wrongs = (tuple(text.split("|")) for text in texts[2:])
        try:
            places: Any = ()
            if by_name:
                places = (
                    _places(subject, probe, template, filled)
                    if template
                    else _changed(subject, *texts[:2])
                )
            made = pair(subject, texts[0], texts[1], answers, wrongs, places=places, offer=False)
        except WorkbenchError as error:
            dropped[_reason(error)] += 1
            continue
        found = by_length.setdefault(0 if by_name else len(made.clean), [])
        found.append((Item(texts[0], texts[1], answers, wrongs, made), candidate))
        if len(found) == n:
            break
    if candidate is None:
        dropped[what] += 1
    if not by_length:
        return Items(probe, [], [], dict(dropped))
    kept = max(by_length.values(), key=len)
    if others := sum(map(len, by_length.values())) - len(kept):
        dropped["of another length"] = others
    items = [item for item, _ in kept]
    names = [name for name, _, _ in items[0].pair.places] or _names(
        subject, probe, items, kept[0][1]
    )
    return Items(probe, items, names, dict(dropped))


def _changed(subject: Subject, clean: str, corrupted: str) -> tuple[tuple[str, int, int], ...]:
    """Named positions of two texts without slots: the last token before they become the same again,
    and the last.
    """
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


def _usable(subject: Subject, probe: Probe, name: str) -> list:
    if name != "vocabulary":
        return list(probe.lists[name])
    found = []
    vocabulary = subject.tokenizer.get_vocab()
    texts = subject.tokens(torch.tensor(list(vocabulary.values())), apart=True)
    for token, text in zip(vocabulary, texts, strict=True):
        word = text.strip()
        if (
            text == f" {word}"
            and len(word) > 2
            and word.isascii()
            and word.isalpha()
            and word.islower()
        ):
            found.append((token, word))
    if not found:  # bare token ids, or characters
        special = set(subject.tokenizer.all_special_ids)
        return [
            subject.tokenizer.decode([i]).strip()
            for i in range(len(subject.tokenizer))
            if i not in special
        ]
    return [word for _, word in sorted(found)]


def _fill(template: Template, words: dict[str, list], rng: random.Random) -> dict[str, Any] | None:
    """An entry for every slot; slots that share a list get different ones."""
    filled: dict[str, Any] = {}
    for name in sorted(words):
        slots = [slot for slot in template.slots if template.slots[slot] == name]
        if len(words[name]) < len(slots):
            return None
        filled |= dict(zip(slots, rng.sample(words[name], len(slots)), strict=True))
    return filled


def _text(text: str, filled: dict[str, Any], probe: Probe, template: Template) -> str:
    def fill(match: re.Match[str]) -> str:
        slot, column, _ = match.groups()
        entry = filled[slot]
        return str(entry[probe.columns[template.slots[slot]].index(column)] if column else entry)

    return SLOT.sub(fill, text)


def _places(
    subject: Subject, probe: Probe, template: Template, filled: dict[str, Any]
) -> tuple[tuple[str, int, int], ...]:
    """Where each named position is in the two prompts: the last token of what fills it."""
    found: list[dict[str, int]] = []
    for text in (template.clean, template.corrupted):
        whole = _text(text, filled, probe, template)
        ends = [stop for _, stop in offsets(subject.tokenizer, whole)]
        at = {LAST: len(ends) - 1}
        for match in SLOT.finditer(text):
            end = len(_text(text[: match.end()], filled, probe, template))
            at[match[3] or match[1]] = next(i for i, stop in enumerate(ends) if stop >= end)
        found.append(at)
    return tuple((name, found[0][name], found[1][name]) for name in template.named)


def _names(subject: Subject, probe: Probe, items: list[Item], candidate: Candidate) -> list[str]:
    """What a position is called: its token where all items share it, else its slot."""
    tokens = [subject.tokens(item.pair.clean) for item in items]
    names = [column[0] if len(set(column)) == 1 else "" for column in zip(*tokens, strict=True)]
    first = int(
        subject.tokenizer.bos_token_id is not None and tokens[0][0] == subject.tokenizer.bos_token
    )
    _, template, filled = candidate
    for match in SLOT.finditer(template.clean) if template else ():
        assert template is not None
        before = _text(template.clean[: match.start()], filled, probe, template).rstrip(" ")
        at = len(subject.ids(before)) if before else first
        if at < len(names) and not names[at]:
            names[at] = f"{{{match[3] or match[1]}}}"
    letters = iter(string.ascii_lowercase * 20)
    return [name or f"({next(letters)})" for name in names]
