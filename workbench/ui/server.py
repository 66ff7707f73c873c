"""The app's server: Streamlit's ASGI app under Uvicorn, with the API on the same port."""

import os
from pathlib import Path
from typing import Any

from workbench import memory
from workbench.serving.guard import Guard
from workbench.serving.keys import Keys
from workbench.serving.routes import routes
from workbench.serving.server import check_port, keys_for, run, shared_service
from workbench.ui.parts import explorer_route

ENTRY = Path(__file__).with_name("app.py")
SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "runner.magicEnabled": False,  # a string that explains a constant is not to be shown
    "server.fileWatcherType": "none",
    "server.headless": True,
    # Light or dark as the reader's system is, until the menu says otherwise.
    "theme.light.primaryColor": "#2166ac",
    "theme.dark.primaryColor": "#3a80d9",
    "theme.dark.backgroundColor": "#0e1117",
    "theme.dark.secondaryBackgroundColor": "#1b222b",
    "theme.dark.sidebar.backgroundColor": "#151a21",
}


def make_app(keys: Keys) -> Any:
    """The ASGI app: the pages and the API, both behind the guard."""
    import streamlit as st

    return Guard(st.App(ENTRY, routes=[*routes(shared_service()), *explorer_route.routes()]), keys)


def serve(host: str, port: int, key_file: Path | None = None) -> None:
    """Serve pages and API until interrupted.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        key_file: File with the keys that clients must send; needed for other than local addresses.

    Raises:
        WorkbenchError: The port is taken, the address is open to other machines without a key, or
            `WORKBENCH_MEMORY` is no size.
    """
    # Waiting threads that spin would take the cores from background runs, and from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    memory.budget()  # says now what is wrong with it
    keys = keys_for(host, key_file)
    check_port(host, port)
    from streamlit import config

    for name, value in SETTINGS.items():
        config.set_option(name, value)
    run(make_app(keys), host, port, shared_service().limits)
