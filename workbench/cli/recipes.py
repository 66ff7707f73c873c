"""`workbench recipe ...`: check a recipe, list its keys, print its schema for editors."""

import sys
from typing import Annotated

import typer

from workbench.cli.terminal import Json, out, print_json, show

app = typer.Typer(help="Check a recipe, list its keys, print its schema.", no_args_is_help=True)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A .toml file or the name of a bundled recipe.")],
    as_json: Json = False,
) -> None:
    """Check a recipe without starting it: all faults at once, and whether its files exist."""
    from workbench.training import Recipe
    from workbench.training.checks import check as looked_over

    recipe = looked_over(Recipe.read(name))
    if as_json:
        print_json(recipe.to_dict())
    else:
        out.print(f"{name} is right: {recipe.title}, {recipe.kind}, {recipe.train.steps:,} steps.")


@app.command()
def keys(as_json: Json = False) -> None:
    """List every key of a recipe with its type, range, default and meaning."""
    from workbench.training import recipe_docs
    from workbench.training.schema import TABLES

    if as_json:
        print_json({table or "recipe": recipe_docs.rows(table) for table in ("", *TABLES)})
        return
    for table in ("", *TABLES):
        title = f"[{table}]" if table else "A recipe"
        show(
            recipe_docs.rows(table),
            False,
            title=title,
            columns=("key", "takes", "default", "meaning"),
        )


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from workbench.training import recipe_docs

    sys.stdout.write(recipe_docs.json_schema())


@app.command()
def page() -> None:
    """Print the keys as Markdown, for docs/recipes.md."""
    from workbench.training import recipe_docs

    sys.stdout.write(recipe_docs.markdown())
