"""Commands about the workbench itself: models, export, runs, doctor, bench, app."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import serving
from workbench.cli.terminal import (
    Json,
    Model,
    bar,
    check_out,
    err,
    out,
    plain,
    print_json,
    show,
    write_out,
)
from workbench.errors import WorkbenchError


def serve_app(
    port: Annotated[int, typer.Option(help="Port of pages and API.")] = 8501,
    host: serving.Host = "127.0.0.1",
    key_file: serving.KeyFile = None,
) -> None:
    """Serve the pages and the API and print their URL."""
    from workbench.ui.server import serve

    out.print(
        f"Workbench {version('gpt-workbench')} at [bold]http://{host}:{port}[/]  (stop with Ctrl-C)"
    )
    serve(host, port, key_file)


def models(as_json: Json = False) -> None:
    """List the models that can be loaded offline."""
    from workbench.subjects import available

    rows = [{"name": a.name, "kind": a.kind, "path": str(a.path)} for a in available()]
    show(rows, as_json, title="Models")


def export(
    model: Model,
    target: Annotated[
        Path, typer.Argument(help="The folder or .gguf file to write; it must not exist yet.")
    ],
    form: Annotated[
        str,
        typer.Option(
            help=(
                "transformers (any program reads it), workbench (our own class), gguf, "
                "transformerlens or nanogpt."
            )
        ),
    ] = "",
    half: Annotated[
        bool, typer.Option(help="Store the weights in float16, half the size.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a model for other programs: a folder with a card (see --form), or one GGUF file."""
    from workbench.subjects import load
    from workbench.subjects.export import export as write

    subject = load(model)
    chosen = form or ("gguf" if target.suffix == ".gguf" else "transformers")
    path = write(subject, target, form=chosen, half=half)
    row = {"model": subject.name, "written": str(path), "form": chosen, "sha256": load(path).hash}
    show([row], as_json, title="Exported")


