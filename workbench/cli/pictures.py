"""`workbench pictures ...`: what models of pictures and sounds recognise, draw and look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.causal import say_failed, with_failed
from workbench.cli.terminal import Json, bar, check_out, out, print_json, show, warn, write_out
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import numpy as np

    from workbench.records import Record
    from workbench.subjects.encoder import Encoder

app = typer.Typer(
    help="Pictures and sounds: classify, draw, complete, attention, patch, lens, attribute.",
    no_args_is_help=True,
)
VIT = "shelf-vit"
GPT = "shelf-digits"
INKS = " .:-=+*#%@"
"""Characters from paper to ink."""
File = Annotated[
    str,
    typer.Argument(help="A PNG (or JPEG or WAV, by the model), or digits:N, the Nth held-out one."),
]
Seer = Annotated[str, typer.Option("--model", help="A ViT, AST or HuBERT: a name or folder.")]
Either = Annotated[
    str, typer.Option("--model", help="A ViT, AST or HuBERT, or a GPT of pictures (shelf-digits).")
]
Drawer = Annotated[str, typer.Option("--model", help="A GPT of pictures.")]
Page = Annotated[Path | None, typer.Option("--out", help="Write the figure here, as HTML.")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest grey level everywhere.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
PREFIX = "digits:"
SHOWN = 10
"""Cells of a patching map that are printed, the largest effects."""


@app.command()
def classify(
    file: Annotated[
        list[str] | None,
        typer.Argument(help="PNG, JPEG or WAV files, or digits:N; none for all held-out digits."),
    ] = None,
    model: Either = VIT,
    as_json: Json = False,
) -> None:
    """Name what pictures or sounds show, or measure the accuracy on the held-out digits."""
    from workbench.data.digits import digits
    from workbench.encoders.accuracy import encoder_accuracy
    from workbench.encoders.classes import encoder_classes
    from workbench.pictures.likelihood import classify_pictures

    encoder = _encoder(model)
    if not file:
        held_out = digits("test")
        with bar(as_json) as report:
            if encoder is None:
                measured: Any = classify_pictures(model, progress=report)
            else:
                _need_digits(encoder)
                measured = encoder_accuracy(
                    encoder, held_out.images, held_out.labels, progress=report
                )
        if as_json:
            print_json(measured.to_dict())
        else:
            out.print(f"{model}: {measured.headline()}, n = {measured.n}", highlight=False)
        return
    records: list[Any] = []
    for name in file:
        if encoder is not None:
            records.append(encoder_classes(encoder, _source(name)))
            warn(records[-1].remarks)
        else:
            records.append(classify_pictures(model, _levels(name)))
    if as_json:
        print_json([{"file": n, **r.to_dict()} for n, r in zip(file, records, strict=True)])
        return
    rows = []
    for name, record in zip(file, records, strict=True):
        first = record.predicted if encoder is not None else int(record.predicted[0])
        rows.append({"file": name, "class": first, "probability": float(record.probability.max())})
    show(rows, False, title=f"Classes by {model}")


@app.command()
def draw(
    digit: Annotated[int, typer.Argument(help="0 to 9.")],
    model: Drawer = GPT,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 3,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    out_file: Page = None,
    as_json: Json = False,
) -> None:
    """Draw new digits of a class, pixel by pixel."""
    from workbench.pictures.drawing import draw_digits

    check_out(out_file)
    record = draw_digits(model, digit, n, temperature=temperature, seed=seed)
    _finish(record, out_file, as_json)
    if not as_json:
        _print(record.images)


@app.command()
def complete(
    file: File,
    model: Drawer = GPT,
    rows: Annotated[int, typer.Option(help="Rows that are given, from the top.")] = 4,
    digit: Annotated[int | None, typer.Option(help="The class; left out, the rows decide.")] = None,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 3,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    out_file: Page = None,
    as_json: Json = False,
) -> None:
    """Complete a picture of which the first rows are given."""
    from workbench.pictures.drawing import complete_picture

    check_out(out_file)
    record = complete_picture(
        model, _levels(file), rows=rows, digit=digit, n=n, temperature=temperature, seed=seed
    )
    _finish(record, out_file, as_json)
    if not as_json:
        _print(record.images)


@app.command()
def attention(
    file: File,
    model: Either = VIT,
    digit: Annotated[int, typer.Option(help="Of a GPT: the class before the picture.")] = 0,
    out_file: Page = None,
    as_json: Json = False,
) -> None:
    """Attention of every head on a picture or sound; --out draws it."""
    from workbench.encoders.looking import encoder_attention
    from workbench.pictures.looking import picture_attention

    check_out(out_file)
    encoder = _encoder(model)
    if encoder is None:
        record: Any = picture_attention(model, _levels(file), digit)
    else:
        record = encoder_attention(encoder, _source(file))
        warn(record.remarks)
    _finish(record, out_file, as_json)


@app.command()
def patch(
    clean: File,
    corrupted: Annotated[str, typer.Argument(help="The other picture or sound.")],
    model: Seer = VIT,
    site: Annotated[str, typer.Option(help="What is replaced, such as resid_pre or z.")] = (
        "resid_pre"
    ),
    direction: Annotated[str, typer.Option(help="denoising or noising.")] = "denoising",
    answer: Annotated[
        str | None, typer.Option(help="Class of the first; left out, the model's.")
    ] = None,
    wrong: Annotated[
        str | None, typer.Option(help="Class of the second; left out, the model's.")
    ] = None,
    out_file: Page = None,
    as_json: Json = False,
) -> None:
    """Patch two pictures or sounds: which layers, patches and heads carry the class."""
    from workbench.encoders.patching import encoder_patching
    from workbench.subjects.encoder_load import load_encoder

    check_out(out_file)
    encoder = load_encoder(model)
    record = encoder_patching(
        encoder,
        [_source(clean)],
        [_source(corrupted)],
        answer=answer,
        wrong=wrong,
        site=site,
        direction=direction,
    )
    if as_json:
        print_json(with_failed(record.to_dict(), record.checks))
    say_failed(record.checks)
    if not as_json:
        frame = record.to_frame().drop(columns=["low", "high", "p"])
        if "pos" in frame:
            frame["pos"] = [record.tokens[i] for i in frame["pos"]]
        rows = frame.to_dict("records")
        largest = sorted(rows, key=lambda row: -abs(row["effect"]))[:SHOWN]
        show(largest, False, title=record.headline())
    _write(record, out_file)


@app.command()
def lens(file: File, model: Seer = VIT, out_file: Page = None, as_json: Json = False) -> None:
    """The classifier put after every layer: what it reads of a picture or sound."""
    from workbench.encoders.lens import encoder_lens
    from workbench.subjects.encoder_load import load_encoder

    check_out(out_file)
    record = encoder_lens(load_encoder(model), _source(file))
    say_failed(record.checks)
    if not as_json:
        rows = [
            {"after layers": i, "class": name, "probability": float(row.max())}
            for i, (name, row) in enumerate(zip(record.top, record.probability, strict=True))
        ]
        show(rows, False, title=f"{model} on {file}")
    _finish(record, out_file, as_json, shown=True)


@app.command()
def attribute(
    file: File,
    model: Seer = VIT,
    answer: Annotated[str | None, typer.Option(help="A class; left out, the model's.")] = None,
    wrong: Annotated[str | None, typer.Option(help="Another; left out, the next.")] = None,
    out_file: Page = None,
    as_json: Json = False,
) -> None:
    """What each patch adds to a logit difference, by integrated gradients."""
    from workbench.encoders.attribution import encoder_attribution
    from workbench.subjects.encoder_load import load_encoder

    check_out(out_file)
    record = encoder_attribution(load_encoder(model), _source(file), answer=answer, wrong=wrong)
    if not as_json:
        out.print(record.headline(), highlight=False)
        for row in record.scores:
            out.print(" ".join(f"{value:+7.3f}" for value in row), highlight=False)
    _finish(record, out_file, as_json, shown=True)


def _encoder(model: str) -> "Encoder | None":
    """The Encoder of that name; None for a GPT of pictures."""
    from workbench.subjects.encoder_load import load_encoder
    from workbench.subjects.kinds import stated_kind
    from workbench.subjects.names import local_path

    folder = None if model.startswith("run:") else local_path(model)
    if folder is None or stated_kind(folder / "config.json") not in ("picture", "sound"):
        return None
    return load_encoder(model)


def _need_digits(encoder: "Encoder") -> None:
    if not encoder.reads_digits:
        raise WorkbenchError(
            f"{encoder.name} does not read 8 by 8 digits, so there is no set to measure it on; "
            "name files."
        )


def _source(name: str) -> Any:
    """A held-out digit, or the path of a file."""
    return _held_out(name) if name.startswith(PREFIX) else Path(name)


def _levels(name: str) -> "np.ndarray":
    """Grey levels of a held-out digit or of a PNG."""
    from workbench.pictures.reading import read_picture

    if name.startswith(PREFIX):
        return _held_out(name)
    read = read_picture(name)
    warn(read.remarks)
    return read.image


def _held_out(name: str) -> "np.ndarray":
    from workbench.data.digits import digits

    number = name.removeprefix(PREFIX)
    images = digits("test").images
    if not number.isdecimal() or int(number) >= len(images):
        raise WorkbenchError(
            f"{name} names no held-out digit; they are {PREFIX}0 to {PREFIX}{len(images) - 1}."
        )
    return images[int(number)]


def _finish(record: "Record", path: Path | None, as_json: bool, *, shown: bool = False) -> None:
    """Print a record as JSON or in one line (unless `shown` already), and write its figure."""
    if as_json:
        print_json(record.to_dict())
    elif not shown:
        out.print(record.headline(), highlight=False)
    _write(record, path)
    if path is not None and not as_json:
        out.print(f"Wrote {path}", highlight=False)


def _write(record: "Record", path: Path | None) -> None:
    """Write a record's figure as a page of its own."""
    from workbench.figures.export import to_html

    figure = None if path is None else record.figure()
    if path is not None and figure is not None:
        write_out(path, to_html([figure], title=record.headline()))


def _print(images: "np.ndarray") -> None:
    """Pictures in characters, beside each other."""
    for start in range(0, len(images), 6):
        for row in range(images.shape[1]):
            line = "   ".join(
                "".join(INKS[level * (len(INKS) - 1) // 16] * 2 for level in image[row])
                for image in images[start : start + 6]
            )
            out.print(line, highlight=False, markup=False)
        out.print()
