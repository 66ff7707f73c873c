"""What the Pictures page shows: attention on a picture, its class, its other half, new ones, and
the map of positions.
"""

import numpy as np
import streamlit as st

from workbench.data.digits import PIXELS, SIDE
from workbench.figures import pictures as draw
from workbench.figures.style import head_name
from workbench.pictures.drawing import Drawn, complete_picture, draw_digits
from workbench.pictures.likelihood import Classified, classify_pictures
from workbench.pictures.looking import PictureAttention, picture_attention
from workbench.pictures.places import PositionMap, position_map
from workbench.subjects import Subject
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.history import first_index
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone
from workbench.ui.views.pictures_choice import DIGITS, Chosen, pick_digit, pick_picture
from workbench.ui.views.pictures_held_out import held_out

PIXEL = 27
"""The pixel of a first visit, in the middle of the picture."""
BY_ROWS = "what the rows leave likely"
DRAWN = 10
COMPLETED = 5


def attention_view(subject: Subject) -> str:
    """Attention drawn on the picture: one head in full, and all heads from the same pixel."""
    chosen = pick_picture()
    stated, of_head, of_pixel = st.columns(3)
    with stated:
        digit = _stated(subject, chosen)
    seen = _attention(subject.hash, chosen.key, digit, subject, chosen.image)
    n_layers, n_heads = seen.pattern.shape[:2]
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    sharpest = int(seen.pattern[:, :, PIXEL + 1].max(-1).argmax())
    start = first_index("head", (n_layers, n_heads), names, names[sharpest])
    with of_head:
        name = str(st.selectbox("Head", names, start, key="head", bind="query-params"))
    layer, head = divmod(names.index(name), n_heads)
    with of_pixel:
        pixel = _pick_pixel()
    figure = draw.attention_on(
        chosen.image,
        seen.on_picture(layer, head, pixel),
        pixel,
        title=f"{name} from pixel {pixel}",
    )
    maps = np.array(
        [[seen.on_picture(i, j, pixel) for j in range(n_heads)] for i in range(n_layers)]
    )
    every = draw.head_maps(maps, chosen=(layer, head), title=f"Every head, from pixel {pixel}")
    left, right = st.columns(2, gap="medium")
    with left:
        chart(figure, key="on_picture", name=f"{name}-on-picture", on_click=_choose, alt=_ALT)
    with right:
        chart(every, key="every_head", name="every-head", alt="Attention of every head")
    st.caption(
        f"**{seen.on_class(layer, head, pixel):.3f}** of the attention goes to the class token; "
        "with the pixels that makes 1. The framed pixel sees itself and what was read before it; "
        "crosses are pixels that it cannot see. Click a pixel to look from there."
    )
    downloads(
        lambda: [figure, every],
        seen.to_frame,
        name=f"attention-on-picture-{subject.name}",
        title=f"Attention of {subject.name} on a picture",
    )
    return (
        f"{chosen.code}"
        f"seen = wb.picture_attention(subject, image, {digit})\n"
        f"print(seen.on_picture({layer}, {head}, {pixel}).round(2))\n"
        f"print(seen.on_class({layer}, {head}, {pixel}))\n"
    )


_ALT = "The picture, with the attention from one pixel over it"


def classify_view(subject: Subject) -> str:
    """The probability of each class for one picture, and the accuracy on all held-out digits."""
    chosen = pick_picture()
    result = _classified(subject.hash, chosen.key, subject, chosen.image)
    left, right = st.columns([2, 3], gap="medium")
    name = "" if chosen.label is None else f"a {chosen.label}"
    with left:
        chart(
            draw.gallery(chosen.image[None], [name], title="The picture", across=1),
            key="the_picture",
            name="picture",
            alt="The picture",
        )
    bars = draw.class_bars(
        result.probability[0], label=chosen.label, title="Probability of each class"
    )
    with right:
        chart(bars, key="classes", name="classes", alt="Probability of each class")
    st.caption(
        "The model was never trained to classify. Each class token is put before the pixels, and "
        "the class under which they are likeliest wins (Bayes' rule; all classes are equally "
        "likely before). Orange is the true digit."
    )
    downloads(
        lambda: [bars],
        result.to_frame,
        name=f"classes-{subject.name}",
        title=f"Classes by likelihood, {subject.name}",
    )
    held_out(subject)
    return (
        f"{chosen.code}"
        "print(wb.classify_pictures(subject, image).to_frame())\n"
        "print(wb.classify_pictures(subject, limit=50))  # None: all held-out digits\n"
    )


