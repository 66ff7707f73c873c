"""The TransformerLens view of a Subject: bridges, and the architecture adapter of our own GPT."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    BlockBridge,
    EmbeddingBridge,
    GatedMLPBridge,
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
    PosEmbedBridge,
    RMSNormalizationBridge,
    UnembeddingBridge,
)
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.subjects.card import within_context
from workbench.subjects.gpt import WorkbenchGPTConfig, explicit_attention

CHECKED = 8
"""Number of tokens on which a bridge's logits are compared with its model's."""
TOLERANCE = 1e-3
"""Largest relative difference of logits that counts as rounding in single precision."""
HALF_TOLERANCE = 5e-2
"""Largest relative difference of logits that counts as rounding in half precision."""


class WorkbenchAttentionBridge(AttentionBridge):
    """Our attention with TransformerLens's hooks on q, k, v, scores, pattern and z."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Like `Attention.forward`, but always with explicit scores and pattern."""
        attention: Any = self.original_component
        x = self.hook_in(args[0] if args else kwargs.pop("hidden_states"))
        q, k, v = attention.prepare(
            self.q(x), self.k(x), self.v(x), kwargs.get("position_embeddings")
        )
        if hasattr(self, "hook_rot_q"):
            q = self.hook_rot_q(q)
            k = self.hook_rot_k(k)
        k, v = self._update_kv_cache(k, v, **kwargs)
        z, pattern = explicit_attention(
            attention,
            q,
            k,
            v,
            kwargs.get("attention_mask"),
            attention.scaling,
            hook_scores=self.hook_attn_scores,
            hook_pattern=self.hook_pattern,
        )
        return self.hook_out(self.o(z.reshape(*x.shape[:-1], -1))), pattern


class NoNormBridge(NormalizationBridge):
    """The identity with the hooks of a norm; its scale is 1."""

    def _python_norm_forward(self, hidden_states: Tensor) -> Tensor:
        scale = self.hook_scale(torch.ones_like(hidden_states[..., :1]))
        return self.hook_normalized(hidden_states / scale)


class WorkbenchGPTAdapter(ArchitectureAdapter):
    """Maps the parts of the small GPT to TransformerLens's names; registered by an entry point."""

    def prepare_model(self, hf_model: Any) -> None:
        """Map the parts; done here because TransformerLens's config does not have our switches."""
        config: WorkbenchGPTConfig = hf_model.config
        rms = config.norm == "rmsnorm"
        self.cfg.normalization_type = "RMS" if rms else "LN"
        self.cfg.uses_rms_norm = rms
        self.cfg.final_rms = rms
        self.cfg.gated_mlp = config.mlp == "swiglu"
        self.cfg.attn_only = False
        known = {"rotary": "rotary", "alibi": "alibi"}
        self.cfg.positional_embedding_type = known.get(config.positions, "standard")
        self.weight_processing_conversions = {
            **self._qkvo_weight_conversions(include_biases=config.bias)
        }
        self.component_mapping = self._mapping(config)

    def _mapping(self, config: WorkbenchGPTConfig) -> dict[str, Any]:
        norms = {
            "rmsnorm": RMSNormalizationBridge,
            "layernorm": NormalizationBridge,
            "none": NoNormBridge,
        }
        norm = norms[config.norm]
        linear: dict[str, GeneralizedComponent] = {
            "in": LinearBridge(name="fc_in"),
            "out": LinearBridge(name="fc_out"),
        }
        if config.mlp == "swiglu":
            linear = {"gate": LinearBridge(name="gate"), **linear}
            mlp = GatedMLPBridge(name="mlp", config=self.cfg, submodules=linear)
        else:
            mlp = MLPBridge(name="mlp", submodules=linear)
        heads: dict[str, GeneralizedComponent] = {part: LinearBridge(name=part) for part in "qkvo"}
        block = {
            "ln1": norm(name="ln1", config=self.cfg),
            "attn": WorkbenchAttentionBridge(name="attn", config=self.cfg, submodules=heads),
            "ln2": norm(name="ln2", config=self.cfg),
            "mlp": mlp,
        }
        learned = (
            {"pos_embed": PosEmbedBridge(name="model.pos")} if config.positions == "learned" else {}
        )
        return {
            "embed": EmbeddingBridge(name="model.tok"),
            **learned,
            "blocks": BlockBridge(name="model.layers", submodules=block),
            "ln_final": norm(name="model.ln_out", config=self.cfg),
            "unembed": UnembeddingBridge(name="lm_head", config=self.cfg),
        }


def shared_clone(model: PreTrainedModel) -> PreTrainedModel:
    """A second module tree over the same parameters: needs no memory, and has hooks of its own."""
    keep = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo=dict(keep))


def own_clone(model: PreTrainedModel) -> PreTrainedModel:
    """A module tree whose parameters can be replaced without changing `model`.

    The parameters are new objects over the same storage, so this needs no memory either. Tied
    parameters stay tied.
    """
    keep: dict[int, Any] = {id(b): b for b in model.buffers()}
    keep |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, memo=keep)


def bridge(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, name: str
) -> TransformerBridge:
    """The TransformerLens view of any Hugging Face causal model, with unprocessed weights.

    Args:
        model: The model; it is shared, not changed.
        tokenizer: Its tokenizer, which is copied, because TransformerLens changes padding on it.
        name: Name of the model in TransformerLens.

    Raises:
        ValueError: TransformerLens has no adapter for the architecture, or its adapter does not fit
            this model or computes other logits.
    """
    clone = shared_clone(model)
    clone.set_attn_implementation("eager")
    _put_back_rotary_tables(clone)
    # TransformerLens sets padding and BOS on its own copy of the tokenizer.
    try:
        view = build_bridge_from_module(
            clone,
            type(model).__name__,
            hf_config=clone.config,
            tokenizer=copy.deepcopy(tokenizer),
            model_name=name,
        )
        difference = 0.0 if model.config.is_encoder_decoder else _difference(view, model)
    except ValueError:
        raise
    except Exception as error:  # an adapter that does not fit may raise anything
        why = (str(error).strip() or "no reason given").splitlines()[0][:160]
        raise ValueError(
            f"its adapter does not fit this model ({type(error).__name__}: {why})"
        ) from error
    limit = TOLERANCE if model.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
    if not difference <= limit:
        raise ValueError(
            f"its view computes other logits than the model does (off by {difference:.2g} of the "
            "largest)"
        )
    return view


def _put_back_rotary_tables(clone: PreTrainedModel) -> None:
    """Set on CodeGen's attention what TransformerLens reads there but transformers has moved."""
    rotary = getattr(clone.base_model, "rotary_emb", None)
    if clone.config.model_type != "codegen" or rotary is None:
        return
    for module in clone.modules():
        if hasattr(module, "qkv_proj") and not hasattr(module, "embed_positions"):
            # [position, rotary_dim]: sines, then cosines
            module.embed_positions = rotary.embed_positions
            module.scale_attn = torch.tensor(1 / cast("float", module.scaling))


@torch.no_grad()
def _difference(view: TransformerBridge, model: PreTrainedModel) -> float:
    """The largest difference between both models' logits, over the model's largest logit."""
    vocabulary = model.config.get_text_config().vocab_size
    n_tokens = within_context(model.config, CHECKED)
    ids = (torch.arange(1, n_tokens + 1, device=model.device) % vocabulary)[None]
    theirs = model(input_ids=ids, use_cache=False).logits
    return float((view(ids) - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
