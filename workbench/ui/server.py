"""The app's server: Streamlit's ASGI app under Uvicorn, so that other routes can be mounted beside the pages."""

import os
import socket
from pathlib import Path

from workbench.errors import WorkbenchError

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


def serve(host: str, port: int) -> None:
    """Serve until interrupted. Raises `WorkbenchError` when the port is taken."""
    # Threads that spin while they wait would take the cores from runs in the background, and from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise WorkbenchError(
                f"{host}:{port} cannot be used ({error.strerror}); another app may run there. Choose one with --port."
            ) from error
    import streamlit as st
    import uvicorn
    from streamlit import config

    for name, value in SETTINGS.items():
        config.set_option(name, value)
    uvicorn.run(st.App(ENTRY), host=host, port=port, log_level="warning")
