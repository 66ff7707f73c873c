"""The limits of a service, and the form of its refusals."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse


@dataclass(frozen=True)
class Limits:
    """The limits of a service.

    - `body`: bytes of a request; `body_seconds`: time to send them
    - `seconds`: time for a whole answer
    - `texts`: texts per request (prompts times choices)
    - `rows`, `waiting`: texts in generation and waiting, per model
    - `at_once`: requests being answered at the same time
    - `tokens`: tokens of prompts and answers in generation, per model; bounds the KV cache
    - `memory`: bytes of loaded weights; `prefixes`: bytes of cached prompt beginnings, per model
    - `drain`: seconds to finish open requests when the service stops
    """

    body: int = 8 << 20
    body_seconds: float = 20
    seconds: float = 600
    texts: int = 128
    rows: int = 16
    waiting: int = 128
    at_once: int = 256
    tokens: int = 1 << 16
    memory: int = 4 << 30
    prefixes: int = 1 << 28
    drain: float = 30


class ApiError(Exception):
    """A refusal in OpenAI's form.

    Args:
        status: Of HTTP.
        message: What is wrong, and the mend.
        param: The field at fault.
        code: A fixed word for programs.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def to_dict(self) -> dict[str, Any]:
        """The body of the HTTP answer."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        }

    def response(self) -> JSONResponse:
        """The HTTP answer; for 429 and 503 it says when to retry."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.to_dict(), self.status, headers)
