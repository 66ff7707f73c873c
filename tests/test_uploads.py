"""Uploads: kept by their content under plain names, and shown as they will be read."""

import json

import pytest

from workbench import paths
from workbench.data.notes import Notes
from workbench.data.uploads import keep, look_at, safe_name
from workbench.errors import WorkbenchError
from workbench.training.tasks import KINDS, make

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.csv", "/abs/x.csv", "C:\\dir\\x.csv", ".hidden.csv", "a b?.csv"]
)
def test_no_name_leaves_the_uploads_folder(home, name):
    path = keep([(name, b"text,label\na,b\n")])
    assert path.is_relative_to(paths.home() / "uploads") and path.suffix == ".csv"
    assert not path.name.startswith(".") and path.read_bytes().startswith(b"text")


def test_the_same_content_is_kept_once_and_several_files_are_a_folder(home):
    files = [("a.md", b"one"), ("b.md", b"two"), ("a.md", b"three")]
    folder = keep(files)
    assert folder == keep(files) and folder.is_dir()
    assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"one", b"three", b"two"]


def test_an_empty_upload_is_refused(home):
    with pytest.raises(WorkbenchError, match="upload is empty"):
        keep([("a.csv", b"")])
    assert safe_name("...") == "upload.txt"


def test_a_preview_guesses_columns_by_name_and_by_content(home):
    text = "nummer,frase,tipo\n" + "".join(
        f"{i},una frase larga {i},{'ab'[i % 2]}\n" for i in range(30)
    )
    table = look_at(keep([("x.csv", text.encode())]), ("text", "label"))
    assert table.guess == {"text": "frase", "label": "tipo"}
    assert table.columns == ("nummer", "frase", "tipo") and len(table.rows) == 30


SHARED = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
UPLOADS = {
    "classification": (
        "x.csv",
        "id,review,sentiment\n" + "".join(f"{i},word {i},{'ab'[i % 2]}\n" for i in range(8)),
    ),
    "entities": ("x.conll", "Yesterday RB O\nClara NNP B-PER\n\nOslo NNP B-LOC\n\n"),
    "chat": ("x.json", json.dumps([{"id": str(i), "conversations": SHARED} for i in range(3)])),
    "questions": (
        "x.jsonl",
        json.dumps({"context": "It is red.", "question": "Colour?", "answers": ["red"]}) + "\n",
    ),
    "rewriting": ("x.csv", "source,target\n3 May 1984,1984-05-03\n4 May 1984,1984-05-04\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_for_every_kind_of_task_is_looked_at_and_read_as_examples(home, kind):
    name, text = UPLOADS[kind]
    path = keep([(name, text.encode())])
    table = look_at(path, KINDS[kind].parts)
    chosen = {
        part: table.guess[part]
        for part in KINDS[kind].parts
        if part in table.guess and table.columns
    }
    items = make({"kind": kind, "data": str(path), **chosen}).preview(path, Notes())
    assert items and set(items[0]) >= (
        {"messages"} if kind == "chat" else set(KINDS[kind].parts) - {"tags", "tokens"}
    )
