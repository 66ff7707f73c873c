"""Fine-tuning a Subject on a real task: classification by completion, with the loss on the completion only."""

from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects import load
from workbench.training.examples import hold_out, labelled_texts
from workbench.training.loop import Batch, Trainee, fit, resumed
from workbench.training.recipe import Recipe

IGNORED = -100


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Fine-tune `base` on `[task]`: `data` (a set's name or a file) and `prompt`, a template with {text}.

    The label follows the prompt after a space and ends the document. Every weight is trained.
    Returns steps, losses in nats a completion token, the number of examples and the parent's hash.
    """
    recipe = Recipe.from_dict(config)
    if not recipe.base or "data" not in recipe.task:
        raise WorkbenchError("A fine-tuning recipe needs base = (a model) and [task] data = (a set or file).")
    set_seed(recipe.train.seed)
    parent = load(recipe.base)
    parent.model.requires_grad_(True)
    trainee = resumed(tracker) or Trainee(parent.model, parent.tokenizer)
    train, held = hold_out(labelled_texts(recipe.task["data"]), recipe.corpus.validation, recipe.train.seed)
    template = recipe.task.get("prompt", "{text}\nLabel:")
    rows = [encode(trainee.tokenizer, template, t, label, parent.n_ctx) for t, label in train.itertuples(index=False)]
    held_rows = [
        encode(trainee.tokenizer, template, t, label, parent.n_ctx) for t, label in held.itertuples(index=False)
    ]
    if not rows or not held_rows:
        raise WorkbenchError(
            f"{recipe.task['data']} has {len(rows)} training and {len(held_rows)} held-out rows; add some."
        )
    size, seed = recipe.train.batch_size, recipe.train.seed

    def batch(step: int) -> Batch:
        epoch, at = divmod(step * size, len(rows))
        order = np.random.default_rng((seed, epoch)).permutation(len(rows))
        return collate([rows[i] for i in order[at : at + size]])

    validation = [collate(held_rows[i : i + 64]) for i in range(0, len(held_rows), 64)]
    result = fit(trainee, recipe.train, batch, validation, tracker)
    return {
        **result,
        "examples": len(rows),
        "held_out": len(held_rows),
        "parent": parent.name,
        "parent_sha256": parent.hash,
    }


def encode(
    tokenizer: PreTrainedTokenizerBase, template: str, text: str, label: str, n_ctx: int
) -> tuple[list[int], list[int]]:
    """Token ids of prompt and completion; a prompt too long for the context loses its beginning."""
    prompt = tokenizer(template.format(text=text))["input_ids"]
    completion = tokenizer(" " + label, add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        completion = [*completion, tokenizer.eos_token_id]
    return prompt[-(n_ctx - len(completion)) :], completion


def collate(rows: list[tuple[list[int], list[int]]]) -> Batch:
    """Pad on the right; targets are the next token inside the completion, -100 elsewhere."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows) - 1
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORED)
    for i, (prompt, completion) in enumerate(rows):
        ids = torch.tensor(prompt + completion)
        inputs[i, : len(ids) - 1] = ids[:-1]
        targets[i, len(prompt) - 1 : len(ids) - 1] = ids[len(prompt) :]
    return inputs, targets
