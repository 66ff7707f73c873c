"""Labelled texts for linear probes: generated sets, known data sets, and files of your own.

A reading is one position of one text with its class: the last token of a tagged word or of a
labelled text.
"""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

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
"""Only the commonest classes are kept, this many."""
FEWEST = 40
"""Readings below which nothing is fitted."""
NOUNS = (
    ("plant", "plants"), ("book", "books"), ("car", "cars"), ("boy", "boys"), ("girl", "girls"),
    ("dog", "dogs"), ("cat", "cats"), ("tree", "trees"), ("king", "kings"),
    ("teacher", "teachers"), ("doctor", "doctors"), ("house", "houses"), ("door", "doors"),
    ("table", "tables"), ("picture", "pictures"), ("bird", "birds"), ("friend", "friends"),
    ("brother", "brothers"), ("flower", "flowers"), ("horse", "horses"), ("child", "children"),
    ("man", "men"), ("woman", "women"), ("foot", "feet"), ("mouse", "mice"), ("city", "cities"),
    ("lady", "ladies"), ("knife", "knives"), ("box", "boxes"), ("river", "rivers"),
    ("letter", "letters"), ("soldier", "soldiers"),
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
    """One text as token ids.

    - `at`: the positions that are read
    - `label`: their classes
    - `word`: the word types there; for a labelled text, the text itself
    """

    ids: tuple[int, ...]
    at: tuple[int, ...]
    label: tuple[str, ...]
    word: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """A labelled set for one tokenizer; `level` is token or text, `dropped` counts reasons."""

    name: str
    title: str
    level: str
    source: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """The number of readings."""
        return sum(len(example.at) for example in self.examples)


def _number(subject: Subject, rng: random.Random) -> Iterator[sets.Record]:
    while True:
        nouns = rng.sample(NOUNS, 2)
        many = [rng.random() < 0.5 for _ in nouns]
        frame = rng.choice(FRAMES).format("{0}", "{1}").split()
        fillers = [noun[plural] for noun, plural in zip(nouns, many, strict=True)]
        tokens = []
        tags = []
        for word in frame:
            tokens.append(word.format(*fillers))
            if "{" in word:
                tags.append("plural" if many[int(word[1])] else "singular")
            else:
                tags.append("")
        yield {"tokens": tokens, "tags": tags}


def _position(subject: Subject, rng: random.Random) -> Iterator[sets.Record]:
    length = min(LONGEST, subject.n_ctx)
    ends = [max(1, length * eighth // 8) for eighth in range(9)]
    for number in range(500):
        ids = repeated_tokens(subject, 1, length, rng.randrange(2**31) + number)
        tags = [""] * length  # one reading an eighth: intervals are over texts
        for eighth, (start, end) in enumerate(pairwise(ends), 1):
            if start < end:  # a context of fewer than 9 tokens has no reading in some eighths
                tags[rng.randrange(start, end)] = f"{eighth} of 8"
        yield {"ids": ids[0, :length].tolist(), "tags": tags}


@dataclass(frozen=True)
class Kind:
    """A set by name: its title, its source, and what gives its records.

    `positive` thins the readings of no entity to as many as the entities have.
    """

    title: str
    source: str
    records: Callable[[Subject, random.Random], Iterator[sets.Record]] | str
    positive: bool = False


LABELS = {
    # Singular or plural.
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
"""The tag of words outside any entity."""


def labelled(subject: Subject, name: str, *, n: int = 1500, seed: int = 0) -> Labelled:
    """Labelled readings of a known set, or of a file.

    Args:
        subject: The model.
        name: One of `LABELS`, or a .tsv, .csv, .jsonl, .conll or .conllu file with the columns
            tokens and tags, or text and label. In entity sets, words outside any entity are thinned
            to as many as lie inside.
        n: About how many readings.
        seed: Of the draw.

    Raises:
        WorkbenchError: There is no such set, the file cannot be read, there are fewer than two
            classes, or the tokenizer cannot read the texts.
    """
    kind = LABELS.get(name) or Kind(name, "a file", name)
    if name not in LABELS and "." not in name and "/" not in name:
        raise WorkbenchError(
            f"There is no labelled set {name!r}; choose one of {', '.join(LABELS)}, or name a file."
        )
    rng = random.Random(f"{name} {seed}")
    records = kind.records(subject, rng) if callable(kind.records) else _shuffled(kind.records, rng)
    dropped: Counter[str] = Counter()
    examples: list[Example] = []
    n_readings = 0
    level = "token"
    for record in records:
        if "tags" in record or "tokens" in record:
            example = _tagged(subject, record, dropped)
        else:
            example = _text(subject, record, kind.records)
            level = "text"
        if kind.positive:
            example = _thinned(example, rng)
        if example.at:
            examples.append(example)
            n_readings += len(example.at)
        if n_readings >= n:
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
        tagged = [pos for pos, tag in enumerate(tags) if tag]
        return Example(
            ids=tuple(record["ids"]),
            at=tuple(tagged),
            label=tuple(tags[pos] for pos in tagged),
            word=tuple(str(record["ids"][pos]) for pos in tagged),
        )
    words = [str(word) for word in record["tokens"]]
    if len(words) != len(tags):
        raise WorkbenchError(
            f"A row has {len(words)} tokens and {len(tags)} tags; mend it: {' '.join(words)[:60]!r}"
        )
    ids, ends = _ends(subject, words)
    limit = min(LONGEST, subject.n_ctx)
    readings = [
        (pos, str(tag).rpartition("-")[2], word.lower())
        for word, tag, pos in zip(words, tags, ends, strict=True)
        if tag and tag != "_" and pos < limit
    ]
    dropped["words beyond the longest text"] += sum(pos >= limit for pos in ends)
    return Example(
        ids=tuple(ids[:LONGEST]),
        at=tuple(pos for pos, _, _ in readings),
        label=tuple(tag for _, tag, _ in readings),
        word=tuple(word for _, _, word in readings),
    )


def _ends(subject: Subject, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """The token ids of words with a space between, and the position of each word's last token."""
    text = " ".join(words)
    spans = offsets(subject.tokenizer, text)
    ends = []
    token = 0
    stop = 0  # characters up to the end of the word
    for word in words:
        stop += len(word)
        while token + 1 < len(spans) and spans[token][1] < stop:
            token += 1
        ends.append(token)
        stop += 1
    return subject.ids(text), ends


def _text(subject: Subject, record: sets.Record, source: object) -> Example:
    text = as_text(record["text"])
    label = as_text(record["label"])
    if source == "sst2":
        label = {"0": "negative", "1": "positive"}.get(label, label)
    if not text or not label:
        return Example((), (), (), ())
    ids = subject.ids(text)[: min(LONGEST, subject.n_ctx)]
    if not ids:
        return Example((), (), (), ())
    return Example(tuple(ids), (len(ids) - 1,), (label,), (text,))


def _thinned(example: Example, rng: random.Random) -> Example:
    inside = [i for i, tag in enumerate(example.label) if tag != OUTSIDE]
    outside = [i for i, tag in enumerate(example.label) if tag == OUTSIDE]
    drawn = rng.sample(outside, min(len(inside), len(outside)))
    return _chosen(example, sorted([*inside, *drawn]))


def _chosen(example: Example, readings: Sequence[int]) -> Example:
    """The example with only these of its readings."""
    return Example(
        ids=example.ids,
        at=tuple(example.at[i] for i in readings),
        label=tuple(example.label[i] for i in readings),
        word=tuple(example.word[i] for i in readings),
    )


def _checked(subject: Subject, data: Labelled) -> Labelled:
    """Only the commonest classes; at least two of them, and enough readings."""
    counts = Counter(tag for example in data.examples for tag in example.label)
    classes = [tag for tag, count in counts.most_common(MOST_CLASSES) if count >= 5]
    dropped = Counter(data.dropped)
    dropped["of rare classes"] += sum(count for tag, count in counts.items() if tag not in classes)
    examples = [_only(example, classes) for example in data.examples]
    examples = [example for example in examples if example.at]
    if len({i for example in examples for i in example.ids}) < 3:
        raise WorkbenchError(
            f"The tokenizer of {subject.name} cannot read the texts of {data.name}; take position."
        )
    n = sum(len(example.at) for example in examples)
    if len(classes) < 2 or n < FEWEST or len(examples) < 8:
        raise WorkbenchError(
            f"{data.name} gives {n} readings in {len(examples)} texts of {len(classes)} classes "
            f"with five readings or more; a linear probe needs {FEWEST} readings in 8 texts of two "
            "classes."
        )
    return replace(
        data,
        classes=tuple(sorted(classes)),
        examples=tuple(examples),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _only(example: Example, classes: Sequence[str]) -> Example:
    return _chosen(example, [i for i, tag in enumerate(example.label) if tag in classes])


def control_labels(words: Sequence[str], label: Sequence[str], seed: int = 0) -> list[str]:
    """Labels of the control task: one random label for each word type.

    They are drawn from the true labels, as often as those occur; only a linear probe that memorises
    can predict them.

    Args:
        words: The word type of each reading.
        label: The true labels.
        seed: Of the draw.

    Reference:
        Hewitt & Liang 2019, arXiv:1909.03368.
    """
    pool = sorted(label)
    return [pool[zlib.crc32(f"{seed} {word}".encode()) % len(pool)] for word in words]
