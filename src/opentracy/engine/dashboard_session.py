"""Who looks at the dashboard: what the page must know first, signing in with a key, and signing out.

Belongs here: the login cookie's life. Not here: what a cookie proves (`auth`), what the page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces import segments

from .auth import COOKIE, SESSION_S, Identity, authenticate
from .errors import Refused
from .models import entries
from .questions import LONG
from .routes import json_body, json_response
from .traces import off_loop

if TYPE_CHECKING:
    from .app import Engine

WAKE_S = 0.5  # the page's first questions come first
WRONG_KEY_S = 0.4  # what a wrong key costs whoever guesses


def who(engine: Engine, request: Request) -> Identity | None:
    """The caller of a public route, None when it has not said who it is."""
    try:
        return authenticate(engine.state.keys, dict(request.scope["headers"]))
    except Refused:
        return None


async def session(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/session`: enough to draw the frame; names of models only to those who may use or see them."""
    identity = who(engine, request)
    known = identity is not None
    names = [entry["id"] for entry in entries(engine.state)] if known else []
    empty, seen = await _store(engine) if known else (False, [])
    if known:
        _wake(engine)
    return json_response(
        {
            "keys_required": engine.state.keys.required,
            "signed_in": known,
            "key_id": identity.key_id if identity is not None else None,
            "scopes": sorted(identity.scopes) if identity is not None else [],
            "version": engine.version,
            "empty": empty,
            "traces_enabled": engine.traces.reader is not None,
            "models": names,
            "seen": seen,
            "auto": "auto" in names,
            # the feedback that the router learns from
            "metric": engine.state.config.auto.metric,
        },
        headers={"cache-control": "no-store"},
    )


_WAKING: set[Engine] = set()  # those that have begun to
_LOADING: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly


def _wake(engine: Engine) -> None:
    """Gets ready, after the page's first questions, what a later one would wait for: loading DuckDB takes a while."""
    store = engine.traces.store
    if store is None or segments.awake() or engine in _WAKING:
        return
    _WAKING.add(engine)

    def load() -> None:
        # the questions themselves say what is wrong with a store
        with contextlib.suppress(Exception):
            segments.warm(store)
        _WAKING.discard(engine)

    def begin() -> None:
        task = engine.loop.create_task(LONG.ask(load, begun=True))
        _LOADING.add(task)
        task.add_done_callback(_LOADING.discard)

    # no thread waits meanwhile: there are few of them, and questions need them
    engine.loop.call_later(WAKE_S, begin)


async def _store(engine: Engine) -> tuple[bool, list[str]]:
    """Whether there are no traces yet; and the models seen, oldest first, so that everybody gives them one colour."""
    reader = engine.traces.reader
    if reader is None:
        return False, []
    await engine.traces.current()

    def look() -> tuple[bool, list[str]]:
        connection = reader.current()
        empty = connection.execute("SELECT 1 FROM traces LIMIT 1").fetchone() is None
        seen = connection.execute(
            "SELECT k1 FROM rollups WHERE dim = 'model' AND k1 <> '' GROUP BY k1 ORDER BY min(hour), k1 LIMIT 100"
        )
        return empty, [name for (name,) in seen]

    return await off_loop(look)


async def login(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/login` `{key}`: a cookie for a configured key that may read traces."""
    body = await json_body(request)
    key = body.get("key")
    keys = engine.state.keys
    identity = keys.find(key) if isinstance(key, str) and 0 < len(key) <= 512 else None
    if identity is None:
        await asyncio.sleep(WRONG_KEY_S)
        raise Refused(401, "This key is not valid", code="invalid_api_key")
    if not identity.allows("read"):
        raise Refused(
            403, "This key may not read traces: use one with the read or admin scope", code="insufficient_scope"
        )
    value = keys.cookie_for(identity, time.time())
    if value is None:
        raise Refused(403, "Sign in with a key of the configuration (server.read_keys or server.admin_keys)")
    return json_response({"key_id": identity.key_id}, headers={"set-cookie": _cookie(request, value, SESSION_S)})


async def logout(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/logout`: takes the cookie back."""
    return json_response({"status": "signed out"}, headers={"set-cookie": _cookie(request, "", 0)})


def _cookie(request: Request, value: str, seconds: int) -> str:
    # behind a proxy that ends TLS only its header tells; where it lies, the cookie is merely not sent back
    secure = "; Secure" if request.headers.get("x-forwarded-proto", "").lower() == "https" else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def caller(request: Request) -> str:
    """Who made a change, for the list of changes."""
    identity: Any = request.state.identity
    return identity.key_id or "this machine"
