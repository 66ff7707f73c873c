"""Handing a model to vLLM, up to vLLM itself, which needs a GPU: a script stands in its place and
prints how it was called.
"""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

import workbench as wb
from tests.serving.conftest import ROOT
from workbench.errors import WorkbenchError
from workbench.serving.vllm import KEY, command
from workbench.subjects.intervention import Edit, Intervention


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """A program of this name that prints its arguments."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_vllm_gets_a_checkpoint_of_the_same_logits(vllm, home):
    whole = [sys.executable, "-m", "workbench", "serve", "shelf-base", "--engine", "vllm"]
    ran = subprocess.run(
        [*whole, "--port", "8123"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    verb, folder, *options = json.loads(ran.stdout)
    assert verb == "serve" and "--served-model-name=shelf-base" in options
    assert {"--host=127.0.0.1", "--port=8123", "--dtype=float32"} < set(options)
    subject = wb.load("shelf-base")
    assert f"--max-model-len={subject.n_ctx}" in options
    read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = subject.encode("The king said")
    with torch.no_grad():
        torch.testing.assert_close(
            read(ids).logits, subject.model(ids).logits, atol=1e-4, rtol=1e-5
        )
    assert command(["shelf-base"], "127.0.0.1", 8123, None, "float32")[2] == folder


def test_what_vllm_cannot_do_is_refused(vllm, home, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    for names, host, keys, words in (
        ([], "127.0.0.1", None, "one model at a time, not 0"),
        (["shelf-base", "shelf-tuned"], "127.0.0.1", None, "not 2"),
        (["shelf-base"], "0.0.0.0", None, f"set {KEY}"),
        (["shelf-base"], "127.0.0.1", tmp_path / "keys", "needs the key"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            command(names, host, 1, keys, "float32")
    edit = Intervention("steered", "shelf-base", (Edit(4, "resid_post", (), "add", [0.2] * 192),))
    with pytest.raises(WorkbenchError, match="edited while it runs"):
        command([edit.save()], "127.0.0.1", 1, None, "float32")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkbenchError, match="vLLM is not installed"):
        command(["shelf-base"], "127.0.0.1", 1, None, "float32")
