"""Views of a located change: the gain, weights, heads, activations, the path, and making a
transplant of one's own.
"""

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.benchmarks import suites
from workbench.comparison import Carried, Located
from workbench.comparison.measures import METRICS
from workbench.figures import transplants as draw
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import both_alone, cached_load
from workbench.ui.parts.notices import warn
from workbench.ui.parts.progress import kept, known, with_progress
from workbench.ui.parts.words import p_text, plain_name, signed

COLUMNS = ("name", "value", "share", "low", "high", "p", "random", "p_random")

FORMATS = {
    name: st.column_config.NumberColumn(format="%.4f" if name.startswith("p") else "%.3f")
    for name in COLUMNS[1:]
}


def gain(located: Located, metric: str) -> None:
    """The two models' own values, what is shared out, and the checks."""
    d = located.gain(metric)
    columns = st.columns(4)
    columns[0].metric(f"base: {located.base}", f"{d.base:.3f}", help=METRICS[metric])
    columns[1].metric(f"tuned: {located.tuned}", f"{d.tuned:.3f}", help=METRICS[metric])
    columns[2].metric("Gain", signed(d.difference))
    columns[2].caption(f"{bracketed(d.low, d.high, signed)}, {p_text(d.p)}, n = {d.n}")
    columns[3].metric("Weights that differ", f"{located.n_changed / located.n_params:.1%}")
    worst = max(located.checks.values())
    columns[3].caption(
        "Nothing exchanged gives the model itself and everything the other one, "
        + ("to the last bit." if worst == 0 else f"to {worst:.1e}.")
    )
    if why := located.undefined(metric):
        warn(why)


def weights(located: Located, metric: str) -> None:
    """Parts one at a time in both directions, and growing stacks of layers."""
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
            "1 is all of the gain, 0 nothing. Shares can be above 1 or below 0: a part that works against its new "
            "surroundings does harm. They need not add up to 1, since parts work together or do the same work twice. "
            f"Bars: 95 % paired (Fieller), n = {located.n}. Dotted: the mean of {located.draws} random subsets of heads "
            "and neurons with as many parameters."
        )
    with right:
        two = draw.series(
            table,
            n_layers=located.n_layers,
            title="Layers brought into the base one after the other",
        )
        chart(
            two,
            key="series",
            name="transplants-cumulative",
            alt="The share of the gain by number of layers",
        )
        kinds = [k for k in ("layer", "attn", "mlp", "outer", "random") if k in set(table["kind"])]
        single = table["kind"].isin(kinds) & ~table["name"].str.endswith("layers")
        side = table[(table["into"] == "base") & single].sort_values("share", ascending=False)
        st.caption(
            "From the bottom the embedding comes first, from the top the final norm (and an untied unembedding). "
            f"Diamonds: random heads and neurons of as many parameters, mean of {located.draws} draws."
        )
        st.markdown("Into the base, greatest share first")
        st.dataframe(
            side[["kind", *COLUMNS]],
            hide_index=True,
            height=300,
            column_config=FORMATS,
        )
    downloads(
        lambda: [one, two],
        lambda: table,
        name="transplants",
        title=f"Where {located.tuned} differs from {located.base}",
    )


def heads(located: Located, metric: str) -> None:
    """One map of heads a direction."""
    table, figures = located.table(metric), []
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
            st.dataframe(
                located.best("head", into, metric)[list(COLUMNS)].head(10),
                hide_index=True,
                column_config=FORMATS,
            )
    st.caption(
        f"Each head's query, key, value and output weights. Intervals: 95 % paired (Fieller), n = {located.n}; p of no "
        f"change, corrected over the parts of one direction. random: the mean share of {located.draws} random subsets of "
        "as many parameters; p_random: that the head does no more than they do."
    )
    downloads(
        lambda: figures,
        lambda: table,
        name="transplants-heads",
        title=f"Heads of {located.tuned}, {located.base}",
    )


