"""Figures of lenses (predictions after each layer) and of direct logit attribution."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Real

from workbench.figures import style

ROW = 21
"""Pixels of a row in the lens table."""
DARK_FROM = 0.64
"""Probability from which a cell's colour is dark (on a dark page: light)."""
MOST_TICKS = 16
"""Parts that a waterfall labels; the hover names them all."""


def row_names(n_rows: int) -> list[str]:
    """Names of a lens's rows: the embedding, then the number of each layer."""
    return ["embed", *(str(i) for i in range(n_rows - 1))]


def lens_table(
    top: Sequence[Sequence[str]],
    prob: Float[np.ndarray, "row pos"],
    kl: Float[np.ndarray, "row pos"],
    tokens: Sequence[str],
    *,
    starts: int = 0,
    title: str = "",
) -> go.Figure:
    """The most likely next token after each layer (down) at each position (across).

    Args:
        top: The token in each cell, by row.
        prob: Its probability, which is the colour.
        kl: KL divergence of the lens from the model, in nats.
        tokens: Of the positions.
        starts: Position of the first column.
        title: Of the figure.
    """
    n_rows, n_columns = prob.shape
    longest = max(3, min(14, 150 // n_columns))
    texts = [[style.visible(t) for t in row] for row in top]
    shown = [
        [style.escaped(t if len(t) <= longest else f"{t[: longest - 1]}…") for t in row]
        for row in texts
    ]
    names = row_names(n_rows)
    read = [style.escaped(style.visible(token)) for token in tokens]
    hover = [
        [[style.escaped(text), float(kl[i, j]), names[i], read[j]] for j, text in enumerate(row)]
        for i, row in enumerate(texts)
    ]
    heat = go.Heatmap(
        z=prob.astype(np.float32),
        zmin=0,
        zmax=1,
        colorscale=style.SEQUENTIAL,
        colorbar=style.colour_bar("probability of the token in the cell"),
        customdata=hover,
        xgap=1,
        ygap=1,
        hovertemplate=(
            "after layer <b>%{customdata[2]}</b>, at <b>%{customdata[3]}</b><br>"
            "predicts <b>%{customdata[0]}</b>, probability <b>%{z:.3f}</b><br>"
            "%{customdata[1]:.2f} nats from the model<extra></extra>"
        ),
    )
    figure = style.figure([heat, _cell_texts(shown, prob)], title=title, height=110 + ROW * n_rows)
    plain = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(
        title_text="position: the token that is read",
        tickvals=list(range(n_columns)),
        ticktext=[f"{token} <sub>{starts + i}</sub>" for i, token in enumerate(read)],
        tickangle=-50,
        **plain,
    )
    every = 1 if n_rows <= 20 else 2
    shown_rows = [0, *range(1, n_rows, every)]
    figure.update_yaxes(
        title_text="after layer",
        tickvals=shown_rows,
        ticktext=[names[i] for i in shown_rows],
        range=[n_rows - 0.5, -0.5],
        **plain,
    )
    return figure


def _cell_texts(texts: Sequence[Sequence[str]], prob: Float[np.ndarray, "row pos"]) -> go.Scatter:
    """The words in the cells, light on dark colours and dark on light ones.

    A heat map's own words have the grey that Plotly chooses, too faint on medium colours.
    """
    row, column = np.indices(prob.shape)
    return go.Scatter(
        x=column.ravel(),
        y=row.ravel(),
        mode="text",
        text=[text for line in texts for text in line],
        textfont={
            "size": 11,
            "color": np.where(prob.ravel() < DARK_FROM, style.INK, "#ffffff").tolist(),
        },
        hoverinfo="skip",
        showlegend=False,
    )


def answer_lines(
    values: Mapping[str, Real[np.ndarray, " _row"]],
    *,
    kind: str,
    n_rows: int,
    dashed: Sequence[str] = (),
) -> go.Figure:
    """Probability or rank of answers by layer, one line an answer.

    Args:
        values: By name, such as " Paris" or " Paris (tuned lens)"; ranks count from 0.
        kind: "prob" or "rank".
        n_rows: The embedding and all layers.
        dashed: Names to draw dotted, such as those of a second lens.
    """
    lines = []
    colours = {}
    for name, line in values.items():
        answer = name.partition(" (")[0]
        colour = colours.setdefault(answer, style.LINES[len(colours) % len(style.LINES)])
        word = style.escaped(style.visible(answer)) + name[len(answer) :]
        lines.append(
            go.Scatter(
                x=list(range(n_rows)),
                y=line + (kind == "rank"),
                mode="lines+markers",
                name=word,
                marker={"size": 4},
                line={"color": colour, "width": 2, "dash": "dot" if name in dashed else "solid"},
                hovertemplate=f"{word}: <b>%{{y:.3~f}}</b><extra></extra>",
            )
        )
    words = "probability of the answer" if kind == "prob" else "rank of the answer (1: first)"
    figure = style.figure(lines, height=330, hovermode="x unified")
    every = max(1, n_rows // 16)
    figure.update_xaxes(
        title_text="after layer",
        tickvals=list(range(0, n_rows, every)),
        ticktext=row_names(n_rows)[::every],
    )
    figure.update_yaxes(title_text=words)
    if kind == "rank":
        figure.update_yaxes(type="log", autorange="reversed", dtick=1)
    else:
        figure.update_yaxes(
            range=[0, max(0.05, 1.08 * max(float(v.max()) for v in values.values()))]
        )
    return figure


def lens_error(table: Mapping[str, Sequence[float]], n: int) -> go.Figure:
    """KL divergence of both lenses from the model by layer, with 95 % intervals.

    The axis is logarithmic; after the last layer both equal the model, so the 0 is not drawn.

    Args:
        table: Columns logit, logit_low, logit_high, tuned, tuned_low, tuned_high, one row a layer.
        n: Held-out texts.
    """
    figure = style.figure(
        height=330, title=f"How far each lens is from the model, {n} held-out texts"
    )
    rows = np.arange(len(table["logit"]) - 1)
    for name, colour in (("logit", style.ORANGE), ("tuned", style.BLUE)):
        mean = np.asarray(table[name])[:-1]
        low = np.asarray(table[f"{name}_low"])[:-1]
        high = np.asarray(table[f"{name}_high"])[:-1]
        words = f"{name} lens"
        style.add_band(figure, rows, low, high, colour=colour, name=words)
        figure.add_scatter(
            x=rows,
            y=mean,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour},
            name=words,
            legendgroup=words,
            customdata=np.stack([low, high], -1),
            hovertemplate="%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>"
            + words
            + "</extra>",
        )
    every = max(1, len(rows) // 16)
    figure.update_xaxes(
        title_text="after layer", tickvals=rows[::every], ticktext=row_names(len(rows))[::every]
    )
    figure.update_yaxes(title_text="Kullback-Leibler divergence, nats a token", type="log")
    return figure


def waterfall(parts: Sequence[str], contributions: Sequence[float], total: float) -> go.Figure:
    """Direct contributions as a waterfall, each starting where the one before ended, and their sum.

    Args:
        parts: Names, such as "attention 3" or "MLP 3".
        contributions: Of the parts, in logits.
        total: Their sum.
    """
    names = [p.replace("attention ", "A").replace("MLP ", "M") for p in parts]
    bars = go.Waterfall(
        x=[*names, "sum"],
        y=[*contributions, total],
        measure=["relative"] * len(names) + ["total"],
        increasing={"marker": {"color": style.BLUE}},
        decreasing={"marker": {"color": style.RED}},
        totals={"marker": {"color": style.INK}},
        connector={"line": {"color": style.RULE, "width": 1}},
        customdata=[*parts, "sum: the logit difference"],
        hovertemplate="%{customdata}: <b>%{delta:+.3f}</b>, sum so far %{y:.3f}<extra></extra>",
    )
    figure = style.figure([bars], title="What each layer adds to the logit difference", height=360)
    every = -(-len(names) // MOST_TICKS)
    shown = [name for i, name in enumerate(names[: len(names) - every // 2]) if i % every == 0]
    shown.append("sum")
    figure.update_xaxes(title_text="A: attention, M: MLP of a layer", tickvals=shown, tickangle=0)
    figure.update_yaxes(title_text="logit difference so far")
    figure.add_hline(y=0, line={"color": style.SOFT, "width": 1})
    return figure


def head_contributions(heads: Float[np.ndarray, "layer head"]) -> go.Figure:
    """What each head adds to the logit difference: blue towards the answer, red away from it."""
    limit = float(np.abs(heads).max()) or 1.0
    layer, head = np.indices(heads.shape)
    names = np.vectorize(style.head_name, otypes=[object])(layer, head)
    heat = go.Heatmap(
        z=heads.astype(np.float32),
        zmin=-limit,
        zmax=limit,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar("logits added to the difference"),
        xgap=1,
        ygap=1,
        customdata=names,
        hovertemplate="%{customdata}: <b>%{z:+.3f}</b><extra></extra>",
    )
    n_layers, n_heads = heads.shape
    height = int(min(760, 120 + max(14, min(30, 560 / n_layers)) * n_layers))
    figure = style.figure([heat], title="What each head adds", height=height)
    plain = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(title_text="head", dtick=1 if n_heads <= 16 else 2, **plain)
    figure.update_yaxes(
        title_text="layer", dtick=1 if n_layers <= 16 else 2, range=[n_layers - 0.5, -0.5], **plain
    )
    return figure


def ranked_bars(
    names: Sequence[str], values: Sequence[float], *, title: str, unit: str
) -> go.Figure:
    """Horizontal bars, the first on top; blue above 0, red below.

    Args:
        names: Of the bars.
        values: Of the bars.
        title: Of the figure.
        unit: Of the values.
    """
    bars = go.Bar(
        y=list(names),
        x=list(values),
        orientation="h",
        marker={"color": [style.BLUE if v > 0 else style.RED for v in values]},
        hovertemplate="%{y}: <b>%{x:+.3f}</b><extra></extra>",
    )
    figure = style.figure([bars], title=title, height=90 + 19 * len(names))
    figure.update_yaxes(autorange="reversed", tickfont={"size": 11})
    figure.update_xaxes(title_text=unit)
    figure.add_vline(x=0, line={"color": style.SOFT, "width": 1})
    return figure
