"""The schema of recipes for people and editors: table rows, docs/recipes.md, JSON Schema."""

import inspect
import json
from typing import Any

from pydantic import TypeAdapter

from workbench.training.recipe import Recipe
from workbench.training.schema import TABLES, allowed, properties

HEAD = """\
# Recipes

A recipe is one TOML file that says how a model is trained or fine-tuned. `workbench recipe keys`
prints this table, `workbench recipe check FILE.toml` checks a recipe and lists everything that is
wrong with it at once, and `workbench recipe schema` prints the JSON schema, which is also stored in
`models/recipe.schema.json`. Editors that know TOML schemas (Even Better TOML, Taplo) complete and
check a recipe that begins with

```toml
#:schema ./recipe.schema.json
```

This page is made from the same schema by `workbench recipe page`; do not edit it by hand.
"""


def rows(table: str = "") -> list[dict[str, str]]:
    """One row for each key of a table (or of the recipe itself): key, takes, default, meaning."""
    entries = properties(TABLES[table] if table else Recipe)
    keys = []
    for key, entry in entries.items():
        if not table and key in TABLES:
            continue
        keys.append(
            {
                "key": key,
                "takes": allowed(entry),
                "default": _default(entry),
                "meaning": entry.get("description", ""),
            }
        )
    return keys


def _default(entry: dict[str, Any]) -> str:
    value = entry.get("default")
    return "" if value is None or value == "" else json.dumps(value)


def markdown() -> str:
    """The text of the page docs/recipes.md."""
    parts = [HEAD]
    for table in ("", *TABLES):
        text = inspect.getdoc(TABLES[table] if table else Recipe) or ""
        first_paragraph = text.split("\n\n")[0]
        title = f"[{table}]" if table else "The recipe itself"
        parts.append(f"## {title}\n\n{' '.join(first_paragraph.split())}\n")
        lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
        for row in rows(table):
            default = f"`{row['default']}`" if row["default"] else ""
            lines.append(f"| `{row['key']}` | {row['takes']} | {default} | {row['meaning']} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def json_schema() -> str:
    """The JSON schema of a recipe as text, as stored in `models/recipe.schema.json`."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **TypeAdapter(Recipe).json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
