"""The fields of requests for records; they are named like the parameters of the Python API."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr

from workbench.serving.fields import Fields, Number

Words = StrictStr | Annotated[list[StrictStr], Field(min_length=1, max_length=16)]


class Reading(Fields):
    """The field that all requests for records have."""

    wait: Annotated[Number, Field(ge=0, le=60)] = Field(
        10.0, description="seconds to wait for the record; after them a job comes, to be polled"
    )

    def names(self) -> list[str]:
        """The models that are read."""
        fields: Any = self  # every subclass has `model`, or overrides this
        return [fields.model]


class AttentionRequest(Reading):
    """POST /workbench/v1/attention."""

    model: StrictStr
    prompt: StrictStr


class HeadsRequest(Reading):
    """POST /workbench/v1/heads."""

    model: StrictStr
    texts: Annotated[list[StrictStr], Field(min_length=1, max_length=64)] | None = Field(
        None, description="score on these, not on random tokens given twice"
    )
    n: StrictInt = Field(8, ge=1, le=64, description="sequences of random tokens")
    length: StrictInt = Field(50, ge=4, le=512, description="tokens that are given twice")
    seed: StrictInt = Field(0, ge=0, lt=2**31)


class PatchRequest(Reading):
    """POST /workbench/v1/patch."""

    model: StrictStr
    clean: StrictStr
    corrupted: StrictStr
    answer: Words
    wrong: Words
    site: StrictStr = Field("resid_pre", description="one of the sites of `workbench.SITES`")
    direction: Literal["denoising", "noising"] = "denoising"
    metric: StrictStr = Field("logit_difference", description="one of `workbench.METRICS`")
    replacement: StrictStr = Field("other", description="one of `workbench.REPLACEMENTS`")
    layer: StrictInt | None = Field(None, description="the one layer to sweep; all, if left out")
    window: StrictInt = Field(1, ge=1, le=64)
    also: StrictStr = ""
    seed: StrictInt = Field(0, ge=0, lt=2**31)


class LensRequest(Reading):
    """POST /workbench/v1/lens."""

    model: StrictStr
    prompt: StrictStr
    kind: Literal["logit", "tuned"] = "logit"
    answer: Words | None = Field(None, description="one token each, followed through the layers")


class CompareRequest(Reading):
    """POST /workbench/v1/compare."""

    base: StrictStr
    tuned: StrictStr
    suite: StrictStr = Field("core", description="a registered suite, for the part `behaviour`")
    limit: StrictInt = Field(100, ge=1, le=10_000, description="items a task")
    seed: StrictInt = Field(0, ge=0, lt=2**31)
    parts: Annotated[
        list[Literal["behaviour", "text", "layers", "heads", "weights"]],
        Field(min_length=1, max_length=5),
    ] = Field(
        ["text", "layers", "heads", "weights"],
        description="what is compared; behaviour runs the suite",
    )

    def names(self) -> list[str]:
        """Both models."""
        return [self.base, self.tuned]
