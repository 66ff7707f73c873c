"""Causal analysis on trained models whose circuits are published: it has to find those, and nothing
else.
"""

from typing import Any

import numpy as np
import pytest
import torch

from tests import toys
from workbench.errors import WorkbenchError
from workbench.interp.circuits.audit import exact_losses
from workbench.interp.circuits.edges import graph_of
from workbench.interp.circuits.question import question_of
from workbench.interp.engine.packed import engine
from workbench.interp.engine.settings import Settings
from workbench.interp.patching.direct import attribute
from workbench.interp.patching.pair_maps import patch
from workbench.interp.patching.probe_maps import sweep_items
from workbench.interp.prompts.pairs import pair
from workbench.interp.prompts.probes import Item, Items, Probe, generate, read_probe
from workbench.subjects import load
from workbench.subjects.intervention import Edit, Intervention, apply

P = 113
KEY = (36, 52)
"""The frequencies of the modular-addition model."""


@pytest.fixture(scope="module")
def repeats():
    """The induction toy and 20 pairs: in the corrupted one the tokens before two others have
    changed places.
    """
    subject, _ = toys.induction()
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(20):
        once = torch.randperm(127, generator=generator)[:16].tolist()
        other = [*once[:3], once[9], *once[4:9], once[3], *once[10:]]
        clean, corrupted = (" ".join(map(str, [127, *first, *once[:4]])) for first in (once, other))
        answer = str(once[4])
        wrong = str(once[10])
        prompts = pair(subject, clean, corrupted, answer, wrong)
        items.append(Item(clean, corrupted, (answer,), (wrong,), prompts))
    probe = Probe("repeats", "Repeats", "", "", "logit_difference", (), {}, {})
    return subject, Items(probe, items, [str(i) for i in range(21)], {})


def test_patching_finds_the_induction_circuit_and_no_other_head(repeats):
    subject, pairs = repeats
    swept = sweep_items(subject, pairs, Settings("z"))
    assert (
        swept.effect[0].argmax() == 2 and swept.low[0, 2] > 0.5 and 0.9 < swept.effect[0, 2] < 1.1
    )
    assert (swept.low[1, 1:] > 0.1).all() and swept.effect[1, 1:].sum() == pytest.approx(
        1, abs=0.05
    )
    for layer, head in ((0, 0), (0, 1), (0, 3), (1, 0)):
        assert abs(swept.effect[layer, head]) < 0.05
    assert max(swept.checks.values()) < 1e-10
    by_place = sweep_items(subject, pairs, Settings("z_by_pos")).effect
    # Where the wrong answer stood.
    assert np.unravel_index(by_place.argmax(), by_place.shape) == (
        0,
        2,
        11,
    )


def test_the_induction_heads_hear_of_the_previous_token_through_their_keys(repeats):
    """K-composition (Elhage et al. 2021), by path patching of every edge between the two layers."""
    subject, pairs = repeats
    packed = engine(subject)
    questions = [question_of(packed, item.pair, "logit_difference") for item in pairs.items]
    graph = graph_of(packed, questions[0].run)
    edges = [(r, graph.senders.index(f"L0H{h}")) for r in range(12, 24) for h in range(4)]
    lost = exact_losses(packed, graph, questions, edges).mean(0)
    strong = {
        (graph.senders[s], graph.receivers[r])
        for (r, s), x in zip(edges, lost, strict=True)
        if abs(x) > 0.05
    }
    assert strong == {("L0H2", f"L1H{h}.k") for h in (1, 2, 3)}
    assert sum(sorted(lost)[-3:]) == pytest.approx(1, abs=0.1)


@pytest.fixture(scope="module")
def addition():
    """The toy that adds modulo 113: every seventh sum as token ids, neurons after the equals sign
    for all sums.
    """
    subject, _ = toys.modular_addition()
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    ids = torch.cat([pairs, torch.full((len(pairs), 1), P)], 1)
    runs = [engine(subject).record(part) for part in ids.split(2000)]
    post = torch.cat([r.post[0][:, -1] for r in runs])
    logits = torch.cat([r.logits[:, -1, :P] for r in runs])
    assert torch.equal(logits.argmax(-1), pairs.sum(1) % P)  # all 12,769 right
    return subject, ids, post, logits


