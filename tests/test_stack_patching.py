"""Patching of encoders and encoder-decoders: every cell against plain hooks on the transformers
model, one whole run each.
"""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.encoders import bert, t5
from workbench.errors import WorkbenchError
from workbench.interp.engine.sites import SITES
from workbench.subjects import Subject

CLEAN = "the cat sat on the [MASK] and ran ."
CORRUPTED = "the dog ate on the [MASK] and ran ."
BERT_ANSWERS: dict[str, Any] = {"answer": "mat", "wrong": "tree"}
SOURCE = "3 1 4 15 9"
OTHER = "3 8 4 22 9"
WRITTEN = [0, 7, 7, 2]
T5_ANSWERS: dict[str, Any] = {"answer": "5", "wrong": "11", "target": "7 7 2"}
HEAD_SITES = ("q", "k", "v", "z")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Subject:
    subject = bert(tmp_path_factory.mktemp("models") / "tiny-bert")
    subject.model.double()
    return subject


def modules_of_bert(model: Any, layer: int) -> dict[str, tuple[Any, str]]:
    """The module of each site by BERT's own names, and whether it is its input or its output."""
    block = model.bert.encoder.layer[layer]
    attention = block.attention
    return {
        "resid_pre": (block, "in"),
        "resid_mid": (attention.output.LayerNorm, "out"),
        "resid_post": (block, "out"),
        "attn_out": (attention.output.dense, "out"),
        "mlp_out": (block.output.dense, "out"),
        "q": (attention.self.query, "out"),
        "k": (attention.self.key, "out"),
        "v": (attention.self.value, "out"),
        "z": (attention.output.dense, "in"),
        "z_by_pos": (attention.output.dense, "in"),
        "neurons": (block.output.dense, "in"),
    }


def modules_of_t5(model: Any, part: str, layer: int) -> dict[str, tuple[Any, str]]:
    """The same by T5's own names; resid_mid is the output of the sub-layer that adds attention."""
    block = (model.encoder if part == "encoder" else model.decoder).block[layer]
    sub = block.layer[1 if part == "cross" else 0]
    attention = sub.EncDecAttention if part == "cross" else sub.SelfAttention
    mlp = block.layer[-1].DenseReluDense
    inside = {
        "resid_mid": (sub, "out"),
        "attn_out": (attention.o, "out"),
        "q": (attention.q, "out"),
        "k": (attention.k, "out"),
        "v": (attention.v, "out"),
        "z": (attention.o, "in"),
        "z_by_pos": (attention.o, "in"),
    }
    if part == "cross":
        return inside
    return {
        **inside,
        "resid_pre": (block, "in"),
        "resid_post": (block, "out"),
        "mlp_out": (mlp.wo, "out"),
        "neurons": (mlp.wo, "in"),
    }


def hooked(module: Any, side: str, change: Any) -> Any:
    """A plain torch hook that changes a module's first input or output."""
    if side == "in":
        return module.register_forward_pre_hook(
            lambda _m, args, kwargs: (
                ((change(args[0]), *args[1:]), kwargs)
                if args
                else (args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])})
            ),
            with_kwargs=True,
        )
    return module.register_forward_hook(
        lambda _m, _a, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
    )


def index_of(site: str, cell: tuple[int, ...], d_head: int) -> tuple[Any, ...]:
    """Where a cell stands in the module's tensor `[batch, pos, width]`."""
    if site in HEAD_SITES:
        return (slice(None), slice(None), slice(cell[1] * d_head, (cell[1] + 1) * d_head))
    if site == "z_by_pos":
        return (slice(None), cell[2], slice(cell[1] * d_head, (cell[1] + 1) * d_head))
    if site == "neurons":
        return (slice(None), slice(None), cell[1])
    return (slice(None), cell[1])


