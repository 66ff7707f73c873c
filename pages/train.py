"""Train: start a recipe in the background, watch its curves, and open the model on other pages."""

import pandas as pd
import streamlit as st

from workbench import paths
from workbench.errors import WorkbenchError
from workbench.figures import runs as draw
from workbench.store import Run, jobs
from workbench.training import Recipe
from workbench.training.recipe import names
from workbench.training.recipe_tables import Privacy
from workbench.training.start import job_kind, parent_of
from workbench.ui.parts import runs as ui
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.links import page_link
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import plain_name
from workbench.ui.views import train_outcome
from workbench.ui.views.train import recipe_form
from workbench.ui.views.train_uploads import own_data

KINDS = ("train", "finetune", "study")
METRICS = {
    "loss": "Loss",
    "tokens_per_s": "Tokens per second",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "mfu": "Model FLOPs utilisation",
    "memory_gb": "Peak memory (GB)",
    "epsilon": "Epsilon spent",
}


@st.cache_data(max_entries=8, show_spinner=False)
def shipped() -> dict[str, pd.DataFrame]:
    """The training metrics of the bundled models, by their label."""
    files = sorted(paths.shelf("models").glob("*/metrics.csv"))
    return {f"{path.parent.name} (shipped)": pd.read_csv(path) for path in files}


def tokens_a_step(run: Run) -> int | None:
    """Tokens per training step; None where the run's config does not tell."""
    context = run.config.get("model", {}).get("n_ctx")
    size = run.config.get("train", {}).get("batch_size")
    return context and size and context * size


def latest(rows: pd.DataFrame, name: str) -> float | None:
    """The newest value of a metric; None where it has not been logged."""
    values = rows.loc[rows["name"] == name, "value"]
    return None if values.empty else float(values.iloc[-1])


def last_step(rows: pd.DataFrame) -> int:
    """The last step that has been logged; 0 where there is none."""
    return int(max(rows["step"].tolist(), default=0))


def numbers(run: Run, rows: pd.DataFrame) -> None:
    """Step, losses, speed and utilisation of a run, as of its last log entry."""
    loss = latest(rows, "loss")
    held_out = latest(rows, "validation_loss")
    speed = latest(rows, "tokens_per_s")
    use = latest(rows, "mfu")
    memory = latest(rows, "memory_gb")
    step = last_step(rows)
    steps, *cells = st.columns([5, 4, 4, 4, 4])
    steps.metric("Steps", f"{step:,} / {run.config.get('train', {}).get('steps', 0):,}")
    cells[0].metric(
        "Training loss",
        "–" if loss is None else f"{loss:.3f}",
        help="Nats per token, last batch.",
    )
    cells[1].metric(
        "Held-out loss",
        "–" if held_out is None else f"{held_out:.3f}",
        help="Nats per token, held-out text.",
    )
    cells[2].metric(
        "Tokens/s",
        "–" if speed is None else f"{speed:,.0f}",
        help="Mean since the start of the run.",
    )
    spent = latest(rows, "epsilon")
    if spent is not None:
        budget = run.config["privacy"].get("epsilon", Privacy.epsilon)
        what = "Epsilon that the steps so far have spent, and that of the whole run."
        cells[3].metric("Epsilon", f"{spent:.2f} / {budget:g}", help=what)
        return
    cells[3].metric(
        "MFU",
        "–" if use is None else f"{use:.0%}",
        help="Model FLOPs utilisation: the model's FLOPs per second over the "
        "matrix-multiplication rate "
        "measured at the start." + ("" if memory is None else f" Peak memory: {memory:.2f} GB."),
    )


def curves(run: Run, others: list[Run]) -> None:
    """The chart of one metric, with other runs on the same axes."""
    left, middle, right = st.columns([2, 2, 3])
    offered = [name for name in METRICS if name != "epsilon" or run.config.get("privacy")]
    name = left.selectbox("Metric", offered, format_func=METRICS.__getitem__)
    x = middle.selectbox("Against", list(draw.AXES), format_func=draw.AXES.__getitem__)
    extra = {ui.label(other): other for other in others if other.id != run.id}
    chosen = right.multiselect(
        "Compare with", [*shipped(), *extra], placeholder="Other runs on the same axes"
    )
    drawn = [run, *(extra[words] for words in chosen if words in extra)]
    tables = {r.title if len(drawn) == 1 else ui.label(r): ui.metrics(r) for r in drawn}
    tokens = {w: t for w, r in zip(tables, drawn, strict=True) if (t := tokens_a_step(r))}
    tables |= {words: shipped()[words] for words in chosen if words in shipped()}
    if all(table.empty for table in tables.values()):
        st.caption(
            "Nothing has been logged yet."
            if run.active
            else "This run ended before anything was logged."
        )
        return
    figure = draw.curves(tables, name=name, x=x, tokens_a_step=tokens)
    chart(
        figure,
        key="curves",
        name=f"{plain_name(run.title)}-{name}",
        alt=f"{METRICS[name]} against {x}",
    )


def results(run: Run, others: list[Run]) -> None:
    """A run: its status and curves, its outcome, and links to its model on other pages."""

    def show(now: Run) -> None:
        numbers(now, ui.metrics(now))
        curves(now, others)

    ui.live(run.id, study if run.kind == "study" else show, resumable=True)
    train_outcome.outcome(run)
    if any((run.folder / "checkpoints").glob("step-*/config.json")):
        outlook(run)


