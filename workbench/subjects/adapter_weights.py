"""Puts the weights of a PEFT adapter into a model, all of them or none, and merges them."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects import adapter
from workbench.subjects.loading_report import LoadingReport
from workbench.subjects.modules import n_embedding_rows
from workbench.subjects.pretrained import WRAPPERS, Read

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "base_model.model."
"""PEFT's prefix of every weight's name."""
MOST_RANK = 2**14
"""Largest rank of an adapter file without any weight, which is refused later as incomplete."""
NAME = "default"
"""PEFT's name for the adapter, which its files leave out."""


def merged(model: PreTrainedModel, folder: Path, name: str, base_name: str) -> Read:
    """The model with an adapter merged into its weights: W + (alpha / r) B A.

    Embeddings are resized to the size that the adapter was trained with, if it has their rows.

    Args:
        model: The base model, changed in place.
        folder: Folder with `adapter_config.json` and `adapter_model.safetensors`.
        name: What the user called the adapter, for errors.
        base_name: Name of the base model, for errors.

    Raises:
        WorkbenchError: The adapter is not one of a causal language model, or its weights do not all
            fit.
        Exception: What PEFT raises for a configuration that does not fit the model.

    Reference:
        Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models".
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    _check_kind(config, name)
    weights = load_file(folder / adapter.WEIGHTS)
    _check_ranks(config, weights, name)
    _resize(model, weights, name, base_name)
    wrapped = PeftModel(model, config, NAME)
    merge_and_unload = getattr(wrapped.base_model, "merge_and_unload", None)
    if merge_and_unload is None:
        raise WorkbenchError(
            f"The adapter {name} is of a kind ({config.peft_type}) that no weight can hold; use "
            "LoRA."
        )
    note = fill(wrapped, weights, f"The adapter {name}", base_name)
    return Read(merge_and_unload(), note)


def fill(model: "PeftModel", weights: dict[str, Tensor], name: str, base_name: str) -> str:
    """Load weights into a model's adapter and return a note on renamed weights ("" for none).

    Args:
        model: Model with an empty adapter of the right configuration.
        weights: By name, as in the file.
        name: What holds the weights; begins an error's sentence.
        base_name: Name of the base model, for errors.

    Raises:
        WorkbenchError: A weight is missing, left over or of another shape.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = _without_copies(weights)
    no_embeddings: Any = False  # PEFT annotates this argument as text only
    expected = _shapes(get_peft_model_state_dict(model, save_embedding_layers=no_embeddings))
    note = ""
    for words, rename in _other_names():
        renamed = {rename(key): tensor for key, tensor in weights.items()}
        if not expected.keys() <= weights.keys() and expected.keys() <= renamed.keys():
            weights = renamed
            note = f"{words} in the names of the adapter's weights"
    whole = {key: tuple(t.shape) for key, t in model.state_dict().items() if key.endswith("weight")}
    embeddings = {
        key: shape for key, shape in whole.items() if key in weights and key not in expected
    }
    report = LoadingReport.between(_shapes(weights), {**expected, **embeddings})
    mend = "load it with the model that it was trained on, or save it again with PEFT"
    if report.reshaped:
        report.check(name, mend)
    try:
        result = set_peft_model_state_dict(model, weights, adapter_name=NAME)
        unplaced = any(f".{NAME}" in key for key in result.missing_keys) or bool(
            result.unexpected_keys
        )
    except KeyError:  # what PEFT raises where a whole module is missing
        unplaced = True
    if unplaced:
        report.check(name, mend)
        raise WorkbenchError(
            f"{name} does not fit {base_name}: not every weight found its place; {mend}."
        )
    return note


def _without_copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the copies of fully trained embeddings that PEFT saves a second time."""

    def is_copy(key: str, tensor: Tensor) -> bool:
        original = key.replace(".modules_to_save.", ".")
        return original != key and original in weights and torch.equal(weights[original], tensor)

    return {key: tensor for key, tensor in weights.items() if not is_copy(key, tensor)}


def _check_kind(config: Any, name: str) -> None:
    """Refuse an adapter of anything but a causal language model."""
    kind = str(getattr(config.task_type, "value", config.task_type) or "CAUSAL_LM")
    if kind != "CAUSAL_LM":
        raise WorkbenchError(
            f"The adapter {name} is for {kind}, not for a causal language model (CAUSAL_LM): its "
            "head would be lost, and what is left predicts no next token. Train one for CAUSAL_LM."
        )


def _check_ranks(config: Any, weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse a rank larger than any matrix of the file, before PEFT allocates matrices of it."""
    longest = max((max(tensor.shape, default=0) for tensor in weights.values()), default=MOST_RANK)
    patterns = getattr(config, "rank_pattern", None)
    ranks = [getattr(config, "r", 1), *(patterns.values() if isinstance(patterns, dict) else [])]
    for rank in ranks:
        if not isinstance(rank, int) or not 0 < rank <= longest:
            raise WorkbenchError(
                f"The adapter {name} says that its rank is {rank!r}, and the longest side of its "
                f"matrices is {longest}; correct adapter_config.json, or save it again with PEFT."
            )


def _resize(
    model: PreTrainedModel, weights: Mapping[str, Tensor], name: str, base_name: str
) -> None:
    """Resize the embeddings to the adapter's; refuse an adapter that lacks the rows it needs."""
    n_rows = n_embedding_rows(model)
    names = _embedding_names(model)
    brought: dict[str, int] = {}
    needed: set[int] = set()
    for key, tensor in weights.items():
        for module in names:
            if key.endswith((f"{module}.weight", f"{module}.base_layer.weight")):
                brought[module] = tensor.shape[0]
            elif f"{module}.lora_embedding_A" in key:
                needed.add(tensor.shape[1])
            elif f"{module}.lora_B" in key:
                needed.add(tensor.shape[0])
    sizes = needed | set(brought.values())
    if not sizes or sizes == {n_rows}:
        return
    tied = model.config.get_text_config().tie_word_embeddings
    if len(sizes) > 1 or len(brought) < (1 if tied else len(names)):
        raise WorkbenchError(
            f"The adapter {name} was trained on embeddings of {max(sizes)} tokens, {base_name} has "
            f"{n_rows}, and it does not bring the new rows; save it again with "
            "save_embedding_layers=True."
        )
    model.resize_token_embeddings(sizes.pop(), mean_resizing=False)


def _embedding_names(model: PreTrainedModel) -> list[str]:
    """Names of the modules with a row per token: the embedding and the unembedding."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if any(module is end for end in ends)]


def _other_names() -> Iterator[tuple[str, Callable[[str], str]]]:
    """Other naming schemes of files: a description, and the function that gives PEFT's name."""
    yield f".{NAME} was left out", lambda key: key.replace(f".{NAME}.", ".")
    yield f"{PREFIX} was put", lambda key: PREFIX + key
    for wrapper in (*WRAPPERS, "module"):
        yield f"{wrapper}. was left out", partial(_without_wrapper, wrapper)
    yield f"{PREFIX} was left out", lambda key: PREFIX + key.replace(PREFIX, "")


def _without_wrapper(wrapper: str, key: str) -> str:
    """The name without its first `wrapper.`, such as `_orig_mod.`."""
    return key.replace(f"{wrapper}.", "", 1)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
