"""The small GPT: one pre-norm decoder in which only the part under study changes.

Position encoding, norm, MLP, key-value heads, QK-norm and biases are switches of the configuration,
so that the same model can be trained five times with nothing but the position encoding changed. It
is an ordinary
`PreTrainedModel`: safetensors, `generate`, KV cache, `AutoModelForCausalLM`, attention back ends.
"""

import warnings

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
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from workbench.errors import WorkbenchError
from workbench.subjects import positions as encoding
from workbench.subjects.config_types import check_types

warnings.filterwarnings(
    "ignore", message="Initializing zero-element tensors is a no-op"
)  # an MLP of no neurons

NORMS = ("layernorm", "rmsnorm", "none")
MLPS = ("gelu", "gelu_exact", "swiglu", "relu", "relu2", "none")


class WorkbenchGPTConfig(PreTrainedConfig):
    """The shape of a small GPT, in TransformerLens's words.

    - `positions`: learned, sinusoidal, rotary, alibi or none; `norm`: layernorm, rmsnorm or none;
      `mlp`: gelu (tanh form, GPT-2's), gelu_exact, swiglu (Llama's), relu, relu2 (squared ReLU), or
          none, which is an
      MLP of no neurons: attention alone.
    - `n_kv_heads`: fewer than `n_heads` for grouped-query attention; None for as many.
    - `d_head`: None for `d_model / n_heads`; `d_mlp`: None for `4 d_model` (swiglu: `8/3 d_model`,
        to the next 32).
    - `bias`: of every linear layer but the unembedding, which has its own switch `unembed_bias`.
    - `zero_init`: start the projections into the residual stream at zero, so that each block begins
        as identity.

    Raises `WorkbenchError` for a shape that cannot be built.
    """

    model_type = "workbench-gpt"
    keys_to_ignore_at_inference = ("cache",)
    attribute_map = {  # noqa: RUF012 (transformers reads it as a class attribute)
        "vocab_size": "d_vocab",
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "head_dim": "d_head",
        "intermediate_size": "d_mlp",
        "max_position_embeddings": "n_ctx",
    }

    d_vocab: int = 256
    n_ctx: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    d_model: int = 128
    d_head: int | None = None
    d_mlp: int | None = None
    positions: str = "rotary"
    norm: str = "rmsnorm"
    mlp: str = "swiglu"
    qk_norm: bool = False
    bias: bool = False
    unembed_bias: bool = False
    tie_word_embeddings: bool = True
    rotary_base: float = 10000.0
    norm_eps: float = 1e-5
    zero_init: bool = False
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs):
        check_types(self)
        self.n_kv_heads = self.n_kv_heads or self.n_heads
        self.d_head = self.d_head or self.d_model // self.n_heads
        wide = -(-self.d_model * 8 // 3 // 32) * 32 if self.mlp == "swiglu" else 4 * self.d_model
        self.d_mlp = 0 if self.mlp == "none" else self.d_mlp or wide
        super().__post_init__(**kwargs)
        for value, allowed, what in (
            (self.positions, encoding.ENCODINGS, "positions"),
            (self.norm, NORMS, "norm"),
            (self.mlp, MLPS, "mlp"),
        ):
            if value not in allowed:
                raise WorkbenchError(f"{what} is {value!r}; choose one of {', '.join(allowed)}.")
        if self.n_heads % self.n_kv_heads:
            raise WorkbenchError(
                f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}."
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise WorkbenchError(f"rotary needs an even d_head; got {self.d_head}.")


def _norm(config: WorkbenchGPTConfig, width: int) -> nn.Module:
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "rmsnorm":
        return nn.RMSNorm(width, eps=config.norm_eps)
    return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)


