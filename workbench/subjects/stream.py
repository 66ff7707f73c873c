"""What a model's blocks write into the residual stream, and how its end is read.

This is measured on the model, not looked up by its name. One run over a few tokens shows every
module's output. The modules (and factors) that add up to the difference of the stream before and
after a block are the ones that write into it, whatever norms or multipliers stand in between:
Gemma, OLMo 2 and EXAONE 4 norm what attention gives, Granite multiplies it, BLOOM's attention adds
the stream itself.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.bridge import shared_clone
from workbench.subjects.card import within_context
from workbench.subjects.modules import n_embedding_rows
from workbench.subjects.writers import (
    BlockParts,
    Call,
    UnlikeError,
    Writer,
    block_parts,
    factors_of,
    first,
    nearby,
    same,
    written_by,
)

__all__ = ["BlockParts", "Stream", "Writer", "first", "stream_of"]

N_TOKENS = 6
"""Number of tokens of the run."""


@dataclass(frozen=True)
class Stream:
    """How a model's blocks write into the stream, and how logits are read from it (`stream_of`).

    - `blocks`: the parts of each layer; empty where `unlike` is not
    - `parallel`: whether attention and MLP read the same stream
    - `unlike`: why the blocks are not attention and MLP that add to one stream; "" where they are
    - `norm`: path of the final norm; "" for none
    - `logit_scale`, `softcap`: factor and cap of the logits after the unembedding
    - `unreadable`: why the end is not norm, unembedding, scale and cap; "" where it is
    """

    blocks: tuple[BlockParts, ...]
    parallel: bool
    unlike: str
    norm: str
    logit_scale: float
    softcap: float | None
    unreadable: str


@torch.no_grad()
def stream_of(
    model: PreTrainedModel, mapping: Any, given: dict[str, Tensor] | None = None
) -> Stream:
    """How a model writes and reads its residual stream, from one run without hooks.

    Args:
        model: Any model; its hooks (edits) are ignored.
        mapping: Names of the components, from TransformerLens's architecture adapter.
        given: What the model reads in that run; None for a few tokens.

    Raises:
        WorkbenchError: The model has no list of blocks.
    """
    bare = shared_clone(model)
    for module in bare.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    try:
        layers: Any = bare.get_submodule(mapping["blocks"].name)
    except (AttributeError, KeyError) as error:
        raise WorkbenchError(f"{type(model).__name__} has no list of blocks ({error}).") from error
    calls, logits = _run(bare, layers, given or _tokens(bare))
    floats = factors_of(bare)
    if calls[-1] and "" not in calls[-1]:  # such as OpenAI's first GPT, whose blocks give a list
        raise WorkbenchError(
            f"The blocks of {type(model).__name__} do not give the residual stream as one tensor."
        )
    end = calls[-1][""].out if calls[-1] else None
    norm, scale, softcap, unreadable = _end(bare, mapping, end, logits, floats)
    blocks: tuple[BlockParts, ...] = ()
    parallel = False
    unlike = ""
    try:
        names = mapping["blocks"].submodules
        blocks = tuple(
            block_parts(layers[i], calls[i], names, i, floats) for i in range(len(layers))
        )
        parallel = _parallel(layers[0], calls[0][""], blocks[0])
        blocks = tuple(_with_norm(block, calls[i], parallel) for i, block in enumerate(blocks))
    except UnlikeError as error:
        blocks = ()
        unlike = str(error)
    return Stream(blocks, parallel, unlike, norm, scale, softcap, unreadable)


def _tokens(model: Any) -> dict[str, Any]:
    """A few token ids, as a model's arguments."""
    n_tokens = within_context(model.config, N_TOKENS)
    ids = (1 + torch.arange(n_tokens, device=model.device)) % n_embedding_rows(model)
    return {"input_ids": ids[None], "use_cache": False}


