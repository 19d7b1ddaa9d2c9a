"""Whether the engine lives, whether it is ready, and how it is.

`live` touches nothing; `ready` is 503 while draining or without anything to call. None of them tells secrets or names
of keys, so they are public.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.providers import registry

from .questions import SHORT
from .routes import json_response

if TYPE_CHECKING:
    from .app import Engine


async def live(engine: Engine, request: Request) -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


async def ready(engine: Engine, request: Request) -> Response:
    """200 when requests should be sent here."""
    problems = not_ready(engine)
    if problems:
        return json_response({"status": "not_ready", "reasons": problems}, 503, {"retry-after": "1"})
    return json_response({"status": "ready"})


async def health(engine: Engine, request: Request) -> Response:
    """Everything at a glance."""
    degraded = engine.traces.degraded
    problems = not_ready(engine)
    state = engine.state
    status = "draining" if engine.server.draining else "degraded" if degraded or problems else "ok"
    out: dict[str, Any] = {
        "status": status,
        "version": engine.version,
        "uptime_s": round(time.time() - engine.begun, 1),
        "in_flight": len(engine.calls),
        "loop_lag_ms": round(engine.server.lag * 1000, 1),
        "providers": callable_providers(engine),
        "deployments": {name: _circuit(engine, name) for name in engine.health.known()},
        "router": {"version": state.router.version if state.router else None, "problem": state.router_problem},
        "traces": {"enabled": engine.traces.writer is not None, "problem": degraded, "outlets": await _outlets(engine)},
        "reasons": problems,
    }
    return json_response(out)


async def _outlets(engine: Engine) -> dict[str, Any]:
    """Per destination of traces: how many it does not have yet, for how long (s), and why, where this worker knows."""
    traces = engine.traces
    outlets, store = traces.outlets, traces.store
    if outlets is None or store is None or not outlets.names:
        return {}
    failing = traces.failing
    try:
        found = await SHORT.ask(lambda: outlets.waiting(store), begun=True)
    except sqlite3.Error as e:
        return {name: {"problem": str(e)} for name in outlets.names}
    for name, mark in outlets.names.items():
        found[name]["problem"] = failing.get(mark)
    return found


def callable_providers(engine: Engine) -> list[str]:
    """Providers that have a key here."""
    return [row.name for row in registry.providers() if engine.state.has_key(row.name)]


def not_ready(engine: Engine) -> list[str]:
    """Why no requests should come; empty when they may."""
    problems = []
    if engine.server.draining:
        problems.append("shutting down")
    if not callable_providers(engine):
        problems.append(
            "no provider has a key: set e.g. OPENAI_API_KEY, or [providers.NAME] api_key in the configuration"
        )
    return problems


def _circuit(engine: Engine, name: str) -> dict[str, Any]:
    state, seconds, cause = engine.health.state(name)
    return {"state": state, "seconds": round(seconds, 1), "cause": cause}