def _into_residual(config: WorkbenchGPTConfig, width: int, *, bias: bool) -> nn.Linear:
    """A projection into the residual stream, marked because it starts smaller than the others."""
    projection = nn.Linear(width, config.d_model, bias=bias)
    projection.into_residual = True  # pyright: ignore[reportArgumentType]
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
    """Attention written out, for when somebody looks: `softmax(q k^T * scaling + mask) v`.

    `hook_scores` and `hook_pattern`, where given, see and may replace `[batch, head, query, key]`.
    Returns z `[batch, query, head, d_head]` and the pattern.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-2, -1) * scaling
    if attention_mask is None:
        n_queries, n_keys = scores.shape[-2:]
        causal = torch.ones(n_queries, n_keys, dtype=torch.bool, device=scores.device).tril(
            n_keys - n_queries
        )
        scores = scores.masked_fill(~causal, float("-inf"))
    elif attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    else:
        scores = scores + attention_mask
    scores = hooks.get("hook_scores", nn.Identity())(scores)
    pattern = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(
        query.dtype
    )
    pattern = F.dropout(pattern, dropout, module.training)
    pattern = hooks.get("hook_pattern", nn.Identity())(pattern)
    return (pattern @ value).transpose(1, 2), pattern


class Attention(nn.Module):
    """Causal self-attention with optional grouped key-value heads, QK-norm and rotary turns."""

    is_causal = True

    def __init__(self, config: WorkbenchGPTConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer_idx, config.d_head
        self.num_key_value_groups = config.n_heads // config.n_kv_heads
        self.scaling = config.d_head**-0.5
        kv_width = config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, config.n_heads * config.d_head, bias=config.bias)
        self.k = nn.Linear(config.d_model, kv_width, bias=config.bias)
        self.v = nn.Linear(config.d_model, kv_width, bias=config.bias)
        self.o = _into_residual(config, config.n_heads * config.d_head, bias=config.bias)
        self.q_norm = nn.RMSNorm(config.d_head, eps=config.norm_eps) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(config.d_head, eps=config.norm_eps) if config.qk_norm else None

    def prepare(
        self, q: Tensor, k: Tensor, v: Tensor, position_embeddings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From projections `[batch, pos, head * d_head]` to normed, turned `[batch, head, pos,
        d_head]`.
        """
        q, k, v = (x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for x in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if position_embeddings is not None:
            q, k = (encoding.rotate(x, *position_embeddings) for x in (q, k))
        return q, k, v

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> tuple[Tensor, Tensor | None]:
        """`[batch, pos, d_model]` to the attention output of the same shape, and the pattern where
        computed.
        """
        x = hidden_states
        q, k, v = self.prepare(self.q(x), self.k(x), self.v(x), position_embeddings)
        if cache is not None:
            k, v = cache.update(
                k, v, self.layer_idx, kwargs=kwargs
            )  # a paged cache reads and changes kwargs
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, explicit_attention
        )
        z, pattern = attend(
            self, q, k, v, attention_mask, scaling=self.scaling, dropout=0.0, **kwargs
        )
        return self.o(z.reshape(*hidden_states.shape[:-1], -1)), pattern


