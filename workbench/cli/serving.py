"""`workbench serve` and `workbench key`: the models as a service."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.terminal import err, out

Host = Annotated[
    str,
    typer.Option(help="Address to listen on; another than this machine's own needs --key-file."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="Hashes of the keys that open it; `workbench key FILE` makes one."),
]


def serve(
    model: Annotated[
        list[str] | None, typer.Argument(help="Only these models; else all that are at hand.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8502,
    key_file: KeyFile = None,
    memory: Annotated[
        float, typer.Option(help="GiB of weights in memory; the least recently used leave.")
    ] = 4.0,
) -> None:
    """Serve models by an API that OpenAI's clients speak, without the pages."""
    from workbench.serving import Limits
    from workbench.serving import serve as run

    err.print(
        f"The API at [bold]http://{host}:{port}/v1[/], its fields at /v1/docs  (stop with Ctrl-C)"
    )
    run(model or [], host, port, key_file, Limits(memory=int(memory * 2**30)))


def key(
    file: Annotated[
        Path, typer.Argument(help="The key file; it is made, or one more key is added.")
    ],
) -> None:
    """Make a key for a service, show it once, and keep its hash in a file."""
    from workbench.serving.keys import new_key

    out.print(new_key(file), highlight=False, soft_wrap=True)
