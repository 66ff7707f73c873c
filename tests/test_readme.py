"""The README's and the docs' Python runs as it stands, and the commands that they show exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from workbench.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md")
}
PYTHON = re.compile(r"^```py(?:thon)?\n(.*?)^```$", re.M | re.S)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
SLOW = {"docs/findings.md", "docs/tutorials/base-and-tuned.md", "docs/tutorials/benchmarks.md"}
"""Pages whose Python takes minutes."""


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", readme, re.S)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "attention.html").stat().st_size > 100_000
    printed = capsys.readouterr().out
    assert "effect" in printed and "intents" in printed and "distance" in printed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.slow, pytest.mark.timeout(3000)] if name in SLOW else []
        )
        for name, text in sorted(PAGES.items())
        if PYTHON.search(text)
    ],
)
def test_the_python_of_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch, request):
    blocks = PYTHON.findall(PAGES[name])
    if any("SmolLM2" in block for block in blocks):
        request.getfixturevalue("smollm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    names: dict = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, name, "exec"), names)


def test_the_commands_of_the_docs_exist_with_their_options():
    group: Any = typer.main.get_command(app)
    seen = set()
    for name, text in {
        **PAGES,
        "README.md": (ROOT / "README.md").read_text(encoding="utf-8"),
    }.items():
        for block in SHELL.findall(text):
            for line in re.findall(r"(?:^|-m )workbench (.*)$", block.replace("\\\n", " "), re.M):
                first, *words = shlex.split(line, comments=True)
                command = group.commands.get(first)
                assert command is not None, f"{name}: {line}"
                if hasattr(command, "commands"):
                    command = command.commands[words[0]]
                known = {
                    option
                    for given in command.params
                    for option in (*given.opts, *given.secondary_opts)
                }
                options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
                assert options <= known, f"{name}: {line}: {options - known}"
                seen.add(first)
    assert len(seen) > 20
