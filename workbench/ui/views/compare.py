"""The Compare page's views of texts, layers and weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from workbench.comparison import (
    layer_shift,
    lens_shift,
    partings,
    probe_transfer,
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
from workbench.subjects import Subject
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.coloured_text import coloured_text
from workbench.ui.parts.cut import cut
from workbench.ui.parts.models import both_alone
from workbench.ui.parts.notices import note
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.words import escaped
from workbench.ui.views.benchmarks import decimals

T = TypeVar("T")
TEXT = "Request: please wake me up at half past six tomorrow\nIntent:"
SHOWN = 300
"""Tokens of a typed text shown at most."""
COLOURS = {
    "Loss, tuned − base": (
        "difference",
        "nats; red: more likely to the tuned model, blue: less likely",
    ),
    "KL(tuned ‖ base)": ("kl", "nats; how much the two predictions of this token differ"),
    "Loss of base": ("loss_base", "nats"),
    "Loss of tuned": ("loss_tuned", "nats"),
}


def measured(what: str, base: Subject, tuned: Subject, work: Callable[[Any], T], *more: Any) -> T:
    """The result of `work(progress)` for a pair, with a progress bar; cached for all sessions.

    Args:
        what: Name of the measurement.
        base: The base model.
        tuned: The tuned model.
        work: Computes the result.
        more: Settings that the result depends on.
    """

    def run(report: Callable[[float, str], None]) -> T:
        with both_alone(base, tuned):
            return work(report)

    return with_progress((what, base.hash, tuned.hash, *more), run)


def text(base: Subject, tuned: Subject) -> None:
    """Text view: a text coloured token by token, means over texts, and where outputs diverge."""
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
    st.caption(
        f"{colour}: {words}. Over the {len(frame)} tokens of this text the loss changes by "
        f"{frame['difference'].mean():+.3f} nats per token and KL is {frame['kl'].mean():.3f} (a "
        "single text has no interval). The first token has no prediction."
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
    rows["measure"] = [names[measure] for measure in rows["measure"]]
    st.markdown(
        f"**Over {len(whole.texts)} texts**: four paragraphs of prose and four requests, nats per "
        "token"
    )
    st.dataframe(rows, hide_index=True, width="content", column_config=decimals(rows))
    st.caption("Means over texts with 95 % intervals (t corrected for skewness).")
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
    st.subheader("Where do greedy continuations diverge?")
    parted(measured("partings", base, tuned, lambda report: _partings(base, tuned, report)))


def _partings(base: Subject, tuned: Subject, report: Callable[[float, str], None]) -> list[Parting]:
    partings_so_far = []
    for done, parting in partings(base, tuned):
        partings_so_far.append(parting)
        report(done, "continuing the same prompts")
    return partings_so_far


def parted(partings: list[Parting]) -> None:
    """Show for each prompt what both models write, up to and after their first difference."""
    mean = agreement(partings)
    st.markdown(
        f"Both models write **{mean['agreed']:.1f}** identical tokens before they diverge "
        f"(95 %: {bracketed(mean['low'], mean['high'], '.1f')}, n = {mean['n']} prompts, "
        f"up to {LONGEST_WRITTEN} tokens each); {mean['never_parted']} never diverge."
    )
    table = parting_table(partings)
    st.dataframe(table, hide_index=True, column_config=decimals(table))


def layers(base: Subject, tuned: Subject) -> None:
    """Layers view: the residual stream by layer, the logit lens, and transfer of linear probes."""
    shift = measured(
        "layers", base, tuned, lambda report: layer_shift(base, tuned, progress=report)
    )
    frame = shift.to_frame()
    frame["what"] = [MEASURES[measure] for measure in frame["measure"]]
    figures = [
        draw.stage_lines(
            frame.loc[frame["measure"] != "difference"],
            line="what",
            value="value",
            title="similarity",
            limits=(-0.02, 1.02),
        ),
        draw.stage_lines(
            frame.loc[frame["measure"] == "difference"],
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
        f"The residual stream at the same {shift.tokens} tokens of {shift.n} texts. CKA is "
        "invariant to rotation and scaling (Kornblith et al. 2019), cosine similarity is not. "
        "Bands: 95 % intervals over texts (for CKA by the jackknife)."
    )
    lens = measured("lens", base, tuned, lambda report: lens_shift(base, tuned, progress=report))
    st.subheader("In which layer is the prediction decided?")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        figure = draw.stage_lines(
            lens.lines(), line="model", value="value", title="KL to the final prediction, nats"
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
            words[side] = [visible(token) for token in words[side]]
        words = words.rename(
            columns={"p_base": "p (base)", "p_tuned": "p (tuned)", "stage": "layers"}
        )
        st.dataframe(words, hide_index=True, height=250, column_config=decimals(words))
    st.caption(
        "Logit lens: the model's own final norm and unembedding applied after each layer; means "
        f"over the tokens of {len(lens.lenses)} texts (95 % intervals over texts). Table: the most "
        "likely next token after the text, by layer."
    )
    downloads(
        lambda: [*figures, figure],
        lambda: frame,
        name="layers",
        title=f"Layers of {tuned.name} against {base.name}",
    )
    st.subheader("Does a linear probe of the base still work on the tuned model?")
    carried(base, tuned)


def carried(base: Subject, tuned: Subject) -> None:
    """Show linear probes trained on the base and tested on both models, by layer."""
    question = str(
        st.segmented_control(
            "Label to decode",
            list(QUESTIONS),
            default=next(iter(QUESTIONS)),
            key="read",
            required=True,
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
        mark=(transfer.chance, "the majority label"),
    )
    chart(figure, key="transfer", name="probe-transfer", alt="Accuracy of linear probes by layer")
    lost = transfer.loss().iloc[-1]
    st.caption(
        f"The {escaped(question)}, decoded by logistic regression at each text's last token: "
        f"{transfer.trained} training texts, {frame['n'].iloc[0]} held out (exact intervals). "
        f"After the last layer the base's linear probe loses {-lost['difference']:.3f} in accuracy "
        f"on the tuned model (paired, 95 %: {bracketed(-lost['high'], -lost['low'])})."
    )
    downloads(
        lambda: [figure],
        lambda: frame,
        name="probe-transfer",
        title=f"Linear probes of {base.name} on {tuned.name}",
    )


WEIGHTS = {
    "change": ("relative", "|update| / |base|"),
    "effective rank": ("effective_rank", "effective rank"),
}


def weights(base: Subject, tuned: Subject) -> None:
    """Weights view: the change of every matrix, as maps and as a table."""
    shift = measured(
        "weights", base, tuned, lambda report: weight_shift(base, tuned, progress=report)
    )
    table = shift.to_frame()
    if not table["relative"].to_numpy().any():
        same = "All weights are equal, so every number here is exactly 0."
        if base.hash != tuned.hash:
            same += " An edited model changes activations, not weights."
        st.info(same, icon=":material/info:")
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
        st.markdown(f"{lora} The updates below are the products of its factors.")
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
        "Computed exactly from the weights, so there are no intervals. |·| is the Frobenius norm. "
        "Effective rank: exp of the entropy of the singular values (Roy & Vetterli 2007), at most "
        "r for a LoRA of rank r and d_head for a head. Singular values below rounding error count "
        "as 0."
    )
    downloads(
        lambda: figures,
        lambda: table,
        name="weights",
        title=f"Weights of {tuned.name} − {base.name}",
    )


def guarded(view: Callable[[Subject, Subject], None], base: Subject, tuned: Subject) -> None:
    """Draw a view, or a note that says why the two models cannot be compared there.

    Args:
        view: Draws it.
        base: The base model.
        tuned: The tuned model.
    """
    try:
        view(base, tuned)
    except WorkbenchError as error:
        note(error)
