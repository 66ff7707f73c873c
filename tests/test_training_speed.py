"""What makes a training step fast on a GPU, as far as a CPU can tell: one graph, no mask, the same
rows gathered on a device, and matrices of one shape updated together.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import tiny_gpt
from workbench.subjects.positions import ENCODINGS
from workbench.training.compiling import PartLoss, part_loss
from workbench.training.corpus import Tokens
from workbench.training.feeding import OnDevice, fits, moved
from workbench.training.muon import Muon, orthogonal
from workbench.training.recipe import Optimisation
from workbench.training.resources import datasheet_rate
from workbench.training.two_texts import TwoTexts

CPU = torch.device("cpu")
SHAPE = {"d_vocab": 50, "n_ctx": 16, "n_layers": 2, "n_heads": 2, "d_model": 16}
ROWS = torch.arange(32).view(2, 16)


def model(**words: Any) -> Any:
    made_of = tiny_gpt(**{**SHAPE, **words})
    made_of.model.keep_rotations()
    return made_of.train()


def printed_by(name: str) -> list[dict[str, Any]]:
    """What a script beside this file prints, in a process without the checks of shapes."""
    script = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def compiled_steps() -> dict[str, Any]:
    """What `compiled_steps.py` prints."""
    return printed_by("compiled_steps.py")[0]


@pytest.fixture(scope="module")
def graphs() -> list[dict[str, Any]]:
    return printed_by("graphs.py")


@pytest.mark.timeout(600)
def test_model_and_loss_are_one_graph_without_breaks(graphs):
    assert len(graphs) == len(ENCODINGS) + 2 * 5 + 2
    for row in graphs:
        assert (row["graphs"], row["breaks"]) == (1, 0), row


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_step_equals_a_plain_one_and_is_compiled_once():
    steps = compiled_steps()
    assert steps["fast"] == pytest.approx(steps["plain"], abs=2e-3)
    assert steps["fast"][-1] < steps["fast"][0] - 1
    assert (steps["graphs"], steps["breaks"]) == (1, 0)


@pytest.mark.timeout(600)
def test_a_compiled_step_tells_attention_that_it_is_causal_by_no_mask(graphs):
    """Flash kernels take no mask; only ALiBi's biases need one."""
    for row in graphs:
        needs = row["words"].get("positions") == "alibi"
        assert row["attention"] == [[needs, not needs]], row


@pytest.mark.quick
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_training_tells_attention_that_it_is_causal_by_no_mask(encoding, monkeypatch):
    calls = []
    plain = F.scaled_dot_product_attention

    def noted(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **more):
        calls.append((attn_mask is not None, is_causal))
        return plain(query, key, value, attn_mask, dropout_p, is_causal, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    subject = model(positions=encoding)
    value = part_loss(subject, ROWS, ROWS)
    needs = encoding == "alibi"
    assert calls and set(calls) == {(needs, not needs)}
    there = torch.ones_like(ROWS)
    logits = subject(ROWS, attention_mask=there, use_cache=False).logits
    expected = F.cross_entropy(logits.flatten(0, 1), ROWS.flatten(), reduction="sum")
    assert torch.allclose(value, expected, atol=1e-4)


@pytest.mark.quick
def test_compiling_waits_for_a_shape_that_lasts_and_keeps_to_it(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **words: lambda *args: function(*args))
    loss = PartLoss("cpu", Optimisation(compile=True), alone=True)
    subject = model()
    widths = [16, 12, 16, 16, 16, 9, 16]
    counts = []
    for number, width in enumerate(widths):
        loss.begin(number)
        loss(subject, ROWS[:, :width], ROWS[:, :width])
        counts.append(loss.compiled)
    assert counts == [0, 0, 0, 1, 1, 1, 1]
    never = PartLoss("cpu", Optimisation(compile=False), alone=True)
    unset = PartLoss("cpu", Optimisation(), alone=True)
    for number in range(9):
        for each in (never, unset):
            each.begin(number)
            each(subject, ROWS, ROWS)
    assert never.compiled == unset.compiled == 0


@pytest.mark.quick
@pytest.mark.parametrize(("steps", "compiles"), [(10, 0), (1_000_000, 1)])
def test_compiling_by_itself_pays_for_long_runs_only(steps, compiles, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **words: function)
    loss = PartLoss("cuda", Optimisation(steps=steps), alone=True)
    loss._device = "cpu"  # it is asked to wait, and there is no GPU
    subject = model()
    for number in range(20):
        loss.begin(number)
        loss(subject, ROWS, ROWS)
    assert loss.compiled == compiles


@pytest.mark.quick
def test_dropout_is_there_in_training_only_and_scales_what_is_left():
    subject = model(dropout=0.5, zero_init=True)
    ids = torch.zeros(1, 16, dtype=torch.long)
    torch.manual_seed(0)
    stream = subject.model(ids, use_cache=False).last_hidden_state
    plain = subject.model.tok(ids)
    assert 0.3 < float((stream == 0).float().mean()) < 0.7
    first = subject.model.layers[0]
    dropped = first._dropped(plain)
    assert torch.allclose(dropped[dropped != 0], 2 * plain[dropped != 0])
    subject.eval()
    assert torch.equal(first._dropped(plain), plain)


@pytest.mark.quick
@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize("repeated", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_rows_gathered_on_a_device_are_those_of_the_corpus(end, repeated, dtype):
    ids = np.random.default_rng(0).integers(0, 9, 3000).astype(dtype)
    tokens = Tokens(ids, ids, "", end=end)
    there = OnDevice(tokens, CPU)
    for step in range(5):
        words = {"size": 7, "n_ctx": 32, "seed": 3, "repeated": repeated}
        assert torch.equal(there.batch(step, **words), tokens.batch(step, **words))


@pytest.mark.quick
def test_a_corpus_stays_mapped_for_the_cpu_and_rows_there_are_not_copied():
    ids = np.zeros(10, dtype=np.uint16)
    assert not fits(Tokens(ids, ids, ""), CPU)
    assert fits(Tokens(ids, ids, ""), torch.device("meta"))
    assert moved(ROWS, CPU) is ROWS
    two = moved(TwoTexts(ROWS, ROWS, ROWS), CPU)
    assert two.source is two.mask is two.written is ROWS


@pytest.mark.quick
def test_muon_updates_each_matrix_as_if_it_were_alone():
    torch.manual_seed(0)
    matrices = [torch.nn.Parameter(torch.randn(n, m)) for n, m in ((8, 4), (8, 4), (4, 4), (4, 8))]
    alone = [p.detach().clone() for p in matrices]
    moments = [torch.zeros_like(p) for p in matrices]
    optimizer = Muon(matrices, lr=0.01, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        for at, p in enumerate(matrices):
            p.grad = torch.randn_like(p)
            moments[at] = 0.9 * moments[at] + 0.1 * p.grad
            ahead = 0.1 * p.grad + 0.9 * moments[at]
            update = orthogonal(ahead[None])[0] * 0.2 * max(p.shape) ** 0.5
            alone[at] = alone[at] * (1 - 0.01 * 0.1) - 0.01 * update
        optimizer.step()
    for p, expected in zip(matrices, alone, strict=True):
        assert torch.allclose(
            p, expected, atol=1e-2 if torch.cpu._is_avx512_bf16_supported() else 1e-5
        )


@pytest.mark.quick
def test_the_datasheet_knows_cards_by_a_part_of_their_names():
    assert datasheet_rate("NVIDIA H100 80GB HBM3") == 989.4e12
    assert datasheet_rate("NVIDIA H100 PCIe") == 756.5e12
    assert datasheet_rate("a card that nobody has heard of") is None
