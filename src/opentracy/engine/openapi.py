"""The OpenAPI 3.1 document, made from the routes themselves so that it cannot say anything else than they do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from .routes import Route, json_response

if TYPE_CHECKING:
    from .app import Engine

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "provider": {"type": ["string", "null"]},
                "request_id": {"type": ["string", "null"]},
            },
        }
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
        "content": {"type": ["string", "array", "null"]},
    },
}
CHAT_BODY = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
        "stream": {"type": ["boolean", "null"]},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
    },
}
EMBEDDING_BODY = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {"model": {"type": "string", "minLength": 1}, "input": {"type": ["string", "array"]}},
}
_HOT = (
    ("/v1/chat/completions", "A chat completion, plain or as server-sent events", CHAT_BODY),
    ("/v1/embeddings", "Embeddings", EMBEDDING_BODY),
)
# what any route may answer when it cannot answer well
_FAILURES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)


async def expose(engine: Engine, request: Request) -> Response:
    """`GET /openapi.json`."""
    return json_response(document(engine))


def document(engine: Engine) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for path, summary, body in _HOT:
        answers = {200: "The completion" if "chat" in path else "The embeddings"}
        paths[path] = {"post": _operation(path, "post", summary, "inference", body, {}, answers, "application/json")}
    for route in engine.routes:
        path = re.sub(r":path\}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _of_route(route, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "OpenTracy engine", "version": engine.version},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": {"Error": _ERROR}},
    }


def _of_route(route: Route, path: str) -> dict[str, Any]:
    operation = _operation(
        path, route.method.lower(), route.summary, route.scope, route.body, route.query, route.answers, route.produces
    )
    for kind in route.accepts[1:]:
        operation["requestBody"]["content"][kind] = {"schema": {"type": "string", "format": "binary"}}
    return operation


def _operation(
    path: str, method: str, summary: str, scope: str, body: Any, query: Any, answers: Any, produces: str
) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [{"name": n, "in": "query", "required": False, "schema": dict(s)} for n, s in query.items()]
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": {produces: {"schema": {}}}} for status, text in answers.items()
    }
    for status in _FAILURES:
        refusal = {
            "description": "Refused",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        responses.setdefault(str(status), refusal)
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{method}{re.sub(r'[^a-z0-9]+', '_', path.lower()).rstrip('_')}",
        "responses": responses,
        "x-scope": scope,
    }
    if parameters:
        operation["parameters"] = parameters
    if scope != "public":
        operation["security"] = [{"key": []}]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
