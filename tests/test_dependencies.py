"""What the code imports is what pyproject.toml declares: an install brings everything, and nothing
for nothing.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {
    requirement.name.lower(): requirement
    for requirement in map(
        Requirement,
        [
            *PROJECT["dependencies"],
            *PROJECT["optional-dependencies"]["privacy"],
            *PROJECT["optional-dependencies"]["cluster"],
        ],
    )
}


def normal(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, Path]:
    """Every foreign top-level module that the package or a page imports, and one file that does."""
    importer = {}
    for path in [*(ROOT / "workbench").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "workbench":
                    importer[top] = path
    return importer


def test_every_import_is_declared_and_every_declaration_is_imported():
    distributions = packages_distributions()
    needed = {normal(distributions[module][0]): path for module, path in imported().items()}
    declared = {normal(name) for name in DECLARED}
    assert not {name: str(path) for name, path in needed.items() if name not in declared}
    assert not declared - set(needed)


def test_what_is_installed_meets_what_is_declared():
    for name, requirement in DECLARED.items():
        assert requirement.specifier.contains(version(name), prereleases=True), requirement
