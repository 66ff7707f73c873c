"""The model card of a finished run: a README.md in its folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects import load
from workbench.subjects.model_card import training_of, write_model_card, written


def with_card(config: dict[str, Any], result: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """The result of a run whose model card is now in its folder.

    A card that cannot be written loses nothing: the reason is among the result's remarks.

    Args:
        config: The run's recipe.
        result: What the run ended with.
        tracker: Of the run.
    """
    if not PartialState().is_main_process:
        return result
    try:
        card = load(result["checkpoint"], seq2seq=True).card
        words = {"parent": config.get("base"), **{k: config.get(k) for k in ("licence", "notes")}}
        card = replace(
            card,
            name=str(config.get("name") or tracker.run_id),
            **{name: str(value) for name, value in words.items() if value},
        )
        training = training_of(tracker.run_id, Path(tracker.folder), config, result)
        write_model_card(
            Path(tracker.folder), written(card, "workbench", training, training.scores)
        )
    except WorkbenchError as error:
        return {**result, "remarks": [*result["remarks"], f"No model card was written: {error}"]}
    return result
