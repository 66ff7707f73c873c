"""The command line: each command a thin call into the API, `--json` for one document on standard output."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import cli_causal as causal
from workbench import cli_reading as reading
from workbench import cli_recipes as recipes
from workbench import cli_transplants as transplants
from workbench.errors import WorkbenchError
from workbench.foreground import in_foreground
from workbench.terminal import Json, Model, check_out, err, out
from workbench.terminal import bar as _bar
from workbench.terminal import plain as _plain
from workbench.terminal import print_json as _print_json
from workbench.terminal import show as _show
from workbench.terminal import warn as _warn

app = typer.Typer(
    name="workbench",
    help="Train, load, benchmark, look inside, change and compare small GPT models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Limit = Annotated[int | None, typer.Option(help="At most this many items a task.")]


def main() -> None:
    """Run the command line; an error that the user can mend is one sentence and exit code 2."""
    try:
        app()
    except WorkbenchError as error:
        err.print(f"[red]error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


@app.command("app")
def serve_app(
    port: Annotated[int, typer.Option(help="Port of the pages.")] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine only.")] = "127.0.0.1",
) -> None:
    """Serve the pages and print their URL."""
    from workbench.ui.server import serve

    out.print(f"Workbench {version('gpt-workbench')} at [bold]http://{host}:{port}[/]  (stop with Ctrl-C)")
    serve(host, port)


@app.command()
def models(as_json: Json = False) -> None:
    """List what can be loaded without the network."""
    from workbench.subjects import available

    found = [{"name": a.name, "kind": a.kind, "path": str(a.path)} for a in available()]
    _show(found, as_json, title="Models")


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A .toml file or a recipe on the models shelf.")] = None,
    steps: Annotated[int | None, typer.Option(help="Train this many steps instead of the recipe's.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run, cut short, exactly where it was.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs, measured here, and stop.")] = False,
    background: Annotated[bool, typer.Option(help="Start it as a process of its own and return.")] = False,
    as_json: Json = False,
) -> None:
    """Train or fine-tune as a recipe says, recorded as a run; under torchrun or accelerate launch on many processes.

    `workbench recipe keys` lists every key of a recipe with its type, range and default; `workbench recipe check`
    looks one over.
    """
    from workbench.store import Store, followers, jobs
    from workbench.training import TRAINING, Recipe, changed, many, start, work_of

    if (recipe is None) == (resume is None):
        raise WorkbenchError("Name either a recipe to train or, with --resume, a run to go on with.")
    store = Store()
    if resume is None:
        found = Recipe.read(recipe or "")
        if steps is not None:
            found = changed(found, steps=steps)
        if dry_run:
            _dry_run(found, as_json)
            return
    if followers.follower():
        many.follow(store)
        return
    run = store.reopen(resume, TRAINING) if resume else start(found, store)
    if background:
        run = jobs.launch(run, store)
    else:
        work = work_of(run)
        with _bar(as_json) as report:
            run = in_foreground(run, store, lambda tracker: work(run.config, many.lead(tracker)), report)
    result = {"run": run.id, "model": f"run:{run.id}", "status": run.status, **(run.result or {})}
    changes = [] if as_json else result.pop("changes", [])
    _show([result], as_json, title=run.title)
    if changes:
        columns = ("metric", "base", "tuned", "difference", "low", "high", "p", "n", "reason")
        _show(changes, False, title="Before and after, same held-out items", columns=columns)


def _dry_run(recipe: Any, as_json: bool) -> None:
    from workbench.training.cost import cost

    with _bar(as_json) as report:
        found = cost(recipe, progress=report)
    if as_json:
        _print_json(found.to_dict())
    else:
        rows = [{"what": what, "value": value} for what, value in found.words()]
        _show(rows, False, title=f"{recipe.title}: what it costs on this machine")


@app.command("eval")
def evaluate(
    model: Annotated[
        list[str] | None, typer.Argument(help="One or more models; with several, the first is the base.")
    ] = None,
    suite: Annotated[str, typer.Option(help="A suite, a task, or the YAML file of either.")] = "core",
    limit: Limit = 100,
    seed: Annotated[int, typer.Option(help="Of the random subset of items.")] = 0,
    shots: Annotated[
        int | None, typer.Option(help="Solved examples before each question; else the task's own.")
    ] = None,
    vary: Annotated[list[str] | None, typer.Option(help="Also ask so: shots=2, prompt=instructed; repeatable.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this evaluation, cut short.")] = None,
    trust_tasks: Annotated[
        bool,
        typer.Option("--trust-tasks", help="Let task files run the Python that they name. Only of people you trust."),
    ] = False,
    file: Annotated[Path | None, typer.Option("--out", help="Write a self-contained HTML report here.")] = None,
    as_json: Json = False,
) -> None:
    """Benchmark models on a suite, recorded as a run; under torchrun or accelerate launch on many processes."""
    from workbench.benchmarks import Results
    from workbench.benchmarks.export import report as page
    from workbench.benchmarks.run import run_job
    from workbench.benchmarks.user_tasks import trusting
    from workbench.statistics import too_few
    from workbench.store import Store, followers

    model = model or []
    if bool(model) == (resume is not None):
        raise WorkbenchError("Name either models to evaluate or, with --resume, an evaluation to go on with.")
    check_out(file)
    if len(model) > 1 and limit is not None and (why := too_few(limit)):
        err.print(_plain(why))
    config = {"models": model, "suite": suite, "limit": limit, "seed": seed, "num_fewshot": shots}
    config["variants"] = vary or []
    if followers.follower():
        with trusting(trust_tasks):
            run_job(config if resume is None else Store().get(resume).config, followers.Silent())
        return
    store = Store()
    if resume is not None:
        run = store.reopen(resume, ("eval",))
        model, suite = list(run.config["models"]), str(run.config.get("suite", "core"))
    else:
        run = store.create("eval", f"{suite}: {', '.join(model)}", config)
    with trusting(trust_tasks), _bar(as_json) as report:
        run = in_foreground(run, store, lambda tracker: run_job(run.config, tracker), report)
    result: dict[str, Any] = {"run": run.id, **(run.result or {})}
    if file:
        found = {name: Results.read(record["folder"]) for name, record in result["models"].items()}
        file.write_text(page(found, title=f"{suite}: {', '.join(found)}"), encoding="utf-8")
    if as_json:
        _print_json(result)
        return
    rows = [{"model": name, **row} for name, found in result["models"].items() for row in found["rows"]]
    columns = ("model", "task", "metric", "value", "stderr", "low", "high", "n", "n_unscored", "reason")
    _show(rows, False, title=f"Suite {suite}", columns=columns)
    for name, found in result["models"].items():
        for task, why in found["skipped"]:
            err.print(f"{name}: {task} skipped: {_plain(why)}")
    if result["comparison"]:
        _show(result["comparison"], False, title=f"Against {model[0]}, same items", columns=_PAIRED)


_PAIRED = ("model", "task", "base", "tuned", "difference", "low", "high", "p_adjusted", "n", "reason")


@app.command()
def attention(
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text whose attention is read.")],
    file: Annotated[Path | None, typer.Option("--out", help="Write a self-contained HTML page here.")] = None,
    layer: Annotated[int, typer.Option(help="Layer of the head shown in full.")] = 0,
    head: Annotated[int, typer.Option(help="The head shown in full.")] = 0,
    as_json: Json = False,
) -> None:
    """Attention patterns of a prompt: an atlas of all heads, and one head in full."""
    from workbench.interp import attention as read
    from workbench.subjects import load

    check_out(file)
    found = read(load(model), prompt)
    pattern = found.head(layer, head)
    written = None if file is None else str(found.to_html(file, layer=layer, head=head))
    if as_json:
        shape = dict(zip(("layers", "heads", "query", "key"), found.pattern.shape, strict=True))
        record = {"model": found.subject, "sha256": found.sha256, "prompt": prompt, "tokens": found.tokens}
        _print_json({**record, **shape, "layer": layer, "head": head, "pattern": pattern.tolist(), "file": written})
    elif written:
        out.print(f"Wrote {written}")
    else:
        _warn(found.warnings)
        rows = found.to_frame(layer, head).nlargest(15, "attention").to_dict("records")
        _show(rows, False, title=f"L{layer}H{head}: strongest pairs (give --out FILE.html for the figure)")


@app.command()
def heads(
    model: Model,
    score: Annotated[str, typer.Option(help="Sort by this score.")] = "induction_score",
    top: Annotated[int, typer.Option(help="At most this many heads.")] = 10,
    texts: Annotated[
        Path | None, typer.Option(help="A file of texts to measure on, blank lines between them; else random tokens.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Heads with the most of a score, its 95 % interval and their labels."""
    from workbench.interp import head_catalogue
    from workbench.interp.texts import read_passages
    from workbench.subjects import load

    found = head_catalogue(load(model), texts=None if texts is None else read_passages(texts))
    n = found.scores.n
    rows = found.best(score, top).to_dict("records")
    _show(rows, as_json, title=f"{model}: {score}, mean of {n} samples, 95 % interval ({found.scores.text})")


