"""Weights, circuits and the catalogue: a circuit written by hand, and every family of models."""

import numpy as np
import pytest
import torch

from tests.conftest import blocks, layout_of, subject_of, tiny_gpt, traces, weight_of
from tests.families import FAMILIES, make
from workbench.errors import WorkbenchError
from workbench.figures import composition as draw
from workbench.interp.patterns.catalogue import RULES, head_catalogue
from workbench.interp.patterns.composition import composition, copying_scores, strongest_pairs
from workbench.interp.patterns.heads import head_scores, text_scores
from workbench.interp.patterns.position_split import position_split, variance_shares
from workbench.interp.weights import embedding, layer_weights

VOCABULARY = 30
CONTEXT = 21
SHARP = 200.0


def induction_by_hand():
    """Two attention-only layers of two heads whose weights are written down.

    The residual stream is three notebooks side by side: this token, this position, the token
    before. L0H0 looks one position back and copies the token it finds into the third. L1H1 looks
    for a position whose third notebook holds the present token, and writes the token there into the
    first. The other two heads do nothing.
    """
    width = 2 * VOCABULARY + CONTEXT
    model = tiny_gpt(
        d_vocab=VOCABULARY,
        n_ctx=CONTEXT,
        n_heads=2,
        d_model=width,
        d_head=VOCABULARY,
        positions="learned",
    )
    token = slice(0, VOCABULARY)
    position = slice(VOCABULARY, VOCABULARY + CONTEXT)
    before = slice(VOCABULARY + CONTEXT, width)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
        weight_of(model.model.tok)[:, token] = torch.eye(VOCABULARY)
        weight_of(model.model.pos)[:, position] = torch.eye(CONTEXT)
        first, second = (layer.attn for layer in blocks(model))
        # At p the query asks for p - 1.
        first.q.weight[: CONTEXT - 1, position] = SHARP * torch.eye(CONTEXT)[1:]
        first.k.weight[:CONTEXT, position] = torch.eye(CONTEXT)
        first.v.weight[:VOCABULARY, token] = torch.eye(VOCABULARY)
        first.o.weight[before, :VOCABULARY] = torch.eye(VOCABULARY)
        second.q.weight[VOCABULARY:, token] = SHARP * torch.eye(VOCABULARY)
        second.k.weight[VOCABULARY:, before] = torch.eye(VOCABULARY)
        second.k.weight[VOCABULARY:, position.start] = -1  # nothing stands before the first token
        second.v.weight[VOCABULARY:, token] = torch.eye(VOCABULARY)
        second.o.weight[token, VOCABULARY:] = 9 * torch.eye(VOCABULARY)
    return subject_of(model, "by hand")


def test_a_circuit_written_by_hand_scores_one_and_predicts_the_next_token():
    subject = induction_by_hand()
    scores = head_scores(subject, length=10)
    assert scores.mean["previous_token_score"][0, 0] == pytest.approx(1, abs=1e-6)
    assert scores.mean["induction_score"][1, 1] == pytest.approx(1, abs=1e-6)
    assert np.isnan(scores.low["induction_score"][1, 1])  # samples that are all 1 show no spread
    assert np.delete(scores.mean["induction_score"].ravel(), 3).max() < 0.2
    ids = subject.encode("3 1 4 15 9 3 1 4 15")
    assert subject.model(ids).logits[0, 5:].argmax(-1).tolist() == [1, 4, 15, 9]


def test_the_weights_alone_show_who_feeds_whom_and_what_is_copied():
    subject = induction_by_hand()
    table = composition(subject).to_frame()
    top = table.iloc[0]
    assert (top["earlier"], top["later"], top["kind"]) == ("L0H0", "L1H1", "K") and top[
        "score"
    ] > 0.1
    assert table["score"].iloc[1:].max() < 0.02
    assert copying_scores(subject)[1, 1] == pytest.approx(1, abs=1e-6)
    pairs = strongest_pairs(subject, 1, 1, n=VOCABULARY)
    assert pairs["source_token"].tolist() == pairs["output_token"].tolist()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "workbench-sinusoidal"])
def test_a_token_alone_leaves_in_the_first_layer_what_the_weights_say(family):
    """The first query sees itself alone, so attention writes `sum over heads of x W_V W_O`; biases
    fall out.
    """
    model = make(family)
    for name, parameter in model.named_parameters():
        if "wpe" in name or name.endswith("pos.weight"):
            torch.nn.init.zeros_(parameter)
    subject = subject_of(model, family)
    written = []
    for token in (3, 7):
        _, cache = subject.bridge.run_with_cache(torch.tensor([[token, 1]]))
        written.append(cache["blocks.0.attn.hook_out"][0, 0])
    w = layer_weights(subject)[0]
    tokens = embedding(subject)
    expected = torch.einsum("m,hmd,hdn->n", tokens[3] - tokens[7], w.v, w.o)
    # LayerNorm's bias falls out too; the norms' epsilon stays.
    torch.testing.assert_close(written[0] - written[1], expected, rtol=1e-3, atol=1e-3)


