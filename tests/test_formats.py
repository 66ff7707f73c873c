"""Files as people have them: each format with its oddities is read rightly, or refused in a
sentence.

The table of `docs/formats.md` is made of these very cases: `python -m tests.test_formats >
docs/formats.md`.
"""

import gzip
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from workbench.data import files
from workbench.data.notes import Notes
from workbench.errors import WorkbenchError
from workbench.training.tasks import make
from workbench.training.texts import documents

DOCS = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
PAIRS = [("a fine day", "good"), ("a grim day", "bad")] * 3
"""Six labelled texts; the numbers below make them distinct."""


class Case(NamedTuple):
    """A file with one oddity: how it is used, and what of it is read (or the sentence that refuses
    it).
    """

    use: str
    name: str
    oddity: str
    content: bytes | Callable[[Path], None]
    right: Any
    options: Mapping[str, Any] = MappingProxyType({})
    remark: str = ""


def table(header: str, sep: str, *, rows=None, swap: bool = False) -> str:
    rows = (
        [(f"{text} {i}", label) for i, (text, label) in enumerate(PAIRS)] if rows is None else rows
    )
    rows = [pair[::-1] for pair in rows] if swap else rows
    lines = [sep.join(row) for row in rows]
    return "\n".join([header, *lines] if header else lines) + "\n"