class MLP(nn.Module):
    """The feed-forward part; of kind `none` it has no neurons and adds nothing."""

    def __init__(self, config: WorkbenchGPTConfig):
        super().__init__()
        self.kind = config.mlp
        bias = config.bias and self.kind != "none"
        self.fc_in = nn.Linear(config.d_model, config.d_mlp, bias=bias)
        self.gate = (
            nn.Linear(config.d_model, config.d_mlp, bias=config.bias)
            if config.mlp == "swiglu"
            else None
        )
        self.fc_out = _into_residual(config, config.d_mlp, bias=bias)

    def act(self, x: Tensor) -> Tensor:
        """The nonlinearity: GELU (in tanh form as in GPT-2, or exact), SiLU for swiglu's gate, ReLU
        or its square.
        """
        if self.kind == "swiglu":
            return F.silu(x)
        if self.kind == "relu":
            return F.relu(x)
        if self.kind == "relu2":
            return F.relu(x).square()
        return F.gelu(x, approximate="none" if self.kind == "gelu_exact" else "tanh")

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`[batch, pos, d_model]` to the same shape."""
        if self.gate is not None:
            return self.fc_out(self.act(self.gate(hidden_states)) * self.fc_in(hidden_states))
        return self.fc_out(self.act(self.fc_in(hidden_states)))


class Block(GradientCheckpointingLayer):
    """`x + attn(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: WorkbenchGPTConfig, layer_idx: int):
        super().__init__()
        self.ln1, self.attn = _norm(config, config.d_model), Attention(config, layer_idx)
        self.ln2, self.mlp = _norm(config, config.d_model), MLP(config)

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        """Residual stream in, residual stream out."""
        hidden_states = hidden_states + self.attn(self.ln1(hidden_states), **kwargs)[0]
        return hidden_states + self.mlp(self.ln2(hidden_states))


class WorkbenchGPTPreTrainedModel(PreTrainedModel):
    """What transformers has to know about the model: names, initialisation, attention back ends."""

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
        """GPT-2's rule: normal(0, 0.02), and 0.02 / sqrt(2 n_layers) into the residual stream (or
        zero).
        """
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            if getattr(module, "into_residual", False):
                std = 0.0 if self.config.zero_init else std / (2 * self.config.n_layers) ** 0.5
            module.weight.normal_(0.0, 1.0).mul_(std)
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            module.bias.zero_()


class WorkbenchGPTModel(WorkbenchGPTPreTrainedModel):
    """Token ids to the normed residual stream after the last block."""

    def __init__(self, config: WorkbenchGPTConfig):
        super().__init__(config)
        self.tok = nn.Embedding(config.d_vocab, config.d_model)
        self.pos = (
            nn.Embedding(config.n_ctx, config.d_model) if config.positions == "learned" else None
        )
        self.layers = nn.ModuleList([Block(config, i) for i in range(config.n_layers)])
        self.ln_out = _norm(config, config.d_model)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.tok

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.tok = value

    def position_vectors(self, position_ids: Tensor) -> Tensor | None:
        """What is added to the embedding at these positions, `[*, pos, d_model]`, or None."""
        if self.config.positions == "sinusoidal":
            return encoding.sinusoidal(position_ids, self.config.d_model)
        if self.pos is None:
            return None
        if int(position_ids.max()) >= self.config.n_ctx:
            raise WorkbenchError(
                f"Learned positions end at {self.config.n_ctx}; the input has {int(position_ids.max()) + 1} tokens. "
                "Shorten it, or use a model with another position encoding."
            )
        return self.pos(position_ids)

    def _attention_mask(
        self, x: Tensor, mask: Tensor | None, position_ids: Tensor, cache: Cache | None
    ):
        causal = create_causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=mask,
            cache=cache,
            position_ids=position_ids,
            allow_is_causal_skip=self.config.positions != "alibi",
        )
        if self.config.positions != "alibi":
            return causal
        bias = encoding.alibi_bias(self.config.n_heads, *causal.shape[-2:]).to(x)
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
        """Ids `[batch, pos]` (or embeddings) to `last_hidden_state` `[batch, pos, d_model]`."""
        x = self.tok(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(x.shape[1], device=x.device) + seen).unsqueeze(0)
        mask = self._attention_mask(x, attention_mask, position_ids, cache)
        vectors, turns = self.position_vectors(position_ids), None
        x = x if vectors is None else x + vectors.to(x.dtype)
        if self.config.positions == "rotary":
            turns = encoding.rotary_cos_sin(
                position_ids, self.config.d_head, self.config.rotary_base
            )
        for layer in self.layers:
            x = layer(
                x,
                position_embeddings=turns,
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
        """Ids `[batch, pos]` to logits `[batch, pos, d_vocab]`, and the mean next-token loss given
        `labels`.
        """
        # `generate` passes position_ids only to a forward that names them; left padding hangs on
        # it.
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            cache=out.cache,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


def register() -> None:
    """Make `AutoConfig`, `AutoModel` and `AutoModelForCausalLM` know the model; harmless when
    repeated.
    """
    AutoConfig.register(WorkbenchGPTConfig.model_type, WorkbenchGPTConfig, exist_ok=True)
    AutoModel.register(WorkbenchGPTConfig, WorkbenchGPTModel, exist_ok=True)
    AutoModelForCausalLM.register(WorkbenchGPTConfig, WorkbenchGPTForCausalLM, exist_ok=True)


register()
