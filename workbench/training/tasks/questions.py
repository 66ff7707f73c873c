"""Extractive question answering as in SQuAD: the answer, a span of the context, is the completion.

Exact match and token F1 follow the evaluation script of SQuAD 1.1 (Rajpurkar et al. 2016), which
the `squad` metric of Hugging Face's `evaluate` runs too.
"""

import re
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.data.columns import as_text
from workbench.data.leftout import LeftOutError
from workbench.data.sets import Record
from workbench.statistics import Difference, paired_difference
from workbench.subjects.chat import PASSAGE
from workbench.training.decode import complete, line_breaks
from workbench.training.tasks.task import Answer, Completion, Item, Progress

LONGEST = 32
"""Maximum of tokens of an answer."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Questions(Completion):
    """Question answering; records are {context, question, answers}.

    `answers` is SQuAD's {text, answer_start}, a list, or one text. Questions without an answer
    (SQuAD 2) are left out. The first answer is learned; scoring takes the best-matching one.
    """

    kind = "questions"
    template = PASSAGE
    fields = ("context", "question")
    parts = ("context", "question", "answers")

    def item(self, record: Record) -> Item:
        """{context, question, answers}, with every accepted answer once."""
        context = as_text(record["context"])
        question = as_text(record["question"])
        answers = list(dict.fromkeys(answer_texts(record["answers"])))
        if not context or not question:
            raise LeftOutError("no context" if not context else "no question")
        if not answers:
            raise LeftOutError("no answer")
        return {"context": context, "question": question, "answers": answers}

    def group(self, item: Item) -> Hashable:
        """The context: all its questions go into one split."""
        return item["context"]

    def completion(self, item: Item) -> str:
        """The first answer."""
        return item["answers"][0]

    def answer(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        progress: Progress,
    ) -> list[Answer]:
        """What the model writes up to the end of the line; `score` is its token F1.

        Args:
            model: In eval mode.
            tokenizer: Of the model.
            items: From `item`.
            progress: Called with the share done.
        """
        prompts = [self.row(tokenizer, item).prompt for item in items]
        stops = line_breaks(tokenizer)
        written = complete(model, tokenizer, prompts, most=LONGEST, stops=stops, progress=progress)
        texts = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in written]
        return [
            {
                "input": self.prompt(item),
                "target": " / ".join(item["answers"]),
                "prediction": text,
                "score": max(token_f1(text, answer) for answer in item["answers"]),
                "exact": float(normalised(text) in map(normalised, item["answers"])),
            }
            for item, text in zip(items, texts, strict=True)
        ]

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Exact match (paired as in McNemar's test) and token F1."""
        return {
            "exact_match": paired_difference(base["exact"], tuned["exact"]),
            "token_f1": paired_difference(base["score"], tuned["score"]),
        }


def answer_texts(value: Any) -> list[str]:
    """The answers of a record: one text, SQuAD's {text: [...]}, or a list of either."""
    if isinstance(value, dict):
        return answer_texts(value.get("text"))
    if isinstance(value, list | tuple):
        return [text for part in value for text in answer_texts(part)]
    text = as_text(value)
    return [text] if text else []


def normalised(text: str) -> str:
    """The text in lower case, without punctuation, English articles and extra spaces."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(answer: str, right: str) -> float:
    """F1 over the words of an answer and the right one, repetitions counted."""
    a = normalised(answer).split()
    b = normalised(right).split()
    if not a or not b:
        return float(a == b)
    both = sum((Counter(a) & Counter(b)).values())
    return 2 * both / (len(a) + len(b))
