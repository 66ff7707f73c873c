"""CONTRIBUTING.md keeps its word: recipes apply to the code as it is, what they add works, `make
quick` is quick.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import split

import pytest

from tests import house
from tests.test_layers import imports

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = {
    part.split("\n", 1)[0]: part
    for part in GUIDE.split("## Where to add what")[1].split("\n## ")[0].split("\n### ")[1:]
}
STEP = re.compile(r"`([\w/]+\.\w+)`:\n\n```(\w+)\n(.*?)```", re.S)
"""A file's name at the end of a sentence, and below it what goes in: a diff, or the whole file."""
COMMANDS = re.compile(r"```sh\n(.*?)```", re.S)


def changed(text: str, diff: str) -> str:
    """A text after a diff without line numbers: what is there now must be there exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = (
            "".join(line[1:] or "\n" for line in lines if line[0] in kinds)
            for kinds in (" -", " +")
        )
        assert text.count(old) == 1, f"stands {text.count(old)} times, not once:\n{old}"
        text = text.replace(old, new)
    return text


def apply(recipe: str, root: Path) -> list[str]:
    """Do what a recipe says below `root`, and give the files' names."""
    names = []
    for name, language, code in STEP.findall(recipe):
        file = root / name
        code = changed(file.read_text(encoding="utf-8"), code) if language == "diff" else code
        assert language == "diff" or not file.exists(), f"{name} is there already"
        file.write_text(code, encoding="utf-8")
        names.append(name)
    return names


def copy_of_the_code(folder: Path) -> Path:
    """A copy that can be changed; the models are only pointed to."""
    for name in ("workbench", "pages", "probes", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "models").symlink_to(ROOT / "models")
    return folder


@pytest.mark.quick
def test_every_recipe_is_here():
    wanted = ["A patching site", "A probe", "A benchmark task", "A page", "A model family"]
    assert list(RECIPES) == wanted


@pytest.mark.quick
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_applies_to_the_code_as_it_is_and_is_short(name, tmp_path):
    copy = copy_of_the_code(tmp_path)
    blocks = [kind for kind in re.findall(r"^```(\w+)$", RECIPES[name], re.M) if kind != "sh"]
    assert len(apply(RECIPES[name], copy)) == len(blocks) > 0
    added = [
        line
        for _, kind, code in STEP.findall(RECIPES[name])
        if kind == "diff"
        for line in code.splitlines()
    ]
    assert len([line for line in added if line.startswith("+")]) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_adds_works(name, tmp_path):
    copy = copy_of_the_code(tmp_path)
    names = apply(RECIPES[name], copy)
    python = [file for file in names if file.endswith(".py")]
    commands = [
        line for block in COMMANDS.findall(RECIPES[name]) for line in block.strip().splitlines()
    ]
    lint = (
        [f"ruff format --check {' '.join(python)}", f"ruff check {' '.join(python)}"]
        if python
        else []
    )
    environment = {**os.environ, "PYTHONPATH": str(copy), "WORKBENCH_HOME": str(tmp_path / "home")}
    for command in lint + commands:
        words = [sys.executable, "-m", *split(command)]
        done = subprocess.run(
            words, cwd=copy, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def quick_tests() -> dict[Path, list[str]]:
    """The source of every quick test, by file."""
    by_file = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        body = ast.parse(text).body if "mark.quick" in text else []
        whole = any(
            isinstance(node, ast.Assign) and "mark.quick" in ast.unparse(node.value)
            for node in body
        )
        tests = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        marks = {node.name: " ".join(map(ast.unparse, node.decorator_list)) for node in tests}
        marked = [ast.unparse(node) for node in tests if whole or "mark.quick" in marks[node.name]]
        if marked and file != Path(__file__):
            by_file[file] = marked
    return by_file


@pytest.mark.quick
def test_quick_tests_load_no_trained_model():
    for file, tests in quick_tests().items():
        for test in tests:
            assert not re.search(r"\(['\"]shelf-|smollm|AppTest|WORKBENCH_(DATA|MODELS)", test), (
                f"{file}: {test[:200]}"
            )


@pytest.mark.quick
def test_quick_tests_reach_every_room_but_the_views():
    used = set().union(*(imports(file) for file in quick_tests()))
    assert set(house.rooms()) - used <= {"ui", "pages", "speed", "serving"}


@pytest.mark.quick
def test_the_picture_of_the_house_is_that_of_the_imports():
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run python -m tests.house"
