"""Doors of data: labelled sets, corpora, recipes, probes, tasks, suites and kept results."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.harness import Door

ROWS = [
    {"text": f"a {word} day {i}, and so on", "label": label}
    for i in range(8)
    for word, label in (("fine", "good"), ("grim", "bad"))
]
CONLL = "".join(
    f"Anna\tB-PER\nLind\tI-PER\nsang\tO\n{i}\tO\n\n"
    f"Peter\tB-PER\nran\tO\nin\tO\nRome\tB-LOC\n{i}\tO\n\n"
    for i in range(4)
)
CONLLU = "".join(
    f"# sent_id = {i}\n# text = It ran {i}\n"
    f"1\tIt\tit\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n2\tran{i}\trun\tVERB\tVBD\t_\t0\troot\t_\t_\n\n"
    for i in range(6)
)
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "x",
            "paragraphs": [
                {
                    "context": f"It was built in {1000 + i} by Ann.",
                    "qas": [
                        {
                            "id": str(i),
                            "question": "When?",
                            "answers": [{"text": str(1000 + i), "answer_start": 16}],
                        }
                    ],
                }
                for i in range(6)
            ],
        }
    ],
}
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"Hi {i}"},
            {"role": "assistant", "content": f"Yes {i}."},
        ]
    }
    for i in range(6)
]
SHARE = [
    {
        "conversations": [
            {"from": "human", "value": f"Hi {i}"},
            {"from": "gpt", "value": f"Yes {i}."},
        ]
    }
    for i in range(6)
]
PROSE = "".join(
    f"The cat number {i} sat on the mat.\nIt slept, and then it ran.\n\n" for i in range(60)
)


def text_of(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table_of(rows: list[dict[str, Any]], sep: str) -> bytes:
    """Rows as a table of delimited text."""
    quote = '"' if sep == "," else ""
    body = [sep.join(f"{quote}{value}{quote}" for value in row.values()) for row in rows]
    return "\n".join([sep.join(rows[0]), *body, ""]).encode()


def parquet_of(rows: list[dict[str, Any]], folder: Path) -> bytes:
    """Rows as Parquet."""
    import pandas as pd

    pd.DataFrame(rows).to_parquet(folder / "part.parquet", index=False)
    return (folder / "part.parquet").read_bytes()


def zst(content: bytes) -> bytes:
    """Packed with zstd."""
    import pyarrow as pa

    return pa.compress(content, codec="zstd", asbytes=True)


def written(name: str, content: bytes, folder: Path) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content)
    return path


def every(calls: Iterable[Callable[[], Any]]) -> None:
    """Make all calls, though the first ones be refused; the last refusal goes on."""
    from workbench.errors import WorkbenchError

    refusal = None
    for call in calls:
        try:
            call()
        except WorkbenchError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def read_labelled(kind: str, path: Path) -> None:
    """As rows, as a preview, and as the data of a fine-tune."""
    from workbench.data import files
    from workbench.training.tasks import make

    files.preview(path)
    make({"kind": kind, "data": str(path)}).read(0.2, 0)


def read_corpus(path: Path) -> None:
    """As documents, and as one text."""
    from workbench.training.texts import documents, pieces

    def read_all(read: Callable[[list[str]], Iterable[Any]]) -> None:
        list(read([str(path)]))

    every(partial(read_all, read) for read in (documents, pieces))


def _parquet(rows: list[dict[str, Any]], folder: Path) -> Path:
    return written("set.parquet", parquet_of(rows, folder), folder)


def labelled() -> list[Door]:
    """Every format of labelled sets."""
    lines_ = text_of(ROWS)
    sets: list[tuple[str, str, str, bytes]] = [
        ("csv", "text", "classification", table_of(ROWS, ",")),
        ("tsv", "text", "classification", table_of(ROWS, "\t")),
        ("json", "json", "classification", json.dumps(ROWS).encode()),
        ("jsonl", "jsonl", "classification", lines_),
        ("jsonl.gz", "binary", "classification", gzip.compress(lines_, mtime=0)),
        ("jsonl.zst", "binary", "classification", zst(lines_)),
        ("csv.bz2", "binary", "classification", bz2.compress(table_of(ROWS, ","))),
        ("csv.xz", "binary", "classification", lzma.compress(table_of(ROWS, ","))),
        ("conll", "text", "entities", CONLL.encode()),
        ("conllu", "text", "entities", CONLLU.encode()),
    ]
    entries = [
        Door(
            f"labelled {end}",
            form,
            partial(written, f"set.{end}", content),
            partial(read_labelled, kind),
        )
        for end, form, kind, content in sets
    ]
    for name, kind, content in (
        ("squad", "questions", json.dumps(SQUAD).encode()),
        ("chat", "chat", json.dumps(CHATS).encode()),
        ("sharegpt", "chat", json.dumps(SHARE).encode()),
    ):
        entries.append(
            Door(
                f"labelled {name}",
                "json",
                partial(written, f"{name}.json", content),
                partial(read_labelled, kind),
            )
        )
    entries.append(
        Door(
            "labelled parquet",
            "binary",
            partial(_parquet, ROWS),
            partial(read_labelled, "classification"),
        )
    )
    return entries


def corpora() -> list[Door]:
    """Every format of corpora."""
    rows = [{"text": paragraph} for paragraph in PROSE.split("\n\n")]
    kinds: list[tuple[str, str, bytes]] = [
        ("txt", "text", PROSE.encode()),
        ("txt.gz", "binary", gzip.compress(PROSE.encode(), mtime=0)),
        ("txt.zst", "binary", zst(PROSE.encode())),
        ("jsonl", "jsonl", text_of(rows)),
        ("json", "json", json.dumps(rows).encode()),
        (
            "csv",
            "text",
            table_of([{**row, "text": row["text"].replace("\n", " ")} for row in rows], ","),
        ),
    ]
    entries = [
        Door(f"corpus {end}", form, partial(written, f"c.{end}", content), read_corpus)
        for end, form, content in kinds
    ]
    return [*entries, Door("corpus parquet", "binary", partial(_parquet, rows), read_corpus)]


RECIPE = b"""title = "small"
notes = "Made by a test."
[model]
d_model = 32
n_layers = 2
n_heads = 4
positions = "rotary"
[tokenizer]
kind = "bpe"
d_vocab = 300
[corpus]
sources = ["generated"]
validation = 0.1
[train]
steps = 5
batch_size = 2
lr = 0.001
eval_every = 5
"""


def _read_recipe(path: Path) -> None:
    from workbench.training import cost
    from workbench.training.recipe import Recipe

    recipe = Recipe.read(path)
    Recipe.from_dict(recipe.to_dict()).to_toml()
    del cost


PROBE = b"""title = "Successors"
question = "Does it count?"
source = "Made for a test."
metric = "logit_difference"
[[templates]]
clean = "7 {place} {size.word} 9 1"
corrupted = "7 {place} {size.other#size} 9 1"
answer = "{size.word}"
wrong = "{size.other}"
slots = { size = "sizes", place = "places" }
[lists]
sizes = [["10", "11"], ["12", "13"], ["14", "15"], ["16", "17"], ["18", "19"], ["20", "21"]]
places = ["30", "31", "32", "33"]
[columns]
sizes = ["word", "other"]
"""


def _read_probe(path: Path) -> None:
    from tests.conftest import subject_of, tiny_gpt
    from workbench.interp.prompts.probes import generate, read_probe

    probe = read_probe(str(path))
    subject = subject_of(tiny_gpt(n_layers=1, n_heads=1, d_model=8))
    every(partial(generate, subject, probe, 3, by_name=by_name) for by_name in (True, False))


TASK = """task: small
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}} ="
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
description: "Sums."
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
metadata:
  version: 1.0
