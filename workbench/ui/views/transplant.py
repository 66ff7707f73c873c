"""The Transplant page's views: gain, weights, heads, activations, the path, and a form."""

from typing import Any

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.benchmarks import suites
from workbench.comparison import Carried, Located
from workbench.comparison.measures import METRICS
from workbench.figures import transplants as draw
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import both_alone, cached_load
from workbench.ui.parts.notices import warn
from workbench.ui.parts.progress import kept, known, start, started, with_progress
from workbench.ui.parts.words import p_text, plain_name, signed

COLUMNS = ("name", "value", "share", "low", "high", "p", "random", "p_random")

SHARE = Estimated("share", "low", "high")


def gain(located: Located, metric: str) -> None:
    """Show both models' values, their difference (the gain), and the checks."""
    d = located.gain(metric)
    columns = st.columns(4)
    columns[0].metric(f"base: {located.base}", f"{d.base:.3f}", help=METRICS[metric])
    columns[1].metric(f"tuned: {located.tuned}", f"{d.tuned:.3f}", help=METRICS[metric])
    columns[2].metric("Gain", signed(d.difference))
    columns[2].caption(f"{bracketed(d.low, d.high, signed)}, {p_text(d.p)}, n = {d.n}")
    columns[3].metric("Weights that differ", f"{located.n_changed / located.n_params:.1%}")
    worst = max(located.checks.values())
    columns[3].caption(
        "Check: swapping nothing gives the model itself, swapping everything the other one, "
        + ("to the last bit." if worst == 0 else f"to {worst:.1e}.")
    )
    if why := located.undefined(metric):
        warn(why)


def weights(located: Located, metric: str) -> None:
    """Show the share of the gain of each part in both directions, and of growing sets of layers."""
    table = located.table(metric)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        one = draw.parts(
            table,
            n_layers=located.n_layers,
            title=f"Share of the gain in {METRICS[metric]}, part by part",
        )
        chart(
            one,
            key="parts",
            name="transplants",
            alt="The share of the gain that each part carries, both ways",
        )
        st.caption(
            "1: all of the gain, 0: none. Shares can be below 0 or above 1, and need not add up "
            "to 1, because parts interact or are redundant. Bars: paired 95 % intervals "
            f"(Fieller), n = {located.n}. Dotted: the mean of {located.draws} random sets of heads "
            "and neurons with as many parameters."
        )
    with right:
        two = draw.series(
            table,
            n_layers=located.n_layers,
            title="Layers copied into the base cumulatively",
        )
        chart(
            two,
            key="series",
            name="transplants-cumulative",
            alt="The share of the gain by number of layers",
        )
        kinds = [k for k in ("layer", "attn", "mlp", "outer", "random") if k in set(table["kind"])]
        single = table["kind"].isin(kinds) & ~table["name"].str.endswith("layers")
        side: pd.DataFrame = table.loc[(table["into"] == "base") & single]
        side = side.sort_values("share", ascending=False)
        st.caption(
            "From the bottom, the embedding comes first; from the top, the final norm (and an "
            "untied unembedding). Diamonds: random heads and neurons with as many parameters, "
            f"mean of {located.draws} draws."
        )
        st.markdown("Copied into the base, largest share first")
        _shares(side[["kind", *COLUMNS]])
    downloads(
        lambda: [one, two],
        lambda: table,
        name="transplants",
        title=f"Where {located.tuned} differs from {located.base}",
    )


def heads(located: Located, metric: str) -> None:
    """Show a map of all heads for each direction."""
    table = located.table(metric)
    figures = []
    for into, column in zip(draw.DIRECTIONS, st.columns(2, gap="medium"), strict=True):
        with column:
            figure = draw.head_map(
                table, into, n_layers=located.n_layers, title=draw.DIRECTIONS[into].capitalize()
            )
            figures.append(figure)
            chart(
                figure,
                key=f"heads_{into}",
                name=f"transplants-heads-{into}",
                alt="The share of every head",
            )
            _shares(located.best("head", into, metric)[list(COLUMNS)].head(10))
    st.caption(
        "The query, key, value and output weights of each head. Paired 95 % intervals (Fieller), "
        f"n = {located.n}. p: no effect, corrected over the parts of one direction. random: the "
        f"mean share of {located.draws} random sets with as many parameters; p_random: no larger "
        "effect than theirs."
    )
    downloads(
        lambda: figures,
        lambda: table,
        name="transplants-heads",
        title=f"Heads of {located.tuned}, {located.base}",
    )


def path(located: Located) -> None:
    """Show every metric along the line between the two models' weights."""
    figures = []
    for metric, column in zip(
        located.metrics, st.columns(len(located.metrics), gap="medium"), strict=True
    ):
        with column:
            figure = draw.path(located.path(metric), metric=METRICS[metric])
            figures.append(figure)
            chart(
                figure, key=f"path_{metric}", name=f"path-{metric}", alt=f"{metric} along the path"
            )
    st.caption(
        "Weights at base + alpha (tuned − base): 0 is the base, 1 the tuned model; values outside "
        f"extrapolate. Bands: 95 % intervals over the same {located.n} samples."
    )
    downloads(
        lambda: figures,
        lambda: pd.concat(
            [located.path(metric).assign(metric=metric) for metric in located.metrics]
        ),
        name="path",
        title=f"Between {located.base} and {located.tuned}",
    )


