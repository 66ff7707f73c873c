"""Everything once on the CPU and once on the pretend accelerator; run by `test_accelerator.py` in a
process of its own.

    python -m tests.on_accelerator FOLDER NAME...

What makes torch know a device cannot be undone, so no other test should share its process. A line
of JSON a name says what went wrong (`error`) or by how much the numbers of the two runs differ
(`apart`).
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from tests import pretend_accelerator, test_finetuning, test_public, test_training
from tests.conftest import subject_of, tiny_gpt, written_by
from workbench.generation import Batch, Request, Sampling
from workbench.interp.engine.packed import engine
from workbench.store import Store
from workbench.subjects.save import save
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.finetune import trial
from workbench.training.loop import Stepper
from workbench.training.pretrain import batches, setup
from workbench.training.start import carry_out, start

FOLDER = Path()
LORA = {"r": 4}
CUT_AT = 6


def tiny(device: str):
    model = tiny_gpt()
    cast("torch.nn.Module", model).to(device)  # transformers' own `to` hides its arguments
    return subject_of(model)


@torch.no_grad()
def logits_of(subject: Any, text: str) -> Any:
    return subject.model(subject.encode(text)).logits.tolist()


def logits(device: str) -> Any:
    """Of plain weights, whose ties outlive the move."""
    subject = tiny(device)
    assert subject.model.lm_head.weight is subject.model.model.tok.weight
    return logits_of(subject, test_public.CLEAN)


def packed(device: str) -> Any:
    """The engine itself: `reader` would hide a failure by falling back to hooks."""
    ids = torch.tensor([[3, 1, 4, 1, 5]], device=device)
    run = engine(tiny(device)).record(ids)
    return [stream.tolist() for stream in run.resid]


def mixing(device: str) -> Any:
    """Devices that meet are an error; else all the rest would say nothing."""
    there = torch.ones(3, device=pretend_accelerator.DEVICE)
    here = torch.ones(3)
    assert (there + 1).cpu().tolist() == [2, 2, 2] and float(there.sum()) == 3
    assert there[torch.tensor([0, 2])].shape == (2,)
    for work in (
        lambda: there + here,
        lambda: here[there.long()],
        lambda: torch.stack([there, here]),
        there.numpy,
    ):
        with pytest.raises((RuntimeError, TypeError)):
            work()
    return 0


def generation(device: str) -> Any:
    subject = tiny(device)
    ids = subject.encode(test_public.CLEAN)
    return written_by(subject.model, ids, max_new_tokens=5, do_sample=False).tolist()


def serving(device: str) -> Any:
    """A batch as the service runs it: texts join and leave, share beginnings, and are scored."""
    subject = tiny(device)
    batch = Batch(subject)
    completions: list[Any] = []
    begin = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    how = Sampling(
        temperature=0.7, top_p=0.9, min_p=0.01, repetition_penalty=1.2, logit_bias={7: 2.0}, seed=5
    )
    for request in (
        Request(begin, 24),
        Request([*begin, 8], 6, how, top=3),
        Request([2, 7], 0, score_prompt=True),
        Request([*begin, 8, 9], 20, Sampling(frequency_penalty=0.5, presence_penalty=0.1)),
    ):
        batch.add(request, completions.append)
        batch.step()
    while batch.step():
        pass
    assert len(completions) == 4
    return [
        [list(done.ids), [s.logprob for s in (*done.scores, *done.prompt_scores) if s is not None]]
        for done in completions
    ]


def base() -> str:
    """A small untrained GPT in a folder, and its animals in a file beside it."""
    tokenizer = train_tokenizer(test_finetuning.TEXTS, d_vocab=330)
    shape = {"d_vocab": len(tokenizer), "n_ctx": 96, "bos_token_id": 0, "eos_token_id": 0}
    test_finetuning.write(FOLDER / "pets.jsonl", test_finetuning.PETS[:24])
    return str(save(FOLDER / "zoo", tiny_gpt(**shape, initializer_range=0.1), tokenizer))


def losses(run: Any, name: str = "loss") -> list[float]:
    return Store().metrics(run.id).query(f"name == '{name}'").sort_values("step")["value"].tolist()


def outcome(run: Any, device: str) -> Any:
    """A run's losses, and the logits of what it left on the disk, loaded again onto the device."""
    again = wb.load(f"run:{run.id}", device=device)
    assert again.model.device.type == torch.device(device).type
    return [losses(run), losses(run, "validation_loss"), logits_of(again, "the cat number 3")]


