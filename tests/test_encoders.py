"""Encoders of pictures and sounds: every number against plain hooks, formulas or differences."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.signals import VIT_SETTINGS, folder_of, tiny_ast, tiny_hubert, tiny_vit
from workbench import paths
from workbench.data.digits import digits
from workbench.data.tones import tone
from workbench.encoders.accuracy import encoder_accuracy
from workbench.encoders.attribution import encoder_attribution
from workbench.encoders.classes import encoder_classes
from workbench.encoders.lens import encoder_lens
from workbench.encoders.looking import encoder_attention
from workbench.encoders.patching import ENCODER_SITES, encoder_patching
from workbench.encoders.reading import read_signal
from workbench.errors import WorkbenchError
from workbench.statistics import blaker
from workbench.subjects import load
from workbench.subjects.bridge import shared_clone
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import load_encoder


def photo(seed: int = 0) -> np.ndarray:
    """A picture of 12 by 8 random pixels in colour."""
    return np.random.default_rng(seed).integers(0, 256, (12, 8, 3)).astype(np.uint8)


def sound(seed: int = 0) -> np.ndarray:
    return tone(300 + 200 * (seed % 10), seconds=0.05, seed=seed)


@pytest.fixture(scope="module")
def vit() -> Encoder:
    return tiny_vit()


@pytest.fixture(scope="module")
def bundled() -> Encoder:
    return load_encoder("shelf-vit")


def test_pixels_are_scaled_as_by_transformers_own_processor(vit, tmp_path):
    big = np.random.default_rng(3).integers(0, 256, (30, 26, 3)).astype(np.uint8)
    theirs = ViTImageProcessorPil(**VIT_SETTINGS)(Image.fromarray(big), return_tensors="pt")
    path = tmp_path / "a.png"
    Image.fromarray(big).save(path)
    for source in (big, path, path.read_bytes()):
        ours = read_signal(vit, source)
        torch.testing.assert_close(ours.values, theirs["pixel_values"][0], atol=1e-6, rtol=1e-6)
        assert ours.remarks == ("Scaled from 26 by 30 to 8 by 12 pixels.",)


def test_other_modes_are_converted_and_said(vit, tmp_path):
    path = tmp_path / "a.png"
    clear = Image.new("RGBA", (8, 12), (0, 0, 0, 0))
    clear.save(path)
    read = read_signal(vit, path)
    assert read.remarks == ("Converted from RGBA to RGB.",)
    assert read.canvas.image.min() == 1  # transparent is white
    Image.new("L", (8, 12), 51).save(path)
    assert read_signal(vit, path).canvas.image == pytest.approx(0.2)
    Image.fromarray(np.full((12, 8), 13107, np.uint16)).save(path)  # a fifth of 65535
    assert read_signal(vit, path).canvas.image == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"\x89PNG and so on", "is no PNG or JPEG file"),
        (b"\x89PNG\r\n\x1a\n", "it ends in its header"),
        (np.zeros((3, 3, 4), np.uint8), "the shape"),
        (np.zeros((3, 3)), "an array of float64"),
        (np.zeros((0, 3, 3), np.uint8), "0 numbers"),
        (3.5, "A float is no picture"),
        ("nowhere.png", "nowhere.png cannot be read"),
    ],
)
def test_what_is_no_picture_is_a_sentence(vit, source, words):
    with pytest.raises(WorkbenchError, match=words):
        encoder_classes(vit, source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": {"height": 9, "width": 9}}, "scales pictures to"),
        ({"do_center_crop": True}, "crops pictures"),
        ({"image_std": [1, 0, 1]}, "image_std of 0"),
        ({"image_mean": [1, 2]}, "give 3 numbers"),
        ({"rescale_factor": "x"}, "which is no number"),
    ],
)
def test_preprocessing_that_is_not_known_is_a_sentence(vit, change, words):
    other = Encoder(vit.name, vit.model, vit.card, {**vit.settings, **change})
    with pytest.raises(WorkbenchError, match=words):
        read_signal(other, photo())


def catching(caught: dict, part: str) -> Any:
    """A hook that keeps a module's output under a name."""
    return lambda _m, _a, out: caught.update({part: out})


