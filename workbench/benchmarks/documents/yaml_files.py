"""Reads YAML of tasks and suites: limits its size and expansion, and names the line of an error."""

from pathlib import Path
from typing import Any

import yaml

from workbench.doors import reading
from workbench.errors import WorkbenchError

LARGEST = 2_000_000
"""Bytes of a settings file."""
MOST_PARTS = 100_000
"""Values in a file, counting those behind an alias each time it is used."""


class Loader(yaml.SafeLoader):
    """Reads plain data; aliases cannot expand to a billion values ("billion laughs")."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node, with the number of values in it as `n_parts`."""
        node: Any = super().compose_node(parent, index)
        if node is None or hasattr(node, "n_parts"):
            return node
        parts = _parts(node)
        if not all(hasattr(part, "n_parts") for part in parts):
            raise yaml.MarkedYAMLError(problem="it refers to itself", problem_mark=node.start_mark)
        node.n_parts = 1 + sum(part.n_parts for part in parts)
        if node.n_parts > MOST_PARTS:
            problem = f"its references stand for more than {MOST_PARTS:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node


def _parts(node: yaml.Node) -> list[Any]:
    """The nodes directly in a node: a mapping's keys and values, a sequence's items."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.CollectionNode) else []


def parsed(path: Path, loader: type[Loader] = Loader, *, what: str = "settings") -> tuple[Any, Any]:
    """(root node, values) of a YAML file; (None, None) if it is empty.

    Args:
        path: The file.
        loader: Knows the tags that may occur in it.
        what: What such a file holds, for the message about one that is too large.

    Raises:
        WorkbenchError: names the file, the line and what is wrong there.
    """
    with reading(path, "mend the file"):
        if path.stat().st_size > LARGEST:
            raise WorkbenchError(
                f"{path} is larger than {LARGEST / 1e6:g} MB; such a file holds {what}, not data."
            )
        text = path.read_text(encoding="utf-8")
        try:
            reader = loader(text)
            node = reader.get_single_node()
            return node, None if node is None else reader.construct_document(node)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            line = mark.line + 1 if mark else 1
            raise WorkbenchError(f"{path}, line {line}: not YAML: {problem}.") from error
