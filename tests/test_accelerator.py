"""The public API on an accelerator that mixes with no other device: it runs, and gives the numbers
of the CPU.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests import on_accelerator, pretend_accelerator

pytestmark = pytest.mark.skipif(
    not pretend_accelerator.AVAILABLE, reason="this torch has no backends in Python"
)
QUICK = [
    "mixing",
    "late",
    "no waits",
    "no waits with adamw",
    "logits",
    "packed engine",
    "generation",
    "serving",
    "patch",
    "train",
    "fine-tune by LoRA",
]
SLOW = [name for name in on_accelerator.ALL if name not in QUICK]
CLOSE = 1e-3
"""Sums on the pretend device are those of the CPU; a view may be added up in another order."""


def results_of(names: list[str], folder) -> dict[str, dict]:
    command = [sys.executable, "-m", "tests.on_accelerator", str(folder), *names]
    home = {"WORKBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **home}, timeout=1500
    )
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(names), done.stderr[-2000:]
    return {outcome["name"]: outcome for outcome in map(json.loads, lines)}


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> dict[str, dict]:
    return results_of(QUICK, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> dict[str, dict]:
    return results_of(SLOW, tmp_path_factory.mktemp("slow"))


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_on_an_accelerator(name, quick):
    assert quick[name].get("error", "") == ""
    assert quick[name]["apart"] < CLOSE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SLOW)
def test_it_runs_on_an_accelerator_too(name, slow):
    assert slow[name].get("error", "") == ""
    assert slow[name]["apart"] < CLOSE


def test_torch_itself_is_left_alone_here():
    assert not hasattr(torch, pretend_accelerator.NAME)
