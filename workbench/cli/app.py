"""The command line: each command is a thin call into the API; `--json` prints one JSON document."""

import sys

import typer

from workbench.allocator import keep_freed
from workbench.cli import (
    budget,
    causal,
    changes,
    evaluation,
    fairness,
    house,
    pictures,
    privacy,
    reading,
    recipes,
    serving,
    sweeps,
    training,
)
from workbench.cli.terminal import err, plain
from workbench.errors import WorkbenchError

app = typer.Typer(
    name="workbench",
    help="Train, load, benchmark, look inside, change and compare small GPT models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; an error that the user can fix prints one sentence, exit code 2."""
    keep_freed()  # before other threads begin
    try:
        app()
    except WorkbenchError as error:
        err.print(f"[red]error:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


for command in (
    serving.serve,
    serving.key,
    house.models,
    training.train,
    sweeps.sweep,
    budget.costs,
    budget.usage,
    budget.scaling,
    reading.attention,
    reading.heads,
    changes.compare,
    house.export,
    house.card,
    house.runs,
    training.dynamics,
    house.doctor,
    house.bench,
    house.families,
    causal.patch,
    causal.probe,
    causal.needs,
    causal.ablate,
    causal.circuit,
    causal.linear,
    reading.attribution,
    reading.lens,
    reading.inputs,
    changes.locate,
    changes.transplant,
    changes.report,
    privacy.scan,
    privacy.audit,
    fairness.fairness,
):
    app.command()(command)
app.command("app")(house.serve_app)
app.command("eval")(evaluation.evaluate)
app.add_typer(recipes.app, name="recipe")
app.add_typer(pictures.app, name="pictures")
