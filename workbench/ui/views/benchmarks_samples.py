"""The samples behind a score: filtered by which model was right, and one of them in full."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from workbench.benchmarks import Results
from workbench.ui.parts.both_heads import all_heads
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.links import page_link
from workbench.ui.parts.words import escaped, short_names
from workbench.ui.views.benchmarks_pairs import pair

SHOWN = 1000
"""Samples listed at once."""


@fragment
def browse(results: dict[str, Results], base: str | None = None, tuned: str | None = None) -> None:
    """Show a list of one task's samples and, below it, the chosen one.

    Args:
        results: By model name.
        base: One of two models whose disagreements can be filtered.
        tuned: The other one.
    """
    first = next(iter(results.values()))
    tasks = list(dict.fromkeys(first.samples["task"]))
    task = str(st.selectbox("Task", tasks, key="task", bind="query-params", width=340))
    table = whole = side_by_side(results, task)
    options = filters(table, list(results), base, tuned)
    wanted = st.query_params.get("answers", "")
    chosen = st.segmented_control(
        "Show",
        list(options),
        default=wanted if wanted in options else next(iter(options)),
        format_func=lambda words: f"{words} ({int(options[words].sum())})",
        key=f"show {task}",
        required=True,
    )
    _keep("answers", "" if chosen == next(iter(options)) else str(chosen))
    table = table[options[str(chosen)]].head(SHOWN).reset_index(drop=True)
    if table.empty:
        st.caption("No such samples.")
        return
    picked = st.dataframe(
        listed(table, list(results)),
        hide_index=True,
        height=min(38 + 35 * len(table), 300),
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [_row_of(table)]}},
        key=f"samples {task} {chosen}",
    )
    number = (picked.selection.rows or [0])[0]  # pyright: ignore[reportAttributeAccessIssue]
    row = table.iloc[min(number, len(table) - 1)]
    _keep("sample", str(row["doc_id"]) if number else "")
    sample(row, list(results), pair(row, whole, list(results)))


def _row_of(table: Any) -> int:
    """The row of the sample that the URL names; the first where it names none."""
    rows = table.index[table["doc_id"].astype(str) == st.query_params.get("sample", "")]
    return int(rows[0]) if len(rows) else 0


def _keep(name: str, value: str) -> None:
    """Keep a choice in the URL, which has no parameter for what is shown at first."""
    if value:
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def side_by_side(results: dict[str, Results], task: str) -> Any:
    """One row per sample: the question, and each model's score and answer under its name."""
    joined: Any = None
    for name, result in results.items():
        part = result.samples[result.samples["task"] == task].set_index("doc_id")
        own = part[
            ["score", "correct", "metric", "prediction", "prediction_text", "loglikelihoods"]
        ]
        own.columns = [f"{column} {name}" for column in own.columns]
        questions = part[["input", "choices", "target", "target_text"]]
        joined = questions.join(own) if joined is None else joined.join(own, how="inner")
    return joined.reset_index()


def filters(table: Any, models: list[str], base: str | None, tuned: str | None) -> dict[str, Any]:
    """Subsets of the samples as masks by name; only `all` where answers are not right or wrong.

    Args:
        table: Of `side_by_side`.
        models: Their names.
        base: One of the two models to compare; None for a single model.
        tuned: The other one.
    """
    right = {name: table[f"correct {name}"] == 1 for name in models}
    wrong = {name: table[f"correct {name}"] == 0 for name in models}
    subsets = {"all": pd.Series(True, index=table.index)}
    if not any(mask.any() for mask in (*right.values(), *wrong.values())):
        return subsets
    if base is None or tuned is None:
        return subsets | {"right": right[models[0]], "wrong": wrong[models[0]]}
    short = short_names(models)
    return subsets | {
        f"only {short[base]} right": right[base] & wrong[tuned],
        f"only {short[tuned]} right": right[tuned] & wrong[base],
        "both wrong": wrong[base] & wrong[tuned],
        "both right": right[base] & right[tuned],
    }


def listed(table: Any, models: list[str]) -> pd.DataFrame:
    """The columns of the list: number, prompt, right answer, and each model's result."""
    prompts = table["input"].where(table["input"].str.len() > 0, table["target_text"])
    shown = pd.DataFrame({"#": table["doc_id"], "Prompt": prompts.str.replace("\n", " ⏎ ")})
    if (table["target_text"].str.len() > 0).any():
        shown["Right answer"] = table["target_text"].str.strip()
    for name in models:
        marks = zip(table[f"correct {name}"], table[f"score {name}"], strict=True)
        shown[short_names(models)[name]] = [_mark(correct, score) for correct, score in marks]
    return shown


def sample(row: Any, models: list[str], patched: dict[str, str] | None = None) -> None:
    """Show one sample: its prompt, choices with log-likelihoods, and links to other pages.

    Args:
        row: Of `side_by_side`.
        models: Their names.
        patched: What the Patching page should show, of `pair`; None for no link.
    """
    prompt = str(row["input"] or row["target_text"])
    with st.container(border=True):
        st.caption(f"Sample {row['doc_id']}: the prompt")
        st.code(prompt, language=None, wrap_lines=True)
        choices = json.loads(row["choices"])
        if choices:
            st.table(choice_table(row, choices, models), hide_index=True, border="horizontal")
        else:
            for name in models:
                written = str(row[f"prediction_text {name}"] or "")
                words = f": {written}" if written else ""
                score = f"{row[f'metric {name}']} {row[f'score {name}']:.3f}"
                st.caption(f"{short_names(models)[name]}: {score}{words}")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Where do its heads look?**", width="content")
            for name in models:
                page_link(
                    "attention",
                    short_names(models)[name],
                    icon=":material/grid_on:",
                    model=name,
                    prompt=prompt,
                )
        all_heads(tuple(models[::-1]), prompt, key="sample_heads")
        if patched:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown("**Where does its answer come from?** Patch", width="content")
                for name in models:
                    words = short_names(models)[name]
                    page_link(
                        "patching", words, icon=":material/swap_calls:", model=name, **patched
                    )


def choice_table(row: Any, choices: list[str], models: list[str]) -> pd.DataFrame:
    """One row per choice: its log-likelihood in nats by model; right and chosen ones are marked."""
    right = [pd.notna(row["target"]) and i == row["target"] for i in range(len(choices))]
    words = [escaped(choice.strip()) for choice in choices]
    words = [f"**{word}** (right)" if r else word for word, r in zip(words, right, strict=True)]
    shown = pd.DataFrame({"Choice": words})
    for name in models:
        values = json.loads(row[f"loglikelihoods {name}"])
        spelt = ["unscored" if v is None else f"{v:.3f}".replace("-", "−") for v in values]
        picked = row[f"prediction {name}"]
        shown[f"{short_names(models)[name]}: log-likelihood"] = [
            f"**{text}** :material/arrow_back: its choice" if i == picked else text
            for i, text in enumerate(spelt)
        ]
    return shown


def _mark(correct: float, score: float) -> str:
    if pd.notna(correct):
        return "right" if correct == 1 else "wrong"
    return "unscored" if pd.isna(score) else f"{score:.3f}"
