"""The engine against transformers: the same tokens alone, together, joining and leaving."""

import gc
import threading
import time
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.generation import logits_process as reference

import workbench
from tests.conftest import subject_of, tiny_gpt, written_by
from workbench.errors import WorkbenchError
from workbench.generation import Batch, Engine, Request, Sampling, write
from workbench.generation.engine import FullError
from workbench.generation.forward import ALONE, TOGETHER, WHOLE
from workbench.generation.sampling import adjusted, distribution
from workbench.generation.text import Text
from workbench.subjects.intervention import Edit, Intervention, apply

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 30)


def llama(**changes):
    torch.manual_seed(1)
    shape = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    return subject_of(
        LlamaForCausalLM(LlamaConfig(**{**shape, **more, **changes, "eos_token_id": None})).eval(),
        "llama",
    )


def gpt2():
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
    )
    return subject_of(GPT2LMHeadModel(config).eval(), "gpt2")


def edited():
    change = Intervention(
        "steered", "tiny", (Edit(0, "resid_post", (), "add", [0.5] * 32), Edit(1, "z", (2,)))
    )
    return apply(subject_of(tiny_gpt(positions="rotary")), change)


def ours(positions):
    return subject_of(tiny_gpt(positions=positions))


SUBJECTS = {
    "llama": llama,
    "gpt2": gpt2,
    "edit": edited,
    **{p: partial(ours, p) for p in ("learned", "rotary", "alibi", "none")},
}


def prompts(n_vocab=100, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, n_vocab, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def by_transformers(subject, prompt, most):
    ids = torch.tensor([prompt])
    out = written_by(
        subject.model,
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=most,
        min_new_tokens=most,
        do_sample=False,
    )
    return tuple(out[0, len(prompt) :].tolist())


@pytest.mark.parametrize("name", SUBJECTS)
def test_greedy_is_what_transformers_generates_alone_and_in_a_batch(name):
    subject = SUBJECTS[name]()
    wanted = [by_transformers(subject, p, 20) for p in prompts()]
    assert Batch(subject).forward.way == TOGETHER
    assert [c.ids for c in write(subject, [Request(p, 20) for p in prompts()])] == wanted
    assert [write(subject, [Request(p, 20)])[0].ids for p in prompts()] == wanted


@pytest.mark.parametrize("way", [ALONE, WHOLE])
def test_ways_without_a_shared_pass_write_the_same(tiny, way):
    batch = Batch(tiny)
    completions = {}
    batch.forward.way = way
    for index, prompt in enumerate(prompts()):
        batch.add(Request(prompt, 10), partial(completions.__setitem__, index))
    while batch.step():
        pass
    assert [completions[i].ids for i in range(8)] == [
        by_transformers(tiny, p, 10) for p in prompts()
    ]


def test_the_bundled_model_writes_as_transformers_does():
    subject = workbench.load("shelf-base")
    texts = (
        "Once upon a time",
        "A",
        "The king said to the queen that he would not go",
        "In the",
        '"No,"',
        "She",
    )
    ids = [subject.ids(text) for text in texts]
    wanted = [by_transformers(subject, p, 24) for p in ids]
    assert [c.ids for c in write(subject, [Request(p, 24) for p in ids])] == wanted


@pytest.mark.slow
def test_a_gguf_model_writes_as_transformers_does(smollm):
    subject = workbench.load(smollm)
    ids = [
        subject.ids(text)
        for text in ("Once upon a time", "The capital of France is", "def add(a, b):\n", "1, 2,")
    ]
    wanted = [by_transformers(subject, p, 16) for p in ids]
    assert [c.ids for c in write(subject, [Request(p, 16) for p in ids])] == wanted


@pytest.mark.quick
def test_requests_join_and_leave_between_steps_and_disturb_nobody():
    subject = llama()
    batch = Batch(subject, most_rows=3)
    completions = {}
    requests = [(p, 4 + 3 * i) for i, p in enumerate(prompts())]
    for step in range(200):
        if step % 2 == 0 and step // 2 < len(requests):
            prompt, most = requests[step // 2]
            batch.add(Request(prompt, most), partial(completions.__setitem__, step // 2))
        if not batch.step() and step > 2 * len(requests):
            break
        assert batch.n_rows <= 3
    assert [completions[i].ids for i in range(8)] == [
        by_transformers(subject, p, n) for p, n in requests
    ]


@pytest.mark.quick
def test_known_beginnings_are_not_read_again_and_change_nothing():
    subject = llama()
    system = prompts(lengths=(24,))[0]
    known = [[*system, *tail] for tail in prompts(lengths=(1, 4, 9, 14), seed=3)]
    batch = Batch(subject)
    completions = {}
    for index, prompt in enumerate(known):
        batch.add(Request(prompt, 12), partial(completions.__setitem__, index))
    while batch.step():
        pass
    assert [completions[i].ids for i in range(4)] == [
        by_transformers(subject, p, 12) for p in known
    ]
    assert [completions[i].reused for i in range(4)] == [0, 24, 24, 24]
    turn = [*known[1], *completions[1].ids, 5, 6]
    batch.add(Request(turn, 6), partial(completions.__setitem__, 9))
    while batch.step():
        pass
    # Of the turn before all but its last token, which was written and not read.
    assert completions[9].reused == len(turn) - 3
    assert completions[9].ids == by_transformers(subject, turn, 6)


def test_what_is_kept_stays_within_its_budget():
    batch = Batch(llama(), prefix_bytes=20_000)
    for prompt in prompts(lengths=(20, 25, 30, 35, 40)):
        batch.add(Request(prompt, 2), lambda c: None)
        while batch.step():
            assert batch.prefixes.size <= 20_000
    assert 0 < len(batch.prefixes) < 5


@pytest.mark.quick
@torch.no_grad()
def test_scores_are_the_log_probabilities_of_a_plain_pass():
    subject = gpt2()
    requests = [Request(p, 5, top=3, score_prompt=True) for p in prompts()]
    for request, completion in zip(requests, write(subject, requests), strict=True):
        whole = [*request.prompt, *completion.ids]
        logs = subject.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        scores = [*completion.prompt_scores, *completion.scores]
        assert [s.token for s in scores] == whole[1:]
        for at, score in enumerate(scores):
            assert score.logprob == pytest.approx(float(logs[at, score.token]), abs=1e-5)
            assert [t for t, _ in score.top] == logs[at].topk(3).indices.tolist()


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"temperature": 0.7}, reference.TemperatureLogitsWarper(0.7)),
        ({"temperature": 1.0, "top_k": 5}, reference.TopKLogitsWarper(5)),
        ({"temperature": 1.0, "top_p": 0.6}, reference.TopPLogitsWarper(0.6)),
        ({"temperature": 1.0, "min_p": 0.2}, reference.MinPLogitsWarper(0.2)),
    ],
)
def test_what_is_drawn_from_is_what_transformers_draws_from(settings, processor):
    for seed in range(20):
        logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3
        wanted = processor(torch.tensor([[1]]), logits[None])[0].softmax(-1)
        assert torch.allclose(distribution(logits, Sampling(**settings)), wanted, atol=1e-6)


