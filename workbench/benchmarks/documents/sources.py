"""Where task documents come from: generated here, `WORKBENCH_DATA`, or a Hugging Face data set.

A multiple-choice document is {query, choices, gold}; where the choices differ and the text after
them is scored, as in Winogrande, {choices, continuation, gold}. Optional fields: `group` is the
category it is reported under, `stratum` what `limit` is balanced over, and `cluster` what it
shares with other documents, such as a passage (standard errors are clustered by it).
"""

import re
from collections.abc import Callable
from typing import Any

from workbench.benchmarks.documents import generated
from workbench.benchmarks.documents.bias import BIAS
from workbench.benchmarks.documents.questions import QUESTIONS
from workbench.benchmarks.documents.records import (
    Doc,
    MissingDataError,
    Source,
    among,
    rank,
    read,
)

__all__ = ["MADE", "SOURCES", "MissingDataError", "Source", "load"]

BLIMP_PER_PARADIGM = 15
INTENT_CHOICES = 10


def load(source: str, **_: Any) -> dict[str, Any]:
    """A task's data for lm-eval: {"test": Dataset}, and "train" if few-shot examples are separate.

    Args:
        source: A key of `MADE` or `SOURCES`.

    Raises:
        MissingDataError: names the folder or data set that is needed.
    """
    from datasets import Dataset

    if source in MADE:
        return {"test": Dataset.from_list(MADE[source]())}
    splits = {"test": Dataset.from_list(read(SOURCES[source]))}
    shots = SOURCES[source].shots
    if shots:
        splits["train"] = Dataset.from_list(read(shots))
    return splits


def _intents(docs: list[Doc]) -> list[Doc]:
    """Each request with its right intent and nine others, drawn by the hash of the request."""
    names = sorted({doc["intent"] for doc in docs})
    result = []
    for doc in docs:
        others = sorted(
            (n for n in names if n != doc["intent"]), key=lambda n: rank(doc["text"], n)
        )
        query = f"Request: {doc['text']}\nIntent:"
        result.append(among(query, doc["intent"], others[: INTENT_CHOICES - 1]))
    return result


def _intent(text: str, intent: str) -> Doc | None:
    if intent == "oos":  # out of scope: the request has none of the intents
        return None
    return {"text": text.strip(), "intent": intent.lower().replace("_", " ")}


def _blimp(docs: list[Doc]) -> list[Doc]:
    """The first few sentence pairs of every paradigm, in a fixed pseudo-random order."""
    by_paradigm: dict[str, list[Doc]] = {}
    for doc in sorted(docs, key=lambda d: rank(d["UID"], d["sentence_good"])):
        by_paradigm.setdefault(doc["UID"], []).append(doc)
    return [
        among("", doc["sentence_good"], [doc["sentence_bad"]])
        | {"group": doc["linguistics_term"], "stratum": doc["UID"]}
        for _, pairs in sorted(by_paradigm.items())
        for doc in pairs[:BLIMP_PER_PARADIGM]
    ]


def _hellaswag(row: Doc) -> Doc:
    def clean(text: str) -> str:
        return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")

    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return {
        "query": clean(context),
        "choices": [clean(ending) for ending in row["endings"]],
        "gold": int(row["label"]),
        "cluster": row.get("source_id"),
    }


def _lettered(prefix: str, question: str) -> Callable[[Doc], Doc]:
    def row(record: Doc) -> Doc:
        choices = record["choices"]
        gold = choices["label"].index(record["answerKey"])
        return {"query": prefix + record[question], "choices": choices["text"], "gold": gold}

    return row


def _copa(row: Doc) -> Doc:
    link = "because" if row["question"] == "cause" else "therefore"
    choices = [row[key][0].lower() + row[key][1:] for key in ("choice1", "choice2")]
    return {
        "query": f"{row['premise'].rstrip('.')}, {link}",
        "choices": choices,
        "gold": row["label"],
    }


def _winogrande(row: Doc) -> Doc:
    before, after = row["sentence"].split("_", 1)
    options = [before + row["option1"], before + row["option2"]]
    return {"choices": options, "continuation": after.strip(), "gold": int(row["answer"]) - 1}


