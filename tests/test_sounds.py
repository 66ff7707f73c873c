"""Sounds: files against their samples, features by hand, and a model that learns pitches here."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from tests.signals import RATE, tiny_ast, tiny_hubert, wav
from workbench import paths
from workbench.data.tones import tone
from workbench.doors import read_toml
from workbench.encoders.accuracy import encoder_accuracy
from workbench.encoders.attribution import encoder_attribution
from workbench.encoders.classes import encoder_classes
from workbench.encoders.lessons import PITCHES, lesson, tones
from workbench.encoders.looking import encoder_attention
from workbench.encoders.patching import encoder_patching
from workbench.encoders.reading import read_signal, stacked
from workbench.encoders.shelve import RECIPE, untrained
from workbench.encoders.training import Settings, fit
from workbench.encoders.waves import read_wave
from workbench.errors import WorkbenchError
from workbench.statistics import blaker
from workbench.subjects.encoder import Encoder
from workbench.subjects.encoder_load import load_encoder

FOLDER = paths.shelf("models") / "shelf-tones"


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width_come_back(width):
    samples = tone(440, seconds=0.05)
    read = read_wave(wav(samples, width=width), RATE)
    np.testing.assert_allclose(read.samples, samples, atol=2.0 ** (2 - 8 * width))
    assert read.remarks == []


def test_channels_are_averaged_and_rates_converted_and_said(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(tone(440, rate=48_000, noise=0), rate=48_000, channels=2))
    read = read_wave(path, RATE)
    assert read.name == "a.wav"
    assert read.remarks == [
        "The mean of 2 channels.",
        "Resampled from 48,000 to 16,000 samples a second.",
    ]
    spectrum = np.abs(np.fft.rfft(read.samples))
    peak = np.fft.rfftfreq(len(read.samples), 1 / RATE)[spectrum.argmax()]
    assert peak == pytest.approx(440, abs=5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no WAV file"),
        (b"RIFF and so on", "is no WAV file"),
        (wav(tone(440))[:30], "is no WAV file|holds no sample"),
        (wav(np.zeros(0)), "holds no sample"),
        (wav(np.zeros(1000), rate=100), "states 100 samples a second"),
        (wav(np.zeros(61 * 2000), rate=2000), "lasts 61 seconds"),
        (wav(tone(440)).replace(struct.pack("<H", 1), struct.pack("<H", 3), 1), "is no WAV file"),
        (wav(np.zeros(300)), "fewer than one frame"),
    ],
)
def test_what_is_no_sound_is_a_sentence(content, words):
    with pytest.raises(WorkbenchError, match=words):
        encoder_classes(tiny_ast(), content)


def test_arrays_and_settings_that_are_no_sound_are_a_sentence():
    ast = tiny_ast()
    for samples in (
        np.zeros((2, 900)),
        np.zeros(900, int),
        np.full(900, 2.0),
        np.full(900, np.nan),
    ):
        with pytest.raises(WorkbenchError, match="give samples from -1 to 1"):
            encoder_classes(ast, samples)
    for change, words in (
        ({"sampling_rate": "x"}, "sampling_rate is 'x'"),
        ({"max_length": 64}, "the model reads 32"),
        ({"std": 0}, "std above 0"),
    ):
        other = Encoder(ast.name, ast.model, ast.card, {**ast.settings, **change})
        with pytest.raises(WorkbenchError, match=words):
            read_signal(other, tone(440))
    with pytest.raises(WorkbenchError, match="eight frames"):
        encoder_classes(tiny_hubert(), np.zeros(50))
    with pytest.raises(WorkbenchError, match="cannot be made"):
        tone(9000)
    pair = [tone(440, seconds=0.05), tone(440, seconds=0.06)]
    with pytest.raises(WorkbenchError, match="different lengths"):
        encoder_patching(tiny_hubert(), pair, pair)


def test_a_tone_is_loudest_in_the_mel_band_of_its_pitch():
    """Kaldi's mel scale by hand: 1127 ln(1 + f / 700), 32 triangles from 20 to 8,000 Hz."""

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    centres = np.linspace(mel(20), mel(RATE / 2), 34)[1:-1]
    ast = tiny_ast()
    for pitch in (700, 1300, 2000):
        plain = np.sin(2 * np.pi * pitch * np.arange(RATE // 2) / RATE) * 0.5
        values = read_signal(ast, plain).values[5:20].mean(0).numpy()
        assert abs(values.argmax() - np.abs(centres - mel(pitch)).argmin()) <= 1
    signal = read_signal(ast, tone(440, seconds=2.0))
    assert signal.remarks == ("The first 0.32 seconds are heard.",)
    assert signal.canvas.image.shape == (32, 32) and signal.canvas.rising


def test_a_waveform_is_normalised_as_by_transformers_own_extractor():
    hubert = tiny_hubert()
    samples = tone(440, seconds=0.1)
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(
        samples.astype(np.float32), sampling_rate=RATE, return_tensors="pt"
    )
    ours = read_signal(hubert, samples)
    torch.testing.assert_close(ours.values, theirs["input_values"][0], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        own = hubert.model(ours.values[None], output_hidden_states=True).hidden_states[0]
    assert ours.grid.columns == own.shape[1] == len(encoder_attention(hubert, samples).tokens)


@pytest.fixture(scope="module")
def trained() -> Encoder:
    """The bundled model's lesson, shortened: 200 tones, 15 epochs."""
    recipe = read_toml(FOLDER / RECIPE, "")
    short = replace(Settings(**recipe["train"]), epochs=15, batch_size=20)
    shorter = lesson(recipe, 0)
    encoder = untrained(shorter, "trained")
    _, values = stacked(encoder, shorter.sources[:200])
    losses = fit(encoder.model, "input_values", values, shorter.labels[:200], short)
    assert losses[-1] < losses[0] / 2
    return encoder


def test_a_model_trained_here_names_tones_that_it_never_heard(trained):
    fresh, labels = tones(60, seed=10_000)
    measured = encoder_accuracy(trained, fresh, labels)
    hits = sum(
        encoder_classes(trained, one).predicted == list(PITCHES)[label]
        for one, label in zip(fresh, labels, strict=True)
    )
    assert measured.accuracy.value == hits / 60 > 0.9
    assert measured.by_layer[0].value < 0.6


def test_the_pitch_is_carried_by_the_patches_of_its_frequencies(trained):
    """A3 and A5 differ in the lowest mel bands, so other patches restore next to nothing."""
    pairs = 12
    low = [tone(220, seed=i) for i in range(pairs)]
    high = [tone(880, seed=100 + i) for i in range(pairs)]
    result = encoder_patching(trained, low, high, answer="A3", wrong="A5")
    assert not result.failed_checks()
    by_row = result.on_patches(0).sum(1)
    assert by_row[:2].sum() > 3 * abs(by_row[3])
    assert result.effect[-1, :2].sum() > 0.8  # in the end the two special tokens hold it
    seen = encoder_attention(trained, low[0])
    np.testing.assert_allclose(seen.pattern.sum(-1), 1, atol=1e-5)
    scores = encoder_attribution(trained, low[0], answer="A3", wrong="A5")
    assert scores.converged


def test_the_bundled_model_is_as_good_as_its_card_says():
    bundled = load_encoder("shelf-tones")
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2e5
    card = json.loads((FOLDER / "card.json").read_text())
    assert card["sha256"] == bundled.card.sha256 and card["licence"]
    held_out, labels = tones(300, seed=500)
    measured = encoder_accuracy(bundled, held_out, labels)
    stated = card["metrics"]["accuracy_held_out"]
    hits = int((measured.predicted == labels).sum())
    assert measured.accuracy.value == hits / 300 == pytest.approx(stated["mean"], abs=1e-9)
    assert (measured.accuracy.low, measured.accuracy.high) == blaker(hits, 300)
