"""Tiny real models for all tests; nothing is downloaded, and every test has a home folder of its
own session.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WORKBENCH_THREADS", "keep")  # another number may round otherwise

import pytest
import torch

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from transformers import PreTrainedModel

    from workbench.subjects import Subject
    from workbench.subjects.gpt import Block, WorkbenchGPTForCausalLM

STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
for variable, name in (("WORKBENCH_DATA", "data"), ("WORKBENCH_MODELS", "models")):
    if variable not in os.environ and (SHARED / name).is_dir():
        os.environ[variable] = str(SHARED / name)


QUICK = 60
"""Seconds that `make quick` may take."""


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Where the quick tests are no longer quick, say which ones are to blame."""
    took = time.monotonic() - STARTED
    if config.option.markexpr == "quick" and took > QUICK:
        reports = [report for reports in terminalreporter.stats.values() for report in reports]
        calls = [report for report in reports if getattr(report, "when", "") == "call"]
        slowest = sorted(calls, key=lambda report: -report.duration)[:5]
        names = ", ".join(f"{report.nodeid} ({report.duration:.1f} s)" for report in slowest)
        terminalreporter.write_line(
            f"{took:.0f} s are not quick (more than {QUICK}); the slowest: {names}", red=True
        )


def pytest_runtest_setup(item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory) -> Path:
    """One home folder for the session, so that converted GGUF weights are kept between tests."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["WORKBENCH_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def smollm() -> str:
    """The SmolLM2 GGUF below WORKBENCH_MODELS, by the name `load` takes."""
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = os.environ.get("WORKBENCH_MODELS")
    if folder is None or not (Path(folder) / name).is_file():
        pytest.skip(f"needs {name} below WORKBENCH_MODELS")
    return name


@pytest.fixture
def run(capfd, monkeypatch):
    """A function that runs a command line in this process, which saves five seconds of imports."""

    def run_(*arguments: str) -> subprocess.CompletedProcess[str]:
        from workbench.cli.app import main

        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code or 0, printed.out, printed.err)

    return run_


def subject_of(model: "PreTrainedModel", name: str = "tiny") -> "Subject":
    """A Subject round a model whose text is its token ids, such as "3 1 2"."""
    from workbench.subjects import Subject
    from workbench.subjects.card import make_card
    from workbench.subjects.tokenizer import id_tokenizer

    card = make_card(model, name, "made by a test", "0" * 64, {})
    return Subject(name, model, id_tokenizer(card.d_vocab), card)


def tiny_gpt(seed: int = 0, **changes: Any) -> "WorkbenchGPTForCausalLM":
    """Our GPT with 2 layers, 4 heads and d_model 32.

    Its weights are large enough that attention is not flat.
    """
    from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM

    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "d_vocab": 100,
        "n_ctx": 64,
        "n_layers": 2,
        "n_heads": 4,
        "d_model": 32,
        "initializer_range": 0.2,
    }
    return WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**{**shape, **changes})).eval()


@pytest.fixture
def tiny() -> "Subject":
    """A Subject of `tiny_gpt`."""
    return subject_of(tiny_gpt())


def blocks(model: "PreTrainedModel") -> "list[Block]":
    """The blocks of our GPT; torch promises no more than Modules."""
    from workbench.subjects.gpt import WorkbenchGPTForCausalLM

    assert isinstance(model, WorkbenchGPTForCausalLM)
    return cast("list[Block]", list(model.model.layers))


def weight_of(part: torch.nn.Module | torch.Tensor | None) -> torch.Tensor:
    """The weight of a part; to a type checker an attribute of a Module may be anything."""
    assert isinstance(part, torch.nn.Module)
    assert isinstance(part.weight, torch.Tensor)
    return part.weight


def written_by(model: torch.nn.Module, ids: torch.Tensor, **settings: Any) -> torch.Tensor:
    """The ids that transformers' own `generate` writes, those of the prompt first."""
    return cast("Any", model).generate(ids, **settings)


def traces(figure: "Figure") -> list[Any]:
    """The traces of a figure; plotly makes their attributes as it runs."""
    return list(figure.data)


def layout_of(figure: "Figure") -> Any:
    """The layout of a figure; plotly makes its attributes as it runs."""
    return cast("Any", figure.layout)


def harness_model(**settings: Any) -> Any:
    """lm-eval's own model; a decorator hides its arguments from type checkers."""
    from lm_eval.models.huggingface import HFLM

    return cast("Any", HFLM)(**settings)