def _pages(docs: list[Doc]) -> list[Doc]:
    """WikiText's articles; Hugging Face's rows are articles already, the file is one text.

    A heading ` = Title = ` starts an article, ` = = Section = = ` does not.
    """
    if docs and "page" in docs[0]:
        return [{"page": doc["page"]} for doc in docs]
    starts = re.split(r"(?m)^(?= = [^=\n][^\n]* = *$)", docs[0]["text"])
    return [{"page": page} for page in starts if page.strip()]


MADE: dict[str, Callable[[], list[Doc]]] = {
    f.__name__: f
    for f in (
        generated.repeat,
        generated.agreement,
        generated.ioi,
        generated.intents,
        generated.passage,
        generated.reverse,
    )
}

_ARC = _lettered("Question: ", "question")
SOURCES: dict[str, Source] = {
    "arc_easy": Source(
        "gauntlet/arc_easy.jsonl", hub=("allenai/ai2_arc", "ARC-Easy", "test"), hub_row=_ARC
    ),
    "arc_challenge": Source(
        "gauntlet/arc_challenge.jsonl",
        hub=("allenai/ai2_arc", "ARC-Challenge", "test"),
        hub_row=_ARC,
    ),
    "piqa": Source(
        "gauntlet/piqa.jsonl",
        hub=("baber/piqa", None, "validation"),
        hub_row=lambda r: {
            "query": f"Question: {r['goal']}",
            "choices": [r["sol1"], r["sol2"]],
            "gold": r["label"],
        },
    ),
    "hellaswag": Source(
        "hellaswag_1k/hellaswag_val_1k.jsonl", _hellaswag, ("Rowan/hellaswag", None, "validation")
    ),
    "boolq": Source(
        "gauntlet/boolq.jsonl",
        lambda r: {**r, "cluster": rank(r["query"].split("\nQuestion:")[0])[:16]},
        ("google/boolq", None, "validation"),
        lambda r: {
            "query": f"Passage: {r['passage']}\nQuestion: {r['question']}?",
            "choices": ["no", "yes"],
            "gold": int(r["answer"]),
            "cluster": rank(r["passage"])[:16],
        },
    ),
    "winogrande": Source(
        "gauntlet/winogrande.jsonl",
        lambda r: {
            "choices": r["context_options"],
            "continuation": r["continuation"],
            "gold": r["gold"],
        },
        ("allenai/winogrande", "winogrande_xl", "validation"),
        _winogrande,
    ),
    "copa": Source(
        "gauntlet/copa.jsonl", hub=("aps/super_glue", "copa", "validation"), hub_row=_copa
    ),
    "openbook_qa": Source(
        "gauntlet/openbook_qa.jsonl",
        hub=("allenai/openbookqa", "main", "test"),
        hub_row=_lettered("", "question_stem"),
    ),
    "blimp": Source("blimp/blimp.jsonl", hub=("nyu-mll/blimp", "*", "train"), whole=_blimp),
    "lambada": Source(
        "lambada/lambada_test.jsonl", hub=("EleutherAI/lambada_openai", "default", "test")
    ),
    "wikitext2": Source(
        "wikitext2/test.txt",
        hub=("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", "test"),
        whole=_pages,
    ),
    "clinc150": Source(
        "clinc150/clinc150.jsonl",
        lambda r: _intent(r["text"], r["intent"]) if r["split"] == "test" else None,
        ("clinc/clinc_oos", "plus", "test"),
        lambda r: _intent(r["text"], r["intent_name"]),
        _intents,
    ),
    "banking77": Source(
        "banking77/test.csv",
        lambda r: _intent(r["text"], r["category"]),
        ("mteb/banking77", None, "test"),
        lambda r: _intent(r["text"], r["label_text"]),
        _intents,
    ),
    "sst2": Source(
        "sst2/dev.tsv",
        lambda r: _sentiment(r["1"], r["2"]),
        ("stanfordnlp/sst2", None, "validation"),
        lambda r: _sentiment(r["sentence"], r["label"]),
    ),
    "subject_verb": Source(
        "subject_verb_agreement/simple_test.jsonl",
        lambda r: among(r["clean_prefix"], r["clean_answer"].strip(), [r["patch_answer"].strip()]),
    ),
    **BIAS,
    **QUESTIONS,
}


def _sentiment(text: str, label: int | str) -> Doc:
    return {
        "query": f"Review: {text.strip()}\nSentiment:",
        "choices": ["negative", "positive"],
        "gold": int(label),
    }
