"""What mkdocs does beside its plugins: formulas become MathML; public names make the API page."""

import ast
import re
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
ROOMS = {
    "subjects": "Models",
    "interp": "Looking inside",
    "benchmarks": "Benchmarks",
    "comparison": "Comparing two models",
    "training": "Training",
    "sweeps": "Many runs from one plan",
    "budget": "Costs and scaling",
    "privacy": "Privacy",
    "bias": "Fairness",
    "pictures": "Pictures",
    "encoders": "Encoders of pictures and sounds",
    "data": "Data",
    "errors": "Errors",
}
"""Headings of the API page by room; a public name of no room here fails the build."""
FORMULA = re.compile(r"^```math\n(.*?)^```$", re.M | re.S)
INCLUDED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_page_markdown(markdown: str, page, config, files) -> str:
    """The Markdown of a page as it is rendered."""
    source = page.file.src_uri
    if source in INCLUDED:
        markdown = (ROOT / INCLUDED[source]).read_text(encoding="utf-8").replace("](docs/", "](")
    if source == "reference/api.md":
        markdown = markdown.replace("<!-- names -->", api())
    return FORMULA.sub(lambda found: convert(found[1].strip(), display="block"), markdown)


def api() -> str:
    """A directive of mkdocstrings for each public name, below the room it lives in."""
    import workbench

    left = dict(workbench._HOMES)
    parts = []
    for room, words in ROOMS.items():
        names = sorted((n for n, home in left.items() if home.split(".")[1] == room), key=_order)
        parts.append(f"\n## {words}\n")
        parts += [f"::: {defined_in(left.pop(name), name)}.{name}\n" for name in names]
    if left:
        raise ValueError(f"docs/hooks.py gives no heading to the room of {', '.join(left)}")
    return "\n".join(parts)


def defined_in(home: str, name: str) -> str:
    """The module that defines a name which a package re-exports."""
    package = ROOT / home.replace(".", "/") / "__init__.py"
    tree = (
        ast.parse(package.read_text(encoding="utf-8")) if package.is_file() else ast.Module([], [])
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return defined_in(str(node.module), name)
    return home


def _order(name: str) -> tuple[bool, str]:
    """Functions first, in the order of the alphabet; then classes and tables."""
    return name[0].isupper(), name
