"""Every call of a function with shapes in its signature is checked, in all tests, against them.

`tests/__init__.py` switches it on, before anything of the package is imported.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

PACKAGE = Path(__file__).parents[1] / "workbench"
SHAPES = ("Float[", "Int[", "Bool[", "Real[", "Shaped[")
CONF = BeartypeConf(is_pep484_tower=True)  # an int is welcome where a float is
CHECKED = "_checked_by_the_tests"
IMPORT = f"from tests.shape_checks import checked as {CHECKED}"


def checked(thing: Any) -> Any:
    """A function or dataclass, with every call checked if it names shapes; else as it is."""
    annotations = getattr(thing, "__annotations__", {}).values()
    named = any(shape in str(annotation) for annotation in annotations for shape in SHAPES)
    if named and (not isinstance(thing, type) or is_dataclass(thing)):
        wrap: Any = jaxtyped(typechecker=beartype(conf=CONF))
        return wrap(thing)
    return thing


def with_checks(tree: ast.Module) -> ast.Module:
    """The module with `checked` around its functions, methods and classes.

    Functions inside functions are left alone: they would be wrapped anew at every call.
    """
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for part in (node, *inner):
            mark = ast.Name(CHECKED, ast.Load())
            if isinstance(part, ast.ClassDef):
                part.decorator_list.insert(0, mark)  # around the finished dataclass
            elif isinstance(part, ast.FunctionDef):
                # Innermost: a function's own decorators may take names for models.
                part.decorator_list.append(mark)
    documented = ast.get_docstring(tree) is not None
    tree.body[int(documented) : int(documented)] = ast.parse(IMPORT).body
    return ast.fix_missing_locations(tree)


class Loads(SourceFileLoader):
    """Compiles a module with its checks, and neither reads nor writes compiled files."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        """The code of the module with its checks."""
        tree = with_checks(ast.parse(data, path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def path_stats(self, path: str) -> Any:
        """No times, without which nothing compiled is kept."""
        raise OSError(f"{path} is compiled anew each time")


class Finds(MetaPathFinder):
    """Finds the modules that name shapes, before the interpreter's own finders do."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module's place with a loader that checks; None for any other module."""
        if fullname not in self.names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            loader: Loader = Loads(spec.loader.name, spec.loader.path)
            spec.loader = loader
        return spec


def switch_on() -> None:
    """Check what is imported of the package from now on."""
    sys.meta_path.insert(0, Finds(set(modules())))


def modules() -> Iterator[str]:
    """Every module that names shapes."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(shape in text for shape in SHAPES):
            yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