@pytest.mark.quick
def test_penalties_and_bias_change_the_logits_as_documented():
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0])
    penalty: Any = reference.RepetitionPenaltyLogitsProcessor(1.5)
    wanted = penalty(torch.tensor([[0, 1]]), logits[None])[0]
    assert torch.allclose(adjusted(logits, Sampling(repetition_penalty=1.5), [0], [1]), wanted)
    changed = adjusted(
        logits, Sampling(presence_penalty=1.0, frequency_penalty=0.25), [3], [2, 2, 0]
    )
    assert changed.tolist() == pytest.approx([0.75, -1.0, -1.0, 3.0])
    assert adjusted(logits, Sampling(logit_bias={1: 50}), [], []).argmax() == 1


def test_a_seed_means_one_text_whoever_is_beside_it(tiny):
    sampled = Sampling(temperature=1.2, seed=7)
    alone = write(tiny, [Request([5, 6], 20, sampled)])[0].ids
    others = [Request(p, 20, Sampling(temperature=1.0, seed=i)) for i, p in enumerate(prompts())]
    assert write(tiny, [*others, Request([5, 6], 20, sampled)])[-1].ids == alone
    assert write(tiny, [Request([5, 6], 20, Sampling(temperature=1.2, seed=8))])[0].ids != alone


