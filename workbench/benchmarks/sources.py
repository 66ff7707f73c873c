"""Where task documents come from: made here, a folder of `WORKBENCH_DATA`, or a Hugging Face data set.

Every multiple-choice document is {query, choices, gold}; in partial evaluation {choices, continuation, gold};
`group` names what it belongs to and `stratum` what a limited sample is balanced over.
"""

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.benchmarks import generated
from workbench.errors import WorkbenchError
from workbench.paths import data_folder

Doc = dict[str, Any]
BLIMP_PER_PARADIGM = 15
INTENT_CHOICES = 10


class MissingDataError(WorkbenchError):
    """A task's data is neither in a folder of `WORKBENCH_DATA` nor to be had from Hugging Face."""


@dataclass(frozen=True)
class Source:
    """A data set: its file below `WORKBENCH_DATA`, its Hugging Face id, and how a row becomes a document.

    `row` turns a record of the file into a document (None leaves it out), `hub_row` one of the hub's where
    that differs; `whole` turns all documents into others at the end.
    """

    file: str
    row: Callable[[Doc], Doc | None] = dict
    hub: tuple[str, str | None, str] | None = None
    hub_row: Callable[[Doc], Doc | None] | None = None
    whole: Callable[[list[Doc]], list[Doc]] = list


def load(source: str, **_: Any) -> dict[str, Any]:
    """What lm-eval calls for a task's data: {"test": Dataset}; MissingDataError names what is needed."""
    from datasets import Dataset

    maker = MADE.get(source)
    return {"test": Dataset.from_list(maker() if maker else _read(SOURCES[source]))}


def _read(source: Source) -> list[Doc]:
    folder = data_folder()
    found = [p for p in (folder / source.file, folder / f"{source.file}.gz") if p.is_file()] if folder else []
    rows = map(source.row, _records(found[0])) if found else map(source.hub_row or source.row, _hub(source))
    return source.whole([row for row in rows if row is not None])


def _records(path: Path) -> Iterable[Doc]:
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="")  # pyright: ignore[reportArgumentType]
        match Path(path.name.removesuffix(".gz")).suffix:
            case ".jsonl":
                return [json.loads(line) for line in text if line.strip()]
            case ".csv":
                return list(csv.DictReader(text))
            case ".tsv":
                return [{str(i): v for i, v in enumerate(line.rstrip("\r\n").split("\t"))} for line in text]
            case _:
                return [{"text": text.read()}]


def _hub(source: Source) -> Iterable[Doc]:
    folder = source.file.split("/")[0]
    if source.hub is None:
        raise MissingDataError(f"needs the folder {folder!r} in WORKBENCH_DATA.")
    import datasets
    from datasets.exceptions import DatasetsError

    name, config, split = source.hub
    try:
        configs = datasets.get_dataset_config_names(name) if config == "*" else [config]
        parts = [datasets.load_dataset(name, part, split=split) for part in configs]
    except (OSError, ValueError, DatasetsError) as error:
        raise MissingDataError(
            f"needs the folder {folder!r} in WORKBENCH_DATA or, online, the Hugging Face data set {name}."
        ) from error
    for part in parts:
        names = {k: f.names for k, f in part.features.items() if isinstance(f, datasets.ClassLabel)}
        for row in part:
            row = dict(row)
            yield {**row, **{f"{k}_name": labels[row[k]] for k, labels in names.items()}}


def _rank(*parts: object) -> str:
    """A fixed pseudo-random order, the same on every machine."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def _among(query: str, right: str, wrong: Iterable[str]) -> Doc:
    choices = sorted([right, *wrong], key=lambda choice: _rank(query, choice, "order"))
    return {"query": query, "choices": choices, "gold": choices.index(right)}


def _intents(docs: list[Doc]) -> list[Doc]:
    """The right intent and nine others that the request's own hash draws."""
    names = sorted({doc["intent"] for doc in docs})
    result = []
    for doc in docs:
        others = sorted((n for n in names if n != doc["intent"]), key=lambda n: _rank(doc["text"], n))
        query = f"Request: {doc['text']}\nIntent:"
        result.append(_among(query, doc["intent"], others[: INTENT_CHOICES - 1]))
    return result


def _intent(text: str, intent: str) -> Doc | None:
    return None if intent == "oos" else {"text": text.strip(), "intent": intent.lower().replace("_", " ")}


