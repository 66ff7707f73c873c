"""Fine-tuning on the Train page: the form's fields, and a finished run's changes, item by item."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures import scores as draw
from workbench.statistics.words import bracketed
from workbench.store import Run
from workbench.training import Recipe, schema
from workbench.training.evaluation import Change, answers
from workbench.training.tasks import KINDS, SETS
from workbench.ui.parts.charts import chart
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.models import choices
from workbench.ui.parts.words import p_text, signed

METHODS = ("LoRA", "All weights")
FULL = "All weights"
SHOWN = 500
"""Items listed at once."""


def fields(name: str, recipe: Recipe) -> Callable[[], Recipe]:
    """Draw the form's fields for base, data and method; returns what builds the edited recipe."""
    known = SETS.get(str(recipe.task.get("data", "")))
    kind = str(recipe.task.get("kind") or (known.kind if known else "classification"))
    base = _choice(
        "Base",
        _bases(kind),
        recipe.base,
        f"{name} base",
        "A bundled model, a file or a run; or type a name.",
    )
    sets = [set_name for set_name, source in SETS.items() if source.kind == kind]
    data = _choice(
        f"Data for {kind}",
        sets,
        str(recipe.task.get("data", "")),
        f"{name} data",
        "A known data set, a Hugging Face id, or a .csv, .tsv, .jsonl, .json, .parquet or .conll "
        "file.",
    )
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    method = left.segmented_control(
        "Train",
        METHODS,
        default=FULL if recipe.lora is None else METHODS[0],
        key=f"{name} method",
        required=True,
        help="LoRA trains small low-rank matrices instead of the weights and stores them "
        "separately; it needs far less memory.",
    )
    ranks = schema.properties(schema.TABLES["lora"])["r"]
    rank = right.number_input(
        ranks["title"],
        ranks["minimum"],
        ranks["maximum"],
        int((recipe.lora or {}).get("r", ranks["default"])),
        key=f"{name} rank",
        help=ranks["description"],
    )
    budget = _budget(name, recipe)
    words: dict[str, Any] = {}
    if "prompt" in KINDS[kind].words:
        template = str(recipe.task.get("prompt") or getattr(KINDS[kind], "template", ""))
        holes = ", ".join("{" + field + "}" for field in getattr(KINDS[kind], "fields", ()))
        words["prompt"] = st.text_area(
            "Prompt", template, height=70, key=f"{name} prompt", help=f"May contain {holes}."
        )
    left, right = st.columns(2)
    known_words = schema.properties(schema.TABLES["task"])
    for column, word in ((left, "max_length"), (right, "eval_items")):
        entry = known_words[word]
        start = int(recipe.task.get(word, entry["default"]))
        words[word] = column.number_input(
            entry["title"],
            entry["minimum"],
            value=start,
            key=f"{name} {word}",
            help=entry["description"],
        )

    def build() -> Recipe:
        chosen = str(data or "").strip()
        # Columns, labels and a test file belong to the data that the recipe names.
        own = (
            {*KINDS[kind].parts, "labels", "test"}
            if chosen != str(recipe.task.get("data", ""))
            else set()
        )
        unchanged = {word: value for word, value in recipe.task.items() if word not in own}
        task = {**unchanged, **words, "data": chosen, "kind": kind}
        lora = None if method == FULL else {**(recipe.lora or {}), "r": rank}
        private = {**(recipe.privacy or {}), "epsilon": float(budget)} if budget else None
        named = {"base": str(base or "").strip(), "task": task}
        return replace(recipe, **named, lora=lora, privacy=private)

    return build


def rewrites(run: Run) -> bool:
    """Whether a run trains an encoder-decoder, which few pages take."""
    task = run.config.get("task") or {}
    known = SETS.get(str(task.get("data", "")))
    kind = task.get("kind") or (known.kind if known else "")
    return kind in KINDS and KINDS[kind].seq2seq


def _bases(kind: str) -> list[str]:
    """The models that a kind of task may start from."""
    if not KINDS[kind].seq2seq:
        return choices()
    decoders = set(choices())
    return [name for name in choices(seq2seq=True) if name not in decoders]


def _budget(name: str, recipe: Recipe) -> float:
    """Draw the field for the epsilon of private training; 0 is ordinary training."""
    entry = schema.properties(schema.TABLES["privacy"])["epsilon"]
    given = (recipe.privacy or {}).get("epsilon", entry["default"])
    return st.number_input(
        entry["title"],
        0.0,
        float(entry["maximum"]),
        0.0 if recipe.privacy is None else float(given),
        step=1.0,
        format="%g",
        key=f"{name} epsilon",
        help="0: ordinary training. Else DP-SGD clips every example's gradient and adds noise, so "
        "that no single example changes much; 8 is a weak guarantee, 1 a strong one.",
    )


def _choice(label: str, options: list[str], value: str, key: str, help: str) -> str | None:
    options = options if value in options or not value else [value, *options]
    index = options.index(value) if value else 0
    return st.selectbox(label, options, index=index, key=key, accept_new_options=True, help=help)


