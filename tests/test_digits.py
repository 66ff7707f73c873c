"""Pictures as text: the split by image, the vocabulary, rows that begin with a document, and PNGs
of other people.
"""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workbench.data import digits as data
from workbench.data.digits import digits
from workbench.errors import WorkbenchError
from workbench.pictures.files import MOST_PIXELS
from workbench.pictures.reading import read_picture
from workbench.subjects.tokenizer import END, UNKNOWN, train_tokenizer
from workbench.training.corpus import prepare
from workbench.training.recipe import Corpus, Recipe

pytestmark = pytest.mark.quick


def shown(images: np.ndarray) -> set[bytes]:
    """What tells images apart."""
    return {image.astype(np.uint8).tobytes() for image in images}


def test_the_two_parts_are_all_images_and_share_none():
    bunch: Any = load_digits()
    train = digits("train")
    test = digits("test")
    assert train.n + test.n == len(bunch.images) and not shown(train.images) & shown(test.images)
    for part in (train, test):
        np.testing.assert_array_equal(part.images, bunch.images[part.number])
        np.testing.assert_array_equal(part.labels, bunch.target[part.number])
        assert set(part.labels) == set(range(10))
    assert 0.15 < test.n / len(bunch.images) < 0.25
    with pytest.raises(WorkbenchError, match="choose train or test"):
        digits("validation")


def test_the_corpus_holds_the_training_images_alone_and_each_row_is_one_picture():
    tokenizer = train_tokenizer(data.texts(), "word")
    tokens = prepare(Corpus(["digits"], validation=0.05, aligned=True), tokenizer, 65)
    vocabulary = tokenizer.get_vocab()
    level = {vocabulary[word]: i for i, word in enumerate(data.GREYS)}
    held = tokens.validation_rows(65, 10**6)
    drawn = [tokens.batch(step, size=64, n_ctx=65, seed=0) for step in range(60)]
    rows = np.concatenate([batch.numpy() for batch in drawn])
    for sides in (rows, held.numpy()):
        assert set(sides[:, 0]) <= {vocabulary[word] for word in data.CLASSES}
        assert set(sides[:, -1]) == {vocabulary[END]}
    seen, held_images = (
        shown(np.array([[level[i] for i in row[1:-1]] for row in side]))
        for side in (rows, held.numpy())
    )
    tested = shown(digits("test").images)
    assert not seen & held_images and not (seen | held_images) & tested
    assert (seen | held_images) <= shown(digits("train").images)
    assert len(held_images) == len(held)  # each validation picture once
    assert len(seen) + len(held_images) > 1300  # the whole corpus is drawn from


def test_rows_begin_anywhere_unless_a_recipe_says_otherwise():
    tokenizer = train_tokenizer(data.texts(), "word")
    loose = prepare(Corpus(["digits"], validation=0.05), tokenizer, 65)
    starts = loose.batch(0, size=64, n_ctx=65, seed=0)[:, 0].tolist()
    classes = {tokenizer.get_vocab()[word] for word in data.CLASSES}
    assert sum(start in classes for start in starts) < 32


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ({"aligned": True, "repeated": 0.3}, "aligned keeps documents whole"),
        ({"aligned": True, "split": "tail"}, 'goes with split = "document"'),
        ({"split": "tail"}, "The texts of digits are documents"),
    ],
)
def test_what_pictures_do_not_go_with_is_refused(corpus, words):
    with pytest.raises(WorkbenchError, match=words):
        recipe = Recipe.from_dict({"title": "x", "corpus": {"sources": ["digits"], **corpus}})
        prepare(recipe.corpus, train_tokenizer(["a"], "word"), 65)


