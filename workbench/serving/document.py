"""The OpenAPI document of the API, and a page that shows it without JavaScript."""

from functools import cache
from html import escape
from importlib.metadata import version
from typing import Any, Literal, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

SUMMARIES = {
    "/completions": "Text that goes on from prompts",
    "/chat/completions": "The next turn of a conversation",
    "/embeddings": "The mean of a layer's residual stream",
    "/tokenize": "The tokens of a text",
    "/detokenize": "The text of tokens",
}
REFUSALS = {
    "400": "A field is wrong or not supported; the error names it",
    "401": "The key is missing or wrong",
    "404": "There is no such model",
    "408": "The body did not come in time",
    "413": "The body is too long",
    "415": "The body is not JSON",
    "429": "Too many requests; come again after Retry-After seconds",
    "503": "The model does not fit beside those in use",
    "504": "There was no answer in time",
}

JOB = {
    "200": {"description": "The record, or the job that was stopped"},
    "202": {"description": "It goes on"},
    "410": {"description": "It was stopped"},
}
"""The answers to a question about a job."""


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document as a dictionary."""
    from workbench.serving import records
    from workbench.serving.routes import POSTS

    posts = {f"/v1{path}": (kind, SUMMARIES[path]) for path, (kind, _) in POSTS.items()}
    posts |= {
        f"{records.PREFIX}{path}": (kind, words) for path, (kind, _, words) in records.POSTS.items()
    }
    models = [(kind, "validation") for kind, _ in posts.values()]
    kinds = cast(list[tuple[type[BaseModel], Literal["validation", "serialization"]]], models)
    named, definitions = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
    refusals = {
        status: {
            "description": words,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, words in REFUSALS.items()
    }
    answer = {
        "200": {
            "description": "The answer",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    }
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    paths: dict[str, Any] = {}
    for (path, (kind, words)), at in zip(posts.items(), kinds, strict=True):
        given = {"200": {"description": "The answer", "content": {**answer["200"]["content"]}}}
        if "completions" in path:
            given["200"]["content"] |= stream
        if path.startswith(records.PREFIX):
            given["202"] = {
                **answer["200"],
                "description": "A job that goes on; `poll` says where to ask",
            }
        paths[path] = {
            "post": {
                "summary": words,
                "operationId": kind.__name__,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": named[at]}},
                },
                "responses": {**given, **refusals},
            }
        }
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models"] = {
        "get": {"summary": "What may be asked for", "responses": {**answer, "401": refusals["401"]}}
    }
    paths["/v1/models/{name}"] = {
        "get": {
            "summary": "One model, loaded",
            "parameters": [name],
            "responses": {**answer, **refusals},
        }
    }
    job = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths[f"{records.PREFIX}/jobs/{{id}}"] = {
        "get": {
            "summary": "The record of a job, or how it stands",
            "parameters": [job],
            "responses": JOB | refusals,
        },
        "delete": {"summary": "Stop a job", "parameters": [job], "responses": JOB | refusals},
    }
    error = {"type": "object", "required": ["message", "type", "param", "code"]}
    schemas = {
        **definitions["$defs"],
        "Error": {"type": "object", "properties": {"error": error}, "required": ["error"]},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Workbench", "version": version("gpt-workbench")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


@cache
def page() -> str:
    """The document as an HTML page for people: every path and its fields."""
    api = document()
    parts = ["<!doctype html><meta charset=utf-8><title>Workbench API</title>"]
    parts.append(
        "<style>body{font:15px sans-serif;max-width:60rem;margin:2rem auto}td{padding:.1rem 1rem "
        ".1rem 0}</style>"
    )
    parts.append("<h1>Workbench API</h1><p>The document: <a href=openapi.json>openapi.json</a></p>")
    for path, methods in api["paths"].items():
        for method, what in methods.items():
            parts.append(
                f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(what['summary'])}</p>"
            )
            body = (
                what.get("requestBody", {})
                .get("content", {})
                .get("application/json", {})
                .get("schema", {})
            )
            fields = api["components"]["schemas"].get(
                str(body.get("$ref", "")).rpartition("/")[2], {}
            )
            parts.append("<table>")
            for name, field in fields.get("properties", {}).items():
                needed = "required" if name in fields.get("required", ()) else ""
                meaning = escape(field.get("description", ""))
                parts.append(f"<tr><td><code>{escape(name)}</code><td>{needed}<td>{meaning}")
            parts.append("</table>")
    return "".join(parts)
