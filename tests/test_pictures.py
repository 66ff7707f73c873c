"""A GPT of pictures: likelihoods, drawings, attention and positions against plain computations."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, pearsonr
from sklearn.linear_model import LogisticRegression

from tests.conftest import subject_of, tiny_gpt, weight_of
from workbench import paths
from workbench.data import digits as data
from workbench.data.digits import digits
from workbench.errors import WorkbenchError
from workbench.pictures.baselines import baselines
from workbench.pictures.drawing import complete_picture, draw_digits
from workbench.pictures.likelihood import classify_pictures
from workbench.pictures.looking import picture_attention
from workbench.pictures.palette import picture_models
from workbench.pictures.places import position_map
from workbench.statistics import blaker
from workbench.subjects import Subject, load
from workbench.subjects.card import make_card
from workbench.subjects.tokenizer import train_tokenizer


def random_subject(**changes) -> Subject:
    """A small random model with the vocabulary of pictures, in float64."""
    tokenizer = train_tokenizer(data.texts(), "word")
    shape = {"d_vocab": len(tokenizer), "n_ctx": 65, "positions": "learned", **changes}
    model = tiny_gpt(**shape).double()
    return Subject("random", model, tokenizer, make_card(model, "random", "a test", "0" * 64, {}))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return random_subject()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Three held-out digits."""
    return digits("test").images[:3]


@pytest.fixture(scope="module")
def bundled() -> Subject:
    return load("shelf-digits")


def plainly(subject: Subject, image: np.ndarray, digit: int, n: int = 64) -> float:
    """The log-likelihood of the first pixels, by one run of the model a pixel and NumPy."""
    words = data.text_of(image, digit).split()
    vocabulary = subject.tokenizer.get_vocab()
    ids = [vocabulary[word] for word in words]
    total = 0.0
    for place in range(1, n + 1):
        with torch.no_grad():
            logits = subject.model(torch.tensor([ids[:place]])).logits[0, -1].double().numpy()
        total += logits[ids[place]] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    return total


def test_likelihoods_are_those_of_a_loop_over_pixels(subject, images):
    labels = digits("test").labels[:3].tolist()
    result = classify_pictures(subject, images, labels)
    for image, digit in ((0, 0), (1, 7), (2, 9)):
        wanted = plainly(subject, images[image], digit)
        assert result.log_likelihood[image, digit] == pytest.approx(wanted, abs=1e-9)
    odds = np.exp(result.log_likelihood[:, 3] - result.log_likelihood[:, 5])
    np.testing.assert_allclose(result.probability[:, 3] / result.probability[:, 5], odds)
    np.testing.assert_allclose(result.probability.sum(1), 1)
    assert result.bits_per_pixel is not None
    nats = [result.log_likelihood[i, label] for i, label in enumerate(labels)]
    assert result.bits_per_pixel.value == pytest.approx(-np.mean(nats) / 64 / np.log(2))