@torch.no_grad()
def by_hooks(
    run: Any, runs: tuple[Any, Any], modules: Any, site: str, cells: Any, d_head: int
) -> dict[tuple[int, ...], float]:
    """The metric of each cell, one run each with one module's tensor changed.

    Args:
        run: From the prompt's ids to the metric.
        runs: The ids of the run that gives, and of the one that is patched.
        modules: From a layer to the modules of its sites.
        site: What is patched.
        cells: The cells.
        d_head: Width of a head.
    """
    values = {}
    for cell in cells:
        sites = ("q", "k") if site == "pattern" else (site,)
        handles = []
        for one in sites:
            module, side = modules(cell[0])[one]
            taken: list[torch.Tensor] = []

            def keep(x, taken=taken):
                taken.append(x.clone())
                return x

            watch = hooked(module, side, keep)
            run(runs[0])
            watch.remove()
            where = index_of("q" if site == "pattern" else site, cell, d_head)

            def put(x, given=taken[0], where=where):
                x = x.clone()
                x[where] = given[where]
                return x

            handles.append(hooked(module, side, put))
        values[cell] = run(runs[1])
        for handle in handles:
            handle.remove()
    return values


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize("site", SITES)
def test_every_cell_of_an_encoder_is_a_run_with_plain_hooks(encoder, site, direction):
    layer = 1 if site == "neurons" else None
    patched = wb.patch(
        encoder, CLEAN, CORRUPTED, **BERT_ANSWERS, site=site, direction=direction, layer=layer
    )
    ids = [encoder.encode(text) for text in (CLEAN, CORRUPTED)]
    gives, takes = ids if direction == "denoising" else ids[::-1]
    words = encoder.tokenizer.convert_tokens_to_ids(["mat", "tree"])
    place = encoder.tokenizer.convert_ids_to_tokens(ids[0][0].tolist()).index("[MASK]")

    def run(given):
        logits = encoder.model(given).logits[0, place]
        return float(logits[words[0]] - logits[words[1]])

    values = np.array(patched.metric)
    cells = list(product(*map(range, values.shape)))[:: 3 if site == "z_by_pos" else 1]
    own = {(layer or 0) + c[0]: c for c in cells}
    assert own
    expected = by_hooks(
        run,
        (gives, takes),
        lambda row: modules_of_bert(encoder.model, row if layer is None else layer),
        site,
        cells,
        8,
    )
    for cell, value in expected.items():
        assert values[cell] == pytest.approx(value, abs=1e-8), cell
    assert patched.clean_metric == pytest.approx(run(ids[0]), abs=1e-8)
    assert patched.failed_checks() == [] and max(patched.checks.values()) < 1e-8


PLACES = [
    (part, site)
    for part in ("encoder", "decoder", "cross")
    for site in SITES
    if part != "cross" or site not in ("resid_pre", "resid_post", "mlp_out", "neurons")
]


@pytest.mark.parametrize(("part", "site"), PLACES)
def test_every_cell_of_a_t5_is_a_run_with_plain_hooks(part, site):
    subject = t5()
    layer = 1 if site == "neurons" else None
    patched = wb.patch(subject, SOURCE, OTHER, **T5_ANSWERS, part=part, site=site, layer=layer)
    target = torch.tensor([WRITTEN])
    ids = [subject.encode(text) for text in (SOURCE, OTHER)]

    def run(given):
        logits = subject.model(input_ids=given, decoder_input_ids=target).logits[0, -1]
        return float(logits[5] - logits[11])

    values = np.array(patched.metric)
    cells = list(product(*map(range, values.shape)))
    expected = by_hooks(
        run,
        (ids[0], ids[1]),
        lambda row: modules_of_t5(subject.model, part, row if layer is None else layer),
        site,
        cells,
        8,
    )
    for cell, value in expected.items():
        # T5's norm takes its variance in float32, whatever the weights.
        assert values[cell] == pytest.approx(value, abs=1e-5), cell
    assert max(patched.checks.values()) < 1e-5 and patched.part == part
    shown = SOURCE.split() if part == "encoder" else ["0", "7", "7", "2"]
    assert patched.clean_tokens == shown


def test_small_batches_give_the_same_map(encoder):
    whole = wb.patch(encoder, CLEAN, CORRUPTED, **BERT_ANSWERS, site="z")
    small = wb.patch(encoder, CLEAN, CORRUPTED, **BERT_ANSWERS, site="z", memory_gb=1e-6)
    np.testing.assert_allclose(whole.metric, small.metric, atol=1e-10)


def test_a_window_over_all_layers_is_all_of_them_replaced(encoder):
    """By plain hooks on every layer's projection and MLP at one position."""
    patched = wb.patch(
        encoder, CLEAN, CORRUPTED, **BERT_ANSWERS, site="attn_out", also="mlp_out", window=9
    )
    ids = [encoder.encode(text) for text in (CLEAN, CORRUPTED)]
    words = encoder.tokenizer.convert_tokens_to_ids(["mat", "tree"])
    places = []
    for layer in range(3):
        of_layer = modules_of_bert(encoder.model, layer)
        places += [of_layer["attn_out"][0], of_layer["mlp_out"][0]]
    taken = {}

    def keep(module, _args, out):
        taken[module] = out.clone()

    handles = [m.register_forward_hook(keep) for m in places]
    with torch.no_grad():
        encoder.model(ids[0])
        for handle in handles:
            handle.remove()

        def put(module, _args, out):
            out = out.clone()
            out[:, 2] = taken[module][:, 2]
            return out

        handles = [m.register_forward_hook(put) for m in places]
        logits = encoder.model(ids[1]).logits[0, 6]
        for handle in handles:
            handle.remove()
    value = float(logits[words[0]] - logits[words[1]])
    np.testing.assert_allclose(np.array(patched.metric)[:, 2], value, atol=1e-8)


