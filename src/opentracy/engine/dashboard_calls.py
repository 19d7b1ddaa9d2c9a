"""Calls that the engine makes to itself: evaluations on a dataset, and the test request of an empty dashboard.

They run through the very code that serves clients, so they are routed, retried, priced and traced as any other. Belongs
here: the exchange without a connection, and the stand-in for engines without a key. Not here: what is asked.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import Response

from opentracy.core.jsonio import decode, encode
from opentracy.providers import registry

from .auth import Identity
from .errors import Refused
from .exchange import Exchange
from .routes import json_response
from .served import ServedCall
from .standin import StandIn
from .state import Snapshot

if TYPE_CHECKING:
    from .app import Engine

_MESSAGES = [{"role": "user", "content": "Say hello in three languages."}]


class InnerExchange(Exchange):
    """A request that came from within; its answer becomes the result of `answer`."""

    __slots__ = ("_left", "answer")

    def __init__(self, body: bytes, headers: dict[bytes, bytes], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(cast(Any, None))
        self.method, self.path, self.body = "POST", b"/v1/chat/completions", body
        self.headers = {b"content-type": b"application/json", **headers}
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._left = False

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._left

    def leave(self) -> None:
        """Nobody waits any more: the provider is stopped."""
        self._left = True
        if self.owner is not None:
            self.owner.client_gone()

    def respond(
        self, status: int, body: bytes, content_type: bytes = b"application/json", headers: bytes = b""
    ) -> None:
        """The whole answer."""
        if not self.started:
            self.started = self.finished = True
            self.status = status
            if not self.answer.done():
                self.answer.set_result((status, body))

    def abort(self) -> None:
        """An answer that broke off."""
        self.respond(502, encode({"error": {"message": "the answer broke off"}}))


async def ask(
    engine: Engine, identity: Identity, body: dict[str, Any], *, tags: str = "", snapshot: Snapshot | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON answer of one plain chat completion, as if the identity had sent it."""
    headers = {b"x-opentracy-tags": tags.encode()} if tags else {}
    exchange = InnerExchange(encode({**body, "stream": False}), headers, engine.loop)
    call = ServedCall(engine, exchange, "chat")
    call.identity = identity
    if snapshot is not None:
        call.snapshot = snapshot
    try:
        call.read()
        engine.admit(identity)
        call.resolve()
    except Refused as e:
        call.refuse(e)
    else:
        call.begin()
    try:
        status, answer = await exchange.answer
    except asyncio.CancelledError:
        exchange.leave()
        raise
    return status, decode(answer)


def message_of(answer: dict[str, Any]) -> str:
    """The words of an error answer."""
    error = answer.get("error")
    return str(error.get("message")) if isinstance(error, dict) else "no reason given"


async def test_request(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/test-request`: one small request, to a model of this engine or else to the stand-in."""
    identity: Identity = request.state.identity
    state = engine.state
    model = "auto" if state.auto_models else next(iter(state.config.aliases), None)
    if model is not None:
        status, answer = await ask(engine, identity, {"model": model, "messages": _MESSAGES}, tags="test-request")
        if status == 200:
            return json_response(_shown(answer))
        if status not in (404, 503):
            raise Refused(status, f"{model} could not answer: {message_of(answer)}", code="test_failed")
    return json_response(_shown(await _stand_in(engine, identity)))


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    routing = answer.get("_routing") or {}
    return {"model": answer.get("model"), "trace_id": routing.get("trace_id"), "cost": answer.get("_cost")}


async def _stand_in(engine: Engine, identity: Identity) -> dict[str, Any]:
    """Asks the stand-in provider inside this process; the snapshot that knows it serves this one request."""
    stand_in = StandIn(gap=0)
    await engine.loop.run_in_executor(None, stand_in.start)
    try:
        environ = stand_in.environment
        row = next(row for row in registry.providers() if registry.has_credentials(row.name, environ) and row.needs_key)
        snapshot = Snapshot(engine.state.config, {**environ, **_references(engine)})
        body = {"model": f"{row.name}/stand-in", "messages": _MESSAGES}
        status, answer = await ask(engine, identity, body, tags="test-request,stand-in", snapshot=snapshot)
    finally:
        await engine.loop.run_in_executor(None, stand_in.stop)
    if status != 200:
        raise Refused(502, f"The stand-in could not answer: {message_of(answer)}", code="test_failed")
    return answer


def _references(engine: Engine) -> dict[str, str]:
    """A value for each reference of the configuration: this snapshot lets nobody in, it only must be complete."""
    server = engine.state.config.server
    names = [*server.api_keys, *server.read_keys, *server.admin_keys]
    return {name.removeprefix("env:"): json.dumps(name) for name in names if name.startswith("env:")}
