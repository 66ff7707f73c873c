"""What a caller left switched on or off in torch changes no number, and is as it was afterwards."""

import dataclasses
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from tests.conftest import subject_of
from tests.families import make
from tests.test_public import ENCODERS, PICTURES
from workbench import comparison, interp
from workbench.errors import WorkbenchError
from workbench.subjects import Subject

PROMPT = "5 9 31 44 7 62 18 77 23"
OTHER = "5 9 31 12 7 80 18 77 23"
PAIR: dict[str, Any] = {"answer": "7", "wrong": "8"}
TEXTS = [" ".join(str((7 * i + j) % 97) for j in range(40)) for i in range(4)]

LONG = [" ".join(str((i * i + 3 * i) % 97) for i in range(4000))]


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    """Also fills every new tensor with NaN, so that reading what was never written shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": float64,
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}
TOGETHER = [name for name in MODES if name != "no_grad"]
"""All at once; inference mode switches gradients off too."""

Call = Callable[[Subject, Subject], Any]
TINY: dict[str, Call] = {
    "anatomy": lambda a, b: wb.anatomy(a, PROMPT, layer=1, head=2),
    "attention": lambda a, b: wb.attention(a, PROMPT),
    "attention_by_distance": lambda a, b: wb.attention_by_distance(
        a, n=2, length=16, max_distance=8
    ),
    "composition": lambda a, b: wb.composition(a),
    "copying_scores": lambda a, b: interp.copying_scores(a),
    "direct": lambda a, b: wb.direct(a, PROMPT, OTHER, **PAIR),
    "encoding_study": lambda a, b: wb.encoding_study([a], TEXTS[:2], n=2),
    "gradient_attention": lambda a, b: wb.gradient_attention(a, PROMPT),
    "head_catalogue": lambda a, b: wb.head_catalogue(a, n=3, length=16),
    "head_scores": lambda a, b: wb.head_scores(a, n=3, length=16),
    "head_shift": lambda a, b: comparison.head_shift(a, b, TEXTS),
    "input_attribution": lambda a, b: wb.input_attribution(
        a, PROMPT, answer="7", wrong="8", most=64
    ),
    "layer_shift": lambda a, b: comparison.layer_shift(a, b, TEXTS),
    "holders": lambda a, b: wb.holders(a, wb.Canary("3 1 4 {}", "5"), n=6, sizes=(1,), controls=0),
    "lens": lambda a, b: wb.lens(a, PROMPT),
    "lens_shift": lambda a, b: comparison.lens_shift(a, b, TEXTS),
    "loss_by_position": lambda a, b: wb.loss_by_position(a, TEXTS),
    "partings": lambda a, b: list(comparison.partings(a, b, [PROMPT], n=4)),
    "patch": lambda a, b: wb.patch(a, PROMPT, OTHER, **PAIR),
    "position_encoding": lambda a, b: wb.position_encoding(a),
    "position_probe": lambda a, b: wb.position_probe(a, n=16, length=16),
    "position_split": lambda a, b: wb.position_split(a, n=2, tokens=6, orders=4),
    "score_shift": lambda a, b: comparison.score_shift(a, b, n=3, length=16),
    "steering": lambda a, b: interp.steering(a, [PROMPT], [OTHER], layer=1),
    "strongest_pairs": lambda a, b: wb.strongest_pairs(a, 1, 1, n=5),
    "text_shift": lambda a, b: comparison.text_shift(a, b, TEXTS),
    "transplant": lambda a, b: wb.transplant(a, b, ["L1"]),
    "tuned_lens": lambda a, b: wb.tuned_lens(a, LONG, steps=2, again=True),
    "weight_shift": lambda a, b: comparison.weight_shift(a, b),
}
"""One call of every function that does with any model, on two of them."""
TRAINED: dict[str, Call] = {
    "ablation": lambda a, b: interp.ablation(a, [(1, 1)]),
    "evaluate": lambda a, b: wb.evaluate(a, ["passage"], limit=4, cache=False),
    "linear_probe": lambda a, b: wb.linear_probe(a, n=60, layers=[1]),
    "locate_activations": lambda a, b: wb.locate_activations(a, b, "probe:induction", n=2, last=2),
    "needed_heads": lambda a, b: wb.needed_heads(a, "induction", n=2),
    "probe": lambda a, b: wb.probe(a, "induction", n=2),
    "rotary_use": lambda a, b: wb.rotary_use(a, [" ".join(TEXTS)], length=32, max_distance=8),
}
"""The same for those that ask for words, or for a model that can do a probe."""

DEAR: dict[str, Call] = {
    "attribution": lambda a, b: wb.attribution(a, "induction", n=2),
    "circuit": lambda a, b: wb.circuit(a, "induction", n=1, steps=1, verify=3, audit=3),
    "locate": lambda a, b: wb.locate(a, b, "probe:induction", n=2, draws=1),
}
"""The same for those that cost many seconds."""


@pytest.fixture(scope="module")
def tiny_pair() -> tuple[Subject, Subject]:
    """GPT-2 with dropout, so that train mode shows in every number, and one of other weights."""
    one = make("gpt2").float()
    other = make("gpt2").float()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    return subject_of(one, "one"), subject_of(other, "other")


@pytest.fixture(scope="module")
def trained_pair() -> tuple[Subject, Subject]:
    return wb.load("shelf-base"), wb.load("shelf-tuned")


def plain(value: Any) -> Any:
    """A result as nested lists and numbers, without its seconds and dates."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return np.asarray(
            value.detach() if isinstance(value, torch.Tensor) else value, dtype=object
        ).tolist()
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("list"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(
            {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        timed = ("second", "created", "date", "elapsed", "time")
        return {
            str(k): plain(v) for k, v in value.items() if not any(word in str(k) for word in timed)
        }
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(type(value))


def state(subjects: tuple[Subject, ...]) -> dict[str, Any]:
    """All that a call could leave behind in torch, the generators and the models."""
    models = [subject.model for subject in subjects]
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": cast("Any", np.random.get_state())[1].tolist(),
        "python": random.getstate(),
        "training": [module.training for model in models for module in model.modules()],
        "learning": [
            parameter.requires_grad for model in models for parameter in model.parameters()
        ],
        "gradients": [
            parameter.grad is None for model in models for parameter in model.parameters()
        ],
        "hooks": [
            len(module._forward_hooks)
            + len(module._forward_pre_hooks)
            + len(module._backward_hooks)
            for model in models
            for module in model.modules()
        ],
        "attention": [model.config._attn_implementation for model in models],
        "weights": [
            float(parameter.detach().double().sum()) for m in models for parameter in m.parameters()
        ],
    }


def check(
    call: Call, pair: tuple[Subject, Subject], modes: list[str], *, left: bool = True
) -> None:
    """The call gives the same in these modes, with models left in train mode, and leaves all as it
    was.
    """
    expected = plain(call(*pair))
    try:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(MODES[mode]())
            if left:
                for subject in pair:
                    subject.model.train()
                    for parameter in subject.model.parameters():
                        parameter.requires_grad_(True)
            torch.manual_seed(12345)
            before = state(pair)
            result = call(*pair)
            after = state(pair)
    finally:
        for subject in pair:
            subject.model.eval().requires_grad_(False)
    assert {name for name in before if before[name] != after[name]} == set()
    np.testing.assert_equal(plain(result), expected)


@pytest.mark.parametrize("name", TINY)
def test_a_function_of_any_model_sets_its_own_modes(name, tiny_pair):
    check(TINY[name], tiny_pair, TOGETHER)


@pytest.mark.parametrize("name", TRAINED)
def test_a_function_of_a_trained_model_sets_its_own_modes(name, trained_pair):
    check(TRAINED[name], trained_pair, TOGETHER)


@pytest.mark.parametrize("name", PICTURES)
def test_a_function_of_pictures_sets_its_own_modes(name):
    model = wb.load("shelf-digits")
    check(lambda one, _: PICTURES[name](one), (model, model), TOGETHER)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_function_of_encoders_sets_its_own_modes(name):
    model: Any = wb.load_encoder("shelf-vit")
    check(lambda one, _: ENCODERS[name](one), (model, model), TOGETHER)


REVERSED = {
    "attention": lambda m: wb.attention(m, "stressed", target="des"),
    "head_scores": lambda m: wb.head_scores(m, n=2, length=8),
    "lens": lambda m: wb.lens(m, "stressed", target="des", answer="s"),
    "patch": lambda m: wb.patch(
        m, "stressed", "stretsed", target="des", answer="s", wrong="t", part="cross", site="z"
    ),
}
"""Functions of an encoder-decoder."""


@pytest.mark.parametrize("name", REVERSED)
def test_a_function_of_an_encoder_decoder_sets_its_own_modes(name):
    model = wb.load("shelf-reverse", seq2seq=True)
    check(lambda one, _: REVERSED[name](one), (model, model), TOGETHER)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*TINY, *TRAINED, *DEAR])
