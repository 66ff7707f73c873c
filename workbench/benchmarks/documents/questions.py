"""Question data sets: knowledge, truthfulness, facts, maths, reasoning, reading, entities."""

from workbench.benchmarks.documents.records import Doc, Source, rank
from workbench.data.entities import bio, listed, spans

SHOTS = 3
"""Few-shot examples before a BIG-Bench Hard question, all from its own task, as is usual."""


def _mmlu(row: Doc) -> Doc:
    subject = row["subject"].replace("_", " ")
    lettered = "\n".join(
        f"{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True)
    )
    question = row["question"].strip()
    heading = f"The following are multiple choice questions (with answers) about {subject}."
    return {
        "query": f"Question: {question}\nAnswer:",
        "lettered": f"{heading}\n\n{question}\n{lettered}\nAnswer:",
        "choices": [str(choice) for choice in row["choices"]],
        "gold": int(row["answer"]),
        "group": row["subject"],
        "stratum": row["subject"],
    }


def _truthful(row: Doc) -> Doc | None:
    wrong = [answer.strip() for answer in row["Incorrect Answers"].split(";") if answer.strip()]
    choices = [row["Best Answer"].strip(), *wrong]
    if len(choices) < 2:
        return None
    order = sorted(range(len(choices)), key=lambda i: rank(row["Question"], choices[i]))
    return {
        "query": f"Q: {row['Question'].strip()}\nA:",
        "choices": [choices[i] for i in order],
        "gold": order.index(0),
        "group": row["Category"],
    }


def _truthful_hub(row: Doc) -> Doc:
    targets = row["mc1_targets"]
    return {
        "query": f"Q: {row['question']}\nA:",
        "choices": targets["choices"],
        "gold": targets["labels"].index(1),
        "group": None,
    }


def _fact(row: Doc) -> Doc:
    return {
        "query": row["prompt"].strip(),
        "answer": row["attribute"].strip(),
        "group": row.get("relation_id"),
        "stratum": row.get("relation_id"),
    }


def _bbh(docs: list[Doc]) -> list[Doc]:
    """Each question with the first three of its task as examples, which are not scored."""
    by_task: dict[str, list[Doc]] = {}
    for doc in docs:
        by_task.setdefault(doc["task"], []).append(doc)
    questions = []
    for task, items in by_task.items():
        examples = "".join(f"Q: {item['input']}\nA: {item['target']}\n\n" for item in items[:SHOTS])
        for item in items[SHOTS:]:
            query = f"{examples}Q: {item['input']}\nA:"
            answer = item["target"].strip()
            questions.append({"query": query, "answer": answer, "group": task, "stratum": task})
    return questions


def _reading(row: Doc) -> Doc:
    answers = row["answers"]
    answers = answers["text"] if isinstance(answers, dict) else answers
    return {
        "query": f"Passage: {row['context'].strip()}\nQuestion: {row['question'].strip()}\nAnswer:",
        "answers": answers,
        "cluster": rank(row["context"])[:16],
    }


def _entities(row: Doc) -> Doc:
    words = row["tokens"]
    tags = row["ner_tags_name"] if "ner_tags_name" in row else row["tags"]
    entities = spans(tags)
    tagged = bio(entities, len(words))
    query = f"Text: {' '.join(words)}\nEntities:"
    return {"query": query, "answer": listed(words, entities), "words": words, "tags": tagged}


def _instruction(row: Doc) -> Doc:
    parts = (row["instruction"].strip(), row["input"].strip())
    request = "\n\n".join(part for part in parts if part)
    return {"query": f"User: {request}\nAssistant:", "reply": " " + row["output"].strip()}


# The data set's own files are a loading script, which `datasets` no longer runs.
_TABLES = "leondz/wnut_17@refs/convert/parquet"
_WNUT_SHOTS = Source("wnut17/train.conll", _entities, (_TABLES, None, "train"))
_GSM8K_SHOTS = Source("gsm8k/train.jsonl", hub=("openai/gsm8k", "main", "train"))
QUESTIONS: dict[str, Source] = {
    "mmlu": Source("mmlu/mmlu_test.jsonl", _mmlu, ("cais/mmlu", "all", "test")),
    "truthfulqa": Source(
        "truthfulqa/TruthfulQA.csv",
        _truthful,
        ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
        _truthful_hub,
    ),
    "known_facts": Source("known_1000/known_1000.jsonl", _fact),
    "gsm8k": Source("gsm8k/test.jsonl", hub=("openai/gsm8k", "main", "test"), shots=_GSM8K_SHOTS),
    "bbh": Source("bbh/bbh.jsonl", whole=_bbh),
    "squad": Source(
        "squad/xquad_en_test.jsonl", _reading, ("google/xquad", "xquad.en", "validation")
    ),
    "wnut17": Source("wnut17/test.conll", _entities, (_TABLES, None, "test"), shots=_WNUT_SHOTS),
    "instructions": Source("instruct_1100/instruction-data.json", _instruction),
}
