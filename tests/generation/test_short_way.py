"""The short way to the next token: a plain pass's logits for every family that has one."""

import pytest
import torch
import transformers as t

from tests.conftest import subject_of, tiny_gpt
from tests.families import GQA, HF, make
from workbench.generation import Batch, Request, write
from workbench.generation.forward import Forward
from workbench.generation.kv import with_prefixes
from workbench.generation.short_ways import short_way
from workbench.generation.shortcut import AFTER, shortcut
from workbench.subjects.intervention import Edit, Intervention, apply
from workbench.subjects.modules import moved

SHAPES = [
    {"positions": p, "n_kv_heads": 2, "bias": p in ("learned", "none"), "qk_norm": p == "rotary"}
    for p in ("learned", "sinusoidal", "rotary", "alibi", "none")
]
SHAPES += [{"norm": norm, "mlp": mlp} for norm in ("layernorm", "none") for mlp in ("gelu", "none")]
SHAPES += [{"mlp": "relu2", "d_head": 6, "n_heads": 5, "n_kv_heads": 1, "unembed_bias": True}]
SHAPES += [{"mlp": "gelu_exact", "tie_word_embeddings": False, "bias": True}]
LLAMAS = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GQA)),
    "llama, biases": lambda: t.LlamaForCausalLM(
        t.LlamaConfig(**GQA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    ),
    "llama 3's angles": lambda: t.LlamaForCausalLM(
        t.LlamaConfig(
            **GQA,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        )
    ),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**GQA, sliding_window=None)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GQA)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GQA, head_dim=6)),
}
OTHERS = {
    "a window": lambda: t.MistralForCausalLM(t.MistralConfig(**GQA, sliding_window=4)),
    "angles by length": lambda: t.LlamaForCausalLM(
        t.LlamaConfig(
            **GQA, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        )
    ),
    "another family": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**HF)),
    "a replaced layer": lambda: replaced(t.LlamaForCausalLM(t.LlamaConfig(**GQA))),
}


def replaced(model):
    """The model with a projection that is not a plain linear layer."""

    class Doubled(torch.nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    old = model.model.layers[1].mlp.down_proj
    model.model.layers[1].mlp.down_proj = Doubled(
        old.in_features, old.out_features, bias=False
    ).requires_grad_(False)
    return model


def wide(model, dtype=torch.float64):
    """The model with matrices, biases and gains drawn wide."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0 if parameter.ndim > 1 else 0.5, 0.4)
    return model.to(dtype).eval()


def texts(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 100, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def largest_difference(model, lengths):
    """Between the short way's logits after each text and a plain pass, over the largest logit."""
    short = short_way(model)
    assert short is not None
    rows = texts(lengths)
    width = max(lengths)
    kv = with_prefixes(lengths, [None] * len(lengths))
    Forward(model).columns(kv, rows, width - 1)
    logits = short([row[-1] for row in rows], kv)
    plain = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])
    return float((logits - plain).abs().max() / plain.abs().max())