def outcome(run: Run) -> None:
    """Show notes on a finished run's data; for a fine-tune also its metrics and items."""
    if run.kind == "train" and run.result and (words := _data_words(run.result)):
        st.caption(words)
    if run.kind != "finetune" or not run.result or not run.result.get("changes"):
        return
    changes = [Change(**change) for change in run.result["changes"]]
    st.subheader("Before and after")
    st.caption(
        f"{run.result['parent']} and this run's model on the same {run.result['held_out']} "
        f"held-out items of {run.result['data']}, before and after training on "
        f"{run.result['examples']:,} examples. " + _data_words(run.result)
    )
    if spent := run.result.get("privacy"):
        st.caption(private_words(spent))
    st.markdown("\n".join(f"- {verdict(change)}" for change in changes))
    table = pd.DataFrame(
        {
            "task": [_words(c.metric) for c in changes],
            "metric": [_words(c.metric) for c in changes],
            "difference": [c.difference for c in changes],
            "low": [c.low for c in changes],
            "high": [c.high for c in changes],
            "p_adjusted": [c.p for c in changes],
            "n": [c.n for c in changes],
            "higher_is_better": [c.higher_is_better for c in changes],
        }
    )
    figure = draw.differences(table, base="base", tuned="tuned")
    chart(
        figure,
        key=f"changes {run.id}",
        name=f"changes-{run.id}",
        alt="What fine-tuning changed, with intervals",
    )
    _items(run, higher_is_better=changes[0].higher_is_better)


def _data_words(result: dict[str, Any]) -> str:
    """What a run left out of its data and assumed about it, in words; "" for nothing."""
    counted = [f"Left out, {reason}: {n:,}." for reason, n in result.get("left_out", {}).items()]
    return " ".join([*counted, *result.get("remarks", [])])


def private_words(spent: dict[str, float]) -> str:
    """What a private run guarantees, in a sentence or two."""
    return (
        f"Private: epsilon {spent['epsilon']:g} at delta {spent['delta']:.1e} for one example more "
        f"or less, with noise of {spent['noise_multiplier']:.2f} times the norm "
        f"{spent['max_norm']:g} to which gradients are clipped. This covers the weights; the "
        "training loss in the run's log is computed without noise."
    )


def verdict(change: Change) -> str:
    """One metric as Markdown: before, after, and whether the difference is significant."""
    text = f"**{_words(change.metric)}** {change.base:.3f} → {change.tuned:.3f}: "
    if math.isnan(change.low):
        return (
            text
            + f"{signed(change.difference)}, no interval: {change.reason or 'too few samples'}."
        )
    interval = (
        f"95 % interval {bracketed(change.low, change.high, signed)}, {p_text(change.p)}, "
        f"n = {change.n}"
    )
    if not change.shown:
        return f"{text}no significant difference ({signed(change.difference)}, {interval})."
    way = "better" if change.improved else "worse"
    return f"{text}**{way}** by {abs(change.difference):.3f} ({interval}; {change.test})."


@fragment
def _items(run: Run, *, higher_is_better: bool) -> None:
    before = answers(run.folder, "base")
    after = answers(run.folder, "tuned")
    if before is None or after is None:
        return
    if "unaligned" in after:
        st.caption(
            "Entities in an answer that do not occur in its text (they count as wrong): base "
            f"{int(sum(before['unaligned']))}, tuned {int(sum(after['unaligned']))}."
        )
    gain: Any = (after["score"] - before["score"]) * (1 if higher_is_better else -1)
    masks = {
        "all": gain == gain,
        "better": gain > 1e-9,
        "worse": gain < -1e-9,
        "unchanged": gain.abs() <= 1e-9,
    }
    names = {f"{word} ({int(mask.sum())})": mask for word, mask in masks.items()}
    chosen = st.segmented_control(
        "Items", list(names), default=list(names)[1], key=f"items {run.id}", required=True
    )
    mask = names.get(str(chosen), masks["all"])
    rows = pd.DataFrame(
        {
            "Input": before["input"].str.replace("\n", " ⏎ "),
            "Expected": before["target"],
            "Base": before["prediction"],
            "Tuned": after["prediction"],
            "Before": before["score"],
            "After": after["score"],
        }
    )[mask].head(SHOWN)
    if rows.empty:
        st.caption("No such items.")
        return
    rows = rows.reset_index(drop=True)
    score = st.column_config.NumberColumn(
        format="%.3f", help="The item's score, or its loss in nats per token."
    )
    picked = st.dataframe(
        rows,
        hide_index=True,
        height=min(38 + 35 * len(rows), 300),
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [0]}},
        key=f"rows {run.id} {chosen}",
        column_config={
            "Input": st.column_config.TextColumn(width="medium"),
            "Before": score,
            "After": score,
        },
    )
    number = (picked.selection.rows or [0])[0]  # pyright: ignore[reportAttributeAccessIssue]
    row = rows.iloc[min(number, len(rows) - 1)]
    whole: Any = before[mask].reset_index(drop=True).iloc[min(number, len(rows) - 1)]
    with st.container(border=True):
        st.code(str(whole["input"]), language=None, wrap_lines=True)
        shown = pd.DataFrame(
            {
                "": ["expected", "base", "tuned"],
                "Answer": [row["Expected"], row["Base"], row["Tuned"]],
            }
        )
        st.dataframe(shown, hide_index=True)


def _words(metric: str) -> str:
    return {"loss": "loss per token", "macro_f1": "macro-F1"}.get(
        metric, metric.replace("_", " ").replace("f1", "F1")
    )
