"""Rules of every file, read off its syntax: one statement a line, names that say what they hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for folder in ("workbench", "pages", "tests") for path in (ROOT / folder).rglob("*.py")
)
VAGUE = {"found", "said", "told", "kept", "asked", "apart", "made"}
"""Names that say how a value came about, and not what it is."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def packed_lines(tree: ast.AST) -> Iterator[int]:
    """Lines that give several unrelated values several names; an exchange is none of them."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        if isinstance(node.targets[0], ast.Tuple):
            names = {ast.unparse(name) for name in node.targets[0].elts}
            values = {ast.unparse(value) for value in node.value.elts}
            if names != values:
                yield node.lineno


def vague_names(tree: ast.AST) -> Iterator[str]:
    """Names given in a file, also of arguments, that must be decoded."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE:
            yield f"{node.id} in line {node.lineno}"
        if isinstance(node, ast.arg) and node.arg in VAGUE:
            yield f"{node.arg} in line {node.lineno}"


def captured_defaults(tree: ast.AST) -> Iterator[int]:
    """Lines with a lambda whose defaults capture a value: a named function reads better."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and (node.args.defaults or any(node.args.kw_defaults)):
            yield node.lineno


def named_inside_nests(tree: ast.AST) -> Iterator[int]:
    """Lines with a comprehension inside another in which a value is named in passing."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            parts = [part for part in ast.walk(node) if part is not node]
            nested = any(isinstance(part, COMPREHENSIONS) for part in parts)
            if nested and any(isinstance(part, ast.NamedExpr) for part in parts):
                yield node.lineno


@pytest.mark.quick
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_written_in_plain_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(packed_lines(tree)) == []
    assert list(vague_names(tree)) == []
    assert list(captured_defaults(tree)) == []
    assert list(named_inside_nests(tree)) == []


@pytest.mark.quick
def test_the_rules_see_what_they_forbid():
    tree = ast.parse(
        "a, b = 1, 2\na, b = b, a\nfound = 3\n"
        "f = lambda x, y=a: x\nr = [[z for z in w] for w in q if (n := w)]\n"
    )
    assert list(packed_lines(tree)) == [1]
    assert list(vague_names(tree)) == ["found in line 3"]
    assert list(captured_defaults(tree)) == [4]
    assert list(named_inside_nests(tree)) == [5]
