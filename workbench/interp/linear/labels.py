"""Labelled texts for linear probes: sets made here, known sets, and files of the user's own.

A reading is one place of one text with its class: of a tagged word the last token, of a labelled
text the last token.
"""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from workbench.data import sets
from workbench.data.columns import as_text, column_for, resolve
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import repeated_tokens
from workbench.subjects import Subject
from workbench.subjects.spelling import offsets

LONGEST = 64
"""Tokens of a text that are read; what comes after is left out."""
MOST_CLASSES = 20
FEWEST = 40
"""Readings below which nothing is fitted."""
NOUNS = (
    ("plant", "plants"), ("book", "books"), ("car", "cars"), ("boy", "boys"), ("girl", "girls"), ("dog", "dogs"),
    ("cat", "cats"), ("tree", "trees"), ("king", "kings"), ("teacher", "teachers"), ("doctor", "doctors"),
    ("house", "houses"), ("door", "doors"), ("table", "tables"), ("picture", "pictures"), ("bird", "birds"),
    ("friend", "friends"), ("brother", "brothers"), ("flower", "flowers"), ("horse", "horses"), ("child", "children"),
    ("man", "men"), ("woman", "women"), ("foot", "feet"), ("mouse", "mice"), ("city", "cities"), ("lady", "ladies"),
    ("knife", "knives"), ("box", "boxes"), ("river", "rivers"), ("letter", "letters"), ("soldier", "soldiers"),
)  # fmt: skip
FRAMES = (
    "The {0} near the {1} of my",
    "We saw the {0} and the {1} in the",
    "My {0} with the {1} could not",
    "Then the {0} behind her {1} did",
    "I thought of the {0} and his {1} for",
)


@dataclass(frozen=True)
class Example:
    """One text as token ids; `at` are the positions read, `label` their classes, `word` the word
    types there.

    Of a labelled text, the text itself stands for the word.
    """

    ids: tuple[int, ...]
    at: tuple[int, ...]
    label: tuple[str, ...]
    word: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """A labelled set for one tokenizer; `level` is token or text, `dropped` counts what was left
    out, by reason.
    """

    name: str
    title: str
    level: str
    source: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Readings."""
        return sum(len(example.at) for example in self.examples)


def _number(subject: Subject, rng: random.Random) -> Iterator[sets.Record]:
    while True:
        nouns = rng.sample(NOUNS, 2)
        many = [rng.random() < 0.5 for _ in nouns]
        frame = rng.choice(FRAMES).format("{0}", "{1}").split()
        tokens = [w.format(*(noun[m] for noun, m in zip(nouns, many, strict=True))) for w in frame]
        tags = [
            "" if "{" not in w else ("plural" if many[int(w[1])] else "singular") for w in frame
        ]
        yield {"tokens": tokens, "tags": tags}


def _position(subject: Subject, rng: random.Random) -> Iterator[sets.Record]:
    length = min(LONGEST, subject.n_ctx)
    for number in range(4000 // length):
        ids = repeated_tokens(subject, 1, length, rng.randrange(2**31) + number)[
            0, :length
        ].tolist()
        yield {"ids": ids, "tags": [""] + [f"{8 * p // length + 1} of 8" for p in range(1, length)]}


@dataclass(frozen=True)
class Kind:
    """A set by name: what it asks, where it is from, and how its records are had."""

    title: str
    source: str
    records: Callable[[Subject, random.Random], Iterator[sets.Record]] | str
    positive: bool = False


LABELS = {
    "number": Kind("Number of a noun", "made here: 32 nouns in five frames", _number),
    "position": Kind("Position in the text, in eighths", "made here: random tokens", _position),
    "part_of_speech": Kind(
        "Part of speech", "Universal Dependencies, English Web Treebank", "ud_ewt"
    ),
    "entity": Kind("Named entity", "WNUT 2017", "wnut17", True),
    "entity_wikipedia": Kind("Named entity", "WikiGold", "wikigold", True),
    "sentiment": Kind(
        "Sentiment of a sentence", "Stanford Sentiment Treebank, two classes", "sst2"
    ),
}
"""Labelled sets by name; the first two need no data folder."""
OUTSIDE = "O"


def labelled(subject: Subject, name: str, *, n: int = 1500, seed: int = 0) -> Labelled:
    """About `n` readings of a set of `LABELS`, or of a .tsv, .csv, .jsonl, .conll or .conllu file.

    A file's rows are {tokens, tags} or {text, label}. Of entity sets, words outside any entity are
    thinned to as many as lie inside. Raises `WorkbenchError` for an unknown name, a file that
    cannot be read, fewer than two classes, and a tokenizer that cannot read the texts.
    """
    kind = LABELS.get(name) or Kind(name, "a file", name)
    if name not in LABELS and "." not in name and "/" not in name:
        raise WorkbenchError(
            f"There is no labelled set {name!r}; choose one of {', '.join(LABELS)}, or name a file."
        )
    rng = random.Random(f"{name} {seed}")
    records = kind.records(subject, rng) if callable(kind.records) else _shuffled(kind.records, rng)
    dropped: Counter[str] = Counter()
    examples, seen, level = [], 0, "token"
    for record in records:
        made = _tagged(subject, record, dropped) if "tags" in record or "tokens" in record else None
        if made is None:
            made, level = _text(subject, record, kind.records), "text"
        if kind.positive:
            made = _thinned(made, rng)
        if made.at:
            examples.append(made)
            seen += len(made.at)
        if seen >= n:
            break
    return _checked(
        subject, Labelled(name, kind.title, level, kind.source, (), tuple(examples), dropped)
    )


def _shuffled(data: str, rng: random.Random) -> Iterator[sets.Record]:
    rows = sets.records(data) or []
    rng.shuffle(rows)
    if not rows:
        return
    tagged = column_for("tokens", [str(column) for column in rows[0]], {}) is not None
    columns = resolve(("tokens", "tags") if tagged else ("text", "label"), rows, {}, data, Notes())
    yield from ({part: row.get(column) for part, column in columns.items()} for row in rows)


def _tagged(subject: Subject, record: sets.Record, dropped: Counter[str]) -> Example:
    tags = record.get("tags")
    if tags is None:
        raise WorkbenchError("A row has tokens and no tags; give both, or text and label.")
    if "ids" in record:
        kept = [p for p, tag in enumerate(tags) if tag]
        words = [str(record["ids"][p]) for p in kept]
        return Example(
            tuple(record["ids"]), tuple(kept), tuple(tags[p] for p in kept), tuple(words)
        )
    words = [str(word) for word in record["tokens"]]
    if len(words) != len(tags):
        raise WorkbenchError(
            f"A row has {len(words)} tokens and {len(tags)} tags; mend it: {' '.join(words)[:60]!r}"
        )
    ids, ends = _ends(subject, words)
    found = [
        (p, str(tag).rpartition("-")[2], word.lower())
        for word, tag, p in zip(words, tags, ends, strict=True)
        if tag and tag != "_" and p < min(LONGEST, subject.n_ctx)
    ]
    dropped["words beyond the longest text"] += sum(p >= min(LONGEST, subject.n_ctx) for p in ends)
    at, label, word = zip(*found, strict=True) if found else ((), (), ())
    return Example(tuple(ids[:LONGEST]), at, label, word)


def _ends(subject: Subject, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """The token ids of words with a space between, and the position of each word's last token."""
    text = " ".join(words)
    where = offsets(subject.tokenizer, text)
    ends, at, stop = [], 0, 0
    for word in words:
        stop += len(word)
        while at + 1 < len(where) and where[at][1] < stop:
            at += 1
        ends.append(at)
        stop += 1
    return subject.ids(text), ends