@app.command()
def compare(
    base: Model,
    tuned: Model,
    suite: Annotated[str, typer.Option(help="A suite or a task.")] = "core",
    limit: Limit = 100,
    part: Annotated[
        list[str] | None, typer.Option(help="Only this: behaviour, text, layers, heads, weights; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of items, random sequences and probes.")] = 0,
    as_json: Json = False,
) -> None:
    """What changed between two models: weights, heads, text, layers and behaviour, each shown as it is there."""
    from workbench.comparison import compare as run
    from workbench.comparison.terminal import tables

    wanted = part or ["behaviour", "text", "layers", "heads", "weights"]
    shown: Any = (
        None if as_json else lambda name, found: [_show(rows, False, title=t) for t, rows in tables(name, found)]
    )
    with _bar(as_json) as report:
        found = run(base, tuned, suite=suite, limit=limit, seed=seed, parts=wanted, progress=report, partial=shown)
    if as_json:
        _print_json(found.to_dict())
        return
    for note in found.notes:
        err.print(_plain(note))


@app.command()
def export(
    model: Model,
    target: Annotated[Path, typer.Argument(help="The folder or .gguf file to write; it must not exist yet.")],
    form: Annotated[
        str, typer.Option(help="transformers (any program reads it), workbench (our own class), or gguf.")
    ] = "",
    half: Annotated[bool, typer.Option(help="Store the weights in float16, half the size.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model for other programs: a transformers folder with card, or one GGUF file."""
    from workbench.subjects import load
    from workbench.subjects.export import export as write

    subject = load(model)
    chosen = form or ("gguf" if target.suffix == ".gguf" else "transformers")
    path = write(subject, target, form=chosen, half=half)
    row = {"model": subject.name, "written": str(path), "form": chosen, "sha256": load(path).hash}
    _show([row], as_json, title="Exported")


@app.command()
def runs(
    kind: Annotated[str | None, typer.Option(help="train, finetune or eval.")] = None,
    cancel: Annotated[str | None, typer.Option(help="Cancel this run.")] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first; or cancel one."""
    from dataclasses import asdict

    from workbench.store import Store, jobs

    if cancel is not None:
        jobs.cancel(cancel)
    found = [asdict(run) for run in Store().list(kind)]
    _show(found, as_json, title="Runs", columns=("id", "kind", "title", "status", "progress", "message"))


@app.command()
def dynamics(
    run: Annotated[str, typer.Argument(help="A pretraining run that kept checkpoints, or a bundled model.")],
    task: Annotated[str, typer.Option(help="The benchmark task asked of every checkpoint.")] = "repeat",
    as_json: Json = False,
) -> None:
    """When a run learned what: loss, head scores and a benchmark over its checkpoints."""
    from dataclasses import asdict

    from workbench.comparison.dynamics import dynamics as measure

    with _bar(as_json) as report:
        found = measure(run, task=task, progress=report)
    if as_json:
        _print_json({**asdict(found), "rise": found.rise()})
    else:
        _show(found.to_frame().to_dict("records"), False, title=f"{found.title}: what it had learned, by tokens")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: device, folders, background work, network."""
    from workbench.doctor import checks

    found = checks()
    _show(found, as_json, title="Doctor")
    if not all(row["ok"] for row in found):
        raise typer.Exit(1)


@app.command()
def families(
    name: Annotated[list[str] | None, typer.Argument(help="Only these model types, such as opt or falcon.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write the table here, as Markdown.")] = None,
    as_json: Json = False,
) -> None:
    """Which reading works on which family of models, tried on a tiny random model of each (all: half an hour)."""
    from dataclasses import asdict

    from workbench.bench_families import markdown, measure
    from workbench.subjects import zoo

    if unknown := [n for n in name or [] if n not in zoo.families()]:
        raise WorkbenchError(f"transformers has no causal model type {', '.join(unknown)}; try gpt2, llama or opt.")
    found = []
    with _bar(as_json) as report:
        for done, each in enumerate(wanted := name or zoo.families()):
            report(done / len(wanted), each)
            found.append(measure(each))
    if file is not None:
        file.write_text(markdown(found), encoding="utf-8")
    if as_json:
        _print_json([asdict(family) for family in found])
    elif file is not None:
        out.print(f"Wrote {file}")
    else:
        _show([{"family": f.name, "loads": f.loads or "yes", **f.outcome} for f in found], False, title="Families")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="attention, patching, eval or training")],
    as_json: Json = False,
) -> None:
    """Measure ours against a reference in one process: ratio and exactness."""
    from workbench.bench import run

    found = run(name, progress=lambda message: err.print(_plain(message)))
    if as_json:
        _print_json(found)
    else:
        _show(found["rows"], False, title=f"{name}, {found['machine']}")


app.add_typer(recipes.app, name="recipe")
for _command in (causal.patch, causal.probe, causal.needs, causal.ablate, causal.circuit, causal.linear):
    app.command()(_command)
for _command in (reading.attribution, reading.lens, reading.inputs):
    app.command()(_command)
for _command in (transplants.locate, transplants.transplant, transplants.report):
    app.command()(_command)