def test_no_single_mode_changes_a_number(name, mode, tiny_pair, trained_pair):
    pair = tiny_pair if name in TINY else trained_pair
    check({**TINY, **TRAINED, **DEAR}[name], pair, [mode], left=False)


HERE = {
    *(
        "compare",
        "report",
        "probe_transfer",
        "series",
        "checkpoint_series",
        "behaviour_series",
        "task_needs",
        *("audit", "bias_heads", "fairness", "read_signal"),
    ),
    "effect_of",
}
"""Functions made of those above, that are decorated like them but cost too much to call here."""
WITHOUT = {
    *("available", "available_probes", "relatives", "obstacles", "what_remains", "flow", "rollout"),
    *("apply", "compare_results", "read_intervention", "read_scores", "suites", "write_scores"),
    *("costs", "machine", "scaling_law", "usage"),
    *("redact", "scan", "digits", "read_picture", "tone", "model_card"),
}
"""Functions that run no model."""
TRAINING = {"train", "sweep", "finetune", "resume", "train_encodings", "load", "load_encoder"}


def test_every_public_function_is_called_here_or_decorated():
    names = {
        name: getattr(home, name) for home in (wb, interp, comparison) for name in home.__all__
    }
    functions = {name for name, value in names.items() if inspect.isfunction(value)}
    called = {*TINY, *TRAINED, *DEAR, *PICTURES, *ENCODERS}
    assert functions - called - HERE - WITHOUT - TRAINING == set()
    assert all(hasattr(names[name], "__wrapped__") for name in HERE)


