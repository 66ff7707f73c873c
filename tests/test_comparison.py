"""What changed between two models: nothing where they are one, and the planted change where there
is one.
"""

import copy
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.conftest import blocks, subject_of, tiny_gpt, weight_of
from tests.families import FAMILIES, make
from workbench.cli.compare_tables import tables
from workbench.comparison import (
    compare,
    head_shift,
    layer_shift,
    lens_shift,
    obstacles,
    partings,
    probe_transfer,
    score_shift,
    text_shift,
    weight_shift,
    what_remains,
)
from workbench.comparison.head_scores import head_table
from workbench.comparison.layers import cka
from workbench.comparison.weights import effective_rank, singular_values, singular_values_of
from workbench.errors import WorkbenchError
from workbench.subjects import adapter, load
from workbench.subjects.intervention import Edit, Intervention, apply

TEXTS = ["5 9 31 2 5 9 31 7", "1 2 3 4 5 6 7 8 9", "12 40 12 41 12 42 3"]
LABELLED = [
    (f"{i} {j} {7 if i % 2 else 8}", "odd" if i % 2 else "even")
    for i in range(10, 18)
    for j in (1, 2, 3)
]
Z2 = float(norm.ppf(0.975)) ** 2


def with_one_head_changed(layer: int = 1, head: int = 2):
    """The tiny model with the queries of one head turned round (8 rows a head)."""
    changed = tiny_gpt()
    rows = slice(8 * head, 8 * head + 8)
    with torch.no_grad():
        blocks(changed)[layer].attn.q.weight[rows] *= -1
    return subject_of(changed, "changed")


def test_every_view_of_a_model_and_itself_is_exactly_zero(tiny):
    twin = subject_of(tiny_gpt(), "twin")
    text = text_shift(tiny, twin, TEXTS).summary().set_index("measure")["value"].to_dict()
    assert text["kl"] == text["difference"] == 0 and text["loss_base"] == text["loss_tuned"] > 0
    assert not any(p.parted for _, p in partings(tiny, twin, TEXTS, n=6))
    layers = layer_shift(tiny, twin, TEXTS)
    assert (
        (layers.mean["cka"] == 1).all()
        and (layers.mean["cosine"] == 1).all()
        and not layers.mean["difference"].any()
    )
    lens = lens_shift(tiny, twin, TEXTS).to_frame()
    assert not lens["difference"].to_numpy().any()
    transfer = probe_transfer(tiny, twin, LABELLED)
    lost = transfer.loss()
    assert (
        not lost["difference"].to_numpy().any()
        and np.all(lost["p"] == 1)
        and transfer.chance == 0.5
    )
    none_differs = Z2 / (12 + Z2)  # Tango's ends where no text of 12 is read otherwise
    np.testing.assert_allclose(
        lost[["low", "high"]].to_numpy(), [[-none_differs, none_differs]] * len(lost)
    )
    heads = head_shift(tiny, twin, TEXTS)
    assert not heads.mean.any()
    scores = score_shift(tiny, twin, n=8, length=10)
    assert len(scores.mean) == 8 and not any(v.any() for v in scores.mean.values())
    # Samples that are all alike, however many, show no spread: no end is printed, 0 neither.
    for ends in (
        layers.low["cosine"],
        layers.high["difference"],
        lens["difference_low"],
        lens["difference_high"],
    ):
        assert np.isnan(ends).all()
    assert all(
        np.isnan(v).all()
        for v in (heads.low, heads.high, *scores.low.values(), *scores.high.values())
    )
    weights = weight_shift(tiny, twin)
    assert not weights.table[["relative", "norm", "rank", "effective_rank"]].to_numpy().any()
    assert weights.heads is not None and not weights.heads.any()


def test_the_one_head_whose_weights_changed_is_on_top_everywhere(tiny):
    changed = with_one_head_changed()
    weights = weight_shift(tiny, changed)
    heads = head_shift(tiny, changed, TEXTS)
    scores = score_shift(tiny, changed, n=3, length=10)
    table = head_table(heads, scores, weights.heads)
    assert (
        table["name"][0] == table.sort_values("weights", ascending=False)["name"].iloc[0] == "L1H2"
    )
    assert np.all(table["distance"][1:] == 0) and np.all(table["weights"][1:] == 0)
    assert (
        scores.mean["attention_entropy"][1, 2] != 0
        and np.count_nonzero(scores.mean["attention_entropy"]) == 1
    )
    grid, names = weights.grid()
    assert np.argwhere(grid > 0).tolist() == [[1, names.index("W_Q")]]
    row = weights.to_frame().iloc[0]
    assert row["rank"] == 8  # a head has 8 dimensions
    layers = layer_shift(tiny, changed, TEXTS)
    # Nothing before layer 1.
    assert (layers.mean["difference"][:2] == 0).all() and layers.mean["difference"][2] > 0