def card(
    model: Model,
    target: Annotated[
        Path | None, typer.Option("--out", help="Write it here; else it is printed.")
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option(help="Watts of a process that trained; else WORKBENCH_WATTS, else 65."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model card in Hugging Face's form: data, intended use, scores, energy, limits."""
    from workbench.subjects import load
    from workbench.subjects.model_card import model_card

    check_out(target)
    subject = load(model)
    text = model_card(subject, watts=watts)
    if target is not None:
        write_out(target, text)
    if as_json:
        print_json({"model": subject.name, "sha256": subject.hash, "card": text})
    elif target is None:
        out.print(text, highlight=False, markup=False, soft_wrap=True)


def runs(
    kind: Annotated[str | None, typer.Option(help="train, finetune or eval.")] = None,
    search: Annotated[
        str, typer.Option(help="Only runs with this text in their title, id or settings.")
    ] = "",
    tag: Annotated[str, typer.Option(help="Only runs with this tag.")] = "",
    rename: Annotated[
        tuple[str, str] | None, typer.Option(help="Give a run another title: ID TITLE.")
    ] = None,
    tags: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Give a run these tags: ID and tags between commas."),
    ] = None,
    cancel: Annotated[str | None, typer.Option(help="Cancel this run.")] = None,
    delete: Annotated[
        str | None, typer.Option(help="Delete this run and its checkpoints for good.")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(help="Copy this run's files to WORKBENCH_ARTEFACTS.")
    ] = None,
    fetch: Annotated[
        str | None, typer.Option(help="Fetch this run's files from WORKBENCH_ARTEFACTS.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first; name, tag, cancel, copy, fetch or delete one."""
    from dataclasses import asdict

    from workbench.store import Store, copies, jobs

    store = Store()
    if cancel is not None:
        jobs.cancel(cancel)
    if rename is not None:
        store.rename(*rename)
    if tags is not None:
        store.tag(tags[0], [word for word in tags[1].split(",") if word.strip()])
    if copy is not None:
        copies.copy(store.get(copy))
    if fetch is not None:
        copies.fetch_run(store.get(fetch))
    if delete is not None:
        store.delete(delete)
    rows = [asdict(run) for run in store.list(kind, search=search, tag=tag)]
    show(
        rows,
        as_json,
        title="Runs",
        columns=("id", "kind", "title", "tags", "status", "progress", "message"),
    )


def doctor(as_json: Json = False) -> None:
    """Check this machine: device, folders, background work, network."""
    from workbench.cli.doctor import checks

    rows = checks()
    show(rows, as_json, title="Doctor")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def families(
    name: Annotated[
        list[str] | None, typer.Argument(help="Only these model types, such as opt or falcon.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="Write the table here, as Markdown.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Which analysis works on which model family, tested on tiny models (all: 30 minutes)."""
    from dataclasses import asdict

    from workbench.speed.families import Family, markdown, measure
    from workbench.speed.stack_families import measure_stack, stack_markdown
    from workbench.subjects import zoo, zoo_stacks

    writers = [n for n in zoo.families() if not name or n in name]
    stacks = [f for f in zoo_stacks.stack_families() if not name or f.name in name]
    known = {*writers, *(f.name for f in stacks)}
    if unknown := [n for n in name or [] if n not in known]:
        raise WorkbenchError(
            f"transformers has no causal model type {', '.join(unknown)}, nor an encoder of that "
            "name; try gpt2, llama or opt, bert or t5."
        )
    n_all = len(writers) + len(stacks)
    measured: list[Family] = []
    by_kind: dict[str, list[Family]] = {}
    with bar(as_json) as report:
        for done, each in enumerate(writers):
            report(done / n_all, each)
            measured.append(measure(each))
        for done, family in enumerate(stacks):
            report((len(writers) + done) / n_all, family.name)
            by_kind.setdefault(family.kind, []).append(measure_stack(family))
    if file is not None:
        write_out(file, f"{markdown(measured)}\n{stack_markdown(by_kind)}")
    if as_json:
        every = [*measured, *(family for families in by_kind.values() for family in families)]
        print_json([asdict(family) for family in every])
    elif file is not None:
        out.print(f"Wrote {file}")
    else:
        outcomes = {f.name: {"load": f.loads or "yes", **f.outcome} for f in measured}
        for kind, of_kind in by_kind.items():
            for f in of_kind:
                outcomes[f"{f.name} ({kind})"] = {"load": f.loads or "yes", **f.outcome}
        rows = [
            {"family": family, "reading": reading, "outcome": outcome}
            for family, of_family in outcomes.items()
            for reading, outcome in of_family.items()
        ]
        show(rows, False, title="Families")


def bench(
    name: Annotated[
        str, typer.Argument(help="attention, patching, eval, serve, training, gpu, or all.")
    ],
    compare: Annotated[
        Path | None,
        typer.Option(help="What an older --json printed: say what got slower; then exit code 1."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure our speed against a reference in one process: time ratio and exactness."""
    from workbench.speed.compare import compared, read
    from workbench.speed.run import run

    old = None if compare is None else read(compare.expanduser())
    result = run(name, progress=lambda message: err.print(plain(message)))
    changes = [] if old is None else compared(old, result)
    if as_json:
        print_json(result if old is None else {**result, "compared": changes})
    elif name != "all":
        show(result["rows"], False, title=f"{name}, {result['machine']}")
    else:
        for bench in dict.fromkeys(row["bench"] for row in result["rows"]):
            rows = [row for row in result["rows"] if row["bench"] == bench]
            show(rows, False, title=f"{bench}, {result['machine']}")
    if old is not None and not as_json:
        show(changes, False, title=f"Against {compare}")
    if slower := [row["case"] for row in changes if row["verdict"] == "slower"]:
        err.print(plain(f"Slower than before: {'; '.join(slower)}."))
        raise typer.Exit(1)
