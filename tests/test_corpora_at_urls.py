"""Corpora in a bucket: fetched once, read like files, and refused in one sentence."""

import gzip
import hashlib
from pathlib import Path

import pytest

import workbench as wb
from tests.s3_server import Server, server
from workbench.data import fetched, sets
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.training import texts
from workbench.training.recipe import Recipe

TEXT = "".join(f"The cat number {n} sat on mat number {n + 1}.\n\n" for n in range(400))


@pytest.fixture(scope="module")
def s3():
    with server() as running:
        yield running


@pytest.fixture
def bucket(s3: Server, tmp_path, monkeypatch, request) -> str:
    """An empty bucket, and an empty home."""
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    s3.new_bucket(name)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fetched, "FRESH", 0.0)
    return name


def recipe(source: str) -> Recipe:
    return wb.Recipe.from_dict(
        {
            "title": "from afar",
            "model": {"n_ctx": 16, "n_layers": 1, "n_heads": 2, "d_model": 16},
            "tokenizer": {"kind": "char"},
            "corpus": {"sources": [source], "validation": 0.1},
            "train": {"steps": 3, "batch_size": 2, "eval_every": 3, "precision": "no"},
        }
    )


def test_a_corpus_in_a_bucket_trains_like_the_same_files_here(bucket, s3, tmp_path):
    here = tmp_path / "texts"
    (here / "more").mkdir(parents=True)
    (here / "a.txt").write_text(TEXT)
    (here / "more" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "A dog barked twice."}\n'))
    (here / "picture.png").write_bytes(b"no text")
    (here / ".hidden.txt").write_text("not to be read")
    for path in (p for p in here.rglob("*") if p.is_file()):
        s3.write(bucket, f"texts/{path.relative_to(here).as_posix()}", path.read_bytes())
    url = f"s3://{bucket}/texts"
    assert list(texts.documents([url])) == list(texts.documents([str(here)]))
    assert list(texts.pieces([url])) == list(texts.pieces([str(here)]))
    names = [path.name for path in texts.files(url)]
    assert names == ["a.txt", "b.jsonl.gz"]
    runs = [wb.train(recipe(source)) for source in (url, str(here))]
    results = [run.result for run in runs]
    assert results[0] is not None and results[1] is not None
    assert results[0]["data_hash"] == results[1]["data_hash"]
    assert results[0]["validation_loss"] == results[1]["validation_loss"]


def test_it_is_fetched_once_and_again_when_it_changes(bucket, s3, monkeypatch):
    s3.write(bucket, "a.txt", TEXT.encode())
    url = f"s3://{bucket}/a.txt"
    (first,) = texts.files(url)
    written = first.stat().st_mtime_ns
    shares = []
    assert texts.files(url, lambda share, words: shares.append(share)) == [first]
    assert not shares and first.stat().st_mtime_ns == written
    s3.write(bucket, "a.txt", TEXT.upper().encode())  # of the same size
    (second,) = texts.files(url, lambda share, words: shares.append(share))
    assert second.read_text() == TEXT.upper() and shares[-1] == 1.0
    assert first.read_text() == TEXT  # whoever reads it still goes on undisturbed
    monkeypatch.setattr(fetched, "FRESH", 60.0)
    assert texts.files(url) == [second]
    s3.delete(bucket, "a.txt")
    assert texts.files(url) == [second]  # not asked again within a minute


def test_a_table_in_a_bucket_is_data_for_a_fine_tune(bucket, s3):
    rows = "".join(
        f"it is {word} number {n},{word}\n" for n in range(30) for word in ("up", "down")
    )
    s3.write(bucket, "rows.csv", ("text,label\n" + rows).encode())
    records = sets.records(f"s3://{bucket}/rows.csv")
    assert records is not None and len(records) == 60
    assert records[0] == {"text": "it is up number 0", "label": "up"}


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt", "a\\b.txt"])
def test_a_key_that_leads_out_of_the_folder_is_refused(bucket, s3, tmp_path, name):
    s3.write(bucket, f"texts/{name}", b"a text")
    with pytest.raises(WorkbenchError, match="no name for a file here"):
        fetched.file_at(f"s3://{bucket}/texts")
    with pytest.raises(WorkbenchError, match=r"no name for a file here|No text found"):
        texts.files(f"s3://{bucket}/texts")  # hidden files are no texts
    assert not list(tmp_path.rglob("*outside*"))


def test_what_cannot_be_had_is_one_sentence_before_a_run_is_recorded(bucket, s3, monkeypatch):
    s3.write(bucket, "texts/a.txt", TEXT.encode())
    s3.write(bucket, "texts/b.txt", TEXT.encode())

    def refusal(source: str) -> str:
        with pytest.raises(WorkbenchError) as raised:
            wb.train(recipe(source))
        assert not Store().list()
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "No text found" in refusal(f"s3://{bucket}/nothing")
    assert "make the bucket first" in refusal("s3://no-such-bucket/a.txt")
    assert 'pip install "gpt-workbench[gcs]"' in refusal("gs://bucket/a.txt")
    assert "carries a password" in refusal("ftp://me:secret@host/a.txt")
    with pytest.raises(WorkbenchError, match="holds 2 files; name one of them"):
        fetched.file_at(f"s3://{bucket}/texts")
    monkeypatch.setattr(fetched, "LARGEST", 1000)
    assert "Name a part of it" in refusal(f"s3://{bucket}/texts")
    monkeypatch.setattr(fetched, "MOST_FILES", 1)
    monkeypatch.setattr(fetched, "LARGEST", 10**9)
    assert "holds 2 files" in refusal(f"s3://{bucket}/texts")


def test_what_is_cut_off_or_grows_on_its_way_leaves_nothing_behind(bucket, s3, tmp_path):
    s3.write(bucket, "a.txt", TEXT.encode())
    url = f"s3://{bucket}/a.txt"
    there = fetched.look(url, lambda name: True)
    for size in (len(TEXT) - 1, len(TEXT) + 1):
        wrong = fetched.There(there.system, there.paths, size, there.version)
        with pytest.raises(WorkbenchError, match="try again"):
            fetched._folder_of(url, wrong, None)
    left: list[Path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not left
