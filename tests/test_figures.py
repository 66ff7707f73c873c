"""The figures of what is inside a model: places, values and labels, from arrays made by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.conftest import layout_of, traces
from workbench.figures import (
    attention,
    change,
    export,
    heads,
    models,
    patching,
    positions,
    style,
    transplants,
)

pytestmark = pytest.mark.quick


def pattern(n_layers: int, n_heads: int, n_pos: int) -> np.ndarray:
    """Uniform causal attention: row q is 1 / (q + 1)."""
    rows = np.tril(np.ones((n_pos, n_pos))) / np.arange(1, n_pos + 1)[:, None]
    return np.broadcast_to(rows, (n_layers, n_heads, n_pos, n_pos)).copy()


def pixels(image: attention.Atlas) -> np.ndarray:
    png = Image.open(io.BytesIO(base64.b64decode(image.uri.partition(",")[2])))
    return np.asarray(png)


def thumbnail(image: attention.Atlas, layer: int, head: int) -> np.ndarray:
    gap = image.cell - image.unit
    x, y = (gap + image.cell * i for i in image.place(layer, head))
    return pixels(image)[y : y + image.unit, x : x + image.unit]


def test_tokens_show_their_spaces_and_line_ends_and_nothing_acts_as_html():
    assert style.visible(" the") == "·the"
    assert style.visible("\n\t") == "⏎⇥"
    assert style.visible("") == "∅"
    assert style.visible("\u200b") == "⟨200B⟩"
    assert style.visible("\u0301").startswith("◌")
    label = style.labels(["<b>$x$</b>"])[0]
    assert "<b>" not in label and "$" not in label


def test_labels_of_equal_tokens_differ():
    assert len(set(style.labels([" a"] * 3))) == 3


def test_every_head_has_its_own_place_in_the_atlas_and_deep_models_continue_at_the_right():
    image = attention.atlas_image(pattern(30, 9, 4))
    places = {image.place(i, j) for i in range(30) for j in range(9)}
    assert len(places) == 270
    assert image.rows < 30
    assert max(x for x, _ in places) == image.columns - 1


def test_a_thumbnail_holds_the_square_root_of_attention_and_marks_later_keys():
    image = attention.atlas_image(pattern(2, 3, 2))
    cell = image.unit // 2
    corners = thumbnail(image, 1, 2)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
    half = round(np.sqrt(0.5) * attention.LEVELS)
    assert cell >= 1
    assert corners == [attention.LEVELS, attention.FUTURE, half, half]


def test_a_long_prompt_shrinks_but_its_strongest_attention_stays():
    one = np.zeros((1, 12, 400, 400))
    one[..., 0] = 0.01
    one[0, 5, 399, 7] = 1.0
    image = attention.atlas_image(one)
    assert image.side < 400
    small = thumbnail(image, 0, 5)
    assert small[-1, 7 * image.side // 400] == attention.LEVELS


@pytest.mark.parametrize("shape", [(30, 32, 256), (6, 6, 1), (1, 1, 3)])
def test_the_atlas_stays_small_whatever_the_model_and_the_prompt(shape):
    rng = np.random.default_rng(0)
    noise = np.tril(rng.random((1, 1, shape[2], shape[2])))
    image = attention.atlas_image(np.broadcast_to(noise, (shape[0], shape[1], shape[2], shape[2])))
    assert len(image.uri) < 3e6
    points = traces(attention.atlas(image, chosen=(0, 0)))[2]
    assert len(points.customdata) == shape[0] * shape[1]
    assert list(points.selectedpoints) == [0]


def test_the_points_of_the_atlas_lie_on_their_thumbnails():
    image = attention.atlas_image(pattern(2, 3, 8))
    picture, _, points = traces(attention.atlas(image))
    i = list(points.customdata).index("L1H2")
    column = (points.x[i] - picture.x0) / picture.dx
    row = (points.y[i] - picture.y0) / picture.dy
    gap = image.cell - image.unit
    assert column == pytest.approx(gap + 2 * image.cell + image.unit / 2 - 0.5)
    assert row == pytest.approx(gap + image.cell + image.unit / 2 - 0.5)


def test_one_head_has_queries_down_and_keys_across_and_nothing_after_the_query():
    values = pattern(1, 1, 3)[0, 0]
    figure = attention.head(values, ["a", " b", " b"])
    z = np.asarray(traces(figure)[0].z)
    assert z[2].tolist() == pytest.approx([1 / 3] * 3)
    assert np.isnan(z[0, 1:]).all()
    assert layout_of(figure).yaxis.autorange == "reversed"


def test_the_effect_map_is_centred_at_zero_and_each_cell_can_be_told():
    effect = [[0.0, 1.5], [0.2, -0.5]]
    metric = [[0.0, 3.0], [0.4, -1.0]]
    figure = patching.effect_map(effect, metric, ["a", "b"], starts=1)
    heat, points = traces(figure)
    assert (heat.zmin, heat.zmax) == (-1.5, 1.5)
    assert list(points.customdata[3]) == [1, 1, "b", -0.5, -1.0]
    assert [s.type for s in layout_of(figure).shapes] == ["line"]


def test_columns_name_both_tokens_where_the_prompts_differ():
    same, other = patching.column_names(["The", " old"], ["The", " new"])
    assert "|" not in same
    assert "·old" in other and "·new" in other


def test_ranked_heads_begin_with_the_best_and_carry_their_interval():
    mean = np.array([[0.1, 0.9], [0.5, 0.2]])
    figure = heads.ranked(mean, mean - 0.05, mean + 0.02, name="induction score", n=8, top=2)
    dots = traces(figure)[0]
    assert list(dots.y) == ["L0H1", "L1H0"]
    assert np.allclose(dots.error_x.arrayminus, 0.05) and np.allclose(dots.error_x.array, 0.02)
    assert "n = 8" in layout_of(figure).title.text


def test_a_score_map_has_layers_down_and_heads_across():
    mean = np.arange(6.0).reshape(2, 3) / 6
    figure = heads.score_map(mean, mean, mean, name="induction score", n=8)
    assert np.asarray(traces(figure)[0].z).tolist() == mean.tolist()


def test_long_position_matrices_are_thinned_and_say_so():
    figure = positions.matrix(np.random.default_rng(0).normal(size=(1024, 768)))
    assert np.asarray(traces(figure)[0].z).shape == (256, 256)
    assert "thinned" in layout_of(figure).title.text


def test_the_context_length_stands_where_it_belongs_on_the_logarithmic_axis():
    figure = positions.wavelengths({"all layers": np.array([6.28, 628.0])}, 1000)
    assert layout_of(figure).shapes[0].y0 == 1000
    assert layout_of(figure).annotations[0].y == pytest.approx(3)


def test_the_telling_heads_are_the_sharpest_and_the_farthest():
    mean = np.full((1, 3, 8), 0.01)
    mean[0, 1, 1] = 0.9
    mean[0, 2, 7] = 0.5
    assert positions.telling_heads(mean) == [(0, 1), (0, 2)]


def test_lines_of_one_head_share_a_colour_and_random_tokens_are_dashed():
    curve = (np.ones(4), np.ones(4), np.ones(4))
    figure = positions.distance_lines({"L0H0, random tokens": curve, "L0H0, text": curve})
    random, text = (line for line in traces(figure) if line.mode == "lines+markers")
    assert random.line.color == text.line.color
    assert (random.line.dash, text.line.dash) == ("dash", "solid")


def test_the_distance_table_has_a_row_for_every_number():
    zeros = np.zeros((2, 3, 4))
    three = (zeros, zeros, zeros)
    assert len(positions.distance_frame({"random tokens": three, "text": three})) == 2 * 2 * 3 * 4


def test_parameters_are_named_with_their_share():
    bars = traces(models.parameters({"embedding": 25, "MLP": 75}))[0]
    assert list(bars.text) == ["25 (25%)", "75 (75%)"]


def test_a_coloured_text_reads_in_lines_and_the_first_token_has_no_number():
    values = np.array([np.nan, 0.5, -2.0, 1.0, 0.0])
    figure = change.token_grid(["a", " <i>", "c", "d", "e"], values, name="nats", per_row=3)
    heat = traces(figure)[0]
    np.testing.assert_array_equal(heat.z, [[np.nan, 0.5, -2], [1, 0, np.nan]])
    assert "<i>" not in heat.text[0][1] and "·" in heat.text[0][1] and heat.text[1][2] == ""
    assert (heat.zmin, heat.zmax) == (-2, 2) and "no prediction" in heat.customdata[0][0]
    only_up = traces(change.token_grid(["a", "b"], np.array([np.nan, 3.0]), name="nats"))[0]
    assert (only_up.zmin, only_up.zmax) == (0, 3)


def test_of_many_layers_only_some_are_named_and_none_beside_a_longer_name():
    names = ["embed", *(f"L{i}" for i in range(30)), "ln_final"]
    shown = [names[i] for i in transplants._readable(names, ["embed", "ln_final"])]
    assert shown[:3] == ["embed", "L2", "L4"] and shown[-2:] == ["L28", "ln_final"]
    assert transplants._readable(names[:12], ["embed"]) == list(range(12))


def test_an_exported_page_holds_everything_and_escapes_its_text(tmp_path):
    figure = attention.head(pattern(1, 1, 2)[0, 0], ["a", "b"])
    path = export.write_html([figure, figure], tmp_path / "page.html", title="<T>", text="<script>")
    page = path.read_text(encoding="utf-8")
    assert "<h1>&lt;T&gt;</h1>" in page and "&lt;script&gt;" in page
    assert 'src="http' not in page
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_written_page_can_be_read_by_whom_any_new_file_can(tmp_path):
    page = export.write_page("<p>", tmp_path / "page.html")
    other = tmp_path / "other"
    other.write_text("")
    assert page.stat().st_mode == other.stat().st_mode and page.read_text() == "<p>"
    with pytest.raises(UnicodeEncodeError):
        export.write_page("\ud800", page)
    assert page.read_text() == "<p>" and len(list(tmp_path.iterdir())) == 2


def test_long_titles_take_two_lines_and_make_room_for_them():
    from workbench.ui.parts.charts import LINE, in_two_lines

    short = style.figure(title="Loss")
    before = layout_of(short).to_plotly_json()
    in_two_lines(short)
    assert layout_of(short).to_plotly_json() == before
    words = "denoising resid_pre: share of the logit difference restored (1 = clean run)"
    long = style.figure(title=words)
    top = layout_of(long).margin.t
    bottom = layout_of(long).margin.b
    long.update_xaxes(title_text="accuracy: shelf-tuned less shelf-base, right is better")
    for _ in range(2):  # a figure that is shown again does not grow
        in_two_lines(long)
    layout = layout_of(long)
    assert layout.title.text.replace("<br>", " ") == words
    assert max(len(line) for line in layout.title.text.split("<br>")) < 45
    assert layout.xaxis.title.text.count("<br>") == 1
    assert (layout.margin.t, layout.margin.b) == (top + LINE, bottom + LINE)
