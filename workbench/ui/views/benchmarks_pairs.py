"""From a benchmark sample to a prompt pair for Patching: similar words, but a different answer."""

import json
import re
from difflib import SequenceMatcher
from typing import Any

import pandas as pd


def pair(row: Any, table: Any, models: list[str]) -> dict[str, str] | None:
    """`clean`, `corrupted`, `answer` and `wrong` for a sample; None where there is no such pair.

    If both answers occur in the prompt, they are swapped (indirect objects, repeated words).
    Otherwise the corrupted prompt is the most similar other sample with the same number of words
    whose right answer is this sample's wrong one (subject and verb).

    Args:
        row: A multiple-choice sample of `samples.side_by_side`.
        table: All samples of its task.
        models: The models whose choices are in `row`.
    """
    choices = json.loads(row["choices"])
    prompt = str(row["input"])
    if not prompt or pd.isna(row["target"]) or len(choices) < 2:
        return None
    right = choices[int(row["target"])]
    wrong = choices[_rival(row, models, len(choices))]
    swapped = _swapped(prompt, right.strip(), wrong.strip())
    corrupted = swapped or _neighbour(row, table, wrong.strip())
    if not corrupted:
        return None
    return {"clean": prompt, "corrupted": corrupted, "answer": right, "wrong": wrong}


def _rival(row: Any, models: list[str], count: int) -> int:
    """A wrong choice that some model made; otherwise the one the first model finds most likely."""
    target = int(row["target"])
    taken = [
        int(row[f"prediction {name}"]) for name in models if pd.notna(row[f"prediction {name}"])
    ]
    values = json.loads(row[f"loglikelihoods {models[0]}"]) or [0.0] * count
    liked = sorted(range(count), key=lambda i: -(values[i] if values[i] is not None else -1e9))
    return next(i for i in (*taken, *liked) if i != target)


def _swapped(prompt: str, right: str, wrong: str) -> str | None:
    def word(text: str) -> str:
        return rf"(?<!\w){re.escape(text)}(?!\w)"

    if not (right and wrong and re.search(word(right), prompt) and re.search(word(wrong), prompt)):
        return None
    both = re.compile(f"{word(right)}|{word(wrong)}")
    return both.sub(lambda match: wrong if match[0] == right else right, prompt)


def _neighbour(row: Any, table: Any, wrong: str) -> str | None:
    prompt = str(row["input"])
    words = len(prompt.split())
    same = table[(table["target_text"].str.strip() == wrong) & (table["doc_id"] != row["doc_id"])]
    others = [text for text in same["input"] if len(text.split()) == words and text != prompt]
    return max(
        others,
        key=lambda text: SequenceMatcher(None, prompt.split(), text.split()).ratio(),
        default=None,
    )
