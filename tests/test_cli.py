"""The command line as a user types it: JSON alone on standard output, exit code 2 with one
sentence.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from workbench.cli.app import app
from workbench.errors import WorkbenchError

ROOT = Path(__file__).parents[1]


def in_a_process(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "workbench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "WORKBENCH_HOME": str(home)},
        timeout=300,
    )


@pytest.mark.quick
def test_every_command_has_help_and_stands_in_the_docs():
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        result = CliRunner().invoke(app, [name, "--help"])
        assert (
            result.exit_code == 0
            and (command.callback.__doc__ or "").split(":")[0][:20] in result.output
        )
        assert f"workbench {name}" in page, name


def test_patch_prints_one_json_document(home):
    done = in_a_process(
        "patch", "shelf-base", "--clean", "The king saw the queen. The king",
        "--corrupted", "The queen saw the king. The queen",
        "--answer", " saw", "--wrong", " and", "--json", home=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (
        record["axes"] == ["layer", "pos"]
        and len(record["effect"]) == 6
        and record["engine"] == "packed"
    )
    assert max(record["checks"].values()) < 1e-3


def test_attention_writes_a_page_and_json(run, tmp_path):
    page = tmp_path / "page.html"
    done = run(
        "attention",
        "shelf-base",
        "--prompt",
        "Once upon a time",
        "--out",
        str(page),
        "--json",
    )
    record = json.loads(done.stdout)
    assert Path(record["file"]) == page and "openPage(" in page.read_text("utf-8")
    assert len(record["pattern"]) == len(record["tokens"]) == record["query"]


def test_the_help_of_patch_names_every_site():
    from workbench.cli import causal
    from workbench.interp.engine.sites import SITES

    words = str(get_args(causal.Site)[1].help)
    named = words.rstrip(".").replace(",", " ").replace("@", " ").split()
    assert set(SITES) <= set(named)


def test_heads_are_scored_on_texts_of_ones_own_and_fewer_than_six_have_no_interval(tmp_path):
    texts = tmp_path / "my.txt"
    shell = CliRunner()
    colours = ("Red", "Blue", "Green", "Black", "White", "Brown")
    rounds = [
        f"{a} and {b} and {a} and {b} and {a}."
        for a, b in zip(colours, colours[1:] + colours[:1], strict=True)
    ]
    command = ["heads", "shelf-base", "--texts", str(texts), "--top", "2", "--json"]
    texts.write_text("\n\n".join(rounds))
    rows = json.loads(shell.invoke(app, command).stdout)
    assert len(rows) == 2
    for row in rows:
        assert row["induction_score_low"] < row["induction_score"] < row["induction_score_high"]
    for few in (5, 2, 1):
        texts.write_text("\n\n".join(rounds[:few]))
        for row in json.loads(shell.invoke(app, command).stdout):
            assert (
                row["induction_score_low"] is row["induction_score_high"] is None
                and "induction" not in row["labels"]
            )
            assert row["induction_score"] > 0
    texts.write_text("\n\n")
    with pytest.raises(WorkbenchError, match=r"my.txt holds no text"):
        shell.invoke(app, command, catch_exceptions=False)


def test_eval_and_compare_agree_with_each_other(run):
    evaluated = run(
        "eval",
        "shelf-base",
        "shelf-tuned",
        "--suite",
        "intents",
        "--limit",
        "20",
        "--json",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    record = json.loads(evaluated.stdout)
    compared = run(
        "compare",
        "shelf-base",
        "shelf-tuned",
        "--suite",
        "intents",
        "--limit",
        "20",
        "--json",
    )
    other = json.loads(compared.stdout)
    assert record["comparison"][0]["difference"] == other["tasks"][0]["difference"]
    assert other["heads"][0]["distance"] >= other["heads"][-1]["distance"]
    listed = json.loads(run("runs", "--json").stdout)
    assert listed[0]["kind"] == "eval" and listed[0]["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [
                "patch",
                "shelf-base",
                "--clean",
                "a",
                "--corrupted",
                "a b c",
                "--answer",
                " x",
                "--wrong",
                " y",
            ],
            "must be equal",
        ),
        (
            [
                "patch",
                "shelf-base",
                "--clean",
                "",
                "--corrupted",
                "a",
                "--answer",
                " x",
                "--wrong",
                " y",
            ],
            "clean prompt is empty",
        ),
        (
            ["attention", "shelf-base", "--prompt", "word " * 400],
            "the context of shelf-base holds 256",
        ),
        (["attention", "no-such-model", "--prompt", "x"], "No model 'no-such-model'"),
        (["eval", "shelf-base", "--suite", "no-such-suite"], "no-such-suite"),
        (["train", "no-such-recipe"], "No recipe 'no-such-recipe'"),
        (["bench", "nothing"], "No bench 'nothing'"),
        (["runs", "--cancel", "nope"], "nope"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(arguments, message, run):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_process_ends_with_the_same_sentence_and_code(home):
    done = in_a_process("attention", "no-such-model", "--prompt", "x", home=home)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: No model 'no-such-model'")
    assert done.stderr.count("\n") == 1


def test_doctor_finds_this_machine_ready(run):
    done = run("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0 and all(row["ok"] for row in rows.values())
    assert "WORKBENCH_THREADS=keep" in rows["threads"]["found"]
    assert rows["memory"]["found"] == "caches may hold 2 GB over the weights"


def test_the_patching_bench_reports_ratio_and_exactness(run, smollm):
    pytest.importorskip("transformer_lens")
    from workbench.speed.timing import in_turn

    rows = in_turn(lambda: sum(range(1000)), lambda: sum(range(100_000)))[2]
    assert rows["n"] == 3 and rows["ratio"] > 1
    assert run("bench", "--help").returncode == 0