def test_modular_addition_is_done_in_two_frequencies(addition):
    """Its logits are a sum of cos(2 pi k (a + b - c) / 113) over few k (Nanda et al. 2023)."""
    _, _, _, logits = addition
    n = torch.arange(P)
    offset = (n[:, None, None] + n[None, :, None] + n) % P
    # [a, b, c - a - b].
    centred = (logits - logits.mean(1, keepdim=True)).view(P, P, P).gather(2, offset)
    profile = centred.mean((0, 1))
    assert float(profile.square().sum() * P**2 / centred.square().sum()) > 0.9
    power = torch.fft.rfft(profile).abs()
    assert (
        set(power.topk(2).indices.tolist()) == set(KEY)
        and power.topk(3).values[2] < power.max() / 20
    )
    waves = torch.fft.fft(centred, dim=2)
    key = torch.zeros(P)
    key[[*KEY, *(P - k for k in KEY)]] = 1
    right = [
        float((torch.fft.ifft(waves * part).real.argmax(2) == 0).double().mean())
        for part in (key, 1 - key)
    ]
    assert right[0] > 0.98 and right[1] < 0.01


def test_ablating_the_neurons_of_the_key_frequencies_is_what_breaks_it(addition):
    subject, ids, post, _ = addition
    waves = torch.fft.fft2((post - post.mean(0)).view(P, P, -1), dim=(0, 1)).abs().square()
    share: list[Any] = [
        sum(waves[u, v] for u in (0, k, P - k) for v in (0, k, P - k)) for k in range(1, P // 2 + 1)
    ]
    own = 1 + torch.stack(share).argmax(0)
    key = torch.isin(own, torch.tensor(KEY))
    assert 0.8 < key.double().mean() < 0.95
    sums = ids[::7]

    def accuracy(out):
        where = tuple(out.nonzero().flatten().tolist())
        cut = Intervention("cut", "", (Edit(0, "post", where, "set", post.mean(0)[out].tolist()),))
        answers = apply(subject, cut).model(sums).logits[:, -1].argmax(-1)
        return float((answers == sums[:, :2].sum(1) % P).double().mean())

    assert accuracy(~key) > 0.99 and accuracy(key) < 0.02
    assert all(accuracy(own == k) < 0.5 for k in KEY)


def test_the_sum_goes_through_the_mlp_and_is_gathered_by_patterns_that_do_not_look_at_numbers(
    addition,
):
    subject, *_ = addition
    for a, b, c, d in ((3, 50, 90, 50), (10, 20, 10, 77), (100, 7, 31, 64)):
        clean = f"{a} {b} 113"
        corrupted = f"{c} {d} 113"
        answer = str((a + b) % P)
        wrong = str((c + d) % P)
        maps = {
            site: np.array(
                patch(subject, clean, corrupted, answer=answer, wrong=wrong, site=site).effect
            )
            for site in ("mlp_out", "z", "v", "q")
        }
        assert maps["mlp_out"][0, 2] > 0.98  # not the connection past it
        assert np.abs(maps["z"] - maps["v"]).max() < 0.06 and np.abs(maps["q"]).max() < 0.01


def test_the_name_movers_of_gpt2_are_those_that_wang_et_al_found():
    try:
        subject = load("gpt2")
    except WorkbenchError:
        pytest.skip("GPT-2's weights are not here: it needs `gpt2` in the Hugging Face cache")
    items = generate(subject, read_probe("ioi"), 40).items
    heads = np.mean([attribute(subject, item.pair).heads for item in items], 0)
    most = {divmod(int(place), heads.shape[1]) for place in np.argsort(-heads, axis=None)[:5]}
    assert {(9, 9), (10, 0), (9, 6)} <= most  # arXiv:2211.00593