def test_training_and_loading_set_their_own_modes(tmp_path):
    text = tmp_path / "corpus.txt"
    text.write_text(
        "\n\n".join(f"The cat number {i} sat on mat number {i + 1}." for i in range(800))
    )
    from tests.test_training import recipe

    words = recipe(text, steps=3, eval_every=3, checkpoint_every=3)
    run = wb.train(words)
    for modes in (["no_grad", "float64"], TOGETHER):
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(MODES[mode]())
            torch.manual_seed(12345)
            before = state(())
            again = wb.train(words)
            subject = wb.load(f"run:{again.id}")
            after = state(())
        assert before == after
        assert run.result is not None
        assert again.result is not None
        assert again.result["validation_loss"] == run.result["validation_loss"]
        assert subject.hash == wb.load(f"run:{run.id}").hash
        assert all(
            p.dtype == torch.float32 and not p.is_inference() for p in subject.model.parameters()
        )
        assert Path(again.result["checkpoint"]).is_dir()


@pytest.mark.parametrize("name", ["lens", "attention", "patch", "input_attribution"])
def test_a_model_made_in_inference_mode_is_refused_in_one_sentence(name):
    with torch.inference_mode():
        subject = subject_of(make("gpt2").float(), "mine")
    with pytest.raises(
        WorkbenchError, match=r"mine was made under torch.inference_mode\(\).*load it by name"
    ):
        TINY[name](subject, subject)
