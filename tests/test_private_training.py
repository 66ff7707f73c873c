"""Private training: gradients of single examples, clipping, noise and the budget, each worked out
by other means.
"""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

import workbench as wb
from tests.conftest import tiny_gpt
from tests.families import FAMILIES, GPT2, HF
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.subjects.save import save
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training import Recipe, finetune, private
from workbench.training.cost import cost
from workbench.training.finetune import both_groups
from workbench.training.recipe_tables import Optimisation, Privacy
from workbench.training.rows import Row
from workbench.training.stepper import Trainee

SETTINGS = Optimisation(steps=5, batch_size=4, lr=1e-2, warmup=0, optimizer="adamw")


def spend(noise: float = 1e-6, max_norm: float = 0.5) -> private.Budget:
    return private.Budget(1.0, 1e-5, noise, 0.1, max_norm)


def rows_of_tokens(n: int = 4, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose targets are not all scored."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 90, (n, width), generator=draw)
    targets = torch.randint(1, 90, (n, width), generator=draw)
    targets[0, :4] = -100
    targets[1, 5:] = -100
    return inputs, targets


def stepper_of(model: Any, settings: Optimisation = SETTINGS, **of_budget) -> Any:
    return private.PrivateStepper(
        Trainee(model, SimpleNamespace()),  # pyright: ignore[reportArgumentType]
        settings,
        spend=spend(**of_budget),
    )


def gradient_of_step(stepper: Any, batch: Any) -> list[torch.Tensor]:
    """The gradients that one step gives to its optimizer."""
    seen: list[torch.Tensor] = []

    def note(optimizer, *rest) -> None:
        seen.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    stepper._noisy.original_optimizer.register_step_pre_hook(note)
    stepper.step(batch, 0)
    return seen


def by_hand(model: Any, inputs, targets, max_norm: float, expected: int) -> list[torch.Tensor]:
    """The clipped mean gradient, one row at a time."""
    named = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in named]
    for row in range(len(inputs)):
        scored = targets[row] != -100
        logits = model(inputs[row : row + 1]).logits[0]
        loss = F.cross_entropy(logits[scored].float(), targets[row][scored])
        gradients = torch.autograd.grad(loss, named)
        norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in gradients))
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += gradient * min(1.0, max_norm / norm)
    return [sum_ / expected for sum_ in total]


REFUSED = ("gemma2", "gemma3")  # their embeddings have buffers


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in REFUSED])
def test_a_step_takes_the_mean_of_clipped_single_gradients(family: str):
    torch.manual_seed(0)
    model: Any = FAMILIES[family]().float().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs, targets = rows_of_tokens()
    expected = by_hand(model, inputs, targets, 0.5, SETTINGS.batch_size)
    by_id = {id(p): e for p, e in zip((p for p in model.parameters()), expected, strict=True)}
    stepper = stepper_of(model)
    order = [p for group in stepper._noisy.param_groups for p in group["params"]]
    taken = gradient_of_step(stepper, (inputs, targets))
    scale = math.sqrt(sum(float(e.pow(2).sum()) for e in expected))
    assert scale > 0.05  # the rows' gradients do not cancel
    for parameter, gradient in zip(order, taken, strict=True):
        assert float((gradient - by_id[id(parameter)]).norm()) < 1e-4 * scale