@pytest.mark.quick
def test_loss_and_divergence_of_a_token_are_what_the_formulas_say(tiny):
    other = with_one_head_changed()
    shift = text_shift(tiny, other, TEXTS[:1])
    ids = tiny.encode(TEXTS[0])
    p, q = (s.model(ids).logits[0, 3].double().softmax(-1) for s in (tiny, other))
    token = shift.texts[0].to_frame().iloc[4]
    assert token["token"] == "5" and token["loss_base"] == pytest.approx(
        -float(p[ids[0, 4]].log()), rel=1e-5
    )
    assert token["kl"] == pytest.approx(float((q * (q / p).log()).sum()), rel=1e-3)


def test_greedy_writing_parts_where_the_likeliest_tokens_first_differ(tiny):
    other = subject_of(tiny_gpt(seed=1), "other")
    (_, parting), *_ = partings(tiny, other, TEXTS[:1], n=5)
    written = []
    for subject in (tiny, other):  # without a cache, the whole row each time
        ids = subject.encode(TEXTS[0])
        for _ in range(5):
            ids = torch.cat([ids, subject.model(ids).logits[:, -1:].argmax(-1)], 1)
        written.append(ids[0, -5:].tolist())
    at = next(i for i, (a, b) in enumerate(zip(*written, strict=True)) if a != b)
    assert parting.parted and parting.agreed == at
    assert (parting.base_token, parting.tuned_token) == (str(written[0][at]), str(written[1][at]))
    assert 0 < parting.p_base <= 1 and parting.base_text.split() == [str(i) for i in written[0]]


@pytest.mark.quick
def test_cka_sees_neither_rotation_nor_scale_and_little_in_noise():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=rng, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=rng, dtype=torch.float64)).Q
    y = 3 * x @ turn + 1
    assert cka(x @ x.T, y @ y.T) == pytest.approx(1)
    noise = torch.randn(200, 8, generator=rng, dtype=torch.float64)
    assert cka(x @ x.T, noise @ noise.T) < 0.15


def test_a_linear_probe_carries_over_as_far_as_the_tokens_still_mean_the_same(tiny):
    turned = copy.deepcopy(tiny.model)
    with torch.no_grad():
        embedding = weight_of(turned.get_input_embeddings())
        embedding[[7, 8]] = embedding[[8, 7]]  # each now says what the other said
    transfer = probe_transfer(tiny, subject_of(turned, "turned"), LABELLED)
    shares = {pair: right[0].mean() for pair, right in transfer.right.items()}
    # The last token gives the label away.
    assert shares["base on base"] == shares["tuned on tuned"] == 1
    assert shares["base on tuned"] == 0
    lost = transfer.loss().iloc[0].to_dict()
    assert lost["difference"] == lost["low"] == -1 and lost["p"] == 2**-11
    assert np.all(transfer.to_frame()["n"] == 12)
    # Tango's end where all 12 texts are lost.
    assert lost["high"] == pytest.approx(-(12 - Z2) / (12 + Z2))


@pytest.mark.quick
def test_the_effective_rank_of_an_update_is_the_number_of_its_equal_directions():
    basis = torch.linalg.qr(
        torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    ).Q.double()
    update = 0.01 * basis[:, :3] @ basis[:3]
    values = singular_values(update)
    assert int((values > 0).sum()) == 3 and effective_rank(values) == pytest.approx(3)
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(
        np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    )


