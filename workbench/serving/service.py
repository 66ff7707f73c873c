"""The service: its models and counters, and the way from a request's body to an answer."""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from anyio import to_thread
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from workbench import memory
from workbench.errors import WorkbenchError
from workbench.serving.jobs import Jobs
from workbench.serving.limits import ApiError, Limits
from workbench.serving.models import Models, Served, change_of

log = logging.getLogger("workbench.serving")
Handler = Callable[["Service", Request], Awaitable[Any]]


class Service:
    """What all routes share: models, limits, jobs and counters.

    Args:
        models: By name.
        limits: Of the service.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models = models
        self.limits = limits
        self.jobs = Jobs()
        self.began = time.time()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.at_once = 0

    async def body(self, request: Request, kind: type[BaseModel]) -> Any:
        """The validated fields of a request.

        Args:
            request: Its body must be a JSON object.
            kind: The fields to validate against.

        Raises:
            ApiError: For a body that is too long, too slow or not JSON, or a wrong field.
        """
        if (
            request.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise ApiError(
                415, "The body must be JSON, with the header Content-Type: application/json."
            )
        raw = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for piece in request.stream():
                    raw += piece
                    if len(raw) > self.limits.body:
                        raise ApiError(
                            413, f"The body is longer than {self.limits.body >> 20} MiB."
                        )
        except TimeoutError as error:
            raise ApiError(408, "The body did not come in time.") from error
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"The body is not JSON ({error}).") from error
        if not isinstance(fields, dict):
            raise ApiError(400, "The body must be a JSON object.")
        try:
            return kind.model_validate(fields)
        except (ValidationError, RecursionError) as error:
            raise _refusal(error, fields) from error

    async def hold(
        self, stack: ExitStack, name: str, change: dict[str, Any] | None = None
    ) -> Served:
        """The model of a request.

        Args:
            stack: The model stays in memory until it closes.
            name: Of the model.
            change: The JSON of an intervention for this request alone.

        Raises:
            ApiError: For an unknown model, an invalid intervention, or too little memory.
        """
        held = self.models.use(name, change_of(change))
        try:
            return await to_thread.run_sync(stack.enter_context, held)
        except WorkbenchError as error:
            raise ApiError(
                400, str(error), param="model" if change is None else "workbench.intervention"
            ) from error


def _refusal(error: ValidationError | RecursionError, fields: dict[str, Any]) -> ApiError:
    """The refusal for the first invalid field of a body."""
    if isinstance(error, RecursionError):
        return ApiError(400, "The body is nested too deeply.")
    first = error.errors(include_url=False, include_input=False)[0]
    field = _field(first["loc"], fields, missing=first["type"] == "missing")
    if first["type"] == "extra_forbidden":
        return ApiError(
            400,
            f"{field} is not supported here; leave it out.",
            param=field,
            code="unsupported_parameter",
        )
    return ApiError(400, f"{field}: {first['msg']}.", param=field, code="invalid_value")


def _field(path: tuple[int | str, ...], fields: Any, *, missing: bool) -> str:
    """The path of an invalid field in a body, without pydantic's names for members of a union."""
    names = []
    for at, part in enumerate(path):
        if isinstance(fields, dict) and part in fields:
            fields = fields[part]
        elif isinstance(fields, list) and isinstance(part, int) and part < len(fields):
            fields = fields[part]
        elif not (missing and at == len(path) - 1):
            continue
        names.append(str(part))
    return ".".join(names)


class Endpoint:
    """A handler as an ASGI app: refuses in OpenAI's form, limits time and load, counts answers.

    Args:
        service: Passed to the handler.
        handler: Makes the answer.
        name: Of the endpoint, for counts and the log.
    """

    def __init__(self, service: Service, handler: Handler, name: str) -> None:
        self.service = service
        self.handler = handler
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        service = self.service
        state = {"status": 0}

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
            await send(message)

        service.at_once += 1
        try:
            async with asyncio.timeout(service.limits.seconds):
                response = await self._answer(Request(scope, receive))
                await response(scope, receive, sending)
        except TimeoutError:
            if not state["status"]:
                refusal = ApiError(
                    504, f"There was no answer within {service.limits.seconds:g} s.", code="timeout"
                )
                await refusal.response()(scope, receive, sending)
        except (ClientDisconnect, OSError):
            state["status"] = 499
        finally:
            service.at_once -= 1
            service.answers[self.name, state["status"]] += 1
        if memory.due():
            await to_thread.run_sync(memory.settle)

    async def _answer(self, request: Request) -> Response:
        service = self.service
        if service.at_once > service.limits.at_once:
            return ApiError(
                429, "Too many requests are under way; ask again later.", code="too_many"
            ).response()
        try:
            answer = await self.handler(service, request)
            return answer if isinstance(answer, Response) else JSONResponse(answer)
        except ApiError as error:
            return error.response()
        except WorkbenchError as error:
            return ApiError(400, str(error)).response()
        except ClientDisconnect:
            raise
        except Exception:  # the edge of the service: tell the caller, and log the details
            log.exception("%s failed", self.name)
            return ApiError(
                500, "This is a fault of the workbench; the log has the details."
            ).response()


class Events(Response):
    """A stream of chunks as server-sent events; it is cancelled when the client leaves.

    Args:
        chunks: The further chunks.
        first: The first chunk, made before, so that an early failure has an HTTP status.
        done: Called at the end.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[dict[str, Any]],
        first: dict[str, Any],
        done: Callable[[], None],
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self.headers["cache-control"] = "no-cache"
        del self.headers["content-length"]
        self.chunks = chunks
        self.first = first
        self.done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks as they come."""
        leaving = asyncio.ensure_future(_left(receive))
        sending = asyncio.ensure_future(self._send(send))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, sending):
                task.cancel()
            results = await asyncio.gather(leaving, sending, return_exceptions=True)
            self.done()
        if isinstance(results[1], Exception):
            raise results[1]

    async def _send(self, send: Send) -> None:
        async def event(data: str) -> None:
            await send(
                {
                    "type": "http.response.body",
                    "body": f"data: {data}\n\n".encode(),
                    "more_body": True,
                }
            )

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await event(json.dumps(self.first))
        try:
            async for chunk in self.chunks:
                await event(json.dumps(chunk))
        except ApiError as error:
            await event(json.dumps(error.to_dict()))
        finally:
            await self.chunks.aclose()
        await event("[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(request: Request, answer: Awaitable[Any]) -> Any:
    """Await the answer, but cancel it when the client leaves (`ClientDisconnect`)."""
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