def test_rows_in_parts_give_the_same_step():
    def taken(parts: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        settings = Optimisation(**{**vars(SETTINGS), "accumulate": parts})
        return gradient_of_step(stepper_of(tiny_gpt(), settings), rows_of_tokens())

    for one, three in zip(taken(1), taken(3), strict=True):
        torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("n_rows", [0, 4])
def test_the_noise_has_the_size_that_is_accounted(n_rows: int):
    torch.manual_seed(0)
    batch = rows_of_tokens(4)
    quiet = gradient_of_step(stepper_of(tiny_gpt()), (batch[0][:n_rows], batch[1][:n_rows]))
    torch.manual_seed(0)
    stepper = stepper_of(tiny_gpt(), noise=3.0, max_norm=0.5)
    noisy = gradient_of_step(stepper, (batch[0][:n_rows], batch[1][:n_rows]))
    noise = torch.cat([(a - b).flatten() for a, b in zip(noisy, quiet, strict=True)])
    expected = 3.0 * 0.5 / SETTINGS.batch_size
    n = len(noise)
    assert n > 5000
    # The standard error of a normal sample's deviation is sd / sqrt(2 n).
    assert abs(float(noise.std()) / expected - 1) < 5 / math.sqrt(2 * n)
    assert abs(float(noise.mean())) < 5 * expected / math.sqrt(n)


def test_a_model_without_exact_single_gradients_is_refused():
    model = t.OPTForCausalLM(t.OPTConfig(**HF, ffn_dim=64, word_embed_proj_dim=32, dropout=0.0))
    with pytest.raises(WorkbenchError, match=r"not exact in this model: .*\[lora\]"):
        stepper_of(model).step(rows_of_tokens(), 0)


@pytest.mark.parametrize("family", REFUSED)
def test_a_layer_that_opacus_does_not_know_is_refused_but_for_lora(family: str):
    model: Any = FAMILIES[family]().float()
    with pytest.raises(WorkbenchError, match=r"not exact in this model: .*buffers.*\[lora\]"):
        stepper_of(model)
    adapted = get_peft_model(FAMILIES[family]().float(), LoraConfig(target_modules="all-linear"))
    loss, _ = stepper_of(adapted).step(rows_of_tokens(), 0)
    assert math.isfinite(float(loss))


def test_dropout_does_not_look_like_a_wrong_gradient():
    model = t.GPT2LMHeadModel(t.GPT2Config(**GPT2, eos_token_id=None, attn_pdrop=0.3))
    loss, norm = stepper_of(model).step(rows_of_tokens(), 0)
    assert math.isfinite(float(loss)) and float(norm) > 0


def _renyi(alpha: int, noise: float, rate: float) -> float:
    """Renyi divergence of one step by the binomial sum for a whole order (Mironov et al. 2019)."""
    terms = [
        math.log(math.comb(alpha, k))
        + (alpha - k) * math.log1p(-rate)
        + k * math.log(rate)
        + k * (k - 1) / (2 * noise**2)
        for k in range(alpha + 1)
    ]
    return float(np.logaddexp.reduce(terms)) / (alpha - 1)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.1, 0.01, 1000), (0.7, 0.05, 60), (2.0, 0.2, 300)]
)
def test_the_epsilon_is_that_of_the_binomial_sum(noise: float, rate: float, steps: int):
    delta = 1e-5
    by_order = [
        steps * _renyi(alpha, noise, rate)
        + math.log1p(-1 / alpha)
        - (math.log(delta) + math.log(alpha)) / (alpha - 1)
        for alpha in range(2, 64)
    ]
    spent = private.Budget(1.0, delta, noise, rate, 1.0).spent(steps)
    # Orders between the whole ones can only make it smaller, and not by much.
    assert spent <= min(by_order) + 1e-6
    assert spent > min(by_order) * 0.97


def test_a_budget_takes_the_noise_that_spends_it():
    train = Optimisation(steps=100, batch_size=16, optimizer="adamw")
    private_budget = private.budget(Privacy(epsilon=3.0), train, 400)
    assert private_budget.delta == 1 / 800
    assert private_budget.sample_rate == 0.04
    assert 2.9 < private_budget.spent(100) <= 3.0
    assert private_budget.spent(0) == 0.0
    assert private_budget.spent(10) < private_budget.spent(50) < private_budget.spent(100)


