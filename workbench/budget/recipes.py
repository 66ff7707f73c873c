"""What a recipe asks of a machine, by arithmetic over its settings and a sample of its data."""

import functools
import json
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from workbench.budget.work import Size, Work, size_of
from workbench.errors import WorkbenchError
from workbench.training import Recipe

SPELT = {"char": 96, "word": 2048}
"""Tokens that a vocabulary is assumed to have where the corpus decides."""
LETTERS = {"char": 1.0, "word": 5.0, "bpe": 3.3, "model": 4.0}
"""Letters that a token is assumed to have."""
ENOUGH = 20_000_000
"""Letters of a corpus after which it is called long enough."""
SAMPLE = 128
"""Examples of a fine-tune whose lengths are counted."""
EVALUATED = 8192
"""Tokens of a validation batch in pretraining, about."""


class Asked(NamedTuple):
    """What something asks: its work, and what was assumed."""

    work: Work
    assumed: list[str]


def of_recipe(recipe: Recipe) -> Asked:
    """The work of a whole run, evaluations included, and what was assumed.

    Args:
        recipe: Pretraining or fine-tuning.

    Raises:
        WorkbenchError: Its base or its data are not on this machine.
    """
    return _asked(json.dumps(recipe.to_dict(), sort_keys=True))


@functools.lru_cache(maxsize=64)
def _asked(text: str) -> Asked:
    """Counting a corpus takes seconds, so each recipe is looked at once in a process."""
    recipe = Recipe.from_dict(json.loads(text))
    return _pretraining(recipe) if recipe.kind == "pretrain" else _finetuning(recipe)


def planned(shape: dict[str, Any], d_vocab: int) -> Size:
    """The size of a new model, whose weights are not made.

    Args:
        shape: The `[model]` table of a recipe.
        d_vocab: Tokens of its vocabulary.
    """
    import torch

    from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM

    with torch.device("meta"):
        return size_of(WorkbenchGPTForCausalLM(WorkbenchGPTConfig(**shape, d_vocab=d_vocab)))