def test_what_is_no_image_or_label_is_a_sentence(subject, images):
    for wrong, words in (
        (np.zeros((9, 8)), "shape 9 by 8"),
        (images + 1, "whole number from 0"),
        (images / 3, "whole number from 0"),
        (np.full((8, 8), np.nan), "whole number from 0"),
        (np.zeros((0, 8, 8)), "shape 0 by 8 by 8"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            classify_pictures(subject, wrong)
    for labels in ([1, 2], [1, 2, 10], np.array([0.5, 1, 2])):
        with pytest.raises(WorkbenchError, match="There are 3 images"):
            classify_pictures(subject, images, labels)
    with pytest.raises(WorkbenchError, match="limit is 0"):
        classify_pictures(subject, limit=0)


def test_a_model_of_text_is_refused_by_name():
    other = subject_of(tiny_gpt())
    for call in (classify_pictures, lambda m: draw_digits(m, 3), position_map):
        with pytest.raises(WorkbenchError, match="tiny does not read pictures"):
            call(other)
    with pytest.raises(WorkbenchError, match="context of 40 tokens"):
        draw_digits(random_subject(n_ctx=40), 3)
    with pytest.raises(WorkbenchError, match="position encoding rotary"):
        position_map(random_subject(positions="rotary"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"rows": 8}, "rows is 8"),
        ({"n": 0}, "n is 0"),
        ({"n": 10**6}, "draw 1 to 200"),
        ({"digit": 10}, "10 is no class"),
        ({"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_a_setting_out_of_range_is_a_sentence(subject, images, settings, words):
    with pytest.raises(WorkbenchError, match=words):
        complete_picture(subject, images[0], **settings)


def test_at_temperature_0_a_picture_takes_the_likeliest_grey_level_at_every_pixel(subject, images):
    drawn = complete_picture(subject, images[0], rows=6, digit=4, n=2, temperature=0.0)
    np.testing.assert_array_equal(drawn.images[0], drawn.images[1])
    np.testing.assert_array_equal(drawn.images[0][:6], images[0][:6])
    vocabulary = subject.tokenizer.get_vocab()
    greys = [vocabulary[word] for word in data.GREYS]
    ids = [vocabulary[word] for word in data.text_of(drawn.images[0], 4).split()]
    for place in range(1 + 48, 65):
        with torch.no_grad():
            logits = subject.model(torch.tensor([ids[:place]])).logits[0, -1]
        assert ids[place] == greys[int(logits[greys].argmax())]


def test_pixels_are_drawn_with_the_model_s_own_probabilities(subject, images):
    """The first pixel after seven rows, 200 times: its fit to the softmax over grey levels."""
    vocabulary = subject.tokenizer.get_vocab()
    greys = [vocabulary[word] for word in data.GREYS]
    ids = [vocabulary[word] for word in data.text_of(images[0], 3).split()[:57]]
    with torch.no_grad():
        logits = subject.model(torch.tensor([ids])).logits[0, -1][greys]
    chances = logits.double().softmax(-1).numpy()
    drawn = complete_picture(subject, images[0], rows=7, digit=3, n=200, seed=1)
    first = drawn.images[:, 7, 0]
    counts = np.bincount(first, minlength=17)
    often = chances > 0.03
    observed = [*counts[often], counts[~often].sum()]
    expected = 200 * np.array([*chances[often], chances[~often].sum()])
    assert chisquare(observed, expected).pvalue > 1e-3


def test_a_seed_gives_the_same_pictures_and_a_longer_series_begins_with_the_shorter(subject):
    few = draw_digits(subject, 7, 3, seed=5)
    many = draw_digits(subject, 7, 5, seed=5)
    np.testing.assert_array_equal(few.images, many.images[:3])
    assert not np.array_equal(many.images[0], many.images[1])
    assert not np.array_equal(draw_digits(subject, 7, 3, seed=6).images, few.images)


def test_half_a_picture_leaves_each_class_what_bayes_leaves_it(subject, images):
    drawn = complete_picture(subject, images[1], rows=2, n=3, seed=2)
    scores = np.array([plainly(subject, images[1], digit, 16) for digit in range(10)])
    wanted = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert drawn.class_probability is not None
    np.testing.assert_allclose(drawn.class_probability, wanted, atol=1e-9)
    assert set(drawn.digits) <= set(np.flatnonzero(wanted > 1e-6))
    np.testing.assert_array_equal(drawn.images[:, :2], images[1][None, :2].repeat(3, 0))


def test_attention_on_a_picture_sums_to_one_and_is_that_of_plain_hooks(bundled, images):
    image = images[0]
    seen = picture_attention(bundled, image, 3)
    _, cache = bundled.bridge.run_with_cache(bundled.encode(data.text_of(image, 3)))
    n_layers, n_heads = seen.pattern.shape[:2]
    for layer in range(n_layers):
        hooked = cache[f"blocks.{layer}.attn.hook_pattern"][0].detach().numpy()
        for head in range(n_heads):
            for pixel in (0, 27, 63):
                on_picture = seen.on_picture(layer, head, pixel)
                on_class = seen.on_class(layer, head, pixel)
                assert np.isnan(on_picture.ravel()[pixel + 1 :]).all()
                assert np.nansum(on_picture) + on_class == pytest.approx(1, abs=1e-5)
                wanted = hooked[head, pixel + 1, 1 : pixel + 2]
                np.testing.assert_allclose(on_picture.ravel()[: pixel + 1], wanted, atol=1e-5)
                assert on_class == pytest.approx(hooked[head, pixel + 1, 0], abs=1e-5)
    sums = seen.to_frame().groupby(["layer", "head", "pixel"])["attention"].sum()
    np.testing.assert_allclose(np.asarray(sums, float), 1, atol=1e-5)
    with pytest.raises(WorkbenchError, match="the pixels 0 to 63"):
        seen.on_picture(0, 0, 64)


def with_positions(vectors: np.ndarray) -> Subject:
    """A random model whose positions are these, one a pixel."""
    planted = random_subject()
    tables = [part for part in planted.model.modules() if getattr(part, "num_embeddings", 0) == 65]
    weight_of(tables[0])[1:] = torch.from_numpy(vectors)
    return planted


def test_planted_positions_are_found_to_have_as_many_dimensions_as_they_have():
    row, column = np.divmod(np.arange(64), 8)
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(2, 16)) * 0.5
    turns = rng.uniform(0, 2 * np.pi, 16)
    flat = np.hstack(
        [np.cos(np.stack([row, column], 1) @ waves + turns), rng.normal(size=(64, 16)) * 0.1]
    )
    result = position_map(with_positions(flat))
    assert result.by_distance < -0.7 and result.p <= 0.001 and result.p_beyond <= 0.001
    assert result.beyond_reading < -0.5 and result.below.low > 0
    line = np.cos(np.arange(64)[:, None] * np.abs(waves[0]) / 8 + turns)
    result = position_map(with_positions(np.hstack([line, np.zeros((64, 16))])))
    assert result.by_reading < result.by_distance and result.below.high < 0
    result = position_map(with_positions(rng.normal(size=(64, 32))))
    assert abs(result.by_distance) < 0.15 and result.p > 0.01


def test_the_numbers_of_positions_are_those_of_scipy_and_of_least_squares(bundled):
    result = position_map(bundled)
    frame = result.to_frame()
    assert len(frame) == 64 * 63 / 2
    row, column = np.divmod(frame[["pixel", "other"]].to_numpy(), 8)
    distance = np.hypot(row[:, 0] - row[:, 1], column[:, 0] - column[:, 1])
    reading = (frame["other"] - frame["pixel"]).to_numpy(float)
    assert result.by_distance == pytest.approx(pearsonr(frame["similarity"], distance)[0])
    assert result.by_reading == pytest.approx(pearsonr(frame["similarity"], reading)[0])
    against = np.stack([reading, np.ones(len(reading))], 1)
    left = [
        values - against @ np.linalg.lstsq(against, values, rcond=None)[0]
        for values in (frame["similarity"].to_numpy(), distance)
    ]
    assert result.beyond_reading == pytest.approx(pearsonr(*left)[0])
    np.testing.assert_allclose(np.diag(result.similarity), 1)
    np.testing.assert_array_equal(result.of_pixel(27).ravel(), result.similarity[27])


def test_the_bundled_model_is_as_good_as_its_card_says(bundled):
    folder = paths.shelf("models") / "shelf-digits"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == bundled.card.sha256 and card["licence"]
    result = classify_pictures(bundled)
    held_out = digits("test")
    hits = int((result.log_likelihood.argmax(1) == held_out.labels).sum())
    stated = card["metrics"]["accuracy_held_out"]
    assert result.accuracy is not None and result.bits_per_pixel is not None
    assert result.accuracy.value == hits / held_out.n == pytest.approx(stated["mean"], abs=1e-9)
    assert (result.accuracy.low, result.accuracy.high) == blaker(hits, held_out.n)
    bits = card["metrics"]["bits_per_pixel_held_out"]["mean"]
    assert result.bits_per_pixel.value == pytest.approx(bits, abs=1e-4)
    wanted = plainly(bundled, held_out.images[5], 4)
    assert result.log_likelihood[5, 4] == pytest.approx(wanted, abs=1e-3)
    right = (result.predicted == result.labels).astype(float)
    for baseline in baselines():
        difference = baseline.against(right)
        assert difference.difference == pytest.approx(right.mean() - baseline.accuracy.value)
        assert baseline.accuracy.value > 0.9


def test_digits_that_the_bundled_model_draws_are_read_as_such_by_another_classifier(bundled):
    train = digits("train")
    classifier = LogisticRegression(max_iter=500).fit(train.images.reshape(-1, 64), train.labels)
    drawn = [draw_digits(bundled, digit, 5, seed=digit) for digit in range(10)]
    read = [classifier.predict(one.images.reshape(-1, 64)) for one in drawn]
    hits = sum(int((names == digit).sum()) for digit, names in enumerate(read))
    assert hits >= 35  # of 50


def test_models_of_pictures_are_told_by_their_vocabulary():
    names = picture_models()
    assert "shelf-digits" in names and "shelf-base" not in names