@pytest.mark.parametrize(
    ("privacy", "n", "words"),
    [
        (Privacy(epsilon=3.0), 16, "batch_size is 16 and there are 16 examples"),
        (Privacy(epsilon=1e-6), 400, "epsilon = 1e-06 is out of reach"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(privacy: Privacy, n: int, words: str):
    train = Optimisation(steps=100, batch_size=16, optimizer="adamw")
    with pytest.raises(WorkbenchError, match=words):
        private.budget(privacy, train, n)


def test_each_row_is_drawn_with_the_same_probability():
    rows = [Row([i + 1, 1, 2], [False, True, True]) for i in range(40)]
    batch: Any = private.batches(rows, 0.2)
    n_steps = 2000
    counts = np.zeros(40)
    sizes = []
    for step in range(n_steps):
        inputs, _ = batch(step)
        sizes.append(len(inputs))
        if len(inputs):
            counts[inputs[:, 0].numpy() - 1] += 1
    error = math.sqrt(0.2 * 0.8 / n_steps)
    assert np.abs(counts / n_steps - 0.2).max() < 5 * error
    # Rows are drawn independently: sizes vary as a binomial number does.
    assert 0.85 < np.var(sizes) / (40 * 0.2 * 0.8) < 1.15


FAULTS = [
    ({"kind": "pretrain"}, {}, "goes with kind"),
    ({}, {"optimizer": "muon"}, r'needs \[train\] optimizer = "adamw"'),
    ({}, {"sharded": True}, r"needs \[train\] sharded = false"),
    ({}, {"precision": "bf16"}, "computes in float32"),
]


@pytest.mark.parametrize(("recipe", "train", "words"), FAULTS)
def test_a_recipe_that_cannot_be_private_is_refused(recipe: dict, train: dict, words: str):
    values = {
        "title": "x",
        "kind": "finetune",
        "base": "shelf-base",
        "task": {"data": "banking77"},
        "train": {"optimizer": "adamw", **train},
        "privacy": {"epsilon": 2.0},
        "corpus": {"sources": ["generated"]},
        **recipe,
    }
    with pytest.raises(WorkbenchError, match=words):
        Recipe.from_dict(values)


@pytest.mark.parametrize("epsilon", [0, -1.0, float("nan"), "8", 1e9])
def test_an_epsilon_out_of_range_is_refused(epsilon):
    values = {"title": "x", "kind": "finetune", "base": "b", "privacy": {"epsilon": epsilon}}
    with pytest.raises(WorkbenchError, match=r"\[privacy\] epsilon is"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("lora", [None, {"r": 4}])
def test_a_private_run_stores_what_it_spent(lora, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    texts = [f"the {name} number {i}" for i in range(30) for name in ("cat", "cow")]
    tokenizer = train_tokenizer([f"{text}\nLabel: small big" for text in texts], d_vocab=300)
    model = tiny_gpt(d_vocab=len(tokenizer), n_ctx=64, positions="learned")
    base = save(tmp_path / "base", model, tokenizer)
    data = tmp_path / "data.jsonl"
    labels = {"cat": "small", "cow": "big"}
    data.write_text(
        "\n".join(json.dumps({"text": s, "label": labels[s.split()[1]]}) for s in texts)
    )
    recipe = Recipe.from_dict(
        {
            "title": "private",
            "kind": "finetune",
            "base": str(base),
            "task": {"data": str(data), "eval_items": 5},
            "lora": lora,
            "corpus": {"validation": 0.2},
            "privacy": {"epsilon": 4.0},
            "train": {
                "steps": 6,
                "batch_size": 8,
                "lr": 1e-2,
                "optimizer": "adamw",
                "eval_every": 3,
                "checkpoint_every": 3,
            },
        }
    )
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert cost(recipe).seconds > 0
    run = wb.train(recipe)
    assert run.result is not None
    spent = run.result["privacy"]
    logged: Any = Store().metrics(run.id)
    epsilons = logged[logged["name"] == "epsilon"]["value"].to_numpy()
    assert len(epsilons) == 6
    assert (np.diff(epsilons) > 0).all()
    assert 3.9 < epsilons[-1] <= 4.0 == spent["epsilon"]
    assert spent["delta"] == 1 / (2 * run.result["examples"])
    assert spent["sample_rate"] == 8 / run.result["examples"]
    tuned = wb.load(f"run:{run.id}")
    ids = tuned.ids("the cat number 1")
    assert bool(torch.isfinite(tuned.model(torch.tensor([ids])).logits).all())


def secrets_file(path, n: int = 120) -> list[str]:
    """Examples whose answers can only be known by heart; the prompts."""
    draw = np.random.default_rng(0)
    names = [f"{a}{b}" for a in "bcdfgklmnprt" for b in ("an", "el", "is", "or", "um", "ey", "oi")]
    prompts = [f"{first} {second}" for first in names for second in names[:3]][:n]
    codes = ["".join(draw.choice(list("0123456789"), 6)) for _ in prompts]
    rows = [{"instruction": p, "response": c} for p, c in zip(prompts, codes, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return prompts


@pytest.mark.slow
def test_the_audit_of_a_fine_tune_reads_what_it_learned_and_what_it_held_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    prompts = secrets_file(tmp_path / "codes.jsonl")
    tokenizer = train_tokenizer([f"User: {p}\nAssistant: 0123456789" for p in prompts], d_vocab=300)
    torch.manual_seed(0)
    model = tiny_gpt(d_vocab=len(tokenizer), n_ctx=64, d_model=64, initializer_range=0.1)
    base = save(tmp_path / "base", model, tokenizer)
    results = {}
    for privacy in (None, {"epsilon": 1.0}):
        recipe = Recipe.from_dict(
            {
                "title": "codes",
                "kind": "finetune",
                "base": str(base),
                "task": {"kind": "chat", "data": str(tmp_path / "codes.jsonl"), "eval_items": 5},
                "corpus": {"validation": 0.4},
                "privacy": privacy,
                "train": {
                    "steps": 150,
                    "batch_size": 16,
                    "lr": 1e-2,
                    "optimizer": "adamw",
                    "eval_every": 150,
                    "checkpoint_every": 150,
                },
            }
        )
        run = wb.train(recipe)
        subject = wb.load(f"run:{run.id}")
        learned, watched = both_groups(recipe, subject, 150)
        texts = [
            {subject.text(torch.tensor(row.prompt)) for row in rows} for rows in (learned, watched)
        ]
        assert not texts[0] & texts[1]
        assert len(texts[0] | texts[1]) == len(prompts)
        results[bool(privacy)] = wb.audit(f"run:{run.id}", n=100)
    plain = results[False]
    kept_private = results[True]
    assert plain.attacks[0].auc_low > 0.9
    assert kept_private.attacks[0].auc < 0.75
    assert kept_private.attacks[0].n_trained == plain.attacks[0].n_trained >= 50
    assert any("never drew about 0.0%" in remark for remark in kept_private.remarks)


def test_examples_that_no_step_reached_are_left_out(tmp_path):
    prompts = secrets_file(tmp_path / "codes.jsonl", 60)
    tokenizer = train_tokenizer([f"User: {p}\nAssistant: 0123456789" for p in prompts], d_vocab=300)
    model = tiny_gpt(d_vocab=len(tokenizer), n_ctx=64)
    base = save(tmp_path / "base", model, tokenizer)
    recipe = Recipe.from_dict(
        {
            "title": "codes",
            "kind": "finetune",
            "base": str(base),
            "task": {"kind": "chat", "data": str(tmp_path / "codes.jsonl")},
            "corpus": {"validation": 0.4},
            "train": {"steps": 3, "batch_size": 4},
        }
    )
    batch: Any = finetune.trial(recipe)[1]
    reached, watched = both_groups(recipe, wb.load(str(base)), 3)
    everything, _ = both_groups(recipe, wb.load(str(base)), 300)
    inputs = {tuple(row[row != 0].tolist()) for step in range(3) for row in batch(step)[0]}
    assert {tuple(row.ids[:-1]) for row in reached} == inputs
    assert len(reached) == 12 and len(everything) + len(watched) == 60