def test_drawn_tokens_follow_the_distribution(tiny):
    with torch.no_grad():
        logits = tiny.model(torch.tensor([[5, 6]])).logits[0, -1]
    wanted = distribution(logits, Sampling(temperature=1.0, top_k=4))
    drawn = write(
        tiny, [Request([5, 6], 1, Sampling(temperature=1.0, top_k=4, seed=i)) for i in range(600)]
    )
    counts = torch.bincount(torch.tensor([c.ids[0] for c in drawn]), minlength=100) / 600
    assert (counts - wanted).abs().max() < 0.08  # four standard errors of a share at 600 draws


def test_end_tokens_stop_strings_and_allowed_tokens_end_and_bound_a_text(tiny):
    free = write(tiny, [Request([5, 6], 12)])[0]
    ended = write(tiny, [Request([5, 6], 12, ends=frozenset({free.ids[4]}))])[0]
    first = free.ids.index(free.ids[4])
    assert (ended.ids, ended.reason) == (free.ids[:first], "stop")
    words = free.text.split()
    cut = write(tiny, [Request([5, 6], 12, stops=(f"{words[2]} {words[3]}",))])[0]
    assert (
        cut.reason == "stop" and cut.text == free.text[: free.text.index(f"{words[2]} {words[3]}")]
    )
    bound = write(tiny, [Request([5, 6], 4, allowed=lambda written: [10 + len(written)])])[0]
    assert bound.ids == (10, 11, 12, 13)


def test_text_comes_in_whole_characters_and_holds_back_what_may_be_a_stop():
    tokenizer = workbench.load("shelf-base").tokenizer
    ids = tokenizer("naïve — 日本語 🙂 end STOP more")["input_ids"]
    text = Text(tokenizer, [], ())
    pieces = [text.add(i) for i in ids]
    assert "".join(pieces) + text.rest() == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)
    text = Text(tokenizer, [], ("STOP",))
    shown = ""
    for i in ids:
        shown += text.add(i)
        assert "S" not in shown
        if text.stopped:
            break
    assert shown == "naïve — 日本語 🙂 end "


def test_the_engine_streams_to_many_threads_and_cancels(tiny):
    engine = Engine(tiny, most_rows=4)
    written = {}
    wanted = [by_transformers(tiny, p, 15) for p in prompts()]

    def ask(index):
        generation = engine.submit(Request(prompts()[index], 15))
        streamed = tuple(token.id for token in generation)
        written[index] = (streamed, generation.result().ids)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [written[i] for i in range(8)] == [(w, w) for w in wanted]
    long = engine.submit(Request([1], 60))
    next(iter(long))
    long.cancel()
    assert long.result().reason in ("cancelled", "length") and engine.n_open == 0
    assert engine.counts.requests == 9
    engine.close()
    with pytest.raises(FullError):
        engine.submit(Request([1], 1))


def test_a_full_engine_refuses_and_a_failing_listener_harms_nobody(tiny):
    engine = Engine(tiny, most_rows=1, most_waiting=1)
    gate = threading.Event()

    def hang(event):
        gate.wait(30)
        raise RuntimeError("gone")

    engine.submit(Request([1], 50), hang)
    time.sleep(0.05)
    second = engine.submit(Request([2], 5))
    with pytest.raises(FullError, match="later"):
        engine.submit(Request([3], 5))
    gate.set()
    assert second.result().ids == by_transformers(tiny, [2], 5)
    engine.close()


def test_requests_that_cannot_be_are_refused_by_name(tiny):
    for request, words in (
        (Request([], 1), "empty"),
        (Request([1] * 60, 6), "holds 64 tokens; the prompt has 60 and 6"),
        (Request([100], 1), "none of tiny"),
        (Request([1], -1), "0 or more"),
        (Request([1], 1, ends=frozenset({200})), "Token 200"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            write(tiny, [request])
    # The last token needs no room: it is never read.
    assert len(write(tiny, [Request([1] * 60, 5)])[0].ids) == 5
    refused: list[tuple[dict[str, Any], str]] = [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"min_p": -1}, "min_p"),
    ]
    for settings, words in refused:
        with pytest.raises(WorkbenchError, match=words):
            Sampling(**settings)


def test_a_cache_goes_when_nobody_holds_it(tiny):
    batch = Batch(tiny, prefix_bytes=0)
    batch.add(Request([1] * 20, 5), lambda c: None)
    batch.step()
    gone = weakref.ref(batch.lanes[0].kv)
    gc.disable()
    try:
        while batch.step():
            pass
        assert gone() is None
    finally:
        gc.enable()
