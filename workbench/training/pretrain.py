"""Pretraining a small GPT from scratch: recipe in, checkpoints and metrics out."""

from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.remote import is_url
from workbench.store import Tracker
from workbench.subjects import load
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.cards import with_card
from workbench.training.corpus import Tokens, prepare, training_texts
from workbench.training.feeding import OnDevice, fits, moved
from workbench.training.loop import Batch, Trainee, fit, resumed
from workbench.training.recipe import Recipe
from workbench.training.same_data import require_same
from workbench.training.texts import files


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Pretrain a model and return the run's result; resumes from the newest checkpoint if any.

    Args:
        config: A recipe as a dictionary.
        tracker: Of the run.

    Returns:
        Steps, tokens, losses in nats per token, the data hash, the path of the last checkpoint,
        `left_out` (dropped documents by reason) and `remarks` (assumptions about the corpus).

    Raises:
        WorkbenchError: For a corpus that cannot be read, or has changed since the run began.
    """
    recipe = Recipe.from_dict(config)
    trainee, tokens = setup(recipe, resumed(tracker), tracker.progress)
    main = PartialState().is_main_process
    require_same(tracker.folder, going_on=trainee.first > 0, writes=main, corpus=tokens.data_hash)
    batch, validation = batches(recipe, trainee, tokens)
    result = fit(trainee, recipe.train, batch, validation, tracker)
    ended = {
        **result,
        "tokens": recipe.train.steps * recipe.train.batch_size * trainee.model.config.n_ctx,
        "corpus_tokens": len(tokens.train),
        "data_hash": tokens.data_hash,
        "left_out": dict(tokens.notes.counts),
        "remarks": list(tokens.notes.remarks),
    }
    return with_card(config, ended, tracker)


def setup(
    recipe: Recipe,
    trainee: Trainee | None = None,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> tuple[Trainee, Tokens]:
    """The model and the tokenised corpus of a recipe; several processes prepare them only once.

    Args:
        recipe: Of a pretraining run.
        trainee: A model to continue with; None makes a new one.
        progress: Called with the share done and what is being done.
    """
    set_seed(recipe.train.seed)
    with PartialState().main_process_first():
        for url in filter(is_url, recipe.corpus.sources):
            files(url, lambda share, words: progress(0.0, words))
        trainee = trainee or _fresh(recipe)
        return trainee, prepare(
            recipe.corpus,
            trainee.tokenizer,
            trainee.model.config.n_ctx,
            lambda share, words: progress(0.0, words),
        )


def batches(
    recipe: Recipe, trainee: Trainee, tokens: Tokens
) -> tuple[Callable[[int], Batch], list[Batch]]:
    """A function from step number to training batch, and the validation batches.

    Args:
        recipe: Of a pretraining run.
        trainee: Its model gives the context length.
        tokens: The tokenised corpus.
    """
    settings = recipe.train
    n_ctx = trainee.model.config.n_ctx
    device = cast(torch.device, PartialState().device)
    source = OnDevice(tokens, device) if fits(tokens, device) else tokens

    def batch(step: int) -> Batch:
        rows = source.batch(
            step,
            size=settings.batch_size,
            n_ctx=n_ctx,
            seed=settings.seed,
            repeated=recipe.corpus.repeated,
        )
        return rows[:, :-1], rows[:, 1:]  # [batch, n_ctx] each: inputs, and the next tokens

    # About 8,192 tokens per validation batch, whatever the context.
    held = tokens.validation_rows(n_ctx, settings.eval_tokens).split(max(1, 8192 // n_ctx))
    there = [moved(rows, device) for rows in held]  # once, not for each evaluation
    return batch, [(rows[:, :-1], rows[:, 1:]) for rows in there]


def _tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """The tokenizer of a model (`kind = "model"`), or a new one trained on the training split."""
    words = dict(recipe.tokenizer)
    if words.get("kind") == "model":
        if not words.get("source"):
            raise WorkbenchError(
                '[tokenizer] kind = "model" needs a source: the model whose tokenizer is taken.'
            )
        return load(str(words["source"]), device="cpu").tokenizer
    try:
        return train_tokenizer(training_texts(recipe.corpus), **words)
    except TypeError as error:
        raise WorkbenchError(f"[tokenizer] of the recipe: {error}.") from error


def _fresh(recipe: Recipe) -> Trainee:
    """A new model with random weights, and its tokenizer."""
    tokenizer = _tokenizer(recipe)
    ends: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    try:
        shape = WorkbenchGPTConfig(**recipe.model, d_vocab=len(tokenizer), **ends)
    except TypeError as error:
        raise WorkbenchError(f"[model] of the recipe: {error}.") from error
    return Trainee(WorkbenchGPTForCausalLM(shape), tokenizer)