def test_a_vocabulary_of_words_counts_as_people_do_and_knows_no_others():
    tokenizer = train_tokenizer(["p10 p2 d0", "p9\nd0 -3 -20"], "word")
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert words == [END, "-3", "-20", "d0", "p2", "p9", "p10", UNKNOWN]
    ids = tokenizer("d0 p2 other p10")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["d0", "p2", UNKNOWN, "p10"]
    assert tokenizer.decode(ids[:2]) == "d0 p2"
    with pytest.raises(WorkbenchError, match="65,000"):
        train_tokenizer((f"w{i}" for i in range(65_001)), "word")


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    """The bytes of a PNG."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(stream, "PNG")
    return stream.getvalue()


def ink_on_paper(image: np.ndarray) -> np.ndarray:
    """Grey levels as the shades of a file, black on white."""
    return np.rint(255 - image * 255 / 16).astype(np.uint8)


DIGIT = np.array(
    [
        [0, 0, 3, 12, 16, 9, 0, 0],
        [0, 0, 11, 8, 2, 15, 1, 0],
        [0, 0, 0, 0, 4, 14, 0, 0],
        [0, 0, 0, 7, 16, 6, 0, 0],
        [0, 0, 0, 0, 3, 15, 5, 0],
        [0, 0, 0, 0, 0, 10, 9, 0],
        [0, 0, 9, 1, 2, 15, 6, 0],
        [0, 0, 6, 16, 14, 7, 0, 0],
    ]
)
"""A three."""


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_a_picture_of_the_right_size_is_read_as_it_is_in_every_mode(mode):
    result = read_picture(png(ink_on_paper(DIGIT), mode))
    np.testing.assert_array_equal(result.image, DIGIT)
    assert result.remarks == ([] if mode == "L" else [f"Converted from {mode} to grey."])


def test_light_on_dark_sixteen_bits_and_transparent_paper_are_read_too(tmp_path):
    path = tmp_path / "digit.png"
    path.write_bytes(png(255 - ink_on_paper(DIGIT)))
    np.testing.assert_array_equal(read_picture(path).image, DIGIT)
    deep = np.rint((16 - DIGIT) * 65535 / 16).astype(np.uint16)
    np.testing.assert_array_equal(read_picture(png(deep)).image, DIGIT)
    clear = np.zeros((8, 8, 4), np.uint8)  # black ink, as opaque as it is dark
    clear[..., 3] = 255 - ink_on_paper(DIGIT)
    np.testing.assert_array_equal(read_picture(png(clear)).image, DIGIT)


@pytest.mark.parametrize("size", [(80, 80), (120, 96)])
def test_a_larger_picture_is_cut_to_its_ink_scaled_and_centred(size):
    large = np.full(size, 255, np.uint8)
    block = DIGIT.repeat(8, 0).repeat(8, 1)  # 64 by 64 pixels
    large[10:74, 14:78] = ink_on_paper(block)
    result = read_picture(png(large))
    columns = np.flatnonzero(DIGIT.any(axis=0))
    width = columns[-1] - columns[0] + 1
    cut = DIGIT[:, columns[0] : columns[-1] + 1]
    left = (8 - width) // 2
    wanted = np.zeros((8, 8))
    wanted[:, left : left + width] = cut / cut.max() * 16
    assert np.abs(result.image - wanted).max() <= 1
    assert f"{size[1]} by {size[0]} pixels" in result.remarks[-1]


def header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    fields = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + fields + struct.pack(">I", zlib.crc32(fields))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no PNG"),
        (b"GIF89a", "no PNG"),
        (png(ink_on_paper(DIGIT))[:60], "damaged PNG"),
        (png(ink_on_paper(DIGIT)).replace(b"IDAT", b"IDAX"), "damaged PNG"),
        (header(50_000, 50_000), "50,000 by 50,000 pixels"),
        (header(MOST_PIXELS + 1, 1), "scale it down"),
        (png(np.full((8, 8), 200, np.uint8)), "single shade"),
        (b"\x89PNG" + bytes(5_000_000), "5,000,004 bytes"),
    ],
)
def test_a_file_that_is_no_picture_gets_one_sentence(content, words):
    with pytest.raises(WorkbenchError, match=words) as caught:
        read_picture(content)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WorkbenchError, match=r"gone\.png"):
        read_picture(tmp_path / "gone.png")