def test_the_strongest_pairs_are_the_largest_entries_of_the_whole_matrix(tiny):
    w = layer_weights(tiny)[1]
    tokens = embedding(tiny)
    scores = tokens @ w.q[2] @ w.k[2].T @ tokens.T / tiny.card.d_head**0.5
    pairs = strongest_pairs(tiny, 1, 2, circuit="QK", n=5)
    np.testing.assert_allclose(pairs["score"], scores.flatten().topk(5).values, rtol=1e-4)
    first = divmod(int(scores.argmax()), len(tokens))
    assert (pairs["query_token"][0], pairs["key_token"][0]) == tuple(str(i) for i in first)
    with pytest.raises(WorkbenchError, match="has no L2H0"):
        strongest_pairs(tiny, 2, 0)


def test_variance_goes_to_what_made_it():
    rng = np.random.default_rng(0)
    torch_rng = torch.Generator().manual_seed(0)
    order = torch.from_numpy(np.stack([rng.permutation(12) for _ in range(16)]))
    position = torch.randn(12, 12, generator=torch_rng).double().expand(16, -1, -1)
    content = torch.randn(12, 12, generator=torch_rng).double()[
        order[:, :, None], order[:, None, :]
    ]
    noise = torch.randn(16, 12, 12, generator=torch_rng).double()
    # Softmax cannot see it, so it counts for nothing.
    shift = torch.randn(16, 1, 12, 1, generator=torch_rng).double()
    patterns = (
        torch.stack([position, content, noise, position + noise, torch.zeros_like(noise)], 1)
        + shift
    )
    shares = {k: v.round(decimals=2).tolist() for k, v in variance_shares(patterns, order).items()}
    assert shares["position"][:3] == [1, 0, 0] and shares["content"][:3] == [0, 1, 0]
    assert shares["interaction"][:3] == [0, 0, 1] and shares["interaction"][4] == 1
    assert shares["position"][3] == pytest.approx(0.5, abs=0.07)


def test_a_head_that_sees_only_positions_is_all_position():
    split = position_split(induction_by_hand(), n=2)
    assert split.mean["position"][0, 0] > 0.99 and split.n == 2


def test_a_text_counts_every_earlier_copy_and_what_followed_it():
    ids = torch.tensor([[5, 6, 5, 6]])
    pattern = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0.1, 0.9, 0, 0], [0, 0.2, 0.5, 0.3]])[
        None, None
    ]
    scores = text_scores(pattern, ids)
    assert scores["duplicate_token_score"].item() == pytest.approx((0.1 + 0.2) / 2)
    assert scores["induction_score"].item() == pytest.approx((0.9 + 0.5) / 2)


def test_labels_follow_their_rules_and_heads_of_a_kind_are_found():
    catalogue = head_catalogue(induction_by_hand(), length=10)
    assert "previous token" in catalogue.labels(0, 0) and "induction" in catalogue.labels(1, 1)
    for rule in RULES:
        given = [rule.label in catalogue.labels(i, j) for i in range(2) for j in range(2)]
        low = np.where(
            np.isnan(catalogue.low[rule.score]),
            catalogue.mean[rule.score],
            catalogue.low[rule.score],
        )
        above = catalogue.stands_out.get(rule.score, np.zeros((2, 2), bool)) & rule.relative
        assert given == ((low >= rule.at_least) | above).ravel().tolist(), str(rule)
    assert catalogue.similar(0, 1, n=1)["name"].tolist() == ["L1H0"]  # the two that do nothing
    assert len(catalogue.to_frame()) == 4
    assert catalogue.best("induction_score")["name"].tolist()[0] == "L1H1"
    with pytest.raises(WorkbenchError, match="There is no score 'luck'"):
        catalogue.best("luck")


def test_one_text_gives_no_interval_and_so_no_label(tiny):
    catalogue = head_catalogue(tiny, texts=["1 2 3 4 5 6 7 8 1 2 3 4"], n=1)
    assert set(catalogue.to_frame()["labels"]) <= {"", "copying"}


def test_the_graph_joins_the_heads_that_feed_each_other():
    edges = [("L0H0", "L1H1", "K", 0.4), ("L0H1", "L1H0", "Q", 0.2)]
    figure = draw.composition_graph(edges, n_layers=2, n_heads=2, chance=0.1)
    middles = {trace.name: trace.y[0] for trace in traces(figure) if trace.name}
    assert middles == {"Q-composition": 0.5, "K-composition": 0.5}
    assert {note.text for note in layout_of(figure).annotations} == {"L0H0", "L1H1", "L0H1", "L1H0"}
    x, y = draw.bow((1, 0), (1, 4))
    assert (x[0], x[-1], y[0], y[-1]) == (1, 1, 0, 4)
    assert x[1:-1].min() > 1, "a line up a column passes the heads between by"
    deep = draw.composition_graph([("L2H0", "L17H1", "K", 0.4)], n_layers=30, n_heads=2, chance=0.1)
    assert layout_of(deep).yaxis.ticktext == ("2", "17") and len(traces(deep)[-1].x) == 4
    assert traces(deep)[0].y[-1] == 1, "layer 17 is the second that is drawn"