@pytest.mark.quick
def test_attention_sums_to_one_over_patches_and_special_tokens_and_is_the_softmax_of_q_and_k(vit):
    for encoder, source in ((vit, photo()), (tiny_ast(), tone(440)), (tiny_hubert(), sound())):
        seen = encoder_attention(encoder, source)
        signal = read_signal(encoder, source)
        np.testing.assert_allclose(seen.pattern.sum(-1), 1, atol=1e-5)
        for query in (0, 3):
            patches = seen.on_patches(1, 1, query)
            assert patches.shape == seen.grid
            total = patches.sum() + seen.on_special(1, 1, query).sum()
            assert total == pytest.approx(1, abs=1e-5)
        assert seen.rolled_out(0).sum() == pytest.approx(1, abs=1e-5)
        attention = encoder.family.of(encoder.model)
        blocks = getattr(attention, "layers", None) or attention.encoder.layers
        caught: dict = {}
        for part in ("q", "k"):
            module = getattr(blocks[1].attention, f"{part}_proj")
            module.register_forward_hook(catching(caught, part))
        encoder.model(**encoder.given(signal.values[None]))
        d_head = encoder.card.d_head
        q, k = (caught[part][0, :, d_head : 2 * d_head] for part in ("q", "k"))  # of head 1
        wanted = (q @ k.T / d_head**0.5).softmax(-1)
        np.testing.assert_allclose(seen.pattern[1, 1], wanted.numpy(), atol=1e-5)
        for part in ("q", "k"):
            getattr(blocks[1].attention, f"{part}_proj")._forward_hooks.clear()


@pytest.mark.quick
def test_rollout_is_the_product_of_the_layers(vit):
    seen = encoder_attention(vit, photo())
    layers = [0.5 * layer.mean(0) + 0.5 * np.eye(25) for layer in seen.pattern]
    np.testing.assert_allclose(seen.rolled_out(0), (layers[1] @ layers[0])[0], atol=1e-6)


def test_positions_are_the_patches_that_they_say():
    """A changed pixel changes the embedding of its own patch alone."""
    vit = tiny_vit()
    one = photo()
    other = one.copy()
    other[7, 5] ^= 255
    trunk: Any = vit.family.of(vit.model)
    embed = trunk.embeddings
    values = [read_signal(vit, each).values[None] for each in (one, other)]
    moved = (embed(values[0]) - embed(values[1]))[0].abs().sum(-1).nonzero().ravel().tolist()
    seen = encoder_attention(vit, one)
    assert [seen.tokens[i] for i in moved] == ["r3 c2"]
    ast = tiny_ast()
    spectrum = read_signal(ast, tone(440)).values
    changed = spectrum.clone()
    changed[25, 9] += 1  # frame 25 is in column 3, band 9 in row 1
    trunk = ast.family.of(ast.model)
    embed = trunk.embeddings
    moved = (embed(spectrum[None]) - embed(changed[None]))[0].abs().sum(-1).nonzero().ravel()
    assert [encoder_attention(ast, tone(440)).tokens[i] for i in moved] == ["f1 t3"]


def by_hand(encoder: Encoder, clean, corrupted, site: str, layer: int, cell: tuple) -> float:
    """One patched run by plain hooks on the transformers model: the logit difference."""
    model = shared_clone(encoder.model)
    trunk = encoder.family.of(model)
    blocks = getattr(trunk, "layers", None) or trunk.encoder.layers
    block = blocks[layer]
    d_head = encoder.card.d_head
    ends = [read_signal(encoder, source).values[None] for source in (clean, corrupted)]
    classes = [int(model(**encoder.given(values)).logits[0].argmax()) for values in ends]
    if site.startswith("z"):
        module = block.attention.o_proj
        columns = slice(cell[0] * d_head, (cell[0] + 1) * d_head)
        rows = slice(cell[1], cell[1] + 1) if site == "z_by_pos" else slice(None)
    else:
        module = {"attn_out": block.attention, "mlp_out": getattr(block, "mlp", None)}.get(
            site, block
        )
        columns = slice(None)
        rows = slice(cell[0], cell[0] + 1)
    entering = site.startswith("z") or site == "resid_pre"
    caught: list = []

    def at(x: Any) -> Any:
        return x[0] if isinstance(x, tuple) else x

    def keep(_m, args, out=None):
        caught.append(at(args if entering else out).clone())

    def put(_m, args, out=None):
        x = at(args if entering else out).clone()
        x[:, rows, columns] = caught[0][:, rows, columns]
        if entering:
            return (x, *args[1:])
        return (x, *out[1:]) if isinstance(out, tuple) else x

    hang = module.register_forward_pre_hook if entering else module.register_forward_hook
    handle = hang(keep)
    model(**encoder.given(ends[0]))
    handle.remove()
    handle = hang(put)
    logits = model(**encoder.given(ends[1])).logits[0]
    handle.remove()
    return float(logits[classes[0]] - logits[classes[1]])


