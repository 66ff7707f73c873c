"""Named entities by completion: the model lists them after the text; the list is then aligned.

A completion reads `Anna Lind = person; Empire State Building = location`, in the order of the text,
or `none`.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.conll import normalised
from workbench.data.entities import bio, entity_f1, judged, listed, spans
from workbench.data.leftout import LeftOutError
from workbench.data.notes import Notes
from workbench.data.sets import Record
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, paired_counts, paired_difference
from workbench.training.decode import complete, line_breaks
from workbench.training.tasks.task import Answer, Completion, Data, Item, Progress

LONGEST = 64
"""Maximum of tokens of an answer."""


class Entities(Completion):
    """Entity recognition; records are {tokens, tags} (BIO or CoNLL's I- scheme) or .conll lines.

    Metric: micro entity F1 over types and exact spans, as seqeval counts them. A listed entity that
    is not in the text is a false positive like any other; `unaligned` counts these among `wrong`.
    """

    kind = "entities"
    template = "Text: {text}\nEntities:"
    fields = ("text",)
    parts = ("tokens", "tags")

    def item(self, record: Record) -> Item:
        """{text, words, tags}, with tags in BIO."""
        words = record["tokens"]
        tags = record["tags"]
        if not isinstance(words, list) or not isinstance(tags, list):
            raise LeftOutError("no list of words and tags")
        if len(words) != len(tags):
            raise WorkbenchError(
                f"{self.source} has {len(words)} words and {len(tags)} tags in one example; mend "
                "it."
            )
        if not all(isinstance(tag, str) for tag in tags):
            raise WorkbenchError(
                f"{self.source} numbers its tags; give their names, such as B-person and O."
            )
        if not words:
            raise LeftOutError("no words")
        words = [str(word) for word in words]
        tags = normalised(tags, Path(self.source), Notes())
        return {"text": " ".join(words), "words": words, "tags": bio(spans(tags), len(words))}

    def group(self, item: Item) -> Hashable:
        """The text: equal texts go into one split."""
        return item["text"]

    def completion(self, item: Item) -> str:
        """The list of entities, or `none`."""
        return listed(item["words"], spans(item["tags"]))

    def check(self, data: Data) -> None:
        """Raise unless every entity type of the held-out examples occurs in training."""
        known = _types(data.train)
        if not known:
            raise WorkbenchError(
                f"The training examples of {self.source} name no entity; give data with tags."
            )
        if unknown := sorted(_types(data.held_out) - known):
            raise WorkbenchError(
                f"The entity type {unknown[0]!r} of the held-out examples of {self.source} is not "
                f"among those of the training examples ({', '.join(sorted(known))}); add examples "
                "of it, or leave it out."
            )

    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """The tags that the model's lists give; `score` is the item's F1 (1 if both are empty).

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """
        prompts = [self.row(tokenizer, item).prompt for item in items]
        stops = line_breaks(tokenizer)
        written = complete(model, tokenizer, prompts, most=LONGEST, stops=stops, progress=progress)
        answers = []
        for item, ids in zip(items, written, strict=True):
            text = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
            seen = judged(item["words"], item["tags"], text)
            counts = seen.counts
            answers.append(
                {
                    "input": self.prompt(item),
                    "target": self.completion(item),
                    "prediction": text,
                    "score": float(entity_f1(np.array(counts))) if sum(counts) else 1.0,
                    "tags": " ".join(seen.tags),
                    "hits": seen.hits,
                    "wrong": seen.wrong,
                    "missed": seen.missed,
                    "unaligned": seen.unaligned,
                }
            )
        return answers

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Micro entity F1, and the share of texts with all entities right."""
        columns = ["hits", "wrong", "missed"]
        before = base[columns].to_numpy(float)
        after = tuned[columns].to_numpy(float)
        whole = [((frame["wrong"] + frame["missed"]) == 0).astype(float) for frame in (base, tuned)]
        return {
            "entity_f1": paired_counts(before, after, entity_f1),
            "all_right": paired_difference(*whole),
        }


def _types(items: Sequence[Item]) -> set[str]:
    """The entity types that occur in the items."""
    return {span[0] for item in items for span in spans(item["tags"])}