def path(located: Located) -> None:
    """Every metric along the line between the models."""
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
        "All weights at base + alpha (tuned − base). Below 0 the change is undone beyond the base, above 1 it is "
        f"carried on beyond the tuned model. Bands: 95 % over the same {located.n} samples."
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
    """Layer x position maps, both ways."""
    d = carried.gain
    st.caption(
        f"Log-likelihood of the right answer, nats: base {d.base:.3f}, tuned {d.tuned:.3f}, gain "
        f"{signed(d.difference)} {bracketed(d.low, d.high, signed)}, n = {d.n} questions. "
        "Positions are counted from the question's end; *middle* are all between, together, "
        "*answer* the answer's own tokens, *all* every position at once."
    )
    if not (d.low > 0 or d.high < 0):
        st.warning(
            "The two do not differ on these questions, so there is no gain to have a share of."
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
        title="Activations exchanged",
    )


def located_key(
    base: wb.Subject, tuned: wb.Subject, on: str, n: int, grain: str = "blocks"
) -> tuple:
    """What `Located` is kept under, so that a report need not measure again what the page has
    shown.
    """
    return ("locate", base.hash, tuned.hash, on, n, grain)


def carried_key(
    base: wb.Subject, tuned: wb.Subject, on: str, n: int, site: str = "resid_pre"
) -> tuple:
    """What `Carried` is kept under."""
    return ("activations", base.hash, tuned.hash, on, n, site)


def report(base: str, tuned: str, on: str, n: int) -> None:
    """A button that measures all of it, and the page to take home."""
    left, right, button = st.columns([3, 2, 2], vertical_alignment="bottom")
    known_suites = [name for name, suite in suites().items() if not suite.problem]
    suite = str(
        left.selectbox(
            "Benchmarks", known_suites, known_suites.index("core"), key="suite", bind="query-params"
        )
    )
    limit = int(
        right.number_input("Items a task", 2, value=50, step=50, key="limit", bind="query-params")
        or 50
    )
    first, second = cached_load(base), cached_load(tuned)
    key = ("report", first.hash, second.hash, base, tuned, suite, limit, on, n)
    pressed = button.button(
        "Write the report", type="primary", width="stretch", disabled=known(key)
    )
    st.caption(
        "One HTML page that needs no network: behaviour, heads, weights and activations exchanged, the line between "
        "the two, with intervals, the method, its limits, hashes, versions and the commands that make it again."
    )
    if not (pressed or known(key)):
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
    """A form that keeps a transplant, and where to go with it."""
    with st.form("make", border=False):
        columns = st.columns([4, 2, 3, 2], vertical_alignment="bottom")
        parts = columns[0].text_input(
            "Parts", first, help="Such as L3, L3.attn, L3.mlp, L3H1, L3N0:64, embed; or all."
        )
        alpha = columns[1].number_input(
            "How far", -1.0, 2.0, 1.0, 0.25, help="1: the tuned weights; 0.5: half way."
        )
        name = columns[2].text_input(
            "Name", plain_name(f"{tuned.rpartition('/')[2]}-{first}".replace(":", "-"))
        )
        submitted = columns[3].form_submit_button("Keep it", type="primary", width="stretch")
    if not submitted:
        return
    saved = wb.transplant(base, tuned, parts, name=name, alpha=alpha).save()
    st.success(
        f"Kept as **{saved}**: choose it on any page like any other model.", icon=":material/check:"
    )
    with st.container(horizontal=True):
        page_link(
            "benchmarks", "Benchmark it", icon=":material/scoreboard:", models=[base, tuned, saved]
        )
        page_link("models", "Let it write", icon=":material/deployed_code:", model=saved)
        page_link("compare", "Compare it", icon=":material/compare_arrows:", base=base, tuned=saved)
    st.code(f"workbench export {saved} {plain_name(name)}", language="sh")