def pretraining(**words: Any) -> Callable[[str], Any]:
    return lambda device: outcome(wb.train(recipe(**words)), device)


def recipe(**words: Any) -> Any:
    text = FOLDER / "counting.txt"
    text.write_text(
        "\n\n".join(f"The cat number {i} sat on mat number {i + 1}." for i in range(400))
    )
    return test_training.recipe(
        text, **{"steps": 8, "eval_every": 4, "checkpoint_every": 4, **words}
    )


def tuning(lora: dict[str, Any] | None) -> Callable[[str], Any]:
    def run(device: str) -> Any:
        words = {"steps": 4, "eval_every": 4, "checkpoint_every": 4}
        task = {"kind": "classification", "eval_items": 4}
        tuned = test_finetuning.recipe(base(), str(FOLDER / "pets.jsonl"), lora, task, **words)
        return outcome(wb.train(tuned), device)

    return run


class Cut(Exception):
    """A run is cut short."""


def resuming(device: str) -> Any:
    """A run that is cut short between two checkpoints and gone on with equals one that was not."""

    def shown(tracker: Any) -> Any:
        progress = tracker.progress

        def until(share: float, words: str) -> None:
            progress(share, words)
            if words.startswith(f"step {CUT_AT} "):
                raise Cut

        tracker.progress = until
        return tracker

    words = {"ema": 0.9, "optimizer": "muon", "seed": 3}
    whole = wb.train(recipe(**words))
    store = Store()
    run = start(recipe(**words), store)
    try:
        carry_out(run, store, shown)
    except Cut:
        pass
    outcomes = [outcome(wb.resume(run.id), device), outcome(whole, device)]
    assert outcomes[0] == outcomes[1]
    return outcomes


def late(device: str) -> Any:
    """A copy that is not waited for is noticed, and so is each wait; else the next says nothing."""
    there = torch.ones(3, device=pretend_accelerator.DEVICE)
    here = there.to("cpu", non_blocking=True)
    into = torch.zeros(3)
    into.copy_(there, non_blocking=True)
    assert bool(here.isnan().all()) and bool(into.isnan().all())
    pretend_accelerator.synchronize()
    assert here.tolist() == into.tolist() == [1, 1, 1]
    for number, wait in enumerate(
        (
            lambda: float(there.sum()),
            there.tolist,
            there.cpu,
            lambda: bool((there > 0).all()),
            lambda: there[there > 0],
            lambda: torch.zeros(3).copy_(there),
        )
    ):
        pretend_accelerator.WAITS.clear()
        wait()
        assert pretend_accelerator.WAITS, number
    pretend_accelerator.WAITS.clear()
    assert (there + 1).sum().shape == () and not pretend_accelerator.WAITS
    return 0


def waits(**words: Any) -> Callable[[str], Any]:
    """Steps of pretraining after the first make nobody wait."""

    def begin() -> Any:
        plan = recipe(**words)
        trainee, tokens = setup(plan)
        return Stepper(trainee, plan.train), batches(plan, trainee, tokens)[0]

    return unawaited(begin)


def waits_tuning(lora: dict[str, Any] | None) -> Callable[[str], Any]:
    """Nor do those of fine-tuning, whose rows come from ordinary memory."""

    def begin() -> Any:
        task = {"kind": "classification", "eval_items": 4}
        tuned = test_finetuning.recipe(base(), str(FOLDER / "pets.jsonl"), lora, task, steps=4)
        trainee, batch, stepper_of = trial(tuned)
        return stepper_of(trainee, tuned.train), batch

    return unawaited(begin)


