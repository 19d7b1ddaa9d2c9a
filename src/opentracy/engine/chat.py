"""`POST /v1/chat/completions` and `/v1/embeddings`: who may call, and how a call begins.

Belongs here: admission, and what a head that comes again need not be asked twice. Not here: the call itself (`served`;
the usual one, `direct`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .asked import refuse
from .auth import Identity, authenticate, authorize
from .errors import Refused
from .exchange import Exchange
from .route import apart
from .served import ServedCall
from .tags import says_something

if TYPE_CHECKING:
    from .app import Engine

_JSON = b"application/json"


def chat(engine: Engine, exchange: Exchange) -> None:
    """The handler of `POST /v1/chat/completions`."""
    serve(engine, exchange, "chat")
    head = exchange.head
    if head is not None and head.admitted is not None and head.admitted[2]:
        head.direct = engine.direct  # the next request with this head may go the short way


def embeddings(engine: Engine, exchange: Exchange) -> None:
    """The handler of `POST /v1/embeddings`."""
    serve(engine, exchange, "embedding")


def serve(engine: Engine, exchange: Exchange, operation: str) -> None:
    """Checks a request and starts its call; refuses at once what cannot be served."""
    call = ServedCall(engine, exchange, operation)
    try:
        call.identity = _admit(engine, exchange)
    except Refused as e:  # not an accepted request: counted, but no trace
        engine.metrics.refused(e.status)
        refuse(exchange, e, call.trace_id)
        return
    try:
        call.read()
        engine.admit(call.identity)
        if call.requested == "auto" and apart(call.snapshot):
            exchange.owner = call
            engine.deciding.add(task := engine.loop.create_task(call.decide()))
            task.add_done_callback(engine.deciding.discard)
            return
        call.resolve()
        call.go()
    except Refused as e:
        call.refuse(e)
    except Exception as e:
        call.failed(e)


def _admit(engine: Engine, exchange: Exchange) -> Identity:
    headers, head = exchange.headers, exchange.head
    snapshot = engine.state
    if head is not None and head.admitted is not None and head.admitted[0] is snapshot:  # (snapshot, identity, plain)
        identity: Identity = head.admitted[1]
        return identity
    snapshot.hosts.check(headers, http11=exchange.http11)
    identity = authenticate(snapshot.keys, headers)
    authorize(identity, "inference")
    kind = headers.get(b"content-type", b"")
    if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
        raise Refused(415, "Send the body as application/json")
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        raise Refused(415, "Compressed request bodies are not accepted")
    if head is not None and _lasts(identity, headers):
        # plain: the headers say nothing of this call in particular, and the caller may use every model
        plain = identity.models is None and not says_something(headers) and b"idempotency-key" not in headers
        head.admitted = (snapshot, identity, plain)
    return identity


def _lasts(identity: Identity, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the same headers mean the same caller until the next reload: virtual keys and cookies run out."""
    return identity.virtual is None and b"ot_" not in headers.get(b"authorization", b"") and b"cookie" not in headers
