"""The weights of a PEFT adapter put into a model, each in its place or none at all, and merged into
it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects import adapter
from workbench.subjects.loading_report import LoadingReport
from workbench.subjects.pretrained import WRAPPERS, Read

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "base_model.model."
"""What PEFT puts before the name of every weight."""
MOST_RANK = 2**14
"""The rank that an adapter without any weight may claim, until they are found to be missing."""
NAME = "default"
"""The adapter's name in PEFT; files leave it out."""


def merged(model: PreTrainedModel, folder: Path, name: str, base_name: str) -> Read:
    """A model with the adapter of a folder added to its weights: W + (alpha / r) B A (Hu et al.
    2021).

    Embeddings grow to the size that the adapter was trained with, where it brings their rows along.

    Args:
        model: The base's model, changed in place.
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        name: What the user called the adapter, for errors.
        base_name: What its base is called.

    Raises:
        WorkbenchError: the adapter is not one of a causal language model, or its weights do not all
            fit.
        Exception: what PEFT raises for a configuration that does not fit the model.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    _check_kind(config, name)
    weights = load_file(folder / adapter.WEIGHTS)
    _check_ranks(config, weights, name)
    _resize(model, weights, name, base_name)
    wrapped = PeftModel(model, config, NAME)
    if not hasattr(wrapped.base_model, "merge_and_unload"):
        raise WorkbenchError(
            f"The adapter {name} is of a kind ({config.peft_type}) that no weight can hold; use LoRA."
        )
    note = fill(wrapped, weights, f"The adapter {name}", base_name)
    return Read(wrapped.merge_and_unload(), note)  # pyright: ignore[reportCallIssue]


def fill(model: "PeftModel", weights: dict[str, Tensor], name: str, base_name: str) -> str:
    """Give a model's adapters their weights; says what was left out of the names ("" where nothing
    was).

    Args:
        model: With adapters of the right configuration in it.
        weights: By name, as the file has them.
        name: What holds the weights, to begin an error.
        base_name: What the model is called.

    Raises:
        WorkbenchError: a weight is missing, left over or of another shape.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = _without_copies(weights)
    expected = _shapes(get_peft_model_state_dict(model, save_embedding_layers=False))  # pyright: ignore[reportArgumentType]
    note = ""
    for words, rename in _other_names():
        renamed = {rename(key): tensor for key, tensor in weights.items()}
        if not expected.keys() <= weights.keys() and expected.keys() <= renamed.keys():
            weights, note = renamed, f"{words} in the names of the adapter's weights"
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
    """PEFT saves embeddings that were trained whole a second time, as `.modules_to_save.weight`."""
    copies = {
        key
        for key, tensor in weights.items()
        if (plain := key.replace(".modules_to_save.", ".")) != key
        and plain in weights
        and torch.equal(weights[plain], tensor)
    }
    return {key: tensor for key, tensor in weights.items() if key not in copies}


def _check_kind(config: Any, name: str) -> None:
    """Refuse an adapter that makes something else than a language model."""
    kind = str(getattr(config.task_type, "value", config.task_type) or "CAUSAL_LM")
    if kind != "CAUSAL_LM":
        raise WorkbenchError(
            f"The adapter {name} is for {kind}, not for a causal language model (CAUSAL_LM): its head would be lost, "
            "and what is left predicts no next token. Train one for CAUSAL_LM."
        )


def _check_ranks(config: Any, weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse a rank that no matrix of the file has, before PEFT makes matrices of it."""
    longest = max((max(tensor.shape, default=0) for tensor in weights.values()), default=MOST_RANK)
    patterns = getattr(config, "rank_pattern", None)
    ranks = [getattr(config, "r", 1), *(patterns.values() if isinstance(patterns, dict) else [])]
    for rank in ranks:
        if not isinstance(rank, int) or not 0 < rank <= longest:
            raise WorkbenchError(
                f"The adapter {name} says that its rank is {rank!r}, and the longest side of its matrices is "
                f"{longest}; correct adapter_config.json, or save it again with PEFT."
            )


def _resize(
    model: PreTrainedModel, weights: Mapping[str, Tensor], name: str, base_name: str
) -> None:
    """Give the embeddings as many rows as the adapter brings; refuse rows that it needs and does
    not bring.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportAttributeAccessIssue]
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
            f"The adapter {name} was trained on embeddings of {max(sizes)} tokens, {base_name} has {n_rows}, and it "
            "does not bring the new rows; save it again with save_embedding_layers=True."
        )
    model.resize_token_embeddings(sizes.pop(), mean_resizing=False)


def _embedding_names(model: PreTrainedModel) -> list[str]:
    """The modules that hold a row for each token: the embedding and the unembedding."""
    ends = [
        end
        for end in (model.get_input_embeddings(), model.get_output_embeddings())
        if end is not None
    ]
    return [name for name, module in model.named_modules() if any(module is end for end in ends)]


def _other_names() -> Iterator[tuple[str, Callable[[str], str]]]:
    """Other ways in which files name the same weights: in words, and how to get PEFT's names."""
    yield f".{NAME} was left out", lambda key: key.replace(f".{NAME}.", ".")
    yield f"{PREFIX} was put", lambda key: PREFIX + key
    for wrapper in (*WRAPPERS, "module"):
        yield (
            f"{wrapper}. was left out",
            lambda key, w=wrapper: key.replace(f"{w}.", "", 1) if w in key else key,
        )
    yield f"{PREFIX} was left out", lambda key: PREFIX + key.replace(PREFIX, "")


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