def complete_view(subject: Subject) -> str:
    """The picture's first rows, and several completions."""
    chosen = pick_picture()
    of_rows, of_class, of_seed = st.columns(3, vertical_alignment="bottom")
    with of_rows:
        rows = st.slider("Rows given", 1, SIDE - 1, SIDE // 2, key="rows", bind="query-params")
    with of_class:
        stated = st.selectbox("Class", [BY_ROWS, *DIGITS], key="stated", bind="query-params")
    with of_seed:
        seed = _seed()
    digit = None if stated == BY_ROWS else int(str(stated))
    drawn = _completed(subject.hash, chosen.key, rows, digit, seed, subject, chosen.image)
    images = np.concatenate([chosen.image[None], drawn.images])
    names = ["original", *(f"as {digit}" for digit in drawn.digits)]
    figure = draw.gallery(
        images, names, title=f"The first {rows} rows are given", given=rows, across=3
    )
    left, right = st.columns(2, gap="medium")
    with left:
        chart(figure, key="completed", name="completed", alt="The picture and its completions")
    with right:
        if drawn.class_probability is not None:
            bars = draw.class_bars(
                drawn.class_probability, label=chosen.label, title=f"Class, after {rows} rows"
            )
            chart(bars, key="half_classes", name="classes", alt="Probability of each class")
        st.caption(
            "Above the dotted line are the given rows. The rest is drawn pixel by pixel, each from "
            "the model's distribution after all pixels before it."
        )
    downloads(
        lambda: [figure],
        drawn.to_frame,
        name=f"completed-{subject.name}",
        title=f"Pictures completed by {subject.name}",
    )
    return (
        f"{chosen.code}"
        f"drawn = wb.complete_picture(subject, image, rows={rows}, digit={digit}, n={COMPLETED}, "
        f"seed={seed})\n"
        "print(drawn.images[0], drawn.class_probability)\n"
    )


def draw_view(subject: Subject) -> str:
    """A row of new digits of one class."""
    of_digit, of_heat, of_seed = st.columns([3, 2, 1], vertical_alignment="bottom")
    with of_digit:
        digit = pick_digit("Digit to draw")
    with of_heat:
        temperature = st.slider(
            "Temperature", 0.1, 1.5, 1.0, 0.1, key="temperature", bind="query-params"
        )
    with of_seed:
        seed = _seed()
    drawn = _new(subject.hash, digit, temperature, seed, subject)
    numbers = [str(i + 1) for i in range(drawn.n)]
    figure = draw.gallery(drawn.images, numbers, title=f"{drawn.n} new pictures of a {digit}")
    chart(figure, key="drawn", name=f"digit-{digit}", alt=f"New pictures of a {digit}")
    st.caption("Only the class token is given; 64 grey levels are drawn one after the other.")
    downloads(
        lambda: [figure],
        drawn.to_frame,
        name=f"drawn-{subject.name}",
        title=f"Digits drawn by {subject.name}",
    )
    return (
        f"drawn = wb.draw_digits(subject, {digit}, n={DRAWN}, temperature={temperature}, "
        f"seed={seed})\n"
        "print(drawn.images[0])\n"
    )


def positions_view(subject: Subject) -> str:
    """How similar one pixel's position is to all others, and every such map."""
    result = _places(subject.hash, subject)
    with st.columns(3)[0]:
        pixel = _pick_pixel()
    figure = draw.place_map(
        result.of_pixel(pixel), pixel, title=f"Similarity of position {pixel} with all others"
    )
    every = draw.all_places(result.similarity)
    left, right = st.columns(2, gap="medium")
    with left:
        chart(figure, key="place", name=f"position-{pixel}", on_click=_choose, alt=_PLACE_ALT)
    with right:
        chart(every, key="places", name="positions", alt="The same map of every position")
    below = result.below
    st.caption(
        f"Over all pairs of pixels, similarity correlates **{result.by_distance:+.2f}** with the "
        f"distance on the picture (permutation test, p = {result.p:.2g}) and "
        f"**{result.by_reading:+.2f}** with the distance in reading order. With the latter held "
        f"fixed, **{result.beyond_reading:+.2f}** remain (p = {result.p_beyond:.2g}). The position "
        f"just below is **{below.value:+.2f}** [{below.low:+.2f}, {below.high:+.2f}] more similar "
        f"than the one half as far on in reading order (n = {below.n}, over columns). Cosine, "
        "after the mean of all positions is subtracted."
    )
    downloads(
        lambda: [figure, every],
        result.to_frame,
        name=f"positions-{subject.name}",
        title=f"Learned positions of {subject.name}",
    )
    return f"result = wb.position_map(subject)\nprint(result, result.of_pixel({pixel}).round(2))\n"


_PLACE_ALT = "Similarity of one position with all others, as a picture"
VIEWS = {
    "Look": attention_view,
    "Classify": classify_view,
    "Complete": complete_view,
    "Draw": draw_view,
    "Places": positions_view,
}
"""The views by name, short enough for a phone.

Each draws itself and returns the Python that does the same.
"""


def _stated(subject: Subject, chosen: Chosen) -> int:
    """The class to state before the picture: at first the true one, or else the likeliest."""
    likely = chosen.label
    if likely is None:
        likely = int(_classified(subject.hash, chosen.key, subject, chosen.image).predicted[0])
    start = first_index("before", (subject.hash, chosen.key), DIGITS, str(likely))
    return int(
        str(st.selectbox("Class before it", DIGITS, start, key="before", bind="query-params"))
    )


def _pick_pixel() -> int:
    """The number of the pixel to look from."""
    pixels = list(range(PIXELS))
    start = first_index("pixel", "", pixels, PIXEL)
    return int(
        st.selectbox(
            "Pixel",
            pixels,
            start,
            key="pixel",
            bind="query-params",
            format_func=lambda i: f"{i} (row {i // SIDE}, column {i % SIDE})",
        )
    )


def _choose(pixel: int | list[int] | None) -> None:
    """Select the clicked pixel."""
    if pixel is not None:
        st.session_state["pixel"] = pixel[0] if isinstance(pixel, list) else pixel


def _seed() -> int:
    """The random seed that a box shows."""
    return int(st.number_input("Seed", 0, 10_000, 0, key="seed", bind="query-params"))


@kept("attention of pictures", 32, "Reading the picture")
def _attention(
    sha256: str, key: str, digit: int, _subject: Subject, _image: np.ndarray
) -> PictureAttention:
    with alone(sha256):
        return picture_attention(_subject, _image, digit)


@kept("classes of pictures", 64, "Putting each class before the picture")
def _classified(sha256: str, key: str, _subject: Subject, _image: np.ndarray) -> Classified:
    with alone(sha256):
        return classify_pictures(_subject, _image)


@kept("drawn pictures", 32, "Drawing")
def _completed(
    sha256: str,
    key: str,
    rows: int,
    digit: int | None,
    seed: int,
    _subject: Subject,
    _image: np.ndarray,
) -> Drawn:
    with alone(sha256):
        return complete_picture(_subject, _image, rows=rows, digit=digit, n=COMPLETED, seed=seed)


@kept("drawn pictures", 32, "Drawing")
def _new(sha256: str, digit: int, temperature: float, seed: int, _subject: Subject) -> Drawn:
    with alone(sha256):
        return draw_digits(_subject, digit, DRAWN, temperature=temperature, seed=seed)


@kept("maps of positions", 8, "Comparing positions")
def _places(sha256: str, _subject: Subject) -> PositionMap:
    with alone(sha256):
        return position_map(_subject)
