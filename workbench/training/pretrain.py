"""Pretraining a small GPT from scratch: recipe in, checkpoints and metrics out."""

from typing import Any

from accelerate.utils import set_seed

from workbench.errors import WorkbenchError
from workbench.store import Tracker
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training.corpus import documents, prepare, split
from workbench.training.loop import Batch, Trainee, fit, resumed
from workbench.training.recipe import Recipe


def run_recipe(config: dict[str, Any], tracker: Tracker) -> dict[str, Any]:
    """Train as a recipe (as a dictionary) says; goes on from the newest checkpoint in the run's folder.

    Returns steps, tokens, losses in nats a token, the data hash and the last checkpoint's path.
    """
    recipe = Recipe.from_dict(config)
    set_seed(recipe.train.seed)
    trainee = resumed(tracker) or _fresh(recipe)
    settings, n_ctx = recipe.train, trainee.model.config.n_ctx
    tokens = prepare(recipe.corpus, trainee.tokenizer, n_ctx)

    def batch(step: int) -> Batch:
        rows = tokens.batch(
            step, size=settings.batch_size, n_ctx=n_ctx, seed=settings.seed, repeated=recipe.corpus.repeated
        )
        return rows[:, :-1], rows[:, 1:]

    held = tokens.validation_rows(n_ctx, settings.eval_tokens).split(16)
    result = fit(trainee, settings, batch, [(rows[:, :-1], rows[:, 1:]) for rows in held], tracker)
    return {
        **result,
        "tokens": settings.steps * settings.batch_size * n_ctx,
        "corpus_tokens": len(tokens.train),
        "data_hash": tokens.data_hash,
    }


def _fresh(recipe: Recipe) -> Trainee:
    """A new tokenizer, trained on the training split alone, and a new model."""
    train, _ = split(documents(recipe.corpus.sources), recipe.corpus.validation)
    tokenizer = train_tokenizer(train, **recipe.tokenizer)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    try:
        shape = WorkbenchGPTConfig(**recipe.model, d_vocab=len(tokenizer), **ends)
    except TypeError as error:
        raise WorkbenchError(f"[model] of the recipe: {error}.") from error
    return Trainee(WorkbenchGPTForCausalLM(shape), tokenizer)
