"""Extractive question answering in SQuAD's form: the answer, a span of the context, follows the
question.

Exact match and token F1 follow the evaluation script of SQuAD 1.1 (Rajpurkar et al. 2016), which
the `squad` metric of Hugging Face's `evaluate` runs too.
"""

import re
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from workbench.data.columns import as_text
from workbench.data.leftout import LeftOutError
from workbench.data.sets import Record
from workbench.statistics import Difference, paired_difference
from workbench.subjects.chat import PASSAGE
from workbench.training.decode import complete, line_breaks
from workbench.training.tasks.task import Answer, Completion, Item, Progress

LONGEST = 32
"""Tokens of an answer."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Questions(Completion):
    """Records are {context, question, answers}; `answers` is SQuAD's {text, answer_start}, a list,
    or `answer` a text.

    Questions without an answer (SQuAD 2) are left out. The first answer is learned; the best
    counts.
    """

    kind = "questions"
    template = PASSAGE
    fields = ("context", "question")
    parts = ("context", "question", "answers")

    def item(self, record: Record) -> Item:
        """Context, question and the accepted answers, each once."""
        context = as_text(record["context"])
        question = as_text(record["question"])
        answers = list(dict.fromkeys(answer_texts(record["answers"])))
        if not context or not question:
            raise LeftOutError("no context" if not context else "no question")
        if not answers:
            raise LeftOutError("no answer")
        return {"context": context, "question": question, "answers": answers}

    def group(self, item: Item) -> Hashable:
        """The context: all its questions lie in one split."""
        return item["context"]

    def completion(self, item: Item) -> str:
        """The first answer."""
        return item["answers"][0]

    def answer(self, model, tokenizer, items: Sequence[Item], progress: Progress) -> list[Answer]:
        """What the model writes up to the end of the line; `score` is its token F1."""
        prompts = [self.row(tokenizer, item).prompt for item in items]
        stops = line_breaks(tokenizer)
        written = complete(model, tokenizer, prompts, most=LONGEST, stops=stops, progress=progress)
        texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]
        return [
            {
                "input": self.prompt(item),
                "target": " / ".join(item["answers"]),
                "prediction": text,
                "score": max(token_f1(text, answer) for answer in item["answers"]),
                "exact": float(
                    any(normalised(text) == normalised(answer) for answer in item["answers"])
                ),
            }
            for item, text in zip(items, texts, strict=True)
        ]

    def differences(self, base: Any, tuned: Any) -> dict[str, Difference]:
        """Exact match (McNemar) and token F1."""
        return {
            "exact_match": paired_difference(base["exact"], tuned["exact"]),
            "token_f1": paired_difference(base["score"], tuned["score"]),
        }


def answer_texts(value: Any) -> list[str]:
    """The answers of a record: a text, SQuAD's {text: [...]}, or a list of texts or of {text}
    records.
    """
    if isinstance(value, dict):
        return answer_texts(value.get("text"))
    if isinstance(value, list | tuple):
        return [text for part in value for text in answer_texts(part)]
    text = as_text(value)
    return [text] if text else []


def normalised(text: str) -> str:
    """Lower case, without punctuation, English articles and extra spaces."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(said: str, right: str) -> float:
    """Harmonic mean of precision and recall over the words of both, repetitions counted."""
    a = normalised(said).split()
    b = normalised(right).split()
    if not a or not b:
        return float(a == b)
    both = sum((Counter(a) & Counter(b)).values())
    return 2 * both / (len(a) + len(b))
