"""Every call of a function with shapes in its signature is checked, in all tests, against what it
says.

`tests/__init__.py` switches it on, before anything of the package is imported.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parents[1] / "workbench"
SHAPES = ("Float[", "Int[", "Bool[", "Real[", "Shaped[")
CONF = BeartypeConf(is_pep484_tower=True)  # an int is welcome where a float is


def has_shapes(function: Callable[..., Any]) -> bool:
    """Whether any of its annotations is an array with named dimensions."""
    annotations = getattr(function, "__annotations__", {}).values()
    return any(shape in str(annotation) for annotation in annotations for shape in SHAPES)


def check(function: Any) -> Any:
    """The function with its calls checked, where it has shapes; else as it is."""
    return beartype(conf=CONF)(function) if has_shapes(function) else function


def switch_on() -> None:
    """Check what is imported of the package from now on."""
    install_import_hook(list(modules()), "tests.shape_checks.check")


def modules() -> Iterator[str]:
    """Every module that names shapes; hooking the others would only slow their imports."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(shape in text for shape in SHAPES):
            yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
