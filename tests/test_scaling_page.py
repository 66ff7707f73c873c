"""docs/scaling.md: its commands and files are right as far as that can be told without a cloud."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from typer.testing import CliRunner

from workbench.cli.app import app

PAGE = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
SHELL = [text.replace("\\\n", " ") for kind, text in BLOCKS if kind == "sh"]
(SKY,) = (yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml")


def commands() -> list[list[str]]:
    """The words of every command of the page."""
    return [shlex.split(line, comments=True) for text in SHELL for line in text.splitlines()]


def test_what_rented_machines_run_exists_with_its_options():
    (hf,) = [words for words in commands() if words[:3] == ["hf", "jobs", "run"]]
    for line in (SKY["run"], hf[-1].partition(" && ")[2]):
        words = shlex.split(line)
        arguments = [words[1], "--help"]
        help_text = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stdout
        options = [word for word in words if word.startswith("--")]
        assert words[0] == "workbench" and options
        assert all(option in help_text for option in options)


def test_the_client_of_hf_jobs_takes_its_command(tmp_path):
    (words,) = [words for words in commands() if words[:3] == ["hf", "jobs", "run"]]
    (tmp_path / "dist").mkdir()
    client = Path(sys.executable).with_name("hf")
    command = [str(client), "jobs", "run", "--dry-run", *words[3:]]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for words_shown in ("l4x1", "12h", "WORKBENCH_STORE", "./dist:/dist", "python:3.12"):
        assert words_shown in ran.stdout


def test_what_skypilot_is_given_is_what_its_command_passes():
    (words,) = [words for words in commands() if words[:3] == ["sky", "jobs", "launch"]]
    passed = {words[at + 1] for at, word in enumerate(words) if word == "--secret"}
    assert passed == set(SKY["secrets"]) and all(v is None for v in SKY["secrets"].values())
    extras = set(re.findall(r"\[([\w,]+)\]", SKY["setup"])[0].split(","))
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in extras)