def study(run: Run) -> None:
    """The runs of a study (one per position encoding) as a table and on one chart."""
    children = [r for r in ui.store().list("train", limit=200) if r.parent == run.id]
    if not children:
        st.caption("The first of the five is being prepared.")
        return
    run_of = {r.config["model"]["positions"]: r for r in reversed(children)}
    tables = {encoding: rows for encoding, r in run_of.items() if len(rows := ui.metrics(r))}
    rows = [
        {
            "positions": encoding,
            "status": run_of[encoding].status,
            "steps": last_step(table),
            "validation loss": latest(table, "validation_loss"),
        }
        for encoding, table in tables.items()
    ]
    losses = st.column_config.NumberColumn(format="%.4f", help="Nats per token, held-out text.")
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"validation loss": losses})
    chart(
        draw.curves(tables),
        key="study",
        name=f"{plain_name(run.title)}",
        alt="Loss with each position encoding",
    )
    st.caption("Nats per token. One seed each: differences below about 0.02 may be chance.")
    if len(children) > 1:
        models = [f"run:{r.id}" for r in reversed(children)]
        view = {"models": models, "more": "Models side by side", "measure": "true"}
        page_link(
            "positions", "How each of them uses positions", icon=":material/timeline:", **view
        )


def outlook(run: Run) -> None:
    """Links to the other pages with the run's newest checkpoint, and downloads."""
    model = f"run:{run.id}"
    rewrites = train_outcome.rewrites(run)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Open its newest checkpoint in**", width="content")
        page_link("attention", "Attention", icon=":material/grid_on:", model=model)
        if rewrites:
            query = {"models": [model], "suite": "rewriting"}
            page_link("benchmarks", "Benchmarks", icon=":material/scoreboard:", **query)
        else:
            further(run, model)
    downloads(
        lambda: [draw.curves({run.title: ui.metrics(run)})],
        lambda: ui.metrics(run),
        name=f"metrics-{run.id}",
        title=f"{run.title} ({run.id})",
    )
    how = ", seq2seq=True" if rewrites else ""
    same_in_python(
        f'import workbench as wb\n\nsubject = wb.load("{model}"{how})\nprint(subject.card)'
    )


def further(run: Run, model: str) -> None:
    """Links to the pages that take a decoder only.

    Args:
        run: The run.
        model: Its name, as for `load`.
    """
    page_link("positions", "Positions", icon=":material/timeline:", model=model)
    page_link("benchmarks", "Benchmarks", icon=":material/scoreboard:", models=[model])
    if run.kind == "train":
        page_link("dynamics", "Dynamics", icon=":material/show_chart:", run=run.id)
    if run.kind == "finetune":
        pair = {"base": run.config["base"], "tuned": model}
        page_link("compare", "Compare it with its base", icon=":material/compare_arrows:", **pair)
        page_link("transplant", "Where the change lives", icon=":material/content_cut:", **pair)
    audit = {"privacy_view": "A model", "model": model}
    page_link("privacy", "What it knows by heart", icon=":material/shield_person:", **audit)


def before_the_first_run() -> None:
    """What is shown while there is no run: how the bundled models were trained."""
    if shipped():
        st.caption(
            "You have no runs yet. These are the training curves of the bundled models; yours "
            "will appear here live."
        )
        figure = draw.curves(shipped())
        chart(figure, key="shipped", name="shipped", alt="Loss of the bundled models over training")
    else:
        st.info(
            "No runs yet. Start a recipe on the left; its loss appears here while it trains.",
            icon=":material/model_training:",
        )


def act(what: str, recipe: Recipe) -> None:
    """Do what was pressed: start a run, a study of encodings, or a cost estimate."""
    try:
        if what == "cost":
            price(recipe)
            return
        if what == "encodings":
            title = f"{recipe.title}: five encodings"
            begun = jobs.start("study", title, recipe.to_dict(), None, ui.store())
        else:
            begun = jobs.start(
                job_kind(recipe), recipe.title, recipe.to_dict(), parent_of(recipe), ui.store()
            )
    except WorkbenchError as error:
        fault(error)
        return
    ui.follow(begun.id)


def price(recipe: Recipe) -> None:
    """The expected cost of a recipe on this machine: time, memory, energy."""
    from workbench.training.cost import cost

    with st.spinner("Preparing the data and measuring a few steps"):
        estimate = cost(recipe)
    st.table(
        pd.DataFrame(estimate.words(), columns=["what", "on this machine"]),
        hide_index=True,
        border="horizontal",
    )


st.title("Train")
st.caption(
    "Runs continue in the background when you leave the page, close the browser or restart the "
    "app. Their checkpoints open on every other page."
)
form, view = st.columns([3, 5], gap="large")
with form:
    shelf = names()
    default = shelf.index("tiny") if "tiny" in shelf else 0
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    chosen_recipe = left.selectbox(
        "Recipe", shelf, index=default, key="recipe", bind="query-params"
    )
    as_text = right.toggle("As TOML", help="Edit the whole recipe as text.")
    own_data(chosen_recipe, Recipe.read(chosen_recipe))
    submitted = recipe_form(chosen_recipe, as_text=as_text)
    if submitted is not None:
        act(*submitted)
    same_in_python(
        "import workbench as wb\n\n"
        f'run = wb.train("{chosen_recipe}")\n'
        'subject = wb.load(f"run:{run.id}")'
    )
with view:
    known = [run for run in ui.store().list(limit=200) if run.kind in KINDS]
    picked = ui.pick_run("Run", known)
    if picked is None:
        before_the_first_run()
    else:
        results(picked, known)
