"""The small GPT: a pre-norm decoder whose parts can be exchanged one at a time.

Position encoding, norm, MLP, key-value heads, QK-norm and biases are fields of the configuration
(`gpt_config`), so the same model can be trained with nothing but the position encoding changed. It
is an ordinary `PreTrainedModel`: safetensors, `generate`, KV cache, `AutoModelForCausalLM` and
transformers' attention back ends work.

Letters in shape comments: b batch, p position, q query, k key, h head, g key-value head,
e d_head, d d_model, m d_mlp, v d_vocab.
"""

import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from workbench.errors import WorkbenchError
from workbench.subjects import positions as encoding
from workbench.subjects.gpt_config import CAUSAL_WITHOUT_MASK, WorkbenchGPTConfig
from workbench.subjects.modules import lowered

# An attention-only model has MLPs of zero neurons, about whose matrices torch would warn.
warnings.filterwarnings("ignore", message="Initializing zero-element tensors is a no-op")

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of the rotary angles, each `[batch, pos, d_head]`."""


def _norm(config: WorkbenchGPTConfig, width: int) -> nn.Module:
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "rmsnorm":
        return nn.RMSNorm(width, eps=config.norm_eps)
    return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)


def _into_residual(config: WorkbenchGPTConfig, width: int, *, bias: bool) -> nn.Linear:
    """A projection into the residual stream, marked because it is initialised smaller."""
    projection = nn.Linear(width, config.d_model, bias=bias)
    projection.into_residual = True  # pyright: ignore[reportArgumentType] (torch: modules only)
    return projection


def explicit_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float = 1.0,
    dropout: float = 0.0,
    **hooks,
) -> tuple[Tensor, Tensor]:
    """Attention with explicit scores and pattern: `softmax(q k^T * scaling + mask) v`.

    The fused kernels of other back ends never form the pattern; this one does, so that it can be
    read and changed.

    Args:
        module: The attention layer; its train mode switches dropout.
        query: `[batch, head, query, d_head]`.
        key: `[batch, kv_head, key, d_head]`.
        value: Like `key`.
        attention_mask: Boolean (True: attend) or added to the scores; None is causal.
        scaling: Factor of the scores, usually `d_head ** -0.5`.
        dropout: Dropout probability of the pattern.
        hooks: `hook_scores` and `hook_pattern`, where given, are called with
            `[batch, head, query, key]` and return its replacement.

    Returns:
        z `[batch, query, head, d_head]`, and the pattern `[batch, head, query, key]`.
    """
    # Grouped-query attention: each key-value head serves `groups` query heads.
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, 1)  # b g k e -> b h k e
    value = value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-2, -1) * scaling  # b h q k
    if attention_mask is None:
        n_queries, n_keys = scores.shape[-2:]
        allowed = torch.ones(n_queries, n_keys, dtype=torch.bool, device=scores.device)
        # With a cache there are more keys than queries, and the last query stands at the last key.
        causal = allowed.tril(n_keys - n_queries)
        scores = scores.masked_fill(~causal, float("-inf"))
    elif attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    else:
        scores = scores + attention_mask
    scores = hooks.get("hook_scores", nn.Identity())(scores)
    # Softmax in at least single precision: in half precision small probabilities vanish.
    precise = torch.promote_types(scores.dtype, torch.float32)
    pattern = scores.softmax(-1, dtype=precise).to(query.dtype)
    pattern = F.dropout(pattern, dropout, module.training)
    pattern = hooks.get("hook_pattern", nn.Identity())(pattern)
    z = pattern @ value  # b h q e
    return z.transpose(1, 2), pattern


class Attention(nn.Module):
    """Causal self-attention with optional grouped key-value heads, QK-norm and rotary encoding."""

    # transformers' back ends read `is_causal`, `layer_idx`, `head_dim` and `num_key_value_groups`.
    is_causal = True

    def __init__(self, config: WorkbenchGPTConfig, layer_idx: int):
        super().__init__()
        n_kv_heads, d_head, _ = config.sizes
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = d_head
        self.num_key_value_groups = config.n_heads // n_kv_heads
        # Scores of random q and k have a standard deviation of sqrt(d_head) without it.
        self.scaling = d_head**-0.5
        q_width = config.n_heads * d_head
        kv_width = n_kv_heads * d_head
        self.q = nn.Linear(config.d_model, q_width, bias=config.bias)
        self.k = nn.Linear(config.d_model, kv_width, bias=config.bias)
        self.v = nn.Linear(config.d_model, kv_width, bias=config.bias)
        self.o = _into_residual(config, q_width, bias=config.bias)
        # One gain per dimension, shared by all heads of a layer.
        self.q_norm = nn.RMSNorm(d_head, eps=config.norm_eps) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(d_head, eps=config.norm_eps) if config.qk_norm else None

    def prepare(
        self, q: Tensor, k: Tensor, v: Tensor, position_embeddings: Rotation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values per head, normed and rotated, `[batch, head, pos, d_head]`.

        Args:
            q: Projected queries `[batch, pos, head * d_head]`.
            k: Projected keys `[batch, pos, kv_head * d_head]`.
            v: Projected values, like `k`.
            position_embeddings: Cosine and sine of the rotary angles; None for other encodings.
        """
        # b p (h e) -> b h p e
        q = q.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        k = k.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        v = v.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(q)
            k = self.k_norm(k)
        # After the norm, because a norm's gains would not commute with the rotation.
        if position_embeddings is not None:
            q = encoding.rotate(q, *position_embeddings)
            k = encoding.rotate(k, *position_embeddings)
        return q, k, v

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Rotation | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> tuple[Tensor, Tensor | None]:
        """The attention output `[batch, pos, d_model]`, and the pattern where the back end has one.

        Args:
            hidden_states: The normed residual stream `[batch, pos, d_model]`.
            position_embeddings: Cosine and sine of the rotary angles; None for other encodings.
            attention_mask: Mask in the form that the attention back end takes.
            cache: Keys and values of earlier positions, extended in place.
            kwargs: Passed on to the back end.
        """
        x = hidden_states
        q, k, v = self.prepare(self.q(x), self.k(x), self.v(x), position_embeddings)
        if cache is not None:
            # Cached keys are rotated already. A paged cache reads and changes the kwargs.
            k, v = cache.update(k, v, self.layer_idx, kwargs=kwargs)
        # "sdpa" and "flex_attention" are registered; "eager" is not, so it is ours.
        name = cast("str", self.config._attn_implementation)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, explicit_attention)
        dropout = self.config.dropout if self.training else 0.0
        z, pattern = attend(
            self, q, k, v, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        # z: b p h e, concatenated over heads before the output projection
        return self.o(z.reshape(*x.shape[:-1], -1)), pattern


class MLP(nn.Module):
    """The feed-forward layer; of kind `none` it has no neurons and adds nothing."""

    def __init__(self, config: WorkbenchGPTConfig):
        super().__init__()
        self.kind = config.mlp
        d_mlp = config.sizes.d_mlp
        # Without neurons, even a bias would add something to the stream.
        bias = config.bias and self.kind != "none"
        self.fc_in = nn.Linear(config.d_model, d_mlp, bias=bias)
        self.gate = None
        if self.kind == "swiglu":
            self.gate = nn.Linear(config.d_model, d_mlp, bias=config.bias)
        self.fc_out = _into_residual(config, d_mlp, bias=bias)

    def act(self, x: Tensor) -> Tensor:
        """The nonlinearity of `kind`, elementwise; for swiglu it is the gate's, SiLU."""
        if self.kind == "swiglu":
            return F.silu(x)
        if self.kind == "relu":
            return F.relu(x)
        if self.kind == "relu2":
            return F.relu(x).square()
        return F.gelu(x, approximate="none" if self.kind == "gelu_exact" else "tanh")

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The MLP output, of the same shape as the input `[batch, pos, d_model]`."""
        neurons = self.fc_in(hidden_states)  # b p m
        if self.gate is not None:
            neurons = self.act(self.gate(hidden_states)) * neurons
        else:
            neurons = self.act(neurons)
        return self.fc_out(neurons)


class Block(GradientCheckpointingLayer):
    """A pre-norm block: `x + attn(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: WorkbenchGPTConfig, layer_idx: int):
        super().__init__()
        self.ln1 = _norm(config, config.d_model)
        self.attn = Attention(config, layer_idx)
        self.ln2 = _norm(config, config.d_model)
        self.mlp = MLP(config)
        self.dropout = config.dropout

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        """The residual stream after the block, `[batch, pos, d_model]`."""
        attn_out, _ = self.attn(lowered(self.ln1(hidden_states)), **kwargs)
        x = hidden_states + self._dropped(attn_out)  # resid_mid
        return x + self._dropped(self.mlp(lowered(self.ln2(x))))  # resid_post

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class WorkbenchGPTPreTrainedModel(PreTrainedModel):
    """What transformers needs to know: names, initialisation, attention back ends."""

    config_class = WorkbenchGPTConfig
    config: WorkbenchGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": Block, "attentions": Attention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """GPT-2's initialisation: normal(0, 0.02), and less into the residual stream."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            if getattr(module, "into_residual", False):
                # 2 n_layers projections add up in the stream: dividing by the root of their number
                # keeps its variance independent of depth.
                std = 0.0 if self.config.zero_init else std / (2 * self.config.n_layers) ** 0.5
            # Scaled after drawing, so that every `std` uses the same random numbers.
            module.weight.normal_(0.0, 1.0).mul_(std)
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            module.weight.fill_(1.0)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.zero_()


class WorkbenchGPTModel(WorkbenchGPTPreTrainedModel):
    """The small GPT without unembedding: ids to the normed residual stream after the last block."""

    def __init__(self, config: WorkbenchGPTConfig):
        super().__init__(config)
        self.tok = nn.Embedding(config.d_vocab, config.d_model)
        self.pos = None
        if config.positions == "learned":
            self.pos = nn.Embedding(config.n_ctx, config.d_model)
        self.layers = nn.ModuleList([Block(config, i) for i in range(config.n_layers)])
        self.ln_out = _norm(config, config.d_model)
        self.rotations: Rotation | None = None
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.tok

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.tok = value

    def position_vectors(self, position_ids: Tensor, last: int | None = None) -> Tensor | None:
        """Vectors added to the embedding, `[*, pos, d_model]`; None for encodings that add none.

        Args:
            position_ids: Position of each token.
            last: The greatest of them where it is known; else it is read, which waits for a GPU.

        Raises:
            WorkbenchError: A position is beyond the end of learned ones.
        """
        if self.config.positions == "sinusoidal":
            return encoding.sinusoidal(position_ids, self.config.d_model)
        if self.pos is None:
            return None
        last = int(position_ids.max()) if last is None else last
        if last >= self.config.n_ctx:
            raise WorkbenchError(
                f"Learned positions end at {self.config.n_ctx}; the input has "
                f"{last + 1} tokens. Shorten it, or use a model with another "
                "position encoding."
            )
        return self.pos(position_ids)

    def keep_rotations(self) -> None:
        """Compute the rotary angles of the context once, for all steps of training."""
        if self.config.positions == "rotary":
            positions = torch.arange(self.config.n_ctx, device=self.device).unsqueeze(0)
            d_head = self.config.sizes.d_head
            self.rotations = encoding.rotary_cos_sin(positions, d_head, self.config.rotary_base)

    def _rotation(self, position_ids: Tensor, *, plain: bool) -> Rotation | None:
        """Cosine and sine of the rotary angles of all layers, in double precision until the end."""
        if self.config.positions != "rotary":
            return None
        n = position_ids.shape[1]
        if plain and self.rotations is not None:
            cos, sin = self.rotations
            if n <= cos.shape[1] and cos.device == position_ids.device:
                return cos[:, :n], sin[:, :n]
        d_head = self.config.sizes.d_head
        return encoding.rotary_cos_sin(position_ids, d_head, self.config.rotary_base)

    @property
    def _needs_no_mask(self) -> bool:
        """Whether attention to whole rows is told that it is causal, and gets no mask."""
        return (
            self.config._attn_implementation in CAUSAL_WITHOUT_MASK
            and self.config.positions != "alibi"  # whose biases are in the mask
            and getattr(self.config, "is_causal", True)
        )

    def _attention_mask(
        self, x: Tensor, mask: Tensor | None, position_ids: Tensor, cache: Cache | None
    ):
        """The mask in the back end's form: causal, padded positions out, ALiBi's biases added."""
        alibi = self.config.positions == "alibi"
        causal = create_causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=mask,
            cache=cache,
            position_ids=position_ids,
            # Back ends that know causality need no mask at all, but ALiBi needs one to add to.
            allow_is_causal_skip=not alibi,
        )
        if not alibi:
            return causal
        causal = cast("Tensor", causal)  # b 1 q k
        # h q k
        bias = encoding.alibi_bias(self.config.n_heads, *causal.shape[-2:], device=x.device).to(x)
        if causal.dtype == torch.bool:
            return bias.masked_fill(~causal, torch.finfo(x.dtype).min)
        return bias + causal

    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """`last_hidden_state` `[batch, pos, d_model]`, after the final norm.

        Args:
            input_ids: Token ids `[batch, pos]`.
            attention_mask: 0 at padding, `[batch, pos]`.
            position_ids: Position of each token; None counts on from the cache's end.
            cache: Keys and values of earlier positions.
            inputs_embeds: Embeddings `[batch, pos, d_model]` in place of `input_ids`.
            use_cache: Make a cache where none is given.
            kwargs: Passed on to attention.
        """
        x = self.tok(input_ids) if inputs_embeds is None else inputs_embeds  # b p d
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        last = None
        plain = position_ids is None and attention_mask is None and cache is None
        if position_ids is None:
            n_past = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(x.shape[1], device=x.device) + n_past).unsqueeze(0)
            last = n_past + x.shape[1] - 1 if isinstance(n_past, int) else None
        mask = None
        # Whole rows in order: attention is told that it is causal, as the fastest kernels take no
        # mask. transformers would find out by reading the positions, which waits for a GPU, and
        # would always make a mask in a compiled graph.
        if not (plain and self._needs_no_mask):
            mask = self._attention_mask(x, attention_mask, position_ids, cache)
        # Each encoding enters in one place: learned and sinusoidal vectors are added here, rotary
        # angles go to every attention layer, and ALiBi is in the mask.
        vectors = self.position_vectors(position_ids, last)
        if vectors is not None:
            x = x + vectors.to(x.dtype)
        x = F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x
        rotation = self._rotation(position_ids, plain=plain)
        for layer in self.layers:
            x = layer(
                x,
                position_embeddings=rotation,
                attention_mask=mask,
                cache=cache,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.ln_out(x), cache=cache)


class WorkbenchGPTForCausalLM(WorkbenchGPTPreTrainedModel, GenerationMixin):
    """The small GPT with its unembedding."""

    _tied_weights_keys = {"lm_head.weight": "model.tok.weight"}  # noqa: RUF012

    def __init__(self, config: WorkbenchGPTConfig):
        super().__init__(config)
        self.model = WorkbenchGPTModel(config)
        self.lm_head = nn.Linear(config.d_model, config.d_vocab, bias=config.unembed_bias)
        self.post_init()

    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits `[batch, pos, d_vocab]`, and the mean next-token loss where `labels` are given.

        Args:
            input_ids: Token ids `[batch, pos]`.
            attention_mask: 0 at padding, `[batch, pos]`.
            position_ids: Position of each token; None counts on from the cache's end.
            labels: Target ids `[batch, pos]`, shifted here; -100 is not counted.
            logits_to_keep: Number of last positions, or indices, to compute logits for; 0 is all.
            kwargs: Passed on to the model.
        """
        # `generate` passes position_ids only to a forward that names them, and left padding needs
        # them.
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )
        # slice(-0, None) is everything, so 0 keeps all positions.
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, keep])  # b p v
        loss = None
        if labels is not None:
            # The logits at position p predict the token at p + 1.
            predictions = logits[:, :-1].flatten(0, 1).float()  # (b p) v
            targets = labels[:, 1:].flatten()  # (b p)
            loss = F.cross_entropy(predictions, targets, ignore_index=-100)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            cache=out.cache,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


def register() -> None:
    """Register the model with transformers' auto classes; may be called again."""
    AutoConfig.register(WorkbenchGPTConfig.model_type, WorkbenchGPTConfig, exist_ok=True)
    AutoModel.register(WorkbenchGPTConfig, WorkbenchGPTModel, exist_ok=True)
    AutoModelForCausalLM.register(WorkbenchGPTConfig, WorkbenchGPTForCausalLM, exist_ok=True)


register()