def _run(
    model: Any, layers: Any, given: dict[str, Any]
) -> tuple[list[dict[str, Call]], Tensor | None]:
    """Every call of every module in every block ("" is the block itself), and the run's logits."""
    calls: list[dict[str, Call]] = [{} for _ in layers]
    handles = []

    def recorder(block_calls: dict[str, Call], name: str) -> Any:
        def hook(_module: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
            if isinstance(first(out), Tensor):
                positional = tuple(_copy(x) for x in args)
                named = {k: _copy(v) for k, v in kwargs.items()}
                call = Call(positional, named, first(out).clone(), first(out))
                block_calls.setdefault(name, call)

        return hook

    for layer, block_calls in zip(layers, calls, strict=True):
        for name, module in layer.named_modules():
            hook = recorder(block_calls, name)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        logits = getattr(model(**given), "logits", None)
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits


def _copy(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def _parallel(layer: nn.Module, whole: Call, block: BlockParts) -> bool:
    """Whether the MLP's input and output stay the same when attention's output changes.

    The input is compared too, because an MLP that is initialised to zero always writes zero.
    """
    seen: list[Tensor] = []  # the MLP's input and output, first without noise, then with it

    def disturb(_m: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        written = block.attn.read(args, kwargs, out)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(written.shape, generator=generator).to(written)
        return block.attn.write(written + (noise if seen else 0.0), args, kwargs, out)

    def look(_m: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        read = next((x for x in (*args, *kwargs.values()) if torch.is_tensor(x)), None)
        parts = [block.mlp.read(args, kwargs, out), *([] if read is None else [read])]
        seen.append(torch.cat([part.flatten() for part in parts]))

    handles = [
        layer.get_submodule(block.attn.module).register_forward_hook(disturb, with_kwargs=True),
        layer.get_submodule(block.mlp.module).register_forward_hook(look, with_kwargs=True),
    ]
    try:
        for _ in range(2):
            layer(*(_copy(x) for x in whole.args), **{k: _copy(v) for k, v in whole.kwargs.items()})
    finally:
        for handle in handles:
            handle.remove()
    return torch.equal(seen[0], seen[1])


def _with_norm(block: BlockParts, calls: dict[str, Call], parallel: bool) -> BlockParts:
    """The block with the norm whose output its MLP reads, if that norm reads the stream."""
    entered = calls[block.mlp.raw].entered
    before = calls[""].entered
    assert before is not None
    written = written_by(block.attn, calls)
    stream = before if parallel else before + written
    if entered is None or block.mlp.residual is not None:
        return block
    for name, call in calls.items():
        if name and same(call.out, entered) and call.entered is not None:
            if call.entered.numel() == stream.numel() and torch.allclose(
                call.entered.reshape(stream.shape), stream
            ):
                return replace(block, mlp_norm=name)
    return block


def _end(
    model: Any, mapping: Any, end: Tensor | None, logits: Tensor | None, floats: list[float]
) -> tuple[str, float, float | None, str]:
    """Final norm's path, logits' factor and cap, and why the end cannot be read so ("": it can)."""
    unembed = model.get_output_embeddings()
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if unembed is None or logits is None or end is None or end.ndim != 3:
        return "", 1.0, softcap, "the model has no unembedding that reads its last stream"
    eps = torch.finfo(logits.dtype).eps
    named = [mapping[part].name for part in ("ln_final",) if part in mapping and mapping[part].name]
    for name in (*named, ""):
        try:
            read = unembed(model.get_submodule(name)(end) if name else end)
        except (AttributeError, RuntimeError):
            continue
        plain = logits if softcap is None else softcap * torch.atanh((logits / softcap).double())
        # Least-squares fit of logits = scale * read.
        size = read.double().square().sum().clamp_min(1e-300)
        fitted = (read.double() * plain.double()).sum() / size
        for scale in (1.0, *nearby(float(fitted), floats)):
            scaled = read * scale
            capped = scaled if softcap is None else torch.tanh(scaled / softcap) * softcap
            limit = 256 * eps * logits.abs().max().clamp_min(eps)
            if bool((capped - logits).abs().max() <= limit):
                return name, scale, softcap, ""
    return (
        "",
        1.0,
        softcap,
        "its logits are not the final norm and the unembedding of its last stream",
    )