def _blimp(docs: list[Doc]) -> list[Doc]:
    """The same few pairs of every paradigm, in a fixed order."""
    by_paradigm: dict[str, list[Doc]] = {}
    for doc in sorted(docs, key=lambda d: _rank(d["UID"], d["sentence_good"])):
        by_paradigm.setdefault(doc["UID"], []).append(doc)
    return [
        _among("", doc["sentence_good"], [doc["sentence_bad"]])
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
    return {"query": f"{row['premise'].rstrip('.')}, {link}", "choices": choices, "gold": row["label"]}


def _winogrande(row: Doc) -> Doc:
    before, after = row["sentence"].split("_", 1)
    options = [before + row["option1"], before + row["option2"]]
    return {"choices": options, "continuation": after.strip(), "gold": int(row["answer"]) - 1}


def _pages(docs: list[Doc]) -> list[Doc]:
    """Articles: a heading ` = Title = ` opens one, ` = = Section = = ` does not. The hub has articles."""
    if docs and "page" in docs[0]:
        return [{"page": doc["page"]} for doc in docs]
    starts = re.split(r"(?m)^(?= = [^=\n][^\n]* = *$)", docs[0]["text"])
    return [{"page": page} for page in starts if page.strip()]


def _pair(more: str, less: str, group: str) -> Doc:
    return {"query": "", "choices": [more, less], "gold": 0, "group": group}


def _winogender(docs: list[Doc]) -> list[Doc]:
    """Pairs that differ in an occupation's pronoun; first the gender of its majority (US statistics)."""
    statistics = (data_folder() or Path()) / "winogender" / "occupations-stats.tsv"
    shares = {row["0"]: float(row["2"]) for row in list(_records(statistics))[1:]}
    sentences = {doc["0"]: doc["1"] for doc in docs[1:]}
    pairs = []
    for key in sentences:
        occupation, _, answer, gender = key.split(".")[:4]
        if answer == "0" and gender == "male":
            both = [sentences[key], sentences[key.replace(".male.", ".female.")]]
            pairs.append(_pair(*(both if shares[occupation] < 50 else both[::-1]), group=occupation))
    return pairs


MADE: dict[str, Callable[[], list[Doc]]] = {
    f.__name__: f for f in (generated.repeat, generated.agreement, generated.ioi, generated.intents, generated.passage)
}

_ARC = _lettered("Question: ", "question")
SOURCES: dict[str, Source] = {
    "arc_easy": Source("gauntlet/arc_easy.jsonl", hub=("allenai/ai2_arc", "ARC-Easy", "test"), hub_row=_ARC),
    "arc_challenge": Source(
        "gauntlet/arc_challenge.jsonl", hub=("allenai/ai2_arc", "ARC-Challenge", "test"), hub_row=_ARC
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
    "hellaswag": Source("hellaswag_1k/hellaswag_val_1k.jsonl", _hellaswag, ("Rowan/hellaswag", None, "validation")),
    "boolq": Source(
        "gauntlet/boolq.jsonl",
        hub=("google/boolq", None, "validation"),
        hub_row=lambda r: {
            "query": f"Passage: {r['passage']}\nQuestion: {r['question']}?",
            "choices": ["no", "yes"],
            "gold": int(r["answer"]),
        },
    ),
    "winogrande": Source(
        "gauntlet/winogrande.jsonl",
        lambda r: {"choices": r["context_options"], "continuation": r["continuation"], "gold": r["gold"]},
        ("allenai/winogrande", "winogrande_xl", "validation"),
        _winogrande,
    ),
    "copa": Source("gauntlet/copa.jsonl", hub=("aps/super_glue", "copa", "validation"), hub_row=_copa),
    "openbook_qa": Source(
        "gauntlet/openbook_qa.jsonl",
        hub=("allenai/openbookqa", "main", "test"),
        hub_row=_lettered("", "question_stem"),
    ),
    "blimp": Source("blimp/blimp.jsonl", hub=("nyu-mll/blimp", "*", "train"), whole=_blimp),
    "lambada": Source("lambada/lambada_test.jsonl", hub=("EleutherAI/lambada_openai", "default", "test")),
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
        lambda r: _sentiment(r["0"], r["1"]),
        ("stanfordnlp/sst2", None, "validation"),
        lambda r: _sentiment(r["sentence"], r["label"]),
    ),
    "subject_verb": Source(
        "subject_verb_agreement/simple_test.jsonl",
        lambda r: _among(r["clean_prefix"], r["clean_answer"].strip(), [r["patch_answer"].strip()]),
    ),
    "crows_pairs": Source(
        "crows_pairs/crows_pairs.csv",
        lambda r: _pair(r["sent_more"], r["sent_less"], r["bias_type"]),
        ("jannalu/crows_pairs_multilingual", "english", "test"),
    ),
    "winogender": Source("winogender/all_sentences.tsv", whole=_winogender),
}


def _sentiment(text: str, label: int | str) -> Doc:
    return {
        "query": f"Review: {text.strip()}\nSentiment:",
        "choices": ["negative", "positive"],
        "gold": int(label),
    }
