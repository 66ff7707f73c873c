"""The tables of a recipe: every key with its type, range, default and meaning.

The form on the Train page, the command-line help and the docs are made from them.
Pydantic checks them (`workbench.training.schema`); as objects they are plain frozen dataclasses.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
)
from pydantic import StrictStr as Text
from pydantic_core import CoreSchema, core_schema

CLOSED = ConfigDict(extra="forbid")
"""Unknown keys are refused."""
LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""
SMALLEST_BPE = 257
"""Byte-level BPE begins with all 256 bytes and the end-of-text mark."""

Count = Annotated[StrictInt, Field(ge=1, le=10**12)]
Positive = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, le=1)]
BelowOne = Annotated[StrictFloat, Field(ge=0, lt=1)]
Width = Annotated[StrictInt, Field(ge=1, le=2**17)]


def _listed(value: Any) -> Any:
    """A single string as a list of one."""
    return [value] if isinstance(value, str) else value


class Table:
    """Annotation of a dictionary that is validated as a dataclass but stays a dictionary."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The hook by which pydantic lets an annotation define its validation."""

        def keep(value: Any, check: Any) -> dict[str, Any]:
            check(value)
            return dict(value)

        return core_schema.no_info_wrap_validator_function(keep, handler.generate_schema(self.cls))


@dataclass(frozen=True)
class Shape:
    """`[model]`: the shape of a new model; a missing key has the model's own default."""

    __pydantic_config__ = CLOSED

    n_ctx: Annotated[
        StrictInt,
        Field(ge=2, le=2**20, title="Context", description="Tokens that the model sees at once."),
    ] = 256
    n_layers: Annotated[StrictInt, Field(ge=1, le=1000, title="Layers", description="Blocks.")] = 4
    n_heads: Annotated[
        StrictInt, Field(ge=1, le=1024, title="Heads", description="Attention heads per layer.")
    ] = 4
    n_kv_heads: Annotated[
        StrictInt | None,
        Field(ge=1, description="Fewer than `n_heads` for grouped-query attention."),
    ] = None
    d_model: Annotated[
        Width, Field(title="d_model", description="Width of the residual stream.")
    ] = 128
    d_head: Annotated[
        Width | None, Field(description="Width of a head; else `d_model / n_heads`.")
    ] = None
    d_mlp: Annotated[
        Width | None,
        Field(
            title="d_mlp",
            description="Width of the MLP; else 4 `d_model` (swiglu: 8/3, to the next 32).",
        ),
    ] = None
    positions: Annotated[
        Literal["learned", "sinusoidal", "rotary", "alibi", "none"],
        Field(title="Positions", description="Position encoding."),
    ] = "rotary"
    norm: Annotated[Literal["layernorm", "rmsnorm"], Field(description="The normalisation.")] = (
        "rmsnorm"
    )
    mlp: Annotated[
        Literal["gelu", "swiglu", "relu2"], Field(description="The MLP's activation.")
    ] = "swiglu"
    qk_norm: Annotated[StrictBool, Field(description="Normalise queries and keys.")] = False
    bias: Annotated[StrictBool, Field(description="Biases in linear layers and LayerNorm.")] = False
    tie_word_embeddings: Annotated[
        StrictBool, Field(description="Share one matrix between embedding and unembedding.")
    ] = True
    rotary_base: Annotated[Positive, Field(description="The base of rotary wavelengths.")] = 10000.0
    norm_eps: Annotated[Positive, Field(description="Added to the variance before its root.")] = (
        1e-5
    )
    zero_init: Annotated[StrictBool, Field(description="Start every block as the identity.")] = (
        False
    )
    dropout: Annotated[
        BelowOne, Field(description="Share of activations that training sets to zero.")
    ] = 0.0
    initializer_range: Annotated[
        Positive, Field(description="Standard deviation of the initial weights.")
    ] = 0.02
    use_cache: Annotated[
        StrictBool, Field(description="Cache keys and values while generating.")
    ] = True


@dataclass(frozen=True)
class TokenizerTable:
    """`[tokenizer]`: trained on the corpus (bpe, char, word), or taken from a model."""

    __pydantic_config__ = CLOSED

    kind: Annotated[
        Literal["bpe", "char", "word", "model"],
        Field(description="Byte-level BPE, one token per character or per word, or a model's own."),
    ] = "bpe"
    d_vocab: Annotated[
        StrictInt,
        Field(
            ge=SMALLEST_BPE,
            le=10**6,
            description="Size of a bpe vocabulary: 256 bytes, the end token, merges.",
        ),
    ] = 4096
    source: Annotated[
        Text, Field(description="With kind = model: the model whose tokenizer is used.")
    ] = ""


