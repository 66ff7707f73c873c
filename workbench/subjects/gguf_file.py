"""GGUF files: checked, read by transformers, and cached as float32 safetensors."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from workbench import paths
from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.subjects.claims import held_in
from workbench.subjects.gguf_header import MEND, check_header
from workbench.subjects.pretrained import read_model
from workbench.subjects.save import save
from workbench.subjects.tokenizer_files import read_tokenizer

VERSION = 2
"""Version of the conversion: raise it when its result changes, so that old caches are not used."""
BLOCK = re.compile(r"blk\.(\d+)\.")
ROTARY_FACTORS = "rope_freqs.weight"
"""Tensor of Llama 3's divisors of rotary frequencies, which no other metadata has."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Rotary settings that Llama 3.1 to 3.3 share; their `factor` follows from the tensor."""


def converted(path: Path, digest: str) -> Path:
    """The cache folder with a GGUF file's model in float32; it is made on the first call.

    Args:
        path: The GGUF file.
        digest: sha256 of its bytes.

    Raises:
        WorkbenchError: The file is not GGUF, is one part of several, or does not hold what it says.
    """
    folder = paths.home() / "cache" / f"gguf{VERSION}-{digest[:16]}"
    if not (folder / "config.json").is_file():
        from workbench.subjects.gguf_reader import parsed_once  # imports gguf, which few need

        with parsed_once():
            _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Write the model to the cache folder, because reading GGUF is much slower than safetensors."""
    held = held_in(check_header(path))
    reader = _reader(path)
    _check_parts(reader, path)
    model = read_model(path.parent, str(path), gguf_file=path.name, held=held).model
    _check_contents(reader, model, path)
    _take_rotary_factors(reader, model, path)
    tokenizer = read_tokenizer(path.parent, str(path), gguf_file=path.name)
    # The weights are plain float32 now; what is left of the quantiser would refuse saving.
    for holder, attribute in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(holder, attribute):
            delattr(holder, attribute)
    model.is_quantized = False  # pyright: ignore[reportArgumentType] (torch: modules only)
    with reading(path, MEND):
        licence = _value(reader, "general.license")
    save(folder, model, tokenizer, card={"licence": "" if licence is None else str(licence)})


def _reader(path: Path) -> Any:
    import gguf

    with reading(path, MEND):
        return gguf.GGUFReader(path)  # by its module's name: `parsed_once` replaces it there


def _value(reader: Any, key: str) -> Any:
    """The value of a metadata key; None where there is no such key."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _check_parts(reader: Any, path: Path) -> None:
    """Refuse one part of a split file: the layers of the others would be random."""
    with reading(path, MEND):
        count = int(_value(reader, "split.count") or 1)
    if count > 1:
        raise WorkbenchError(
            f"{path} is one of {count} parts of a split GGUF file; join them first "
            f"(llama-gguf-split --merge {path.name} whole.gguf) and load the whole."
        )


def _check_contents(reader: Any, model: PreTrainedModel, path: Path) -> None:
    """Refuse a file with tensors that the model does not use; transformers drops them silently.

    Missing tensors were refused before, so equal numbers of elements mean that nothing is left
    over.
    """
    sizes = {
        t.name: math.prod(int(n) for n in t.shape)
        for t in reader.tensors
        if t.name != ROTARY_FACTORS
    }
    n_layers = model.config.get_text_config().num_hidden_layers
    beyond = [name for name in sizes if (block := BLOCK.match(name)) and int(block[1]) >= n_layers]
    if beyond:
        raise WorkbenchError(
            f"{path} holds {len(beyond)} tensors of layers that its own metadata does not count "
            f"(block_count is {n_layers}; {', '.join(beyond[:3])}); convert the model again."
        )
    taken = sum(p.numel() for p in model.parameters())
    tied = "output.weight" in sizes and model.config.get_text_config().tie_word_embeddings
    held = sum(size for name, size in sizes.items() if not (tied and name == "output.weight"))
    if held != taken:
        raise WorkbenchError(
            f"{path} holds {held:,} numbers in {len(sizes)} tensors, of which its model "
            f"({type(model).__name__}) takes {taken:,}: some of its tensors would be left out. "
            "Load the safetensors it was made from."
        )


def _take_rotary_factors(reader: Any, model: PreTrainedModel, path: Path) -> None:
    """Write Llama 3's rotary scaling into the configuration, if the file has it as a tensor."""
    factors = next((t.data for t in reader.tensors if t.name == ROTARY_FACTORS), None)
    if factors is None:
        return
    factors = np.asarray(factors, dtype=np.float64).ravel()
    config: Any = model.config.get_text_config()
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = _unstretched_share(config.rope_parameters["rope_theta"], d_head)
    slowest = 1 / factors[-1] - share[-1]
    stretch = (1 - share[-1]) / slowest if slowest > 0 else 1.0
    expected = 1 / ((1 - share) / stretch + share)
    if expected.shape != factors.shape or not np.allclose(expected, factors, rtol=1e-3):
        raise WorkbenchError(
            f"{path} changes its rotary frequencies by {ROTARY_FACTORS} in a way that is not Llama "
            "3's and cannot be written into a configuration; load the safetensors it was made "
            "from."
        )
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": "llama3",
        "factor": float(stretch),
        **LLAMA3,
    }


def _unstretched_share(theta: float, d_head: int) -> np.ndarray:
    """Share of its frequency that each pair of dimensions keeps in Llama 3: fast 1, slow 0."""
    wavelength = 2 * math.pi * theta ** (np.arange(0, d_head, 2) / d_head)
    low, high, context = LLAMA3.values()
    return np.clip((context / wavelength - low) / (high - low), 0.0, 1.0)
