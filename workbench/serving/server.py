"""Serving the API, alone or beside the pages, behind the guard, in one process on one port."""

import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.serving.guard import Guard, is_local
from workbench.serving.keys import Keys, read_keys
from workbench.serving.limits import Limits
from workbench.serving.models import Models
from workbench.serving.routes import routes
from workbench.serving.service import Service

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Names of the dtypes that a service can hold weights in."""


def make_service(
    names: Sequence[str] = (), limits: Limits | None = None, dtype: str = "float32"
) -> Service:
    """A service of models.

    Args:
        names: Of the models; without any, all that can be loaded offline.
        limits: Of the service; None for the defaults.
        dtype: Of the weights: `float32` or `bfloat16`.

    Raises:
        WorkbenchError: For another dtype.
    """
    if dtype not in DTYPES:
        raise WorkbenchError(f"Weights can be {' or '.join(DTYPES)}, not {dtype!r}.")
    limits = limits or Limits()
    return Service(Models(limits, names, DTYPES[dtype]), limits)


@cache
def shared_service() -> Service:
    """The one service of the app's process, used by the API and by pages that generate text."""
    return make_service()


def make_app(service: Service, keys: Keys) -> Any:
    """The API as an ASGI app of its own, behind the guard."""
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        service.models.close()

    return Guard(Starlette(routes=routes(service), lifespan=lifespan), keys)


def keys_for(host: str, key_file: Path | None) -> Keys:
    """The keys of a service; raises `WorkbenchError` if it would be open to other machines."""
    keys = read_keys(key_file)
    if not keys and not is_local(host):
        raise WorkbenchError(
            f"{host} can be reached from other machines, so a key is needed: make one with "
            "`workbench key FILE` and give --key-file FILE, or leave --host out."
        )
    return keys


def check_port(host: str, port: int) -> None:
    """Raise `WorkbenchError` if the port is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise WorkbenchError(
                f"{host}:{port} cannot be used ({error.strerror}); another app may run there. "
                "Choose one with --port."
            ) from error


def run(app: Any, host: str, port: int, limits: Limits | None = None) -> None:
    """Serve an ASGI app until interrupted; open requests are finished before it ends.

    Args:
        app: The app.
        host: Address to listen on.
        port: Port to listen on.
        limits: Of the service; None for the defaults.
    """
    import uvicorn

    limits = limits or Limits()
    logging.getLogger("uvicorn.access").disabled = True  # /metrics counts the requests
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=1 << 16,
        limit_concurrency=4 * limits.at_once,
        timeout_graceful_shutdown=int(limits.drain),
    )


def serve(
    names: Sequence[str],
    host: str,
    port: int,
    key_file: Path | None,
    limits: Limits | None = None,
    dtype: str = "float32",
) -> None:
    """Serve the API without the pages until interrupted.

    Args:
        names: Models to serve, loaded first; without any, all that can be loaded offline.
        host: Address to listen on.
        port: Port to listen on.
        key_file: With the hashes of API keys; needed if other machines can reach the address.
        limits: Of the service; None for the defaults.
        dtype: Of the weights: `float32` or `bfloat16`.

    Raises:
        WorkbenchError: For a missing key, another dtype, a port in use, or a model that cannot be
            loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keys = keys_for(host, key_file)
    check_port(host, port)
    service = make_service(names, limits, dtype)
    for name in names:
        with service.models.use(name):
            pass
    run(make_app(service, keys), host, port, service.limits)
