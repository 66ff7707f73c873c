"""Writes a Llama or GPT-2 as one GGUF file, which llama.cpp, Ollama and transformers read.

Reference:
    github.com/ggml-org/ggml/blob/master/docs/gguf.md for tensor names and the order of rotary
    pairs, as in the `gguf` package.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects.modules import n_embedding_rows

ARCHITECTURES = {"llama": "llama", "gpt2": "gpt2"}
"""GGUF's name of the architecture, by transformers' `model_type`."""
LLAMA_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GPT2_PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
LLAMA_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
GPT2_ENDS = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}
GPT2_POSITIONS = 1024
"""Context length that transformers assumes for every GPT-2 in a GGUF file."""
NORMAL = 1
"""GGUF's type number of ordinary tokens."""
CONTROL = 3
"""GGUF's type number of special tokens."""


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    half: bool = False,
    name: str = "",
    licence: str = "",
) -> Path:
    """Write a model as a GGUF file and return its path; an incomplete file is never left behind.

    Args:
        path: Path of the file; an existing one is replaced.
        model: A `LlamaForCausalLM` or `GPT2LMHeadModel`.
        tokenizer: A byte-level BPE tokenizer, the only kind supported.
        half: Whether to store matrices in float16; vectors are always float32.
        name: Name of the model, stored in the file; the default is the file's name.
        licence: Licence, stored in the file.

    Raises:
        WorkbenchError: The architecture, tokenizer or a setting is not supported, or the disk is
            full.
    """
    import gguf

    architecture = ARCHITECTURES.get(model.config.model_type)
    if architecture is None:
        raise WorkbenchError(
            f"A model of the type {model.config.model_type} is not written as GGUF here; only "
            "Llama and GPT-2 are."
        )
    part = path.with_name(f".{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(part, architecture)
    try:
        writer.add_name(name or path.stem)
        if licence:
            writer.add_license(licence)
        _add_shape(writer, model.config, architecture)
        _add_tokens(writer, model, tokenizer)
        for key, tensor in _tensors(model, architecture):
            values = tensor.detach().to(torch.float32).cpu().numpy()
            small = half and values.ndim > 1
            writer.add_tensor(
                key, np.ascontiguousarray(values, dtype=np.float16 if small else np.float32)
            )
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(path)
    except OSError as error:
        raise WorkbenchError(
            f"{path} could not be written ({error.strerror}); free some space."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _add_shape(writer: Any, config: Any, architecture: str) -> None:
    if architecture == "gpt2":
        if config.n_positions != GPT2_POSITIONS:
            raise WorkbenchError(
                f"transformers reads a GGUF file of the GPT-2 kind with {GPT2_POSITIONS:,} "
                f"positions only, and this model has {config.n_positions:,}; export it as a "
                "transformers folder."
            )
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
            raise WorkbenchError(
                "GGUF's GPT-2 has the tanh form of GELU, and this model has "
                f"{config.activation_function}; export it as a transformers folder."
            )
        return
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise WorkbenchError(
            f"Rotary positions of the type {rope['rope_type']} are not written as GGUF here."
        )
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokens(writer: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add tokens and merges of a byte-level BPE tokenizer; ids without a token are padding."""
    backend_tokenizer: Any = getattr(tokenizer, "backend_tokenizer", None)  # of fast ones only
    backend = json.loads(backend_tokenizer.to_str())
    is_byte_level = "ByteLevel" in json.dumps(backend.get("pre_tokenizer"))
    if backend["model"]["type"] != "BPE" or not is_byte_level:
        raise WorkbenchError(
            f"A tokenizer of the kind {backend['model']['type']} is not written as GGUF here, only "
            "byte-level BPE; export it as a transformers folder."
        )
    n_vocab = n_embedding_rows(model)
    tokens = [f"[PAD{i}]" for i in range(n_vocab)]
    kinds = [CONTROL] * n_vocab
    for token, number in tokenizer.get_vocab().items():
        if number < n_vocab:
            tokens[number] = token
            kinds[number] = NORMAL
    for number in tokenizer.all_special_ids:
        kinds[number] = CONTROL
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(_begins(tokenizer))
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if number is not None:
            add(number)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _begins(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its BOS token before a text."""
    ids = tokenizer("a", verbose=False)["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _tensors(model: PreTrainedModel, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its name in GGUF, in GGUF's layout."""
    config: Any = model.config
    tied = bool(config.tie_word_embeddings)
    llama = architecture == "llama"
    ends, parts, stem = (
        (LLAMA_ENDS, LLAMA_PARTS, "model.layers.")
        if llama
        else (GPT2_ENDS, GPT2_PARTS, "transformer.h.")
    )
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module == "lm_head" and tied:
            continue
        if module in ends:
            yield f"{ends[module]}.{kind}", tensor
            continue
        layer, _, part = module.removeprefix(stem).partition(".")
        if part not in parts:
            raise WorkbenchError(
                f"The tensor {name} has no place in a GGUF file of the {architecture} kind."
            )
        if llama and part in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
            tensor = _interleaved(tensor, heads)
        if not llama and tensor.ndim == 2:
            tensor = tensor.T  # GPT-2 stores its matrices as [in, out]
        yield f"blk.{layer}.{parts[part]}.{kind}", tensor


def _interleaved(tensor: Tensor, n_heads: int) -> Tensor:
    """Rows of each head reordered from rotary pairs (i, i + d/2) to GGUF's (2i, 2i + 1)."""
    rows = tensor.shape[0] // n_heads
    split = tensor.reshape(n_heads, 2, rows // 2, *tensor.shape[1:])
    return split.swapaxes(1, 2).reshape(tensor.shape)
