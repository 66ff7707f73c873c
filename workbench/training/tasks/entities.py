"""Named entities by completion: the model lists the entities after the text, and the list is aligned to its words.

A completion reads `Anna Lind = person; Empire State Building = location`, in the order of the text, or `none`.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_counts, paired_difference
from workbench.training.decode import complete, line_breaks
from workbench.training.tasks.sources import Record
from workbench.training.tasks.task import Answer, Completion, Data, Item, Progress

WORDED = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "other"}
"""Words a language model knows better than the abbreviations of CoNLL-2003."""
NOTHING = "none"
LONGEST = 64
"""Tokens of an answer."""

Span = tuple[str, int, int]
"""Type, first word, last word."""


class Entities(Completion):
    """Records are {tokens, tags} (BIO or CoNLL's I- scheme) or the lines of a .conll file.

    Metric: micro entity F1 over types and exact spans, as seqeval counts them. An entity that a model lists but
    that does not stand in the text has no place among its tags, so it is counted beside them as `unaligned`.
    """

    kind = "entities"
    template = "Text: {text}\nEntities:"
    fields = ("text",)

    def item(self, record: Record) -> Item | None:
        """Words and the tags in BIO."""
        words = record.get("tokens", record.get("words"))
        tags = record.get("tags", record.get("ner_tags"))
        if words is None or tags is None:
            raise KeyError("tokens" if words is None else "tags")
        if len(words) != len(tags):
            raise WorkbenchError(f"{self.source} has {len(words)} words and {len(tags)} tags in one example; mend it.")
        if not all(isinstance(tag, str) for tag in tags):
            raise WorkbenchError(f"{self.source} numbers its tags; give their names, such as B-person and O.")
        words = [str(word) for word in words]
        return {"text": " ".join(words), "words": words, "tags": bio(spans(list(tags)), len(words))} if words else None

    def group(self, item: Item) -> Hashable:
        """The text."""
        return item["text"]

    def completion(self, item: Item) -> str:
        """The list of entities, or `none`."""
        return listed(item["words"], spans(item["tags"]))

    def check(self, data: Data) -> None:
        """Every entity type of the held-out examples must occur in the training examples."""
        known, asked = ({s[0] for i in items for s in spans(i["tags"])} for items in (data.train, data.held_out))
        if not known:
            raise WorkbenchError(f"The training examples of {self.source} name no entity; give data with tags.")
        if unknown := sorted(asked - known):
            raise WorkbenchError(
                f"The entity type {unknown[0]!r} of the held-out examples of {self.source} is not among those of the "
                f"training examples ({', '.join(sorted(known))}); add examples of it, or leave it out."
            )

    def answer(self, model, tokenizer, items: Sequence[Item], progress: Progress) -> list[Answer]:
        """The tags that the model's lists give; `score` is the item's own F1 (1 where both list nothing)."""
        prompts = [self.row(tokenizer, item).prompt for item in items]
        stops = line_breaks(tokenizer)
        written = complete(model, tokenizer, prompts, most=LONGEST, stops=stops, progress=progress)
        found = []
        for item, ids in zip(items, written, strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True).strip()
            tags, unaligned = aligned(item["words"], text)
            counts = span_counts(spans(item["tags"]), spans(tags))
            found.append(
                {
                    "input": self.prompt(item),
                    "target": self.completion(item),
                    "prediction": text,
                    "score": float(entity_f1(np.array(counts))) if sum(counts) else 1.0,
                    "tags": " ".join(tags),
                    "hits": counts[0],
                    "wrong": counts[1],
                    "missed": counts[2],
                    "unaligned": unaligned,
                }
            )
        return found

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Micro entity F1, and the share of texts whose entities are all right."""
        counts = [frame[["hits", "wrong", "missed"]].to_numpy(float) for frame in (base, tuned)]
        whole = [((frame["wrong"] + frame["missed"]) == 0).astype(float) for frame in (base, tuned)]
        return {"entity_f1": paired_counts(*counts, entity_f1), "all_right": paired_difference(*whole)}


def spans(tags: list[str]) -> list[Span]:
    """The entities of a BIO (or I- scheme) tag sequence, as seqeval reads them, types as words."""
    from seqeval.metrics.sequence_labeling import get_entities

    return [(WORDED.get(kind, kind), first, last) for kind, first, last in get_entities(tags)]


def bio(found: Sequence[Span], n_words: int) -> list[str]:
    """Entities as BIO tags."""
    tags = ["O"] * n_words
    for kind, first, last in found:
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return tags


def listed(words: Sequence[str], found: Sequence[Span]) -> str:
    """Entities as the completion lists them."""
    return "; ".join(f"{' '.join(words[a : b + 1])} = {kind}" for kind, a, b in found) or NOTHING


def aligned(words: Sequence[str], text: str) -> tuple[list[str], int]:
    """The BIO tags of a listed answer, and how many of its entities stand nowhere in the words.

    Each entity takes its first place behind the one before it, else its first free place.
    """
    found: list[Span] = []
    taken = [False] * len(words)
    cursor = unaligned = 0
    for part in text.split("; "):
        mention, equals, kind = part.rpartition(" = ")
        if not equals or not mention.strip() or not kind.strip():
            unaligned += part.strip() not in ("", NOTHING)
            continue
        wanted = mention.split()
        places = [i for i in range(len(words) - len(wanted) + 1) if list(words[i : i + len(wanted)]) == wanted]
        free = [i for i in places if not any(taken[i : i + len(wanted)])]
        if not free:
            unaligned += 1
            continue
        at = next((i for i in free if i >= cursor), free[0])
        cursor = at + len(wanted)
        taken[at:cursor] = [True] * len(wanted)
        found.append((kind.strip().lower(), at, cursor - 1))
    return bio(sorted(found, key=lambda span: span[1]), len(words)), unaligned


def span_counts(right: Sequence[Span], said: Sequence[Span]) -> tuple[int, int, int]:
    """Entities found, wrongly named, and missed."""
    both = len(set(right) & set(said))
    return both, len(set(said)) - both, len(set(right)) - both


def entity_f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 from summed counts `[..., (hits, wrong, missed)]`; 0 where nothing was named or to be named."""
    hits, wrong, missed = np.moveaxis(sums, -1, 0)
    below = 2 * hits + wrong + missed
    return 2 * hits / np.where(below > 0, below, 1)