@dataclass(frozen=True)
class Corpus:
    """`[corpus]`: the training text, and how much of it is held out.

    - `split` is document (each document's own hash decides) or tail (the last characters, for a
      corpus that is one text)
    - `aligned` is for documents that all have one shape, such as pictures, and fit in the context
    - `repeated` lets a small model learn induction on a small budget; natural text alone teaches it
      only after many more tokens
    """

    __pydantic_config__ = CLOSED

    sources: Annotated[
        list[Text],
        BeforeValidator(_listed),
        Field(
            title="Corpus",
            description="Files, folders or their URLs (`s3://bucket/folder`), names of sets, "
            "Hugging Face ids, `generated`, `digits` or `grammar`.",
        ),
    ] = field(default_factory=list)
    validation: Annotated[
        BelowOne,
        Field(
            title="Held-out share",
            description="Share held out for validation; pretraining needs some.",
        ),
    ] = 0.02
    repeated: Annotated[
        Share,
        Field(
            description=(
                "Share of training rows that repeat one span, half of them with shuffled tokens."
            )
        ),
    ] = 0.0
    split: Annotated[
        Literal["document", "tail"],
        Field(description="Hold out whole documents, or the last characters."),
    ] = "document"
    aligned: Annotated[
        StrictBool,
        Field(
            description=(
                "Begin every row with a document, so that a position means the same in all rows."
            )
        ),
    ] = False
    column: Annotated[
        str,
        Field(
            description=("Column that holds the text of a table, if its name is not a usual one.")
        ),
    ] = ""
    unwrap: Annotated[
        bool,
        Field(description=("Join the lines of paragraphs in hard-wrapped prose.")),
    ] = False


@dataclass(frozen=True)
class Optimisation:
    """`[train]`: steps, rates, evaluation and checkpoints.

    - `lr` serves matrices; with Muon, AdamW's rate for everything else is `embedding_lr` times it
    - `momentum` is Muon's, `beta2` AdamW's; a run of a few hundred steps learns faster with less
    - `sharded`: each of several processes holds a slice of the weights (FSDP2) instead of all (DDP)
    """

    __pydantic_config__ = CLOSED

    steps: Annotated[Count, Field(title="Steps", description="Updates of the weights.")] = 1000
    batch_size: Annotated[
        StrictInt, Field(ge=1, le=10**6, title="Batch size", description="Rows per step.")
    ] = 16
    lr: Annotated[Positive, Field(title="Peak lr", description="Peak learning rate.")] = 3e-3
    embedding_lr: Annotated[Positive, Field(description="With Muon: AdamW's rate over lr.")] = 1.0
    warmup: Annotated[
        StrictInt, Field(ge=0, description="Steps over which the learning rate rises.")
    ] = 50
    decay: Annotated[
        Share,
        Field(description="Trapezoid: share of the steps, at the end, over which the rate falls."),
    ] = 0.3
    weight_decay: Annotated[
        NotNegative, Field(description="Decoupled weight decay of matrices.")
    ] = 0.1
    clip: Annotated[Positive, Field(description="Norm to which gradients are clipped.")] = 1.0
    optimizer: Annotated[
        Literal["muon", "adamw"],
        Field(description="Muon for matrices in blocks and AdamW for the rest, or AdamW."),
    ] = "muon"
    schedule: Annotated[
        Literal["trapezoid", "cosine"], Field(description="How the learning rate falls.")
    ] = "trapezoid"
    min_lr: Annotated[NotNegative, Field(description="Final learning rate.")] = 0.0
    momentum: Annotated[BelowOne, Field(description="Muon's momentum.")] = 0.95
    beta2: Annotated[BelowOne, Field(description="AdamW's beta2.")] = 0.95
    ema: Annotated[
        BelowOne,
        Field(
            description=(
                "Decay of a moving average of the weights, which is evaluated and saved; 0: none."
            )
        ),
    ] = 0.0
    accumulate: Annotated[
        StrictInt,
        Field(
            ge=0,
            description="Gradient accumulation: parts of a step's rows; 0 adapts to the memory.",
        ),
    ] = 1
    precision: Annotated[
        Literal["auto", "no", "bf16"],
        Field(description="Mixed precision; auto is bf16 if the hardware has it."),
    ] = "auto"
    compile: Annotated[
        StrictBool | None,
        Field(description="torch.compile model and loss; if missing, in pretraining on a GPU."),
    ] = None
    checkpointing: Annotated[
        StrictBool,
        Field(description="Gradient checkpointing: recompute activations to save memory."),
    ] = False
    sharded: Annotated[
        StrictBool, Field(description="Shard the weights over several processes (FSDP2).")
    ] = False
    eval_every: Annotated[
        Count, Field(title="Eval every", description="Steps between two evaluations.")
    ] = 100
    eval_tokens: Annotated[Count, Field(description="Held-out tokens per evaluation.")] = 32_768
    checkpoint_every: Annotated[
        Count, Field(title="Save every", description="Steps between two checkpoints.")
    ] = 500
    keep: Annotated[
        StrictInt,
        Field(
            ge=1,
            description="How many of the last checkpoints to keep (two or more), besides the best.",
        ),
    ] = 3
    series: Annotated[
        StrictInt,
        Field(ge=0, description="How many log-spaced checkpoints to keep for good."),
    ] = 0
    seed: Annotated[
        StrictInt,
        Field(
            ge=0,
            le=LARGEST_SEED,
            title="Seed",
            description="Random seed of weights, rows and dropout.",
        ),
    ] = 0


