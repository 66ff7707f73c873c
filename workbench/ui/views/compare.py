"""The views of the Compare page that look at texts, layers and weights: compute what is shown, and
draw it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from workbench.comparison import (
    Series,
    layer_shift,
    lens_shift,
    partings,
    probe_transfer,
    series,
    text_shift,
    weight_shift,
)
from workbench.comparison.layers import MEASURES
from workbench.comparison.text import LONGEST_WRITTEN, Parting, agreement, parting_table
from workbench.comparison.transfer import QUESTIONS
from workbench.errors import WorkbenchError
from workbench.figures import change as draw
from workbench.figures.style import visible
from workbench.statistics.words import bracketed
from workbench.subjects import Subject, resolve
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.coloured_text import coloured_text
from workbench.ui.parts.cut import cut
from workbench.ui.parts.models import alone, both_alone, choices
from workbench.ui.parts.notices import note
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.words import escaped
from workbench.ui.views.benchmarks import decimals

T = TypeVar("T")
TEXT = "Request: please wake me up at half past six tomorrow\nIntent:"
SHOWN = 300
"""Tokens of a typed text that are coloured."""
COLOURS = {
    "Loss, tuned − base": (
        "difference",
        "nats; red: the tuned model finds the token likelier, blue: less likely",
    ),
    "KL(tuned ‖ base)": ("kl", "nats; how far the two predictions of this token are apart"),
    "Loss of base": ("loss_base", "nats"),
    "Loss of tuned": ("loss_tuned", "nats"),
}


def measured(what: str, base: Subject, tuned: Subject, work: Callable[[Any], T], *more: Any) -> T:
    """`work(progress)` once for a pair, with a progress bar; kept for all sessions."""

    def run(report: Callable[[float, str], None]) -> T:
        with both_alone(base, tuned):
            return work(report)

    return with_progress((what, base.hash, tuned.hash, *more), run)


def text(base: Subject, tuned: Subject) -> None:
    """A typed text coloured token by token, the means over texts, and where greedy writing parts."""
    typed = st.text_area("Text", TEXT, height=90, key="text", bind="query-params")
    shown = cut(base, typed or TEXT, SHOWN)
    colour = str(
        st.segmented_control(
            "Colour", list(COLOURS), default=next(iter(COLOURS)), key="colour", required=True
        )
    )
    column, words = COLOURS[colour]
    one = measured("text", base, tuned, lambda report: text_shift(base, tuned, [shown]), shown)
    frame = one.texts[0].to_frame().assign(difference=lambda f: f["loss_tuned"] - f["loss_base"])
    coloured_text(frame["token"].tolist(), frame[column].fillna(0.0).tolist())
    kl, change = frame["kl"].mean(), frame["difference"].mean()
    st.caption(
        f"{colour}: {words}. On this text of {len(frame)} tokens the loss changes by {change:+.3f} nats a token and "
        f"KL is {kl:.3f}; one text has no interval. The first token has no prediction."
    )
    whole = measured("texts", base, tuned, lambda report: text_shift(base, tuned, progress=report))
    rows = (
        whole.summary()
        .set_index("measure")
        .loc[["loss_base", "loss_tuned", "difference", "kl"]]
        .reset_index()
    )
    names = {
        "loss_base": "loss of base",
        "loss_tuned": "loss of tuned",
        "difference": "tuned − base (paired)",
        "kl": "KL(tuned ‖ base)",
    }
    rows["measure"] = rows["measure"].map(names)
    st.markdown(
        f"**Over {len(whole.texts)} texts**: four paragraphs of prose and four requests, nats a token"
    )
    st.dataframe(rows, hide_index=True, width="content", column_config=decimals(rows))
    st.caption("Means over texts with their 95 % intervals (t corrected for skewness).")
    downloads(
        lambda: [
            draw.token_grid(
                frame["token"].tolist(), frame[c].to_numpy(float), name="nats", title=word
            )
            for word, (c, _) in COLOURS.items()
        ],
        lambda: frame,
        name="tokens",
        title=f"{tuned.name} against {base.name}",
        text=shown,
    )
    st.subheader("Where does greedy writing part?")
    parted(measured("partings", base, tuned, lambda report: _partings(base, tuned, report)))


def _partings(base: Subject, tuned: Subject, report: Callable[[float, str], None]) -> list[Parting]:
    partings_so_far = []
    for done, parting in partings(base, tuned):
        partings_so_far.append(parting)
        report(done, "writing on from the same prompts")
    return partings_so_far


def parted(partings: list[Parting]) -> None:
    """A row a prompt: what both write alike, the first tokens that differ, and what follows."""
    mean = agreement(partings)
    st.markdown(
        f"Both write **{mean['agreed']:.1f}** tokens alike before they part "
        f"(95 %: {bracketed(mean['low'], mean['high'], '.1f')}, n = {mean['n']} prompts, "
        f"up to {LONGEST_WRITTEN} tokens each); "
        f"{mean['never_parted']} never part."
    )
    table = parting_table(partings)
    st.dataframe(table, hide_index=True, column_config=decimals(table))


def layers(base: Subject, tuned: Subject) -> None:
    """The residual stream by layer, the logit lens side by side, and probes that are carried over."""
    shift = measured(
        "layers", base, tuned, lambda report: layer_shift(base, tuned, progress=report)
    )
    frame = shift.to_frame()
    frame["what"] = frame["measure"].map(MEASURES)
    figures = [
        draw.stage_lines(
            frame[frame["measure"] != "difference"],
            line="what",
            value="value",
            title="likeness",
            limits=(-0.02, 1.02),
        ),
        draw.stage_lines(
            frame[frame["measure"] == "difference"],
            line="what",
            value="value",
            title="|tuned − base| / |base|",
        ),
    ]
    for column, figure, key in zip(
        st.columns(2, gap="medium"), figures, ("likeness", "moved"), strict=True
    ):
        with column:
            chart(figure, key=key, name=f"layers-{key}", alt=f"Residual stream by layer: {key}")
    st.caption(
        f"The residual stream at the same {shift.tokens} tokens of {shift.n} texts. CKA is blind to rotation and scale "
        "(Kornblith et al. 2019), the cosine is not. Bands: 95 % over texts (CKA by the jackknife)."
    )
    lens = measured("lens", base, tuned, lambda report: lens_shift(base, tuned, progress=report))
    st.subheader("When do the layers make up their mind?")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        figure = draw.stage_lines(
            lens.lines(), line="model", value="value", title="KL to the model's own last word, nats"
        )
        chart(figure, key="lens", name="lens", alt="Logit lens of both models")
    with right:
        names = [" ".join(pair[0].prompt.split()[:6]) + " …" for pair in lens.lenses]
        text = st.selectbox(
            "Text ",
            range(len(names)),
            len(names) - 1,
            format_func=names.__getitem__,
            key="lens_text",
        )
        words = lens.words(int(text))
        for side in ("base", "tuned"):
            words[side] = words[side].map(visible)
        words = words.rename(
            columns={"p_base": "p (base)", "p_tuned": "p (tuned)", "stage": "layers"}
        )
        st.dataframe(words, hide_index=True, height=250, column_config=decimals(words))
    st.caption(
        f"Logit lens: each layer read by the model's own final norm and unembedding, mean over the tokens of "
        f"{len(lens.lenses)} texts (95 % over texts). The table: the likeliest token after the text's last, by layer."
    )
    downloads(
        lambda: [*figures, figure],
        lambda: frame,
        name="layers",
        title=f"Layers of {tuned.name} against {base.name}",
    )
    st.subheader("Does a probe of the base still read the tuned model?")
    carried(base, tuned)


def carried(base: Subject, tuned: Subject) -> None:
    """Linear probes trained on the base, tested on the tuned model."""
    question = str(
        st.segmented_control(
            "Read", list(QUESTIONS), default=next(iter(QUESTIONS)), key="read", required=True
        )
    )
    transfer = measured(
        "transfer",
        base,
        tuned,
        lambda report: probe_transfer(base, tuned, question, progress=report),
        question,
    )
    frame = transfer.to_frame()
    figure = draw.stage_lines(
        frame,
        line="pair",
        value="accuracy",
        title="accuracy",
        limits=(-0.02, 1.02),
        mark=(transfer.chance, "the commonest label"),
    )
    chart(figure, key="transfer", name="probe-transfer", alt="Accuracy of linear probes by layer")
    lost = transfer.loss().iloc[-1]
    st.caption(
        f"The {escaped(question)}, read by logistic regression at each text's last token; {transfer.trained} texts to "
        f"train on, {frame['n'].iloc[0]} held out (exact intervals). After the last layer the base's probe loses "
        f"{-lost['difference']:.3f} on the tuned model (paired, 95 %: {bracketed(-lost['high'], -lost['low'])})."
    )
    downloads(
        lambda: [figure],
        lambda: frame,
        name="probe-transfer",
        title=f"Probes of {base.name} on {tuned.name}",
    )


WEIGHTS = {
    "change": ("relative", "|update| / |base|"),
    "effective rank": ("effective_rank", "effective rank"),
}


def weights(base: Subject, tuned: Subject) -> None:
    """The update of every matrix as a map, of every head, and as a table."""
    shift = measured(
        "weights", base, tuned, lambda report: weight_shift(base, tuned, progress=report)
    )
    table = shift.to_frame()
    if not table["relative"].to_numpy().any():
        st.info(
            "No weight differs: every number here is exactly 0."
            + (
                " An edited model acts on activations, not weights."
                if base.hash != tuned.hash
                else ""
            ),
            icon=":material/info:",
        )
    if shift.news:
        st.info(shift.news, icon=":material/new_label:")
    figures = []
    for column, (words, (name, axis)) in zip(
        st.columns(2, gap="medium"), WEIGHTS.items(), strict=True
    ):
        with column:
            values, names = shift.grid(name)
            figures.append(
                draw.matrix_map(
                    values, names, name=axis, spelt=".4f" if name == "relative" else ".1f"
                )
            )
            st.markdown(f"**{words.capitalize()} of each matrix**")
            chart(
                figures[-1],
                key=f"map of {name}",
                name=f"weights-{name}",
                alt=f"{words} of every matrix",
            )
    if lora := shift.lora():
        st.markdown(f"{lora} The updates below are its factors' product.")
    shown = table[
        [
            "layer",
            "matrix",
            "relative",
            "norm",
            "rank",
            "effective_rank",
            "most",
            "lora_rank",
            "new_rows",
        ]
    ].copy()
    shown["layer"] = [str(layer) if layer >= 0 else "–" for layer in shown["layer"]]
    shown.columns = [
        "layer",
        "matrix",
        "|update| / |base|",
        "|update|",
        "rank",
        "effective rank",
        "full rank",
        "LoRA rank",
        "new rows",
    ]
    st.dataframe(
        shown,
        hide_index=True,
        height=300,
        column_config={c: st.column_config.NumberColumn(format="%.4g") for c in shown.columns[2:6]},
    )
    st.caption(
        "Read off the weights exactly, so there is no interval. |·| is the Frobenius norm; the effective rank is exp "
        "of the entropy of the singular values (Roy & Vetterli 2007): a head has d_head directions, a LoRA of rank r "
        "at most r. Singular values below the rounding of the weights count as 0."
    )
    downloads(
        lambda: figures,
        lambda: table,
        name="weights",
        title=f"Weights of {tuned.name} less {base.name}",
    )


def several(base: Subject, tuned: Subject) -> None:
    """The base against the tuned model and any others: one row a model, and lines over the layers."""
    options = choices()
    known = [name for name in options if name in st.query_params.get_all("also")]
    also = st.multiselect(
        "And also", options, known, key="also", bind="query-params", accept_new_options=True
    )
    names = list(dict.fromkeys([str(st.session_state["tuned"]), *also]))
    exact = tuple(resolve(name) for name in names)

    def work(report: Callable[[float, str], None]) -> Series:
        with alone(base.hash):  # the others are loaded anew, and nobody else looks inside them
            return series(base, names, progress=report)

    changes = with_progress(("several", base.hash, tuned.hash, exact), work)
    if changes.table.empty:
        st.info("None of these shares a view with the base but benchmarks.", icon=":material/info:")
        return
    table = changes.summary()
    table.columns = [str(c).replace("_", " ") for c in table.columns]
    st.dataframe(table, hide_index=True, column_config=decimals(table))
    st.caption(
        f"Each against {escaped(base.name)}, over {table['n'].max()} texts (95 % intervals): KL(tuned ‖ base) and the "
        "loss above the base's in nats a token; the head whose attention moved farthest (Jensen-Shannon distance) and "
        "the layer whose matrices did (relative Frobenius change)."
    )
    lines: Any = changes.table[changes.table["measure"] == "stream"]
    if len(lines):
        lines = lines.assign(stage=lines["place"].astype(int))
        figure = draw.stage_lines(
            lines, line="subject", value="value", title="|tuned − base| / |base| of the stream"
        )
        chart(
            figure,
            key="several",
            name="several",
            alt="Relative difference of the stream, a line a model",
        )
    downloads(
        lambda: [figure] if len(lines) else [],
        lambda: changes.table,
        name="several",
        title=f"Against {base.name}",
    )


def guarded(view: Callable[[Subject, Subject], None], base: Subject, tuned: Subject) -> None:
    """Draw a view; what cannot be compared is a sentence."""
    try:
        view(base, tuned)
    except WorkbenchError as error:
        note(error)