LABELLED = [{"text": f"{text} {i}", "label": label} for i, (text, label) in enumerate(PAIRS)]
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
TREE = "Anna\tB-PER\nLind\tI-PER\nsang\tO\n\nPeter\tB-PER\nran\tO\n"
TAGS = [["B-person", "I-person", "O"], ["B-person", "O"]]
SQUAD = {"context": "It was built in 1000.", "question": "When?"}
ANSWERS = [{**SQUAD, "answers": ["1000"]}]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(frame: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: pd.DataFrame(frame).to_parquet(path)


def zstd(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)

    return write


def with_classes(path: Path) -> None:
    """Labels as numbers, with their names where `datasets` keeps them."""
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = [{"text": row["text"], "label": int(row["label"] == "good")} for row in LABELLED]
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def numbered(content: bytes) -> bytes:
    """As pandas writes a table with its index."""
    header, *body = content.decode().splitlines()
    return "\n".join([f",{header}", *(f"{i},{line}" for i, line in enumerate(body))]).encode()


CSV = table("text,label", ",").encode()
WIDE = table("text,label", ",", rows=[(f"text {i}", "ab"[i % 2]) for i in range(60)])
FINE = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(60)]
WIDTH = "another number of fields than the header: 1 (first at line"
CASES = [
    Case("labelled", "a.csv", "plain", CSV, LABELLED),
    Case(
        "labelled", "a.csv", "byte-order mark (Excel's CSV UTF-8)", b"\xef\xbb\xbf" + CSV, LABELLED
    ),
    Case(
        "labelled",
        "a.csv",
        "UTF-16 (Excel's Unicode text)",
        CSV.decode().encode("utf-16"),
        LABELLED,
        {},
        "UTF-16",
    ),
    Case(
        "labelled",
        "a.csv",
        "Windows-1252",
        table("text,label", ",", rows=[("café", "good"), ("thé", "bad")]).encode("cp1252"),
        [{"text": "café", "label": "good"}, {"text": "thé", "label": "bad"}],
        {},
        "Windows-1252",
    ),
    Case(
        "labelled",
        "a.csv",
        "semicolons",
        table("text;label", ";").encode(),
        LABELLED,
        {},
        "delimiter ';'",
    ),
    Case("labelled", "a.csv", "Windows line ends", CSV.replace(b"\n", b"\r\n"), LABELLED),
    Case("labelled", "a.csv", "columns Text, Label", table("Text,Label", ",").encode(), LABELLED),
    Case(
        "labelled",
        "a.csv",
        "columns review, sentiment",
        table("review,sentiment", ",").encode(),
        LABELLED,
    ),
    Case(
        "labelled",
        "a.csv",
        "columns named in the recipe",
        table("frase,tipo", ",").encode(),
        LABELLED,
        {"text": "frase", "label": "tipo"},
    ),
    Case(
        "labelled",
        "a.csv",
        "columns of unknown names",
        table("frase,tipo", ",").encode(),
        "no column that is plainly the text; its columns are frase, tipo. "
        'Name them, perhaps text = "frase", label = "tipo"',
    ),
    Case(
        "labelled",
        "a.csv",
        "a named column that is not there",
        CSV,
        "no column 'body' for text; the columns are text, label",
        {"text": "body"},
    ),
    Case(
        "labelled", "a.csv", "no header", table("", ",").encode(), LABELLED, {}, "without a header"
    ),
    Case("labelled", "a.csv", "row numbers without a name", numbered(CSV), LABELLED),
    Case(
        "labelled",
        "a.csv",
        "an unquoted comma in one row",
        (WIDE + "one, two,a\n").encode(),
        FINE,
        {},
        WIDTH,
    ),
    Case("labelled", "a.csv", "a row that is short", (WIDE + "text\n").encode(), FINE, {}, WIDTH),
    Case(
        "labelled",
        "a.csv",
        "unquoted commas in many rows",
        WIDE.replace("text 1", "text, 1").encode(),
        "many rows of another width, such as line",
    ),
    Case(
        "labelled",
        "a.csv",
        "a quote that does not close",
        (WIDE + '"a,b\n').encode(),
        "not readable as a table",
    ),
    Case(
        "labelled",
        "a.csv",
        "an empty cell",
        (CSV.decode() + ",good\nx,\n").encode(),
        LABELLED,
        {},
        "no text: 1",
    ),
    Case(
        "labelled",
        "a.csv",
        "labels that differ in case",
        table("text,label", ",", rows=[("x", "Good"), ("y", "good"), ("z", "bad")]).encode(),
        [
            {"text": "x", "label": "good"},
            {"text": "y", "label": "good"},
            {"text": "z", "label": "bad"},
        ],
    ),
    Case(
        "labelled",
        "a.csv",
        "two columns of one name",
        b"text,text,label\na,b,c\n",
        "two columns named 'text'",
    ),
    Case("labelled", "a.csv", "empty", b"", "is empty"),
    Case(
        "labelled",
        "a.csv",
        "not text (zero bytes)",
        b"text,label\n" + bytes(9),
        "not text (it holds control bytes)",
    ),
    Case("labelled", "a.tsv", "header", table("text\tlabel", "\t").encode(), LABELLED),
    Case(
        "labelled",
        "a.tsv",
        "header sentence, label",
        table("sentence\tlabel", "\t").encode(),
        LABELLED,
    ),
    Case(
        "labelled",
        "a.tsv",
        "no header",
        table("", "\t").encode(),
        LABELLED,
        {},
        "column 1 as the text",
    ),
    Case(
        "labelled",
        "a.tsv",
        "no header, the label first",
        table("", "\t", swap=True).encode(),
        LABELLED,
        {},
        "column 2 as the text",
    ),
    Case(
        "labelled",
        "a.tsv",
        "quotes inside",
        table("text\tlabel", "\t").replace("fine", '"fine').encode(),
        [{**row, "text": row["text"].replace("fine", '"fine')} for row in LABELLED],
    ),
    Case("labelled", "a.csv.gz", "gzip", gzip.compress(CSV), LABELLED),
    Case("labelled", "a.csv.gz", "gzip, cut off", gzip.compress(CSV * 50)[:-40], "is damaged"),
    Case("labelled", "a.csv.zst", "Zstandard", zstd(CSV), LABELLED),
    Case("labelled", "a.jsonl", "plain", lines(*LABELLED), LABELLED),
    Case("labelled", "a.jsonl", "blank lines", lines(*LABELLED).replace(b"\n", b"\n\n"), LABELLED),
    Case("labelled", "a.jsonl", "byte-order mark", b"\xef\xbb\xbf" + lines(*LABELLED), LABELLED),
    Case(
        "labelled",
        "a.jsonl",
        "a text of null",
        lines(*LABELLED, {"text": None, "label": "x"}),
        LABELLED,
        {},
        "no text: 1",
    ),
    Case(
        "labelled",
        "a.jsonl",
        "NaN for a label",
        lines(*LABELLED) + b'{"text": "x", "label": NaN}\n',
        LABELLED,
        {},
        "no label",
    ),
    Case("labelled", "a.jsonl", "a line cut off", lines(*LABELLED)[:-9], "line 6, is not JSON"),
    Case(
        "labelled",
        "a.jsonl",
        "a line that is a list",
        lines([1, 2]),
        "line 1, holds a list, not a record",
    ),
    Case("labelled", "a.json", "list of records", json.dumps(LABELLED).encode(), LABELLED),
    Case(
        "labelled", "a.json", "records in `data`", json.dumps({"data": LABELLED}).encode(), LABELLED
    ),
    Case(
        "labelled",
        "a.json",
        "columns",
        json.dumps({key: [row[key] for row in LABELLED] for key in ("text", "label")}).encode(),
        LABELLED,
        {},
        "as columns",
    ),
    Case(
        "labelled", "a.json", "one record a line", lines(*LABELLED), LABELLED, {}, "as JSON lines"
    ),
    Case("labelled", "a.json", "nested too deeply", b"[" * 100_000 + b"]" * 100_000, "is not JSON"),
    Case(
        "labelled",
        "a.parquet",
        "plain",
        parquet({k: [r[k] for r in LABELLED] for k in ("text", "label")}),
        LABELLED,
    ),
    Case("labelled", "a.parquet", "numbered classes of `datasets`", with_classes, LABELLED),
    Case(
        "labelled",
        "a.parquet",
        "numbers with a gap (kept as floats)",
        parquet({"text": ["a", "b", "c"], "label": [1.0, 0.0, np.nan]}),
        [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}],
        {},
        "no label: 1",
    ),
    Case("labelled", "a.parquet", "cut off", b"PAR1abc", "cannot be read as Parquet"),
    Case("entities", "a.conll", "plain", TREE.encode(), TAGS),
    Case("entities", "a.conll", "byte-order mark", b"\xef\xbb\xbf" + TREE.encode(), TAGS),
    Case("entities", "a.conll", "lower case", TREE.lower().encode(), TAGS),
    Case("entities", "a.conll", "comments", ("# sent_id = 1\n" + TREE).encode(), TAGS),
    Case(
        "entities",
        "a.conll",
        "bare types",
        TREE.replace("B-", "").replace("I-", "").encode(),
        TAGS,
        {},
        "without B-",
    ),
    Case(
        "entities",
        "a.conll",
        "BIOES",
        TREE.replace("I-PER", "E-PER").replace("Peter\tB", "Peter\tS").encode(),
        TAGS,
    ),
    Case(
        "entities",
        "a.conll",
        "four columns, spaces",
        b"Anna NNP x B-PER\nLind NNP x I-PER\nsang VBD x O\n\n",
        TAGS[:1],
    ),
    Case("entities", "a.conll", "a word without a tag", b"Anna\n", "line 1, has a word and no tag"),
    Case(
        "entities",
        "a.jsonl",
        "tokens and tags",
        lines({"tokens": ["Anna", "ran"], "ner_tags": ["b-per", "o"]}),
        [["B-person", "O"]],
    ),
    Case(
        "entities",
        "a.jsonl",
        "numbered tags",
        lines({"tokens": ["Anna"], "tags": [1]}),
        "numbers its tags",
    ),
    Case(
        "questions",
        "a.json",
        "SQuAD",
        json.dumps(
            {
                "data": [
                    {
                        "title": "t",
                        "paragraphs": [
                            {
                                "context": SQUAD["context"],
                                "qas": [
                                    {
                                        "question": "When?",
                                        "answers": [{"text": "1000", "answer_start": 16}],
                                    }
                                ],
                            }
                        ],
                    }
                ]
            }
        ).encode(),
        ANSWERS,
        {},
        "as SQuAD",
    ),
    Case(
        "questions",
        "a.jsonl",
        "answers as a list of records",
        lines({**SQUAD, "answers": [{"text": "1000", "answer_start": 16}]}),
        ANSWERS,
    ),
    Case(
        "questions",
        "a.jsonl",
        "answers as columns",
        lines({**SQUAD, "answers": {"text": ["1000"], "answer_start": [16]}}),
        ANSWERS,
    ),
    Case(
        "questions",
        "a.jsonl",
        "no answer (SQuAD 2)",
        lines({**SQUAD, "answers": ["1000"]}, {**SQUAD, "question": "Who?", "answers": []}),
        ANSWERS,
        {},
        "no answer: 1",
    ),
    Case("chat", "a.jsonl", "OpenAI's messages", lines({"messages": CHAT}), [CHAT]),
    Case(
        "chat",
        "a.jsonl",
        "content in parts",
        lines(
            {
                "messages": [
                    {"role": m["role"], "content": [{"type": "text", "text": m["content"]}]}
                    for m in CHAT
                ]
            }
        ),
        [CHAT],
    ),
    Case(
        "chat",
        "a.jsonl",
        "content of null with a tool call",
        lines(
            {"messages": CHAT},
            {
                "messages": [
                    CHAT[0],
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                    CHAT[1],
                ]
            },
        ),
        [CHAT],
        {},
        "tool calls: 1",
    ),
    Case(
        "chat",
        "a.jsonl",
        "an image in a message",
        lines(
            {"messages": CHAT},
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, CHAT[1]]},
        ),
        [CHAT],
        {},
        "content that is not text: 1",
    ),
    Case(
        "chat",
        "a.jsonl",
        "ShareGPT",
        lines(
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]}
        ),
        [CHAT],
    ),
    Case(
        "chat",
        "a.jsonl",
        "TRL's prompt and completion",
        lines({"prompt": "Hi", "completion": "Yes."}),
        [CHAT],
    ),
    Case(
        "chat",
        "a.jsonl",
        "TRL's prompt and completion as messages",
        lines({"prompt": CHAT[:1], "completion": CHAT[1:]}),
        [CHAT],
    ),
    Case(
        "chat",
        "a.jsonl",
        "Alpaca",
        lines({"instruction": "Hi", "input": "", "output": "Yes."}),
        [CHAT],
    ),
    Case(
        "chat",
        "a.csv",
        "a table, its columns named",
        b"frage,antwort\nHi,Yes.\n",
        [CHAT],
        {"prompt": "frage", "response": "antwort"},
    ),
    Case(
        "chat",
        "a.jsonl",
        "roles human and bot",
        lines(
            {"messages": [{"role": "human", "content": "Hi"}, {"role": "bot", "content": "Yes."}]}
        ),
        [CHAT],
    ),
    Case(
        "chat",
        "a.jsonl",
        "an unknown speaker",
        lines({"messages": CHAT}, {"messages": [{"role": "narrator", "content": "x"}, *CHAT]}),
        [CHAT],
        {},
        "unknown speaker",
    ),
    Case(
        "corpus",
        "a.txt",
        "a dialogue of long lines",
        b"A: " + b"x" * 60 + b"\nB: " + b"y" * 60 + b"\n",
        ["A: " + "x" * 60 + "\nB: " + "y" * 60 + "\n"],
    ),
    Case("corpus", "a.py", "code", b"def f():\n    return 1\n", ["def f():\n    return 1\n"]),
    Case(
        "corpus",
        "a.txt",
        "Chinese, lines of 60",
        ("天" * 60 + "\n" + "地" * 60 + "\n").encode(),
        ["天" * 60 + "\n" + "地" * 60 + "\n"],
    ),
    Case("corpus", "a.txt", "UTF-16", "héllo\n".encode("utf-16"), ["héllo\n"], {}, "UTF-16"),
    Case("corpus", "a.txt", "END marks", b"one\n<|endoftext|>\ntwo", ["one\n", "two\n"]),
    Case(
        "corpus",
        "a.jsonl",
        "null",
        lines({"text": "one"}, {"text": None}),
        ["one\n"],
        {},
        "no text: 1",
    ),
    Case(
        "corpus",
        "a.jsonl",
        "column named in the recipe",
        lines({"id": "x", "leib": "one"}),
        ["one\n"],
        {"column": "leib"},
    ),
    Case("corpus", "a.jsonl", "column body", lines({"id": 1, "body": "one"}), ["one\n"]),
    Case(
        "corpus",
        "a.json",
        "list of records",
        json.dumps([{"text": "one"}, {"text": "two"}]).encode(),
        ["one\n", "two\n"],
    ),
    Case("corpus", "a.csv", "a table", b'text,n\n"one, two",1\n', ["one, two\n"]),
    Case("corpus", "a.parquet", "bytes", parquet({"text": [b"one", b"two"]}), ["one\n", "two\n"]),
    Case("corpus", "a.parquet", "numbers", parquet({"text": [1, 2]}), "holds int ('1'), not text"),
    Case(
        "corpus",
        "a.conll",
        "tagged words",
        TREE.encode(),
        "holds words with tags, not running text",
    ),
    Case("corpus", "a.txt.gz", "gzip, cut off", gzip.compress(b"abc" * 9000)[:-20], "is damaged"),
    Case("corpus", "a.bin", "not text", bytes(range(256)) * 9, "is not text"),
]