@dataclass(frozen=True)
class TaskTable:
    """`[task]` of a fine-tune: the data, and how an example becomes a prompt."""

    __pydantic_config__ = CLOSED

    kind: Annotated[
        Literal["classification", "entities", "questions", "chat", "rewriting"],
        Field(description="Kind of task; if missing, the data set's own, else classification."),
    ] = "classification"
    data: Annotated[Text, Field(description="A set's name, Hugging Face id, file or URL.")] = ""
    test: Annotated[
        Text, Field(description="Held-out data instead of the set's own: a set, an id or a file.")
    ] = ""
    max_length: Annotated[
        Count, Field(title="Longest example", description="Maximum of tokens per example.")
    ] = 512
    eval_items: Annotated[
        Count,
        Field(
            title="Items asked before and after",
            description="Held-out items that both models answer.",
        ),
    ] = 200
    prompt: Annotated[
        Text, Field(title="Prompt", description="Prompt template, with fields in braces.")
    ] = ""
    labels: Annotated[
        list[Text | StrictInt], Field(description="Classification: the set of labels.")
    ] = field(default_factory=list)
    text: Annotated[str, Field(description="Classification: the column with the text.")] = ""
    label: Annotated[str, Field(description="Classification: the column with the label.")] = ""
    tokens: Annotated[str, Field(description="Entities: the column with the words.")] = ""
    tags: Annotated[str, Field(description="Entities: the column with the tags.")] = ""
    context: Annotated[str, Field(description="Questions: the column with the passage.")] = ""
    question: Annotated[str, Field(description="Questions: the column with the question.")] = ""
    answers: Annotated[str, Field(description="Questions: the column with the answers.")] = ""
    messages: Annotated[str, Field(description="Chat: the column with whole conversations.")] = ""
    response: Annotated[str, Field(description="Chat: the column with the reply.")] = ""
    source: Annotated[str, Field(description="Rewriting: the column with the text to read.")] = ""
    target: Annotated[str, Field(description="Rewriting: the column with the text to write.")] = ""


@dataclass(frozen=True)
class Lora:
    """`[lora]` of a fine-tune: trains adapters instead of all weights; may be empty."""

    __pydantic_config__ = CLOSED

    r: Annotated[
        StrictInt, Field(ge=1, le=2**14, title="LoRA rank", description="Rank of each update.")
    ] = 8
    alpha: Annotated[Positive, Field(description="Updates are scaled by alpha / r.")] = 16.0
    dropout: Annotated[BelowOne, Field(description="Dropout on the adapter's input.")] = 0.0
    targets: Annotated[
        Text | list[Text],
        Field(description="`all-linear` (all but the unembedding), or names of layers."),
    ] = "all-linear"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Lora":
        """The settings of a `[lora]` table. Raises `WorkbenchError` naming every wrong key."""
        from workbench.training import schema

        return schema.checked(cls, values, table="lora")


@dataclass(frozen=True)
class Privacy:
    """`[privacy]` of a fine-tune: DP-SGD, which bounds what a single example can change.

    The guarantee is for the weights and one example more or less. It needs `optimizer = "adamw"`
    and the package's extra `privacy`.
    """

    __pydantic_config__ = CLOSED

    epsilon: Annotated[
        StrictFloat,
        Field(
            gt=0,
            le=10**6,
            allow_inf_nan=False,
            title="Privacy budget (epsilon)",
            description="Of the whole run; the less, the more noise. 8 is weak, 1 is strong.",
        ),
    ] = 8.0
    delta: Annotated[
        BelowOne,
        Field(description="Probability that the guarantee fails; 0: half of 1 / examples."),
    ] = 0.0
    max_norm: Annotated[
        Positive,
        Field(description="Norm to which each example's gradient is clipped."),
    ] = 1.0
