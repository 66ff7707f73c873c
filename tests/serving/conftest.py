"""A live server in a process of its own, serving the bundled model and an edit of it."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Live:
    """A running `workbench serve`."""

    process: subprocess.Popen
    url: str
    edit: str

    @property
    def v1(self) -> str:
        """The base URL as clients want it."""
        return f"{self.url}/v1"

    def post(self, path: str, **body):
        """One request of the API."""
        return httpx.post(f"{self.v1}{path}", json=body, timeout=120)


def start(*arguments: str, command: str = "serve") -> tuple[subprocess.Popen, str]:
    """`workbench serve`, or another command, with these arguments, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "workbench", command, *arguments, "--port", str(port)]
    process = subprocess.Popen(whole, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.2)
    return process, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def live(home):
    """One server for all tests of the folder."""
    from workbench.subjects.intervention import Edit, Intervention

    change = Intervention(
        "served",
        "shelf-base",
        (Edit(3, "z", (1, 2)), Edit(4, "resid_post", (), "add", [0.2] * 192)),
    )
    edit = change.save()
    process, url = start("shelf-base", edit)
    yield Live(process, url, edit)
    process.terminate()
    process.wait(60)
