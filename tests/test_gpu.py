"""What only a GPU can show; all of it is skipped elsewhere.

    pytest -m gpu tests/test_gpu.py

Needs no pages, no harness and no plots: torch, transformers, accelerate and pandas are enough.
"""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.conftest import subject_of, tiny_gpt, written_by
from tests.test_training_speed import compiled_steps
from workbench.generation import Batch, Request
from workbench.interp.engine.settings import Settings
from workbench.interp.engine.sweep import run_sweep
from workbench.interp.patching.pair_maps import SITES, pair
from workbench.subjects.positions import ENCODINGS
from workbench.training.corpus import Tokens
from workbench.training.feeding import OnDevice, fits, moved
from workbench.training.loop import Stepper, Trainee, mean_loss
from workbench.training.recipe import Optimisation

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
CUDA = torch.device("cuda")
SHAPE = {"d_vocab": 64, "n_ctx": 32, "n_layers": 2, "n_heads": 2, "d_model": 64}
SETTINGS = Optimisation(steps=40, batch_size=8, lr=3e-3, warmup=2, compile=False, precision="no")


def rows_of(step: int, device: torch.device | None = None) -> Any:
    """Rows that can be learned: counting modulo 64."""
    start = torch.randint(64, (8, 1), generator=torch.Generator().manual_seed(step))
    ids = (start + torch.arange(33)) % 64
    ids = ids if device is None else ids.to(device)
    return ids[:, :-1], ids[:, 1:]


def stepper(**words: Any) -> Stepper:
    shape = words.pop("shape", {})
    model = tiny_gpt(**{**SHAPE, **shape})
    return Stepper(Trainee(cast(Any, model), cast(Any, None)), replace(SETTINGS, **words))


def losses_on(device: str, **words: Any) -> list[float]:
    """Of twelve steps on a device."""
    if device == "cuda":
        trains = stepper(**words)
        assert trains.device == "cuda"
        return [float(trains.step(rows_of(step), step)[0]) for step in range(12)]
    model = tiny_gpt(**{**SHAPE, **words.pop("shape", {})})
    return cpu_losses(model, replace(SETTINGS, **words))


def cpu_losses(model: Any, settings: Optimisation) -> list[float]:
    """The same by a loop that shares only the optimisers and the schedule."""
    from workbench.training.optim import learning_rate, optimizers

    opts = optimizers(model, settings)
    losses = []
    model.train()
    for step in range(12):
        x, y = rows_of(step)
        logits = model(x, attention_mask=torch.ones_like(x), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = learning_rate(step, settings)
            opt.step()
            opt.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_steps_equal_those_on_the_cpu(encoding):
    words = {"optimizer": "adamw", "lr": 1e-3, "shape": {"positions": encoding}}
    assert losses_on("cuda", **words) == pytest.approx(losses_on("cpu", **words), abs=2e-3)


def test_muon_on_the_gpu_learns_as_on_the_cpu():
    """Its iteration is in bfloat16 there, which moves the losses by less than a step does."""
    there = losses_on("cuda")
    here = losses_on("cpu")
    assert there[0] == pytest.approx(here[0], abs=1e-4)
    assert there[-1] == pytest.approx(here[-1], abs=0.15) and there[-1] < there[0] - 0.5


def test_bfloat16_training_lowers_the_loss():
    trains = stepper(precision="bf16")
    losses = [float(trains.step(rows_of(step), step)[0]) for step in range(40)]
    assert trains.accelerator.mixed_precision == "bf16"
    assert losses[-1] < 0.5 * losses[0] and np.isfinite(losses).all()
    held = [tuple(moved(x, CUDA) for x in rows_of(99))]
    assert mean_loss(trains.accelerator, trains.best_model, cast(Any, held)) < 0.6 * losses[0]


def test_a_compiled_step_equals_a_plain_one_and_is_compiled_once():
    steps = compiled_steps()
    assert steps["device"] == "cuda"
    assert steps["fast"] == pytest.approx(steps["plain"], abs=2e-3)
    assert (steps["graphs"], steps["breaks"]) == (1, 0)


def test_a_step_does_not_wait_for_the_gpu():
    """torch itself raises where it would wait, from rows in ordinary memory on."""
    trains = stepper(precision="bf16", ema=0.9, accumulate=2)
    ids = np.arange(4000).astype(np.uint16) % 64
    there = OnDevice(Tokens(ids, ids, ""), CUDA)
    assert fits(Tokens(ids, ids, ""), CUDA)
    for step in range(3):
        trains.step(rows_of(step), step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    loss = norm = rows = torch.zeros(0)
    try:
        for step in range(3, 6):
            loss, norm = trains.step(rows_of(step), step)
            rows = there.batch(step, size=8, n_ctx=32, seed=0, repeated=0.5)
            trains.step((rows[:, :-1], rows[:, 1:]), step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite([float(loss), float(norm)]).all()
    tokens = Tokens(ids, ids, "")
    expected = tokens.batch(5, size=8, n_ctx=32, seed=0, repeated=0.5)
    assert torch.equal(rows.cpu(), expected)


def test_attention_in_training_is_a_flash_kernel():
    trains = stepper(precision="bf16")
    x, y = rows_of(0, CUDA)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        assert torch.isfinite(trains.step((x, y), 0)[0])


@pytest.mark.parametrize("site", SITES)
def test_packed_patching_equals_the_cpu(site):
    maps = []
    for device in ("cpu", "cuda"):
        model: Any = tiny_gpt(n_layers=3)
        subject = subject_of(model.to(device))
        question = pair(subject, "5 9 31 44 7 62 18", "5 9 31 12 7 80 18", "7", "8")
        layer = 1 if site == "neurons" else None
        maps.append(run_sweep(subject, question, Settings(site, layer=layer)).values.cpu())
    torch.testing.assert_close(*maps, atol=2e-4, rtol=1e-3, equal_nan=True)


def test_a_batch_of_texts_is_what_generate_writes_for_each():
    model: Any = tiny_gpt(n_ctx=64)
    subject = subject_of(model.to("cuda"))
    prompts = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8, 9, 7, 9]]
    batch = Batch(subject)
    done: dict[int, list[int]] = {}

    def note(number: int, completion: Any) -> None:
        done[number] = list(completion.ids)

    for number, prompt in enumerate(prompts):
        batch.add(Request(prompt, 12), partial(note, number))
        batch.step()
    while batch.step():
        pass
    for number, prompt in enumerate(prompts):
        ids = torch.tensor([prompt], device="cuda")
        alone = written_by(subject.model, ids, max_new_tokens=12, do_sample=False)
        assert done[number] == alone[0, len(prompt) :].tolist()
