"""A built wheel in an empty environment serves the same app from an unrelated folder."""

import os
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_wheel_serves_the_app_from_an_unrelated_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT], check=True
    )
    wheel = next((tmp_path / "dist").glob("*.whl"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "torch==2.13.0"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "models.py").write_text("raise SystemExit('the user file was imported')")
    (elsewhere / "datasets.py").write_text("raise SystemExit('the user file was imported')")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WORKBENCH", "PYTHON"))}
    environment |= {"WORKBENCH_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = tmp_path / "venv" / "bin" / "workbench"
    listed = subprocess.run(
        [command, "models"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "shelf-base" in listed.stdout
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = subprocess.Popen([command, "app", "--port", str(port)], cwd=elsewhere, env=environment)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.5)
        pytest.fail("the app did not answer")
    finally:
        app.terminate()
        app.wait(20)