def different(encoder: Encoder, make) -> tuple:
    """Two inputs that the model takes for different classes."""
    first = make(0)
    name = encoder_classes(encoder, first).predicted
    for seed in range(1, 60):
        if encoder_classes(encoder, make(seed)).predicted != name:
            return first, make(seed)
    raise AssertionError("the model gives all inputs one class")


@pytest.mark.quick
@pytest.mark.parametrize("site", [site for site in ENCODER_SITES if site != "resid_mid"])
def test_every_cell_of_a_map_is_a_run_by_plain_hooks(vit, site):
    clean, corrupted = different(vit, photo)
    result = encoder_patching(vit, clean, corrupted, site=site)
    for index in np.ndindex(*result.effect.shape):
        if site == "z_by_pos" and index[2] % 5:
            continue
        wanted = by_hand(vit, clean, corrupted, site, index[0], index[1:])
        assert result.metric[index] == pytest.approx(wanted, abs=2e-5)
    assert not result.failed_checks()
    span = result.clean_metric.value - result.corrupted_metric.value
    np.testing.assert_allclose(
        result.effect, (result.metric - result.corrupted_metric.value) / span, atol=1e-9
    )


def test_the_stream_between_attention_and_mlp_is_both_of_what_was_added(vit):
    """Of the last layer's class token, `resid_mid` decides everything, as `resid_post` does."""
    clean, corrupted = different(vit, photo)
    middle = encoder_patching(vit, clean, corrupted, site="resid_mid")
    after = encoder_patching(vit, clean, corrupted, site="resid_post")
    np.testing.assert_allclose(middle.effect[-1], after.effect[-1], atol=1e-5)
    assert middle.effect[-1, 0] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(middle.effect[-1, 1:], 0, atol=1e-6)


def test_sounds_are_patched_too_and_hubert_in_its_streams_alone():
    for encoder, make in (
        (tiny_ast(), lambda i: tone(200 + 200 * (i % 12), seed=i)),
        (tiny_hubert(), sound),
    ):
        clean, corrupted = different(encoder, make)
        result = encoder_patching(encoder, clean, corrupted, site="resid_post")
        for cell in ((0, 0), (0, 5), (1, 1), (1, 4)):
            wanted = by_hand(encoder, clean, corrupted, "resid_post", cell[0], cell[1:])
            assert result.metric[cell] == pytest.approx(wanted, abs=2e-5)
    with pytest.raises(WorkbenchError, match="only its streams can be patched"):
        encoder_patching(encoder, clean, corrupted, site="z")


def test_noising_is_denoising_of_the_swapped_pair(vit):
    clean, corrupted = different(vit, photo)
    noised = encoder_patching(vit, clean, corrupted, direction="noising")
    other = encoder_patching(vit, corrupted, clean)
    np.testing.assert_allclose(noised.metric, -other.metric, atol=1e-5)


