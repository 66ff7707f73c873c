"""The app's server: Streamlit's ASGI app under Uvicorn, so that other routes can be mounted beside
the pages.
"""

import os
from pathlib import Path
from typing import Any

from workbench.serving.guard import Guard
from workbench.serving.keys import Keys
from workbench.serving.routes import routes
from workbench.serving.server import check_port, keys_for, run, shared_service
from workbench.ui.parts import explorer_route

ENTRY = Path(__file__).with_name("app.py")
SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": True,
    "theme.base": "light",
    "theme.primaryColor": "#2166ac",
}


def make_app(keys: Keys) -> Any:
    """The pages and, on the same port, the API; both behind the guard."""
    import streamlit as st

    return Guard(st.App(ENTRY, routes=[*routes(shared_service()), *explorer_route.routes()]), keys)


def serve(host: str, port: int, key_file: Path | None = None) -> None:
    """Serve until interrupted.

    Raises `WorkbenchError` when the port is taken, and for an address of other machines without a
    key.
    """
    # Threads that spin while they wait would take the cores from runs in the background, and from
    # each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keys = keys_for(host, key_file)
    check_port(host, port)
    from streamlit import config

    for name, value in SETTINGS.items():
        config.set_option(name, value)
    run(make_app(keys), host, port, shared_service().limits)