@pytest.mark.quick
@pytest.mark.parametrize("lengths", [(2,), (30,), (9, 3, 1, 17, 30)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_our_gpt_has_the_logits_of_a_plain_pass(shape, lengths):
    assert largest_difference(wide(tiny_gpt(**shape)), lengths) < 1e-12


@pytest.mark.parametrize("lengths", [(2,), (40,), (9, 3, 1, 17, 40)], ids=str)
@pytest.mark.parametrize("name", LLAMAS)
def test_llamas_family_has_the_logits_of_a_plain_pass(name, lengths):
    # Its norms and angles are computed in single precision, whatever the weights are in.
    assert largest_difference(wide(LLAMAS[name]()), lengths) < 3e-6


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_have_none_and_run_themselves(name):
    assert short_way(wide(OTHERS[name]())) is None


def test_a_model_on_another_device_or_in_half_precision_has_none():
    assert short_way(tiny_gpt().bfloat16()) is None
    assert short_way(moved(tiny_gpt(), torch.device("meta"))) is None


@torch.no_grad()
def greedy(model, prompt, most):
    """Greedy decoding by plain passes over the whole text."""
    ids = list(prompt)
    for _ in range(most):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("family", ["llama", "qwen3", "workbench-rotary", "workbench-alibi"])
def test_texts_that_join_and_leave_are_those_of_plain_passes(family):
    subject = subject_of(make(family).float())
    batch = Batch(subject)
    written = {}

    def add(number):
        batch.add(requests[number], lambda completion: written.update({number: completion.ids}))

    requests = [
        Request(prompt, most)
        for prompt, most in zip(texts((5, 20, 1, 9)), (40, 30, 25, 8), strict=True)
    ]
    begins = [0, 2, AFTER + 1, AFTER + 3]
    for step in range(100):
        if step in begins:
            add(begins.index(step))
        if not batch.step():
            break
    assert shortcut(subject.model).n_bytes > 0
    for i, request in enumerate(requests):
        assert written[i] == greedy(subject.model, request.prompt, request.most)


def test_a_long_text_passes_the_end_of_a_table():
    subject = subject_of(tiny_gpt(positions="rotary", n_ctx=1100, d_model=16, n_layers=1))
    prompt = texts((1000,))[0]
    [completion] = write(subject, [Request(prompt, 60)])
    assert shortcut(subject.model).n_bytes > 0
    assert completion.ids == greedy(subject.model, prompt, 60)


def test_hooks_are_heard_after_the_short_way_was_taken():
    subject = subject_of(tiny_gpt())
    prompt = texts((4,))[0]
    write(subject, [Request(prompt, 30)])
    assert shortcut(subject.model).n_bytes > 0
    heard = []
    handle = subject.model.model.layers[0].mlp.register_forward_hook(
        lambda module, args, out: heard.append(1)
    )
    write(subject, [Request(prompt, 30)])
    handle.remove()
    assert len(heard) == 30


def test_an_edited_model_writes_what_its_edits_make_it_write():
    base = subject_of(tiny_gpt(positions="rotary"))
    prompt = texts((4,))[0]
    [before] = write(base, [Request(prompt, 40)])
    change = Intervention("steered", "tiny", (Edit(0, "resid_post", (), "add", [2.0] * 32),))
    edited = apply(base, change)
    [after] = write(edited, [Request(prompt, 40)])
    assert shortcut(base.model).n_bytes > 0
    assert shortcut(edited.model).n_bytes == 0
    assert after.ids != before.ids
    assert after.ids == greedy(edited.model, prompt, 40)


@pytest.mark.parametrize("fused", [False, True])
def test_weights_that_an_optimizer_has_changed_are_read_anew(fused):
    subject = subject_of(tiny_gpt())
    prompt = texts((4,))[0]
    [before] = write(subject, [Request(prompt, 30)])
    optimizer = torch.optim.AdamW(subject.model.requires_grad_(True).parameters(), 0.1, fused=fused)
    for _ in range(2):
        ids = torch.tensor(texts((20,)))
        with torch.enable_grad():
            subject.model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    [after] = write(subject, [Request(prompt, 30)])
    assert after.ids == greedy(subject.model, prompt, 30) != before.ids


def test_a_short_way_with_other_logits_is_not_taken():
    model = tiny_gpt()
    known = shortcut(model)
    kv = with_prefixes([3], [None])
    forward = Forward(model)
    forward.columns(kv, [[1, 2, 3]], 2)
    wrong = short_way(model)
    assert wrong is not None
    wrong.unembed = wrong.unembed._replace(weight=wrong.unembed.weight * 1.001)
    plain = model(torch.tensor([[1, 2, 3]])).logits[:, -1:]

    def run():
        kv.end += 1
        return plain

    assert known._checked([3], kv, run, wrong) is plain
    assert known.n_bytes == 0
    assert kv.end == 3