def test_over_pairs_a_cell_is_the_mean_with_an_interval(vit):
    pairs = [(photo(i), photo(i + 50)) for i in range(30)]
    pairs = [
        pair for pair in pairs if len({encoder_classes(vit, each).predicted for each in pair}) == 2
    ]
    assert len(pairs) >= 6
    clean = [one for one, _ in pairs]
    corrupted = [other for _, other in pairs]
    result = encoder_patching(vit, clean, corrupted)
    each = [encoder_patching(vit, one, other) for one, other in pairs]
    spans = [one.clean_metric.value - one.corrupted_metric.value for one in each]
    gains = np.mean([one.metric - one.corrupted_metric.value for one in each], 0)
    np.testing.assert_allclose(result.effect, gains / np.mean(spans), atol=1e-9)
    inside = (result.low <= result.effect) & (result.effect <= result.high)
    assert inside[~np.isnan(result.low)].all() and np.isnan(each[0].low).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"site": "pattern"}, "choose resid_pre"),
        ({"metric": "kl"}, "choose logit_difference"),
        ({"direction": "up"}, "choose denoising"),
        ({"answer": "nobody"}, "has no class 'nobody'"),
        ({"answer": 1, "wrong": 1}, "on both sides"),
        ({"answer": [1, 2]}, "1 pairs and 2 classes"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(vit, settings, words):
    clean, corrupted = different(vit, photo)
    with pytest.raises(WorkbenchError, match=words):
        encoder_patching(vit, clean, corrupted, **settings)


def test_the_lens_is_the_classifier_after_the_final_norm(vit):
    ast = tiny_ast()
    hubert = tiny_hubert(stable=True)
    for encoder, source in (
        (vit, photo()),
        (ast, tone(440)),
        (hubert, sound()),
        (tiny_hubert(), sound()),
    ):
        read = encoder_lens(encoder, source)
        assert not read.failed_checks()
        own = encoder_classes(encoder, source)
        np.testing.assert_allclose(read.probability[-1], own.probability, atol=1e-5)
    streams = []
    for layer in vit.model.vit.layers:
        layer.register_forward_hook(lambda _m, _a, out: streams.append(out))
    vit.model(**vit.given(read_signal(vit, photo()).values[None]))
    for layer in vit.model.vit.layers:
        layer._forward_hooks.clear()
    read = encoder_lens(vit, photo())
    x = streams[0][0].double().numpy()
    norm = vit.model.vit.layernorm
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    x = x * norm.weight.numpy() + norm.bias.numpy()
    logits = x @ vit.model.classifier.weight.numpy().T + vit.model.classifier.bias.numpy()
    wanted = np.exp(logits - logits.max(-1, keepdims=True))
    wanted /= wanted.sum(-1, keepdims=True)
    np.testing.assert_allclose(read.by_position[1], wanted, atol=1e-5)
    np.testing.assert_allclose(read.probability[1], wanted[0], atol=1e-5)
    np.testing.assert_array_equal(read.on_patches(1, 2).ravel(), read.by_position[1, 1:, 2])


def test_attribution_is_complete_and_the_integral_of_central_differences():
    """Every pixel's share, by differences of the model in float64 along the line."""
    vit = tiny_vit(image_size=4, num_channels=1)
    vit.settings = {**vit.settings, "size": 4, "image_mean": [0.4], "image_std": [0.2]}
    picture = photo()[:4, :4, 0]
    result = encoder_attribution(vit, picture, answer=1, wrong=3)
    signal = read_signal(vit, picture)
    assert result.converged and result.outside == 0
    assert result.scores.sum() == pytest.approx(result.value - result.start, abs=1e-3)
    np.testing.assert_allclose(
        result.scores, result.pixels.reshape(2, 2, 2, 2).sum((1, 3)), atol=1e-9
    )
    model = shared_clone(vit.model).double()
    end = signal.values.double()
    start = signal.blank.double()

    def difference(values):
        logits = model(pixel_values=values).logits
        return logits[:, 1] - logits[:, 3]

    shares = (np.arange(1024) + 0.5) / 1024  # midpoints
    step = 1e-5
    wanted = np.zeros(16)
    for share in shares:
        at = start + share * (end - start)
        nudges = step * torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
        slopes = (difference(at + nudges) - difference(at - nudges)) / (2 * step)
        wanted += (slopes * (end - start).flatten()).numpy() / 1024
    np.testing.assert_allclose(result.pixels.ravel(), wanted, atol=1e-3)
    ends = difference(torch.stack([end, start]))
    assert result.value == pytest.approx(float(ends[0]), abs=1e-5)
    assert result.start == pytest.approx(float(ends[1]), abs=1e-5)


def test_attribution_of_sounds_is_complete():
    overlapping = tiny_ast(frequency_stride=6, time_stride=6)
    for encoder, source in (
        (tiny_ast(), tone(440)),
        (overlapping, tone(440)),
        (tiny_hubert(), sound()),
    ):
        result = encoder_attribution(encoder, source)
        total = result.scores.sum() + result.outside
        assert total == pytest.approx(result.value - result.start, abs=2e-3)
        assert result.scores.shape == tuple(encoder.grid(read_signal(encoder, source).values)[:2])


def test_a_model_without_classifier_is_asked_for_attention_alone():
    bare = tiny_hubert(classifies=False)
    assert encoder_attention(bare, sound()).pattern.shape[0] == 2
    for ask in (encoder_classes, encoder_lens, encoder_attribution):
        with pytest.raises(WorkbenchError, match="has no classifier"):
            ask(bare, sound())
    with pytest.raises(WorkbenchError, match="has no classifier"):
        encoder_patching(bare, sound(), sound(1))


def test_a_folder_is_loaded_and_tells_the_same(vit, tmp_path):
    folder = folder_of(vit, tmp_path / "mine")
    again = load_encoder(folder)
    assert again.name == "mine" and again.modality == "picture"
    np.testing.assert_allclose(
        encoder_classes(again, photo()).logits, encoder_classes(vit, photo()).logits, atol=1e-6
    )
    other = {**vit.settings, "image_mean": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(other))
    assert load_encoder(folder).hash != again.hash
    with pytest.raises(WorkbenchError, match="reads pictures and no text"):
        load(folder)
    for encoder in (tiny_ast(), tiny_hubert(), tiny_hubert(classifies=False)):
        loaded = load_encoder(folder_of(encoder, tmp_path / encoder.card.architecture))
        assert loaded.modality == "sound" and loaded.classifies == encoder.classifies


def test_a_broken_folder_is_a_sentence(vit, tmp_path):
    def said(change, words):
        folder = folder_of(tiny_vit(), tmp_path / words.replace(" ", "-"))
        change(folder)
        with pytest.raises(WorkbenchError, match=words):
            load_encoder(folder)

    def configured(**values):
        def change(folder):
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

        return change

    said(lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json")
    said(lambda f: (f / "preprocessor_config.json").write_text("[]"), "an object of names")
    said(lambda f: (f / "config.json").write_text("{"), "config.json")
    said(lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "is not a whole safetensors")
    said(lambda f: (f / "model.safetensors").unlink(), "no pickle")
    said(configured(num_hidden_layers=10**6), "says that it has 1,000,000 layers")
    said(configured(image_size=10**9), "states sizes that make no input")
    said(configured(image_size=16), "is not the model that it says it is")
    said(configured(patch_size=0), "patch_size|cannot be read|division|save|correct")
    said(configured(model_type="gpt2"), "models of text are loaded with load")
    with pytest.raises(WorkbenchError, match="no folder 'nobody'"):
        load_encoder("nobody")


def test_the_bundled_model_is_as_good_as_its_card_says(bundled):
    folder = paths.shelf("models") / "shelf-vit"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1e6
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == bundled.card.sha256 and card["licence"]
    held_out = digits("test")
    result = encoder_accuracy(bundled, held_out.images, held_out.labels)
    with torch.no_grad():
        values = torch.tensor((held_out.images / 16 * 255).round() / 255 * 2 - 1)[:, None].float()
        named = bundled.model(pixel_values=values).logits.argmax(-1).numpy()
    hits = int((named == held_out.labels).sum())
    stated = card["metrics"]["accuracy_held_out"]
    assert result.accuracy.value == hits / held_out.n == pytest.approx(stated["mean"], abs=1e-9)
    assert (result.accuracy.low, result.accuracy.high) == blaker(hits, held_out.n)
    assert result.accuracy.value > 0.95 and result.by_layer[-1].value == result.accuracy.value
    assert len(result.by_layer) == 5 and result.by_layer[0].value < 0.3
