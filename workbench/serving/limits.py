"""How much one service takes on, and the words in which it refuses."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse


@dataclass(frozen=True)
class Limits:
    """What is refused beyond.

    - `body`: bytes of a request; `body_seconds`: time to send them; `seconds`: time for the whole
        answer
    - `texts`: texts that one request may ask for (prompts times choices)
    - `rows`, `waiting`: texts under way and waiting, a model; `at_once`: requests under way
        together
    - `tokens`: tokens of prompts and answers of one model's texts together, which bounds the cache
    - `memory`: bytes of weights loaded together; `prefixes`: bytes of beginnings kept, a model
    - `drain`: seconds that requests under way get when the service is told to stop
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
    """A refusal, in OpenAI's form: which field (`param`), why, and the HTTP status."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        }

    def response(self) -> JSONResponse:
        """The answer; one who is to come again is told when."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.to_dict(), self.status, headers)