def _text(subject: Subject, record: sets.Record, source: object) -> Example:
    text, label = as_text(record["text"]), as_text(record["label"])
    if source == "sst2":
        label = {"0": "negative", "1": "positive"}.get(label, label)
    if not text or not label:
        return Example((), (), (), ())
    ids = subject.ids(text)[: min(LONGEST, subject.n_ctx)]
    return (
        Example(tuple(ids), (len(ids) - 1,), (label,), (text,)) if ids else Example((), (), (), ())
    )


def _thinned(made: Example, rng: random.Random) -> Example:
    inside = [i for i, tag in enumerate(made.label) if tag != OUTSIDE]
    outside = [i for i, tag in enumerate(made.label) if tag == OUTSIDE]
    kept = sorted([*inside, *rng.sample(outside, min(len(inside), len(outside)))])
    return Example(
        made.ids, *(tuple(side[i] for i in kept) for side in (made.at, made.label, made.word))
    )


def _checked(subject: Subject, found: Labelled) -> Labelled:
    """Only the commonest classes; at least two of them, and enough readings."""
    counts = Counter(tag for example in found.examples for tag in example.label)
    classes = [tag for tag, count in counts.most_common(MOST_CLASSES) if count >= 5]
    dropped = Counter(found.dropped)
    dropped["of rare classes"] += sum(count for tag, count in counts.items() if tag not in classes)
    examples = [_only(example, classes) for example in found.examples]
    examples = [example for example in examples if example.at]
    if len({i for example in examples for i in example.ids}) < 3:
        raise WorkbenchError(
            f"The tokenizer of {subject.name} cannot read the texts of {found.name}; take position."
        )
    n = sum(len(example.at) for example in examples)
    if len(classes) < 2 or n < FEWEST or len(examples) < 8:
        raise WorkbenchError(
            f"{found.name} gives {n} readings in {len(examples)} texts of {len(classes)} classes with five readings or "
            f"more; a probe needs {FEWEST} readings in 8 texts of two classes."
        )
    left = {reason: count for reason, count in dropped.items() if count}
    named = (found.name, found.title, found.level, found.source)
    return Labelled(*named, tuple(sorted(classes)), tuple(examples), left)


def _only(example: Example, classes: Sequence[str]) -> Example:
    kept = [i for i, tag in enumerate(example.label) if tag in classes]
    return Example(
        example.ids,
        *(tuple(side[i] for i in kept) for side in (example.at, example.label, example.word)),
    )


def control_labels(words: Sequence[str], label: Sequence[str], seed: int = 0) -> list[str]:
    """Labels of the control task (Hewitt & Liang 2019): each word type has one of its own, drawn at
    random.

    They are drawn from the labels that there are, as often as those occur; only a probe that
    memorises can read them.
    """
    pool = sorted(label)
    return [pool[zlib.crc32(f"{seed} {word}".encode()) % len(pool)] for word in words]