def _pretraining(recipe: Recipe) -> Asked:
    settings = recipe.train
    d_vocab, assumed = _vocabulary(recipe)
    size = planned(recipe.model, d_vocab)
    n_ctx = int(recipe.model.get("n_ctx", 256))
    held, how = _held_out(recipe)
    assumed += how
    tokens = max(n_ctx, min(settings.eval_tokens, held) // n_ctx * n_ctx)
    evaluation = size.scoring(tokens, n_ctx, max(1, round(tokens / EVALUATED)))
    return Asked(_trained(recipe, size, settings.batch_size, n_ctx, evaluation), assumed)


def _trained(recipe: Recipe, size: Size, rows: int, width: int, evaluation: Work) -> Work:
    """All steps and all evaluations of a run.

    Args:
        recipe: Of the run.
        size: Of its model.
        rows: Of a batch.
        width: Tokens of a row.
        evaluation: The work of one.
    """
    settings = recipe.train
    trained = 0.02 if recipe.lora is not None else 1.0
    parts = max(1, settings.accumulate, _needed_parts(rows, width))
    gradients = size.learning(max(1, rows // parts), width, trained) * parts
    if settings.checkpointing:
        gradients = replace(gradients, flops=gradients.flops * 4 / 3)
    update = size.updating(settings.optimizer, trained)
    step = gradients + update
    times = -(-settings.steps // settings.eval_every)
    whole = step * settings.steps + evaluation * times
    precision = {"no": "fp32", "bf16": "bf16"}.get(settings.precision, _auto())
    held = gradients.memory_gb + update.memory_gb
    return replace(
        whole,
        memory_gb=max(held, evaluation.memory_gb + update.memory_gb),
        width=size.d_model,
        precision=precision,
    )


def _needed_parts(rows: int, width: int) -> int:
    """Parts of a batch of so many tokens that memory is assumed to force: about 32,768 each."""
    return max(1, rows * width // 2**15)


def _auto() -> str:
    from workbench.training.stepper import precision

    return "bf16" if precision("auto") == "bf16" else "fp32"


def _vocabulary(recipe: Recipe) -> tuple[int, list[str]]:
    """Tokens of a recipe's vocabulary, and what was assumed."""
    words = recipe.tokenizer
    kind = str(words.get("kind", "bpe"))
    if kind == "bpe":
        return int(words.get("d_vocab", 4096)), []
    if kind == "model":
        from workbench.subjects import load

        return len(load(str(words.get("source", "")), device="cpu").tokenizer), []
    return SPELT[kind], [f"a vocabulary of {SPELT[kind]:,} ({kind})"]


def _held_out(recipe: Recipe) -> tuple[int, list[str]]:
    """Tokens that a corpus holds out, and what was assumed."""
    corpus = recipe.corpus
    kind = str(recipe.tokenizer.get("kind", "bpe"))
    try:
        letters = _letters(tuple(corpus.sources), corpus.column, corpus.unwrap)
    except WorkbenchError:
        return recipe.train.eval_tokens, ["a held-out text long enough: its corpus is not here"]
    assumed = [] if kind == "char" else [f"{LETTERS[kind]:g} letters a token"]
    return round(letters * corpus.validation / LETTERS[kind]), assumed


@functools.lru_cache(maxsize=32)
def _letters(sources: tuple[str, ...], column: str, unwrap: bool) -> int:
    """Letters of a corpus, at most about `ENOUGH`; those of `grammar` are estimated."""
    from workbench.training import grammar
    from workbench.training.texts import documents

    n_letters = 0
    files = [source for source in sources if source != "grammar"]
    for text in documents(files, column=column, unwrap=unwrap) if files else ():
        n_letters += len(text)
        if n_letters > ENOUGH:
            break
    return n_letters + (grammar.letters() if len(files) < len(sources) else 0)


def _finetuning(recipe: Recipe) -> Asked:
    """The work of a fine-tune: the questions before, the steps, the questions after."""
    from workbench.subjects import load
    from workbench.subjects.names import is_remote
    from workbench.training.finetune import make_task

    if is_remote(recipe.base):
        raise WorkbenchError(
            f"The base {recipe.base} is not on this machine; load it once, then ask again."
        )
    task = make_task(recipe)
    subject = load(recipe.base, seq2seq=True)
    size = size_of(subject.model)
    task.prepare(subject.tokenizer)
    data = task.read(recipe.corpus.validation, recipe.train.seed)
    longest = min(task.max_length, subject.n_ctx)
    lengths, learned = _lengths(task, subject.tokenizer, data.train, longest)
    rng = np.random.default_rng(0)
    rows = recipe.train.batch_size
    width = round(float(rng.choice(lengths, (200, rows)).max(1).mean()))  # padded to the longest
    mean = float(lengths.mean())
    tokens = min(recipe.train.eval_tokens, mean * max(1, len(data.validation)))
    evaluation = size.scoring(tokens, round(mean), max(1, tokens / mean / 16))
    training = _trained(recipe, size, rows, width, evaluation)
    items = min(task.eval_items, len(data.held_out))
    batches = max(1.0, items * mean / 4096)
    asking = size.scoring(2 * items * mean, round(mean), 2 * batches * float(learned.max()))
    words = f"rows as long as {len(lengths)} examples that were counted"
    return Asked(replace(training + asking, precision=training.precision), [words])


def _lengths(task: Any, tokenizer: Any, items: list[Any], longest: int) -> tuple[Any, Any]:
    """Tokens of each of a sample of rows that fit, and how many of them are learned."""
    fitting = []
    for i in np.random.default_rng(0).permutation(len(items))[: 8 * SAMPLE]:
        row = task.row(tokenizer, items[i])
        if len(row.ids) <= longest:
            fitting.append(row)
        if len(fitting) == SAMPLE:
            break
    if not fitting:
        raise WorkbenchError(
            f"No example of {task.source} fits into {longest} tokens; raise max_length of [task]."
        )
    return np.array([len(row.ids) for row in fitting]), np.array([row.n_learned for row in fitting])