def unawaited(begin: Callable[[], Any]) -> Callable[[str], Any]:
    """Four steps, of which the first alone may wait; returns their losses."""

    def run(device: str) -> Any:
        stepper, batch = begin()
        losses = []
        for number in range(4):
            pretend_accelerator.WAITS.clear()
            losses.append(stepper.step(batch(number), number)[0])
            if number:
                assert not pretend_accelerator.WAITS, pretend_accelerator.WAITS
        return [float(loss) for loss in losses]

    return run


TRAINING = {
    "no waits": waits(),
    "no waits in fine-tuning": waits_tuning(None),
    "no waits by LoRA": waits_tuning(LORA),
    "no waits with adamw": waits(optimizer="adamw", ema=0.9, accumulate=2),
    "train": pretraining(steps=4),
    "train with adamw": pretraining(ema=0.9, optimizer="adamw", accumulate=2),
    "train with checkpointing": pretraining(checkpointing=True),
    "fine-tune": tuning(None),
    "fine-tune by LoRA": tuning(LORA),
    "resume": resuming,
}
ITSELF = {
    "mixing": mixing,
    "late": late,
    "logits": logits,
    "packed engine": packed,
    "generation": generation,
    "serving": serving,
}


def on_tiny(call: Callable[..., Any]) -> Callable[[str], Any]:
    """A call of one subject, given a tiny one on the device that it is asked for."""
    return lambda device: call(tiny(device))


def on_bundled(call: Callable[..., Any], *names: str) -> Callable[[str], Any]:
    """A call of as many subjects as there are names, given the bundled models of these names."""
    return lambda device: call(*(wb.load(name, device=device) for name in names))


ALL: dict[str, Callable[[str], Any]] = {
    **ITSELF,
    **TRAINING,
    **{name: on_tiny(call) for name, call in test_public.CALLS.items()},
    **{name: on_bundled(call, "shelf-base") for name, call in test_public.TRAINED.items()},
    **{name: on_bundled(call, "shelf-digits") for name, call in test_public.PICTURES.items()},
    **{
        name: on_bundled(call, "shelf-base", "shelf-tuned")
        for name, call in test_public.PAIRS.items()
    },
}


def numbers(value: Any) -> Iterator[float]:
    """Every number of a result, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def comparable(result: Any) -> Any:
    if isinstance(result, pd.DataFrame):
        result = result.select_dtypes("number").to_numpy()
    return test_public.comparable(result)


def apart(name: str) -> float:
    """How far the numbers of the two runs are from each other, as a share of those above 1."""
    sides = []
    for device in ("cpu", pretend_accelerator.DEVICE):
        _train_on(device)
        sides.append(np.array(list(numbers(comparable(ALL[name](device)))), dtype=float))
    here, there = sides
    assert here.shape == there.shape, (here.shape, there.shape)
    assert np.array_equal(np.isnan(here), np.isnan(there))
    if not len(here):
        return 0.0
    return float(np.nan_to_num(np.abs(here - there) / np.maximum(1, np.abs(here))).max())


def _train_on(device: str) -> None:
    """Accelerate takes this device from now on."""
    from accelerate.state import AcceleratorState

    os.environ["ACCELERATE_TORCH_DEVICE"] = device
    AcceleratorState._reset_state(reset_partial_state=True)


def main(folder: str, *names: str) -> None:
    """Write a line of JSON a name into `results.jsonl` of the folder."""
    global FOLDER
    FOLDER = Path(folder)
    pretend_accelerator.switch_on()
    with (FOLDER / "results.jsonl").open("w") as file:
        for name in names:
            try:
                answer = {"name": name, "apart": apart(name)}
            except Exception:
                answer = {"name": name, "error": traceback.format_exc()[-3000:]}
            file.write(json.dumps(answer) + "\n")
            file.flush()
    os._exit(0)  # torch's threads for the device do not end by themselves


if __name__ == "__main__":
    main(*sys.argv[1:])