def test_zeros_are_put_into_the_clean_run(encoder):
    patched = wb.patch(
        encoder, CLEAN, CORRUPTED, **BERT_ANSWERS, site="attn_out", replacement="zero"
    )
    ids = encoder.encode(CLEAN)
    words = encoder.tokenizer.convert_tokens_to_ids(["mat", "tree"])
    module = modules_of_bert(encoder.model, 2)["attn_out"][0]

    def put(_module, _args, out):
        out = out.clone()
        out[:, 4] = 0
        return out

    handle = module.register_forward_hook(put)
    with torch.no_grad():
        logits = encoder.model(ids).logits[0, 6]
    handle.remove()
    value = float(logits[words[0]] - logits[words[1]])
    assert np.array(patched.metric)[2, 4] == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clean": "the cat sat on the mat and ran ."}, r"\[MASK\], which must stand once"),
        ({"clean": "the [MASK] sat on the cat and ran ."}, "at different places"),
        ({"clean": "the cat sat"}, "has 5 tokens and the corrupted one 11"),
        ({"answer": "cats"}, "is 2 tokens"),
        ({"wrong": "mat"}, "are both"),
        ({"target": "cat"}, "writes nothing"),
        ({"part": "cross"}, "has no part 'cross'"),
        ({"replacement": "mean", "site": "z"}, "'other' or 'zero'"),
        ({"layer": 7}, "no layer 7"),
    ],
)
def test_bad_input_gets_one_sentence(encoder, changes, words):
    given = {"clean": CLEAN, "corrupted": CORRUPTED, **BERT_ANSWERS, **changes}
    with pytest.raises(WorkbenchError, match=words):
        wb.patch(encoder, given.pop("clean"), given.pop("corrupted"), **given)


def test_sites_of_the_stream_are_the_decoders_and_not_the_cross_attentions():
    with pytest.raises(WorkbenchError, match="resid_pre stands in the decoder"):
        wb.patch(t5(), SOURCE, OTHER, **T5_ANSWERS, part="cross", site="resid_pre")


@pytest.mark.parametrize("site", ["q", "k", "v", "z"])
def test_the_bundled_t5_is_patched_as_by_transformerlens(site):
    """Two strings that differ in one letter, in the middle of being reversed.

    Its hook on a T5's pattern only shows, so patterns are held against plain hooks above.
    """
    subject = wb.load("shelf-reverse", seq2seq=True)
    words: dict[str, Any] = {"answer": "d", "wrong": "x", "target": "hgfe"}
    patched = wb.patch(subject, "abcdefgh", "abcxefgh", **words, part="cross", site=site)
    bridge = subject.bridge
    target = torch.tensor([[0, *subject.ids("hgfe")[:-1]]])
    ids = [subject.encode(text) for text in ("abcdefgh", "abcxefgh")]
    letters = [subject.ids(letter)[0] for letter in ("d", "x")]
    _, clean = bridge.run_with_cache(ids[0], decoder_input=target)
    values = np.array(patched.metric)
    for layer, head in product(range(2), range(4)):
        name = f"decoder_blocks.{layer}.cross_attn.hook_{site}"
        where = (0, slice(None), head)

        def put(x, hook, name=name, where=where):
            x = x.clone()
            x[where] = clean[name][where]
            return x

        logits = bridge.run_with_hooks(ids[1], decoder_input=target, fwd_hooks=[(name, put)])
        value = float(logits[0, -1, letters[0]] - logits[0, -1, letters[1]])
        assert values[layer, head] == pytest.approx(value, abs=2e-4), (layer, head)


def test_the_letter_that_is_written_next_is_carried_by_values_and_not_by_patterns():
    """The bundled model looks by place, and the place is the same in both strings."""
    subject = wb.load("shelf-reverse", seq2seq=True)
    words: dict[str, Any] = {"answer": "d", "wrong": "x", "target": "hgfe"}

    def effects(part, site):
        patched = wb.patch(subject, "abcdefgh", "abcxefgh", **words, part=part, site=site)
        return np.array(patched.effect)

    assert np.abs(effects("cross", "pattern")).max() < 0.1
    values = effects("cross", "v")
    assert values.min() > 0.03 and values.sum() > 0.5
    stream = effects("encoder", "resid_pre")
    np.testing.assert_allclose(stream[0], [0, 0, 0, 1, 0, 0, 0, 0, 0], atol=1e-4)