def read_case(case: Case, folder: Path) -> tuple[Any, Notes]:
    path = folder / case.name
    if callable(case.content):
        case.content(path)
    else:
        path.write_bytes(case.content)
    notes = Notes()
    if case.use == "corpus":
        return list(documents([str(path)], notes=notes, **case.options)), notes
    kind = {"labelled": "classification"}.get(case.use, case.use)
    task = make({"kind": kind, "data": str(path), **case.options})
    items = task._items(str(path), "train", notes)
    if case.use == "entities":
        return [item["tags"] for item in items], notes
    return ([item["messages"] for item in items] if case.use == "chat" else items), notes


def outcome(case: Case, folder: Path) -> str:
    """What becomes of a case, in the words of the table."""
    try:
        rows, notes = read_case(case, folder)
    except WorkbenchError as error:
        return f"refused: {error}".replace(str(folder) + "/", "")
    remarks = " ".join(line.rstrip(".") + "." for line in notes.lines()).replace(
        str(folder) + "/", ""
    )
    return f"read ({len(rows)})" + (f"; said: {remarks}" if remarks else "")


def document() -> str:
    out = io.StringIO()
    print("# Files that are read, and how\n", file=out)
    print(
        "Made by `python -m tests.test_formats`, from the cases that the tests check. "
        "*Read (n)*: n examples or\n"
        "documents, exactly those meant; *said*: shown with the result; "
        "*refused*: the sentence that one gets.\n",
        file=out,
    )
    print("| used as | file | what is odd | what happens |\n|---|---|---|---|", file=out)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            words = outcome(case, Path(folder)).replace("|", "\\|").replace("\n", " ")
        print(f"| {case.use} | `{case.name}` | {case.oddity} | {words} |", file=out)
    return out.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.use}-{case.name}-{case.oddity}")
def test_a_file_is_read_rightly_or_refused_in_a_sentence(case, tmp_path):
    if isinstance(case.right, str):
        with pytest.raises(WorkbenchError) as caught:
            read_case(case, tmp_path)
        assert case.right in str(caught.value) and "\n" not in str(caught.value)
        return
    rows, notes = read_case(case, tmp_path)
    assert rows == case.right
    assert case.remark in " ".join(notes.lines())
    assert bool(notes.lines()) == bool(case.remark)


def test_the_table_in_the_docs_is_that_of_these_cases():
    assert DOCS.read_text(encoding="utf-8") == document()


def test_a_json_document_is_read_in_parts_and_a_vast_one_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "set.json"
    records = [{"text": f"a text with number {i}"} for i in range(20)]
    path.write_text(json.dumps(records))
    monkeypatch.setattr(files, "PART", 7)
    assert list(files.rows(path)) == records
    monkeypatch.setattr(files, "LARGEST_JSON", 100)
    with pytest.raises(WorkbenchError, match=r"set\.json is too large for one JSON document"):
        list(files.rows(path))


if __name__ == "__main__":
    print(document(), end="")