def activations(carried: Carried) -> None:
    """Show maps of layer by position for swapped activations, in both directions."""
    d = carried.gain
    st.caption(
        f"Log-likelihood of the right answer, nats: base {d.base:.3f}, tuned {d.tuned:.3f}, gain "
        f"{signed(d.difference)} {bracketed(d.low, d.high, signed)}, n = {d.n} questions. "
        "Positions are counted from the end of the question; *middle*: all positions in between "
        "at once, *answer*: the tokens of the answer, *all*: every position at once."
    )
    if not (d.low > 0 or d.high < 0):
        st.warning(
            "The two models do not differ significantly on these questions: there is no gain to "
            "have a share of."
        )
        return
    maps = draw.activation_maps(
        carried.share,
        carried.low,
        carried.high,
        layers=carried.layers,
        columns=carried.columns,
        n=carried.n,
        site=carried.site,
    )
    for (into, figure), column in zip(maps.items(), st.columns(2, gap="medium"), strict=True):
        with column:
            chart(
                figure,
                key=f"activations_{into}",
                name=f"activations-{into}",
                alt="Share by layer and position",
            )
    downloads(
        lambda: list(maps.values()),
        carried.to_frame,
        name="activations",
        title="Swapped activations",
    )


def located_key(
    base: wb.Subject, tuned: wb.Subject, on: str, n: int, grain: str = "blocks"
) -> tuple:
    """The cache key of a `Located`, so that a report uses what the page has measured already.

    Args:
        base: The base model.
        tuned: The tuned model.
        on: The behaviour.
        n: Number of samples.
        grain: How finely the models are divided.
    """
    return ("locate", base.hash, tuned.hash, on, n, grain)


def carried_key(
    base: wb.Subject, tuned: wb.Subject, on: str, n: int, site: str = "resid_pre"
) -> tuple:
    """The cache key of a `Carried`.

    Args:
        base: The base model.
        tuned: The tuned model.
        on: The behaviour.
        n: Number of samples.
        site: The activation that is swapped.
    """
    return ("activations", base.hash, tuned.hash, on, n, site)


def report(base: str, tuned: str, on: str, n: int) -> None:
    """Show a button that measures everything and writes a report to download.

    Args:
        base: Name of the base model.
        tuned: Name of the tuned model.
        on: The behaviour.
        n: Number of samples.
    """
    left, right, button = st.columns([3, 2, 2], vertical_alignment="bottom")
    known_suites = [name for name, suite in suites().items() if not suite.problem]
    suite = str(
        left.selectbox(
            "Benchmarks", known_suites, known_suites.index("core"), key="suite", bind="query-params"
        )
    )
    limit = int(
        right.number_input("Items per task", 2, value=50, step=50, key="limit", bind="query-params")
        or 50
    )
    first = cached_load(base)
    second = cached_load(tuned)
    key = ("report", first.hash, second.hash, base, tuned, suite, limit, on, n)
    button.button(
        "Write the report",
        type="primary",
        width="stretch",
        disabled=known(key),
        on_click=start,
        args=(key,),
    )
    st.caption(
        "One self-contained HTML page: behaviour, swapped heads, weights and activations, and the "
        "line between the two models, with intervals, methods, limitations, hashes, versions and "
        "the commands to reproduce it."
    )
    if not started(key):
        return

    def write(progress) -> str:
        had = [kept(make(first, second, on, n)) for make in (located_key, carried_key)]
        had = [study for study in had if study is not None]
        return wb.report(
            base, tuned, suite=suite, limit=limit, on=on, n=n, known=had, progress=progress
        ).to_html()

    with both_alone(first, second):
        page = with_progress(key, write)
    name = f"{plain_name(base)}-{plain_name(tuned)}.html"
    st.download_button(
        "Download the report",
        page,
        file_name=name,
        mime="text/html",
        on_click="ignore",
        icon=":material/download:",
    )
    st.code(
        f"workbench report {base} {tuned} --suite {suite} --limit {limit} --on {on} -n {n}",
        language="sh",
    )


def make_one(base: str, tuned: str, first: str) -> None:
    """Show a form that saves a transplant, and links to the pages that can use it.

    Args:
        base: Name of the base model.
        tuned: Name of the tuned model.
        first: The parts suggested at first.
    """
    with st.form("make", border=False):
        columns = st.columns([4, 2, 3, 2], vertical_alignment="bottom")
        parts = columns[0].text_input(
            "Parts", first, help="For example L3, L3.attn, L3.mlp, L3H1, L3N0:64, embed; or all."
        )
        alpha = columns[1].number_input(
            "Alpha",
            -1.0,
            2.0,
            1.0,
            0.25,
            help="1: the tuned weights; 0.5: half way between the two.",
        )
        name = columns[2].text_input(
            "Name", plain_name(f"{tuned.rpartition('/')[2]}-{first}".replace(":", "-"))
        )
        submitted = columns[3].form_submit_button("Save it", type="primary", width="stretch")
    if not submitted:
        return
    saved = wb.transplant(base, tuned, parts, name=name, alpha=alpha).save()
    st.success(
        f"Saved as **{saved}**; it is now in the model list of every page.",
        icon=":material/check:",
    )
    with st.container(horizontal=True):
        page_link(
            "benchmarks", "Benchmark it", icon=":material/scoreboard:", models=[base, tuned, saved]
        )
        page_link("models", "Generate text with it", icon=":material/deployed_code:", model=saved)
        page_link("compare", "Compare it", icon=":material/compare_arrows:", base=base, tuned=saved)
    st.code(f"workbench export {saved} {plain_name(name)}", language="sh")


def _shares(table: Any) -> None:
    """Show parts with their share of the gain and its interval, beside random sets of weights."""
    numbers = {
        "value": "model's value",
        "random": "random sets",
        "p_random": "p, random sets",
    }
    estimates(table.round(dict.fromkeys(numbers, 3)), [SHARE], numbers, rows=8)
