"""The lowest versions that pyproject.toml states are enough: they install together, and every
module imports.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, pkgutil, workbench
faults = {}
for module in pkgutil.walk_packages(workbench.__path__, "workbench.", onerror=faults.setdefault):
    if module.name not in ("workbench.__main__", "workbench.ui.app"):  # these two run something
        try:
            importlib.import_module(module.name)
        except Exception as error:
            faults[module.name] = repr(error)
assert not faults, faults
subject = workbench.load("shelf-base")
assert subject.model(subject.encode("The cat sat on the mat")).logits.isfinite().all()
print("imported")
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_lowest_stated_versions_install_and_import(tmp_path):
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv is not None, "uv is a dependency of the tests"
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True
    )
    # torch alone is not the lowest one: its old builds bring gigabytes of CUDA along.
    override = tmp_path / "override.txt"
    override.write_text("torch==2.13.0\n")
    install = [uv, "pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct"]
    subprocess.run([*install, "--override", override, ROOT], check=True)
    ran = subprocess.run([python, "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0 and "imported" in ran.stdout, ran.stderr[-3000:]