@pytest.fixture
def adapted(tmp_path):
    """A LoRA with random factors on layers 1 and 2 of a model of four, and its base, as folders."""
    from peft import LoraConfig, get_peft_model

    from workbench.subjects.save import save
    from workbench.subjects.tokenizer import id_tokenizer

    save(tmp_path / "base", tiny_gpt(n_layers=4), id_tokenizer(100))
    base = load(tmp_path / "base")
    names = [f"model.layers.{i}.attn.{part}" for i in (1, 2) for part in "qv"]
    model = get_peft_model(
        load(tmp_path / "base").model, LoraConfig(r=3, lora_alpha=6, target_modules=names)
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(
                weights, 0, 0.1, generator=torch.Generator().manual_seed(len(name))
            )
    cast("Any", model).base_subject = adapter.Base(str(tmp_path / "base"), base.hash)
    (tmp_path / "lora").mkdir()
    adapter.write(tmp_path / "lora", model)
    return base, load(tmp_path / "lora")


def test_a_lora_shows_its_layers_its_rank_and_the_norm_of_the_merged_update(adapted):
    base, tuned = adapted
    shift = weight_shift(base, tuned)
    grid, names = shift.grid()
    changed = {(layer, names[i]) for layer, i in np.argwhere(grid > 0)}
    assert changed == {(layer, part) for layer in (1, 2) for part in ("W_Q", "W_V")}
    rows = shift.table[shift.table["lora_rank"] > 0]
    assert len(rows) == 4 and set(rows["rank"]) == {3} and np.all(rows["effective_rank"] <= 3)
    layer = int(rows.iloc[0]["layer"])
    part = rows.iloc[0]["matrix"]
    name = f"model.layers.{layer}.attn.{part[-1].lower()}.weight"
    merged = dict(tuned.model.named_parameters())[name] - dict(base.model.named_parameters())[name]
    assert rows.iloc[0]["norm"] == pytest.approx(float(merged.norm()), rel=1e-4)
    factors = adapter.factors(Path(tuned.card.source))[name]
    whole = torch.linalg.svdvals(merged.double())[:3].sort().values
    torch.testing.assert_close(
        singular_values_of(factors).sort().values, whole, rtol=1e-4, atol=1e-6
    )
    layers = layer_shift(base, tuned, TEXTS)
    assert (layers.mean["difference"][:2] == 0).all() and (layers.mean["difference"][2:] > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_its_matrices_heads_and_stream(family):
    base = subject_of(make(family), "base")
    model = make(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    tuned = subject_of(model, "tuned")
    shift = weight_shift(base, tuned)
    matrices = shift.table.query("most > 1")["relative"]  # some vectors are 0 before and after
    assert matrices.to_numpy() == pytest.approx(0.5) and shift.heads == pytest.approx(0.5)
    assert set(shift.grid()[1]) >= {"W_O", "W_in", "W_out"}
    assert sum(shift.table["parameters"]) == base.card.n_params
    assert layer_shift(base, tuned, TEXTS[:2]).mean["difference"][-1] > 0


def test_what_cannot_be_compared_says_what_remains(tiny):
    deep = subject_of(tiny_gpt(n_layers=3), "deep")
    assert set(obstacles(tiny, deep)) == {"layers", "heads", "weights"}
    remark = what_remains(tiny, deep)
    assert "2 layers of 4 heads" in remark and remark.endswith(
        "What remains: behaviour (benchmarks on the same items), text (every token of a text)."
    )
    other = load("shelf-base")
    assert set(obstacles(tiny, other)) == {"text", "layers", "heads", "weights"}
    assert what_remains(tiny, tiny) == ""
    with pytest.raises(WorkbenchError, match="What remains: behaviour"):
        text_shift(tiny, other)


def test_an_edited_model_differs_in_what_it_does_and_not_in_its_weights(tiny):
    edited = apply(tiny, Intervention("cut", "tiny", (Edit(0, "z", (1,)),)))
    assert not np.any(weight_shift(tiny, edited).table["relative"])
    assert layer_shift(tiny, edited, TEXTS).mean["difference"][1] > 0
    text = text_shift(tiny, edited, TEXTS).summary().set_index("measure")["value"].to_dict()
    assert text["kl"] > 0


def test_one_record_holds_all_parts_and_goes_to_json():
    seen = []
    shares = []
    comparison = compare(
        "shelf-base",
        "shelf-base",
        suite=["agreement"],
        limit=6,
        parts=["weights", "heads", "behaviour"],
        progress=lambda share, _: shares.append(share),
        partial=lambda part, record: seen.append((part, record.heads is not None)),
    )
    assert seen == [("weights", False), ("heads", True), ("behaviour", True)]
    assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] <= 1
    counts = comparison.outcomes().iloc[0]
    assert (
        counts["only_base"] == counts["only_tuned"] == 0 and counts["both"] + counts["neither"] == 6
    )
    record = json.loads(json.dumps(comparison.to_dict()))
    assert record["tasks"][0]["difference"] == 0 and record["layers"] is None
    assert max(row["relative"] for row in record["weights"]["matrices"]) == 0
    assert max(row["distance"] for row in record["heads"]) == 0
    refused: list[tuple[dict[str, Any], str]] = [
        ({"parts": ["hairs"]}, "There is no part hairs"),
        (
            {"suite": ["agreement", "agrement"]},
            "There is no task 'agrement'; did you mean agreement",
        ),
        ({"limit": 0}, "at least one item"),
    ]
    for wrong, message in refused:
        with pytest.raises(WorkbenchError, match=message):
            compare("shelf-base", "shelf-base", **wrong)


def test_a_suite_that_fails_leaves_the_other_parts_standing(monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", "/no/such/folder")
    comparison = compare(
        "shelf-base", "shelf-tuned", suite=["banking77"], limit=2, parts=["weights", "behaviour"]
    )
    assert (
        comparison.weights is not None
        and comparison.table.empty
        and comparison.base_results is None
    )
    assert len(comparison.notes) == 1 and comparison.notes[0].startswith(
        "behaviour: No task of 'custom' could run"
    )
    assert tables("behaviour", comparison) == [] and comparison.to_dict()["tasks"] == []
    with pytest.raises(WorkbenchError, match="No task of"):
        compare("shelf-base", "shelf-tuned", suite=["banking77"], limit=2, parts=["behaviour"])
