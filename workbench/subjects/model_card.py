"""Model cards in Hugging Face's form: a README.md with facts, data, scores, energy and limits."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCardData

from workbench.doors import writing
from workbench.errors import WorkbenchError
from workbench.public import public
from workbench.store import Store
from workbench.subjects.card import Card
from workbench.subjects.subject import Subject, SubjectOrName

FILE = "README.md"
WATTS = 65.0
"""Watts of a process, where WORKBENCH_WATTS states none: what a desktop processor is rated at."""
HASHES = "data.json"
"""File of a run with the hashes of its data."""
LICENCES = ("mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "gpl-3.0", "bsd-3-clause")
"""Licences that Hugging Face knows by this word; any other one is called "other"."""
SMALL = 1_000_000_000
"""Parameters below which a model is called a small one."""


@dataclass(frozen=True)
class Score:
    """A measured score of the model.

    - `low`, `high`: ends of the 95 % interval; None where there is none
    - `where`: how it was measured, in words
    """

    task: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    where: str = ""

    @property
    def interval(self) -> str:
        """The 95 % interval as text; "" where there is none."""
        return "" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Training:
    """What is known of how a model was trained; empty where it is not known.

    - `data`: the texts or examples, in words
    - `hashes`: of the data, by what they are of
    - `seconds`: measured, of the last start of the run
    - `processes`: how many trained together
    """

    run: str = ""
    data: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    processes: int = 1
    task: str = ""
    scores: list[Score] = field(default_factory=list)


@public("subject")
def model_card(
    subject: SubjectOrName,
    form: str = "workbench",
    *,
    watts: float | None = None,
    store: Store | None = None,
) -> str:
    """The text of a README.md about a model; of a run it says how it was trained and measured.

    Args:
        subject: The model.
        form: The form that it is stored in, of `export`'s.
        watts: The power of each process that trained; None for WORKBENCH_WATTS, else 65.
        store: Where runs and evaluations are; None for the usual store.

    Raises:
        WorkbenchError: The power is no positive number.
    """
    subject = cast(Subject, subject)
    store = store or Store()
    training = Training()
    if subject.name.startswith("run:"):
        run = store.get(subject.name.removeprefix("run:").partition("@")[0])
        training = training_of(run.id, run.folder, run.config, run.result or {})
    scores = [*training.scores, *benchmarks_of(subject.hash, store)]
    return written(subject.card, form, training, scores, watts)


def training_of(
    run_id: str, folder: Path, config: dict[str, Any], result: dict[str, Any]
) -> Training:
    """What is known of a run that trained a model.

    Args:
        run_id: Of the run.
        folder: Of the run.
        config: Its recipe.
        result: What it ended with; {} where it has not.
    """
    kind = str((config.get("task") or {}).get("kind", ""))
    sources = (config.get("corpus") or {}).get("sources") or []
    data = str(result.get("data") or ", ".join(map(str, sources)))
    path = folder / HASHES
    hashes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    scores = []
    if isinstance(result.get("validation_loss"), int | float):
        where = "held-out part of its own data, in nats per token"
        loss = float(result["validation_loss"])
        scores.append(Score("validation", "loss", loss, where=where))
    scores += [_changed(change, kind) for change in result.get("changes") or []]
    return Training(
        run=run_id,
        data=data,
        hashes={name: str(value) for name, value in hashes.items()},
        steps=result.get("steps"),
        seconds=result.get("seconds"),
        processes=int(result.get("processes") or 1),
        task=kind,
        scores=scores,
    )


def _changed(change: dict[str, Any], task: str) -> Score:
    """A fine-tune's score on held-out examples, with the difference from its base in words."""
    where = f"held-out examples; {change['difference']:+.3f} against its base"
    if change.get("low") is not None and change.get("high") is not None:
        where += f" [{change['low']:+.3f}, {change['high']:+.3f}]"
    return Score(
        task or "task", change["metric"], float(change["tuned"]), n=change.get("n"), where=where
    )


def benchmarks_of(sha256: str, store: Store) -> list[Score]:
    """The benchmark scores of a model in the store, the newest of each task and metric.

    Args:
        sha256: Hash of the model.
        store: Where evaluations are.
    """
    scores: dict[tuple[str, str], Score] = {}
    for run in reversed(store.list("eval", limit=500)):
        for record in ((run.result or {}).get("models") or {}).values():
            path = Path(record.get("folder", "")) / "results.json"
            if not path.is_file():
                continue
            results = json.loads(path.read_text(encoding="utf-8"))
            if results.get("subject_hash") != sha256:
                continue
            data = results["config"].get("data", {})
            for row in results["rows"]:
                where = f"suite {results['suite']}, data {str(data.get(row['task'], ''))[:12]}"
                names = ("value", "low", "high", "n")
                known = {name: row[name] for name in names}
                scores[row["task"], row["metric"]] = Score(
                    row["task"], row["metric"], where=where, **known
                )
    return list(scores.values())