"""
GENERATED = """task: small
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}} ="
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
  do_sample: false
filter_list:
  - name: first
    filter:
      - function: regex
        regex_pattern: "(\\\\d+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
"""


def _task(settings: str, folder: Path) -> Path:
    docs = [{"q": f"{n} + 1", "choices": ["3", "4", "5", "6"], "gold": n % 4} for n in range(6)]
    (folder / "test.json").write_text("\n".join(map(json.dumps, docs)))
    return written("small.yaml", settings.format(data=folder / "test.json").encode(), folder)


def _read_task(path: Path) -> None:
    import workbench as wb
    from tests.conftest import subject_of
    from tests.fuzz.model_doors import gpt, tokenizer
    from workbench.subjects import Subject

    plain = subject_of(gpt(n_ctx=64))
    subject = Subject("small", plain.model, tokenizer(), plain.card)
    wb.evaluate(subject, str(path), limit=2, cache=False)


SUITE = b"""name: small
description: Two tasks.
version: 1
tasks:
  - repeat
  - agreement
"""


def _read_suite(path: Path) -> None:
    from workbench.benchmarks.suites import find_suite, suites

    suites()
    find_suite(str(path))


def _results(name: str, folder: Path) -> Path:
    from workbench.benchmarks.results.record import Results, TaskScore, sample_frame

    rows = [TaskScore("sums", "acc", 0.5, 0.1, 0.3, 0.7, 4, headline=True, chance=0.25)]
    samples = [
        {
            "task": "sums",
            "doc_id": i,
            "metric": "acc",
            "input": f"{i} + 1",
            "choices": '["3", "4"]',
            "target": i % 2,
            "prediction": 0,
            "target_text": "3",
            "prediction_text": "3",
            "loglikelihoods": "[-1.0, -2.0]",
            "correct": float(i % 2 == 0),
            "score": float(i % 2 == 0),
            "weight": 1.0,
            "scores": '{"acc": 1.0}',
            "group": "",
            "cluster": None,
        }
        for i in range(4)
    ]
    config = {
        "limit": 4,
        "num_fewshot": None,
        "seed": 0,
        "tasks": ["sums"],
        "data": {"sums": "0" * 64},
    }
    config |= {
        "suite_version": "1",
        "task_versions": {"sums": 1.0},
        "seconds": {"sums": 0.1},
        "finished": ["sums"],
        "versions": {},
    }
    results = Results(
        "small",
        "1" * 64,
        "sums",
        rows,
        sample_frame(samples),
        config,
        [("other", "it has no data")],
    )
    results.save(folder / "results")
    results.save(folder / "whole")
    return folder / "results" / name


def _read_results(path: Path) -> None:
    import workbench as wb
    from workbench.benchmarks.results.record import Results

    results = Results.read(path.parent)
    whole = Results.read(path.parent.parent / "whole")
    repr(results)
    results.headline()
    results.table()
    results.to_json()
    wb.compare_results(results, whole)


def _scores_file(end: str, folder: Path) -> Path:
    from workbench.benchmarks.results.files import write_scores
    from workbench.benchmarks.results.record import Results

    _results("results.json", folder)
    return write_scores({"small": Results.read(folder / "whole")}, folder / f"scores.{end}")


def _read_scores_file(path: Path) -> None:
    from workbench.benchmarks.results.files import read_scores

    read_scores(path)


def _record(make: Callable[[Any], Any], folder: Path) -> Path:
    from tests.conftest import subject_of, tiny_gpt

    return Path(make(subject_of(tiny_gpt())).save(folder / "record.json"))


def _patched(subject: Any) -> Any:
    import workbench as wb

    return wb.patch(subject, "3 1 2", "3 4 2", answer="5", wrong="6")


def _lens_record(subject: Any) -> Any:
    import workbench as wb

    return wb.lens(subject, "3 1 2")


def _scores(subject: Any) -> Any:
    import workbench as wb

    return wb.head_scores(subject)


def _read_record(kind: str, path: Path) -> None:
    from workbench.interp.lenses.lens import Lens
    from workbench.interp.patching.pair_maps import Patching
    from workbench.interp.patterns.heads import HeadScores

    record = {"patch": Patching, "lens": Lens, "scores": HeadScores}[kind].read(path)
    repr(record)
    record.headline()
    record.to_frame()
    record.to_json()
    record.figure()


def doors() -> list[Door]:
    """Every file that holds data."""
    make: Callable[..., Door] = Door
    return [
        *labelled(),
        *corpora(),
        make("recipe", "toml", partial(written, "small.toml", RECIPE), _read_recipe),
        make("probe", "toml", partial(written, "small.toml", PROBE), _read_probe),
        make("task", "yaml", partial(_task, TASK), _read_task),
        make("generating task", "yaml", partial(_task, GENERATED), _read_task),
        make("suite", "yaml", partial(written, "small.yaml", SUITE), _read_suite),
        make("results", "json", partial(_results, "results.json"), _read_results),
        make("results samples", "binary", partial(_results, "samples.parquet"), _read_results),
        make("scores json", "json", partial(_scores_file, "json"), _read_scores_file),
        make("scores csv", "text", partial(_scores_file, "csv"), _read_scores_file),
        make("scores parquet", "binary", partial(_scores_file, "parquet"), _read_scores_file),
        make("record of patch", "json", partial(_record, _patched), partial(_read_record, "patch")),
        make(
            "record of lens", "json", partial(_record, _lens_record), partial(_read_record, "lens")
        ),
        make(
            "record of scores", "json", partial(_record, _scores), partial(_read_record, "scores")
        ),
    ]
