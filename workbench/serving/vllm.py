"""Serving by vLLM, for more than one machine or GPU: our checkpoint, its engine, the same API."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.paths import home
from workbench.serving.guard import is_local
from workbench.subjects import load
from workbench.subjects.export import export

KEY = "VLLM_API_KEY"
"""The environment variable from which vLLM reads its API key."""


def command(
    names: Sequence[str], host: str, port: int, key_file: Path | None, dtype: str
) -> list[str]:
    """The command that serves a model by vLLM; the checkpoint that it names is written first.

    Args:
        names: The model, one.
        host: Address to listen on.
        port: Port to listen on.
        key_file: Not for vLLM, which needs the key itself; None.
        dtype: Of the weights: `float32` or `bfloat16`.

    Raises:
        WorkbenchError: vLLM is not installed, it is given another number of models, the address
            needs a key, or the model cannot be exported.
    """
    program = shutil.which("vllm")
    if program is None:
        raise WorkbenchError(
            "vLLM is not installed: `pip install vllm` on a machine with a GPU, or leave --engine "
            "out."
        )
    if len(names) != 1:
        raise WorkbenchError(f"vLLM serves one model at a time, not {len(names)}; name one.")
    if key_file is not None:
        raise WorkbenchError(
            f"A key file holds hashes, and vLLM needs the key: set {KEY} and leave --key-file out."
        )
    if not is_local(host) and not os.environ.get(KEY):
        raise WorkbenchError(
            f"{host} can be reached from other machines, so a key is needed: set {KEY}, or leave "
            "--host out."
        )
    subject = load(names[0])
    folder = home() / "exported" / subject.hash
    if not folder.exists():
        export(subject, folder)
    options = {
        "served-model-name": names[0],
        "host": host,
        "port": str(port),
        "dtype": dtype,
        "max-model-len": str(subject.n_ctx),
    }
    return [program, "serve", str(folder), *(f"--{k}={v}" for k, v in options.items())]
