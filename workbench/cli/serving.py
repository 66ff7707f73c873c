"""`workbench serve` and `workbench key`: models as a service."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.terminal import err, out
from workbench.errors import WorkbenchError

Host = Annotated[
    str,
    typer.Option(help="Address to listen on; one that others can reach needs --key-file."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with hashes of API keys; `workbench key FILE` makes one."),
]


def serve(
    model: Annotated[
        list[str] | None, typer.Argument(help="Serve only these models; else all available ones.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8502,
    key_file: KeyFile = None,
    memory: Annotated[
        float, typer.Option(help="GiB of weights to keep loaded; least recently used go first.")
    ] = 4.0,
    dtype: Annotated[
        str,
        typer.Option(help="Of the weights: bfloat16 takes half the memory, and rounds."),
    ] = "float32",
    engine: Annotated[
        str,
        typer.Option(help="workbench, or vllm: hands an export of one model to an installed vLLM."),
    ] = "workbench",
) -> None:
    """Serve models by an OpenAI-compatible API, without the pages."""
    from workbench.serving import Limits
    from workbench.serving import serve as run

    if engine not in ("workbench", "vllm"):
        raise WorkbenchError(f"The engine is {engine!r}; choose workbench or vllm.")
    if engine == "vllm":
        from workbench.serving.vllm import command

        whole = command(model or [], host, port, key_file, dtype)
        err.print(shlex.join(whole), soft_wrap=True, highlight=False)
        os.execv(whole[0], whole)
    err.print(
        f"The API at [bold]http://{host}:{port}/v1[/], its fields at /v1/docs  (stop with Ctrl-C)"
    )
    run(model or [], host, port, key_file, Limits(memory=int(memory * 2**30)), dtype)


def key(
    file: Annotated[
        Path, typer.Argument(help="The key file; created if missing, else the key is added.")
    ],
) -> None:
    """Make an API key, print it once, and store its hash in a file."""
    from workbench.serving.keys import new_key

    out.print(new_key(file), highlight=False, soft_wrap=True)
