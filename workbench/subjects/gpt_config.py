"""The configuration of the small GPT: its sizes, and the parts that can be exchanged."""

from typing import NamedTuple

from transformers.configuration_utils import PreTrainedConfig

from workbench.errors import WorkbenchError
from workbench.subjects.config_types import check_types
from workbench.subjects.positions import ENCODINGS

NORMS = ("layernorm", "rmsnorm", "none")
MLPS = ("gelu", "gelu_exact", "swiglu", "relu", "relu2", "none")
SHORT_ROWS = "workbench_short_rows"
"""Training's own attention back end (`workbench.training.attending`)."""
CAUSAL_WITHOUT_MASK = ("sdpa", SHORT_ROWS)
"""Attention back ends that can be told that whole rows are causal."""


class Sizes(NamedTuple):
    """The sizes of a configuration that may be left out, filled in."""

    n_kv_heads: int
    d_head: int
    d_mlp: int


class WorkbenchGPTConfig(PreTrainedConfig):
    """The configuration of a small GPT, with TransformerLens's names for the sizes.

    - `positions`: learned, sinusoidal, rotary, alibi or none
    - `norm`: layernorm, rmsnorm or none
    - `mlp`: gelu (GPT-2's tanh form), gelu_exact, swiglu (Llama's), relu, relu2 (squared ReLU), or
      none, an MLP without neurons, which makes the model attention-only
    - `n_kv_heads`: fewer than `n_heads` for grouped-query attention; None for as many
    - `d_head`: None for `d_model / n_heads`
    - `d_mlp`: None for `4 d_model` (swiglu: `8/3 d_model`, rounded up to a multiple of 32)
    - `bias`: whether linear layers have biases, all but the unembedding (`unembed_bias`)
    - `zero_init`: start the projections into the residual stream at zero, so that every block
      starts as the identity
    - `dropout`: the share of the embedding, of patterns and of what layers add to the stream that
      is set to zero in training

    Raises:
        WorkbenchError: The model cannot be built.
    """

    model_type = "workbench-gpt"
    keys_to_ignore_at_inference = ("cache",)
    # transformers looks sizes up by its own names; saved files have ours.
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
    dropout: float = 0.0
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs):
        check_types(self)
        self.n_kv_heads = self.n_kv_heads or self.n_heads
        self.d_head = self.d_head or self.d_model // self.n_heads
        # SwiGLU has three matrices where other MLPs have two: 8/3 d_model instead of 4 d_model
        # gives the same number of parameters. Multiples of 32 are fast on GPUs.
        swiglu_width = -(-self.d_model * 8 // 3 // 32) * 32
        default_width = swiglu_width if self.mlp == "swiglu" else 4 * self.d_model
        self.d_mlp = 0 if self.mlp == "none" else self.d_mlp or default_width
        super().__post_init__(**kwargs)
        for value, allowed, what in (
            (self.positions, ENCODINGS, "positions"),
            (self.norm, NORMS, "norm"),
            (self.mlp, MLPS, "mlp"),
        ):
            if value not in allowed:
                raise WorkbenchError(f"{what} is {value!r}; choose one of {', '.join(allowed)}.")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise WorkbenchError(
                f"dropout is {self.dropout!r}; it must be a number at least 0 and below 1."
            )
        if self.n_heads % self.n_kv_heads:
            raise WorkbenchError(
                f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}."
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise WorkbenchError(f"rotary needs an even d_head; got {self.d_head}.")

    @property
    def sizes(self) -> Sizes:
        """The sizes that may be None when a configuration is written, filled in."""
        assert self.n_kv_heads is not None
        assert self.d_head is not None
        assert self.d_mlp is not None
        return Sizes(self.n_kv_heads, self.d_head, self.d_mlp)
