"""Pretraining a small GPT from scratch: recipe in, checkpoints and metrics out."""

from collections.abc import Callable
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects import load
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.corpus import Tokens, prepare, training_texts
from workbench.training.loop import Batch, Trainee, fit, resumed
from workbench.training.recipe import Recipe
from workbench.training.same_data import require_same


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Train as a recipe (as a dictionary) says; goes on from the newest checkpoint in the run's
    folder.

    Returns steps, tokens, losses in nats a token, the data hash, the last checkpoint's path, and
    what the corpus left out (`left_out`, by reason) or what was assumed about it (`remarks`).

    Raises:
        WorkbenchError: For a corpus that cannot be had, or that is another than when this run
            began.
    """
    recipe = Recipe.from_dict(config)
    trainee, tokens = setup(recipe, resumed(tracker), tracker.progress)
    main = PartialState().is_main_process
    require_same(tracker.folder, going_on=trainee.first > 0, writes=main, corpus=tokens.data_hash)
    batch, validation = batches(recipe, trainee, tokens)
    result = fit(trainee, recipe.train, batch, validation, tracker)
    return {
        **result,
        "tokens": recipe.train.steps * recipe.train.batch_size * trainee.model.config.n_ctx,
        "corpus_tokens": len(tokens.train),
        "data_hash": tokens.data_hash,
        "left_out": dict(tokens.notes.counts),
        "remarks": list(tokens.notes.remarks),
    }


def setup(
    recipe: Recipe,
    trainee: Trainee | None = None,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> tuple[Trainee, Tokens]:
    """The model (fresh unless given) and the tokenised corpus of a recipe; several processes share
    one preparation.
    """
    set_seed(recipe.train.seed)
    with PartialState().main_process_first():
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
    """Training rows by step number, and the validation rows."""
    settings = recipe.train
    n_ctx = trainee.model.config.n_ctx

    def batch(step: int) -> Batch:
        rows = tokens.batch(
            step,
            size=settings.batch_size,
            n_ctx=n_ctx,
            seed=settings.seed,
            repeated=recipe.corpus.repeated,
        )
        return rows[:, :-1], rows[:, 1:]

    held = tokens.validation_rows(n_ctx, settings.eval_tokens).split(max(1, 8192 // n_ctx))
    return batch, [(rows[:, :-1], rows[:, 1:]) for rows in held]


def _tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """That of a model that can be loaded (`kind = "model"`), or a new one, trained on the training
    split alone.
    """
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
    """A new model, with its tokenizer."""
    tokenizer = _tokenizer(recipe)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    try:
        shape = WorkbenchGPTConfig(**recipe.model, d_vocab=len(tokenizer), **ends)
    except TypeError as error:
        raise WorkbenchError(f"[model] of the recipe: {error}.") from error
    return Trainee(WorkbenchGPTForCausalLM(shape), tokenizer)