def write_model_card(folder: Path, text: str) -> Path:
    """Write a card into a folder and return its path."""
    path = folder / FILE
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def stated_watts(watts: float | None = None) -> float:
    """The power of one process in watts: as given, by WORKBENCH_WATTS, or `WATTS`.

    Raises:
        WorkbenchError: It is no positive number.
    """
    given = os.environ.get("WORKBENCH_WATTS", WATTS) if watts is None else watts
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise WorkbenchError(f"The power is {given!r} W; give a number above 0, in watts.")
    return value


def written(
    card: Card, form: str, training: Training, scores: list[Score], watts: float | None = None
) -> str:
    """The text of a card from what is known.

    Args:
        card: The model's own card.
        form: The form that it is stored in.
        training: How it was trained.
        scores: What was measured of it.
        watts: As for `model_card`.
    """
    parts = [
        f"---\n{front(card, scores)}\n---",
        f"# {card.name}",
        card.notes,
        _facts(card),
        "## Intended use",
        _use(card, training),
        "## Data",
        _data(card, training),
        "## Scores",
        _scores(scores),
        "## Energy",
        _energy(training, watts),
        "## Limits",
        _limits(card, scores),
        "## How to load it",
        _loading(form),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front(card: Card, scores: list[Score]) -> str:
    """The YAML header that Hugging Face reads, without its fences."""
    first = card.licence.split(";")[0].strip().lower()
    licence: dict[str, Any] = {}
    if card.licence:
        known = first in LICENCES
        licence = {"license": first} if known else {"license": "other", "license_name": first}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=score.task,
            dataset_name=score.task,
            metric_type=score.metric,
            metric_value=score.value,
            metric_name=f"{score.metric}, 95 % {score.interval}" if score.interval else None,
        )
        for score in scores
        if score.value == score.value and score.value is not None
    ]
    data = ModelCardData(
        model_name=card.name,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=card.parent or None,
        eval_results=results or None,
        ignore_metadata_errors=False,
        **licence,
    )
    return data.to_yaml().strip()


def _facts(card: Card) -> str:
    rows = [
        ("Parameters", f"{card.n_params:,}"),
        ("Layers, heads, width", f"{card.n_layers}, {card.n_heads}, {card.d_model}"),
        ("Context", f"{card.n_ctx} tokens"),
        ("Vocabulary", f"{card.d_vocab:,}"),
        ("Made from", card.parent or "not stated"),
        ("Licence and data", card.licence or "not stated"),
        ("Hash", card.sha256),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows)


def _use(card: Card, training: Training) -> str:
    small = "a small language model" if card.n_params < SMALL else "a language model"
    tuned = f" It was fine-tuned for {training.task}." if training.task else ""
    return (
        f"Research and teaching: {small} to look into, to measure and to compare.{tuned} It is not "
        "meant for advice, for decisions about people, or for text that nobody reads before it is "
        "used."
    )


def _data(card: Card, training: Training) -> str:
    lines = [training.data or card.data or "Not stated."]
    lines += [f"- {name}: SHA-256 `{value}`" for name, value in training.hashes.items()]
    if training.run:
        steps = f", {training.steps:,} steps" if training.steps else ""
        lines.append(f"- run `{training.run}`{steps}")
    return "\n".join(lines[:1]) + ("\n\n" + "\n".join(lines[1:]) if lines[1:] else "")


def _scores(scores: list[Score]) -> str:
    if not scores:
        return "None were measured."
    head = "| task | metric | value | 95 % interval | n | how |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {one.task} | {one.metric} | "
        f"{'not scored' if one.value is None else format(one.value, '.3f')} | "
        f"{one.interval or 'none'} | {'' if one.n is None else one.n} | {one.where} |"
        for one in scores
    )


def _energy(training: Training, watts: float | None) -> str:
    if training.seconds is None:
        return "Not known: the time that training took was not measured here."
    power = stated_watts(watts)
    kwh = training.seconds * training.processes * power / 3.6e6
    processes = f" x {training.processes} processes" if training.processes > 1 else ""
    return (
        f"About {kwh:.3g} kWh, an estimate: {training.seconds:,.0f} s measured{processes} x "
        f"{power:g} W stated. Neither the power nor what the machine draws besides was measured, "
        "and of a resumed run only the last start counts."
    )


def _limits(card: Card, scores: list[Score]) -> str:
    biased = [one for one in scores if one.metric in ("pct_stereotype", "bias_ambiguous")]
    lines = [
        f"It reads {card.n_ctx} tokens at most, and what it writes is not checked for truth.",
        "Stereotypes: see the scores above; text written by it may repeat those of its data."
        if biased
        else "Stereotypes were not measured; text written by it may repeat those of its data.",
        "Whether it knows parts of its training text by heart is not said here; audit it before "
        "it is given away.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _loading(form: str) -> str:
    imports = "import workbench  # knows this architecture\n" if form == "workbench" else ""
    return (
        f"```python\n{imports}from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("this folder")\n'
        'tokenizer = AutoTokenizer.from_pretrained("this folder")\n```'
    )
