"""What a route is: a path, a method, the scope that it needs, and its handler.

Belongs here: the declaration and the wrapping that makes authorization hang on the handler itself, so that no spelling
of a URL can reach a handler unchecked. Not here: the handlers, and the list of routes (`app`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from opentracy.core.jsonio import BadJson, decode, encode

from .auth import Identity, Scope, authenticate, authorize
from .errors import Refused, error_body

if TYPE_CHECKING:
    from .app import Engine

log = logging.getLogger("opentracy.engine")
Handler = Callable[["Engine", Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `body` and `answer` are JSON schemas for the OpenAPI document; `query`: name -> schema."""

    method: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "The answer"})
    produces: str = "application/json"
    accepts: tuple[str, ...] = ("application/json",)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode(value), status, headers, "application/json")


def mount(engine: Engine, route: Route) -> StarletteRoute:
    """The route for Starlette, with its checks around the handler."""

    async def endpoint(request: Request) -> Response:
        try:
            request.state.identity = admit(engine, route.scope, dict(request.scope["headers"]))
            if route.method in ("POST", "PUT", "PATCH", "DELETE"):
                _require_json(request, route)
            return await route.handler(engine, request)
        except Refused as e:
            return Response(e.body(), e.status, e.headers, "application/json")
        except sqlite3.OperationalError as e:  # locked, full or read-only: nothing is wrong with the request, or here
            log.warning("%s %s: the store cannot be used now: %s", route.method, route.path, e)
            text = "The engine's store cannot be used just now"
            body = error_body(503, text, code="store_unavailable", request_id=engine.new_id())
            return Response(body, 503, {"retry-after": "1"}, "application/json")
        except Exception:
            request_id = engine.new_id()
            log.exception("request %s failed", request_id)
            text = "The engine failed to answer; its log says why under this request id"
            return Response(error_body(500, text, request_id=request_id), 500, None, "application/json")

    return StarletteRoute(route.path, endpoint, methods=[route.method])


def admit(engine: Engine, scope: Scope, headers: Mapping[bytes, bytes]) -> Identity:
    """The caller, if it may use a route of this scope. Refused otherwise."""
    if scope == "public":
        from .auth import ANYONE

        return ANYONE
    identity = authenticate(engine.state.keys, headers)
    authorize(identity, scope)
    return identity


def _require_json(request: Request, route: Route) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in route.accepts or (route.body is None and not request.headers.get("content-length", "0").strip("0")):
        return
    raise Refused(415, f"Send the body as {' or '.join(route.accepts)}")


async def json_body(request: Request) -> dict[str, Any]:
    """The request's JSON object; Refused 400 when it is none."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Compressed request bodies are not accepted")
    try:
        value = decode(await request.body())
    except BadJson as e:
        raise Refused(400, f"The body is not JSON: {e}") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body must be a JSON object")
    return value
