"""The routes of the API."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from anyio import to_thread
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from workbench.serving import fields, readings, records
from workbench.serving.chat import Chat
from workbench.serving.completions import Completions
from workbench.serving.document import document, page
from workbench.serving.limits import ApiError
from workbench.serving.listing import entry
from workbench.serving.metrics import metrics
from workbench.serving.models import Served
from workbench.serving.service import Endpoint, Events, Handler, Service, unless_left


async def list_models(service: Service, request: Request) -> Any:
    """GET /v1/models: the models that requests may name."""
    listed = await to_thread.run_sync(service.models.available)
    loaded = service.models.loaded()
    return {"object": "list", "data": [entry(a, loaded.get(a.name)) for a in listed]}


async def one_model(service: Service, request: Request) -> Any:
    """GET /v1/models/{name}: loads the model if needed, so that its hash is known."""
    name = request.path_params["name"]
    with ExitStack() as stack:
        served = await service.hold(stack, name)
        listed = next((a for a in service.models.available() if a.name == name), None)
        return entry(listed or name, served)


def _generating(kind: type[fields.Sampled], work: Callable[..., Any]) -> Handler:
    """The handler of a generating path; `work` is `Completions` or `Chat`."""

    async def handler(service: Service, request: Request) -> Any:
        body = await service.body(request, kind)
        with ExitStack() as stack:
            served = await service.hold(
                stack, body.model, body.workbench.intervention if body.workbench else None
            )
            job = await to_thread.run_sync(work, body, served, service.limits)
            if not body.stream:
                return JSONResponse(
                    await unless_left(request, job.whole()), headers=_weights(served)
                )
            chunks = job.stream()
            first = await anext(chunks)
            response = Events(chunks, first, stack.pop_all().close)
            response.headers.update(_weights(served))
            return response

    return handler


def _reading(kind: type[BaseModel], work: Callable[[Any, Served], Any]) -> Handler:
    """The handler of a path that reads a model in one go; `work` makes the answer."""

    async def handler(service: Service, request: Request) -> Any:
        body = await service.body(request, kind)
        with ExitStack() as stack:
            served = await service.hold(stack, body.model)
            return JSONResponse(
                await to_thread.run_sync(work, body, served), headers=_weights(served)
            )

    return handler


def _weights(served: Any) -> dict[str, str]:
    return {"X-Workbench-Sha256": served.subject.hash}


async def health(service: Service, request: Request) -> Response:
    """GET /health: whether the service runs, and its loaded models."""
    return JSONResponse(
        {
            "status": "ok",
            "models": sorted({s.subject.name for s in service.models.loaded().values()}),
        }
    )


async def numbers(service: Service, request: Request) -> Response:
    """GET /metrics: for Prometheus."""
    return PlainTextResponse(metrics(service), media_type="text/plain; version=0.0.4")


async def openapi(service: Service, request: Request) -> Response:
    """GET /v1/openapi.json: the OpenAPI document."""
    return JSONResponse(document())


async def docs(service: Service, request: Request) -> Response:
    """GET /v1/docs: the OpenAPI document as a page."""
    return HTMLResponse(page())


async def nothing(service: Service, request: Request) -> Response:
    """Every other path of the API: 404."""
    raise ApiError(404, f"There is no {request.url.path}; see /v1/docs.", code="unknown_url")


POSTS: dict[str, tuple[type[BaseModel], Handler]] = {
    "/completions": (fields.CompletionRequest, _generating(fields.CompletionRequest, Completions)),
    "/chat/completions": (fields.ChatRequest, _generating(fields.ChatRequest, Chat)),
    "/embeddings": (
        fields.EmbeddingRequest,
        _reading(fields.EmbeddingRequest, readings.embeddings),
    ),
    "/tokenize": (fields.TokenizeRequest, _reading(fields.TokenizeRequest, readings.tokenize)),
    "/detokenize": (
        fields.DetokenizeRequest,
        _reading(fields.DetokenizeRequest, readings.detokenize),
    ),
}
GETS = {
    "/models": list_models,
    "/models/{name:path}": one_model,
    "/openapi.json": openapi,
    "/docs": docs,
}


def routes(service: Service) -> list[BaseRoute]:
    """The routes of the API, to mount beside pages or to serve alone."""
    inner: list[BaseRoute] = [
        Route(path, Endpoint(service, handler, path), methods=["POST"])
        for path, (_, handler) in POSTS.items()
    ]
    inner += [
        Route(path, Endpoint(service, handler, path), methods=["GET"])
        for path, handler in GETS.items()
    ]
    inner.append(
        Route("/{rest:path}", Endpoint(service, nothing, "other"), methods=["GET", "POST"])
    )
    return [
        Mount("/v1", routes=inner),
        Mount(records.PREFIX, routes=_records(service)),
        Route("/health", Endpoint(service, health, "/health"), methods=["GET"]),
        Route("/metrics", Endpoint(service, numbers, "/metrics"), methods=["GET"]),
    ]


def _records(service: Service) -> list[BaseRoute]:
    """The routes of records and their jobs."""
    inner: list[BaseRoute] = [
        Route(
            path,
            Endpoint(service, records.asking(kind, work), f"{records.PREFIX}{path}"),
            methods=["POST"],
        )
        for path, (kind, work, _) in records.POSTS.items()
    ]
    name = f"{records.PREFIX}/jobs"
    inner += [
        Route("/jobs/{id}", Endpoint(service, records.look, name), methods=["GET"]),
        Route("/jobs/{id}", Endpoint(service, records.stop, name), methods=["DELETE"]),
        Route(
            "/{rest:path}",
            Endpoint(service, records.nothing, "other"),
            methods=["GET", "POST", "DELETE"],
        ),
    ]
    return inner
