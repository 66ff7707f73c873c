"""The fields of requests; unknown fields and unsupported values are refused by name."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Number = Annotated[float, Field(allow_inf_nan=False, strict=False)]
Token = Annotated[int, Field(strict=True, ge=0)]
Tokens = Annotated[list[Token], Field(min_length=1)]


class Fields(BaseModel):
    """The body of a request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Capture(Fields):
    """Activations to return: sites, layers, and positions in prompt and answer together."""

    sites: list[StrictStr] = Field(
        min_length=1, max_length=16, description="TransformerLens's names: resid_post, z"
    )
    layers: list[StrictInt] | None = Field(None, description="all, if left out")
    positions: list[StrictInt] | None = Field(
        None, description="all, if left out; negative ones count from the end"
    )


class Explain(Fields):
    """Why each token came: alternatives, attribution over the text before it, logit lens, heads."""

    tokens: StrictInt = Field(
        16, ge=1, le=64, description="explain at most the first so many generated tokens"
    )
    top: StrictInt = Field(5, ge=1, le=20, description="alternatives, and heads, a token")


class Extra(Fields):
    """Extensions of the workbench to OpenAI's fields."""

    intervention: dict[str, Any] | None = Field(
        None, description="the JSON of an edit, for this request alone"
    )
    capture: Capture | None = None
    explain: Explain | None = None


class StreamOptions(Fields):
    """How a stream ends."""

    include_usage: StrictBool = False


class Sampled(Fields):
    """The fields that completions and chat have in common."""

    model: StrictStr
    n: Annotated[int, Field(strict=True, ge=1, le=128)] | None = None
    stop: StrictStr | Annotated[list[StrictStr], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=0)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    logit_bias: dict[str, Annotated[Number, Field(ge=-100, le=100)]] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    user: StrictStr | None = Field(None, description="taken and not used: nothing is kept by user")
    workbench: Extra | None = None


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: (
        StrictStr
        | Tokens
        | Annotated[list[StrictStr], Field(min_length=1)]
        | Annotated[list[Tokens], Field(min_length=1)]
    )
    max_tokens: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        None, description="16, if left out"
    )
    echo: StrictBool | None = None
    logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(strict=True, ge=1, le=128)] | None = None


class Part(Fields):
    """A part of a message; only text is supported."""

    type: Literal["text"]
    text: StrictStr


class ChatMessage(Fields):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: StrictStr | list[Part]
    name: StrictStr | None = None


class ResponseFormat(Fields):
    """The format of the answer; only plain text is supported."""

    type: Literal["text"]


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = Field(
        None, description="given to a chat template that knows them"
    )
    response_format: ResponseFormat | None = None


class EmbeddingRequest(Fields):
    """POST /v1/embeddings."""

    model: StrictStr
    input: (
        StrictStr
        | Tokens
        | Annotated[list[StrictStr], Field(min_length=1, max_length=256)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=256)]
    )
    layer: StrictInt | None = Field(
        None, description="of its residual stream after it the mean; the last, if left out"
    )
    encoding_format: Literal["float", "base64"] | None = None
    user: StrictStr | None = None


class TokenizeRequest(Fields):
    """POST /v1/tokenize."""

    model: StrictStr
    prompt: StrictStr
    add_special_tokens: StrictBool = True


class DetokenizeRequest(Fields):
    """POST /v1/detokenize."""

    model: StrictStr
    tokens: list[Token]
