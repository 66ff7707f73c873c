"""Corpora: cut without losing a character, in bounded memory, whatever their shape."""

import json
import random
import subprocess
import sys

import pytest

from workbench.data.notes import Notes
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.corpus import held_out, split
from workbench.training.recipe import Corpus
from workbench.training.texts import CHUNK, LONGEST, documents, pieces

WORDS = "the cat sat on a mat while rain fell softly and green river ran over old stone".split()


def words(n: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n))


@pytest.mark.parametrize("end", ["\n", "\n\n", " ", ". "])
def test_a_text_in_pieces_is_the_text_and_its_tokens_are_the_same(tmp_path, end):
    text = end.join(words(60, seed) for seed in range(4 * CHUNK // 1500))
    (tmp_path / "a.txt").write_text(text)
    parts = list(pieces([str(tmp_path / "a.txt")]))
    assert "".join(parts) == text
    tokenizer = train_tokenizer([text[:100_000]], "bpe", 400)
    whole = tokenizer(text[:600_000], verbose=False)["input_ids"]
    cut = [i for part in parts for i in tokenizer(part, verbose=False)["input_ids"]]
    # The excerpt's end cuts its last word short.
    assert cut[: len(whole) - 8] == whole[:-8]
    assert "\n" not in end or len(parts) > 1


def test_a_tail_split_is_the_text_cut_once(tmp_path):
    text = words(60_000)
    (tmp_path / "a.txt").write_text(text)
    texts = list(split(Corpus([str(tmp_path / "a.txt")], validation=0.25, split="tail")))
    joined = {
        name: "".join(part for side, part, _ in texts if side == name)
        for name in ("train", "validation")
    }
    assert joined["train"] + joined["validation"] == text
    assert len(joined["train"]) == int(len(text) * 0.75)
    assert [ends for _, _, ends in texts].count(True) == 2


def test_the_rows_of_a_table_are_split_at_the_tail_too(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "row {i}"}}\n' for i in range(10)))
    texts = list(split(Corpus([str(tmp_path / "a.jsonl")], validation=0.3, split="tail")))
    assert "".join(part for _, part, _ in texts) == "".join(f"row {i}\n" for i in range(10))


@pytest.mark.parametrize("mark", [". ", " ", ""])
def test_a_text_on_one_line_has_documents_of_both_splits(tmp_path, mark):
    text = mark.join(
        [
            "".join(words(40, seed).split(" ")) if not mark else words(12, seed)
            for seed in range(5000)
        ]
    )
    (tmp_path / "a.txt").write_text(text)
    corpus = Corpus([str(tmp_path / "a.txt")], validation=0.2)
    sides = [name for name, _, _ in split(corpus)]
    assert set(sides) == {"train", "validation"}
    cut = list(documents(corpus.sources))
    assert max(map(len, cut)) <= 2 * LONGEST
    assert "".join("".join(cut).split()) == "".join(text.split())


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.99])
def test_few_documents_are_divided_too(tmp_path, n, share):
    for trial in range(5):
        texts = [f"text {i} of trial {trial}, {n} in all\n" for i in range(n)]
        path = tmp_path / f"{trial}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        notes = Notes()
        parts = list(split(Corpus([str(path)], validation=share), notes))
        held = {part.text for part in parts if part.split == "validation"}
        assert [part.text for part in parts] == texts
        assert 0 < len(held) < n
        by_hash = {text for text in texts if held_out(text, share)}
        usual = 0 < len(by_hash) < n
        assert (held == by_hash) == usual
        assert any("few" in remark for remark in notes.remarks) != usual
        if not usual:
            assert len(held) == min(max(1, round(share * n)), n - 1)


def test_hidden_files_of_a_folder_are_left_out_and_markdown_is_read(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    (tmp_path / ".notes.md").write_text("hidden too")
    (tmp_path / "README.md").write_text("# Title\n\n- one\n  - two\n")
    assert list(documents([str(tmp_path)])) == ["# Title\n\n- one\n  - two\n"]


MEASURE = """
import resource, sys
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.corpus import prepare
from workbench.training.recipe import Corpus
tokenizer = train_tokenizer(["the cat sat on a mat"], "bpe", 300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(Corpus([sys.argv[1]], validation=0.1, split=sys.argv[2]), tokenizer, 32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["tail", "document"])
@pytest.mark.parametrize("end", ["\n", " "])
def test_memory_does_not_grow_with_the_corpus(tmp_path, home, kind, end):
    used = []
    for megabytes in (10, 50):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("w") as stream:
            for seed in range(megabytes):
                stream.write(words(220_000, seed)[:999_999] + end)
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), kind],
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(float(run.stdout.split()[-1]))
    # Megabytes over the tokenizer; 40 MB more text may cost no more than that (a character once
    # cost 380 bytes).
    assert used[0] < 900
    assert used[1] < used[0] + 40
