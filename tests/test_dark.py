"""Figures on a dark page: the same data, other colours, and the figure itself untouched."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb

from tests.conftest import layout_of, traces
from workbench.figures import dark, patching, style
from workbench.figures.attention import atlas
from workbench.figures.lens import answer_lines, lens_table
from workbench.ui.parts import wash

pytestmark = pytest.mark.quick


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two "#rrggbb" colours, from 1 to 21."""

    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(colour: str, paper: str) -> str:
    """What an "rgba(...)" colour looks like on a paper."""
    *rgb, alpha = (float(part) for part in colour[5:-1].split(","))
    under = [int(paper[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = [round(alpha * c + (1 - alpha) * u) for c, u in zip(rgb, under, strict=True)]
    return "#" + "".join(f"{c:02x}" for c in mixed)


def test_a_dark_map_keeps_its_numbers_and_names_and_changes_its_paper_ink_and_scale():
    effect = np.array([[-1.0, 0.0], [0.5, 1.0]])
    light = patching.effect_map(effect, effect * 3, ["a", "b"], across="position", title="A map")
    before = light.to_json()
    figure = dark.darkened(light)
    assert light.to_json() == before
    maps = [next(t for t in traces(f) if t.type == "heatmap") for f in (light, figure)]
    assert np.array_equal(maps[0].z, maps[1].z)
    assert layout_of(figure).paper_bgcolor == layout_of(figure).plot_bgcolor == dark.PAPER
    assert layout_of(figure).title.text == layout_of(light).title.text
    assert contrast(layout_of(figure).title.font.color, dark.PAPER) > 7
    middle = dict(maps[1].colorscale)[0.5]
    assert contrast(middle, dark.PAPER) < 1.2  # no effect is hardly seen
    for end in (maps[1].colorscale[0][1], maps[1].colorscale[-1][1]):
        assert contrast(end, dark.PAPER) > 7


@pytest.mark.parametrize("scale", [style.SEQUENTIAL, style.ATTENTION, style.DIVERGING])
def test_every_common_scale_has_a_dark_one_at_the_same_places(scale):
    light = go.Figure(go.Heatmap(z=[[0, 1]], colorscale=scale))
    places = [at for at, _ in traces(light)[0].colorscale]
    changed = traces(dark.darkened(light))[0].colorscale
    assert [colour for _, colour in changed] != [
        colour for _, colour in traces(light)[0].colorscale
    ]
    if scale != style.DIVERGING:
        assert [at for at, _ in changed] == places


def test_lines_and_bands_stand_out_on_dark_paper():
    figure = answer_lines(
        {" a": np.array([0.1, 0.5]), " b": np.array([0.2, 0.4])}, kind="prob", n_rows=2
    )
    style.add_band(figure, np.arange(2.0), np.zeros(2), np.ones(2), colour=style.BLUE, name=" a")
    figure = dark.darkened(figure)
    for colour in dark.ON_DARK.values():
        assert colour.startswith("#")
    lines = [trace.line.color for trace in traces(figure) if trace.line.color]
    assert lines and all(contrast(colour, dark.PAPER) > 4.5 for colour in lines)
    band = traces(figure)[-1].fillcolor
    assert unlabel_rgb("rgb" + band[4:].rpartition(",")[0] + ")") == (0x56, 0xA8, 0xF5)


@pytest.mark.parametrize(("paper", "ink"), [("#ffffff", "#31333f"), (dark.PAPER, "#fafafa")])
def test_text_is_readable_on_the_deepest_wash_of_either_page(paper, ink):
    for colour in (wash.signed(-1), wash.signed(1), wash.warm(1)):
        assert contrast(over(colour, paper), ink) >= 4.5
    assert over(wash.signed(0), paper) == over(wash.warm(0), paper) == paper


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_words_in_a_lens_can_be_read_at_every_probability(theme):
    prob = np.linspace(0, 1, 101)[None]
    words = [["word"] * 101]
    figure = lens_table(words, prob, prob * 0, ["token"] * 101)
    if theme == "dark":
        figure = dark.darkened(figure)
    heat, texts = traces(figure)
    assert list(texts.x) == list(range(101)) and set(texts.y) == {0}
    cells = sample_colorscale([[at, colour] for at, colour in heat.colorscale], prob[0])
    ratios = []
    for cell, ink in zip(cells, texts.textfont.color, strict=True):
        rgb = "#" + "".join(f"{round(value):02x}" for value in unlabel_rgb(cell))
        ratios.append(contrast(rgb, ink))
    assert min(ratios) > 3.4


def test_the_picture_of_all_heads_is_dark_on_a_dark_page_and_shows_the_same():
    pattern = np.tril(np.random.default_rng(0).random((2, 3, 5, 5)))
    light = atlas(pattern)
    source = traces(light)[0].source
    changed = traces(dark.darkened(light))[0].source
    assert traces(light)[0].source == source != changed
    before, after = (Image.open(io.BytesIO(base64.b64decode(u[22:]))) for u in (source, changed))
    assert np.array_equal(np.array(before), np.array(after)), "the values are the same"
    grey = [np.array(picture.convert("RGB")).mean() for picture in (before, after)]
    assert grey[1] < grey[0] - 80
