"""The usual call, the short way: a text request to a provider that speaks OpenAI, and its clean answer.

Belongs here: which calls are usual. What is the same for all of a model stands in its `Lane`; the call itself in
`direct_call` and `direct_stream`. This is the hottest code there is; what it looks up it looks up once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentracy.core.jsonio import encode
from opentracy.core.usual import doubled, more_keys, read_usual, wants_usage

from .direct_call import DirectCall
from .direct_stream import DirectStream
from .errors import Refused
from .exchange import Exchange
from .lane import Lane, lane_of
from .route import Routed, auto_usual
from .state import Snapshot

if TYPE_CHECKING:
    from .app import Engine

_monotonic = time.monotonic


def direct(engine: Engine, exchange: Exchange) -> bool:
    """Starts the call when it is a usual one; False when it has to go the general way."""
    head = exchange.head
    assert head is not None
    snapshot, identity, plain = head.admitted
    if not plain or snapshot is not engine.state or engine.server.draining:
        return False
    data = exchange.body
    chat = read_usual(data)
    if chat is None:
        return False
    requested, streaming, wanted = chat.model, chat.stream is True, wants_usage(chat)
    routed: Routed | None = None
    if requested == "auto":
        started = _monotonic()
        try:
            routed = auto_usual(snapshot, engine.health, chat)
        except Refused:
            return False  # the general way says why
        lane: Any = routed.lane or _lane(snapshot, routed)
        ms = int((_monotonic() - started) * 1e6) / 1000
        guarded = len(routed.resolved.targets) > 1
    else:
        lanes = snapshot.lanes
        lane = lanes[requested] if requested in lanes else lane_of(snapshot, requested)
        ms, guarded = None, lane is not None and lane.guarded
    if lane is None or len(engine.calls) >= lane.room:
        return False
    if guarded and not engine.health.well(lane.target.name):
        return False
    written = lane.forwarding.request(chat)
    if written is None:
        return False
    body, dropped = written
    if lane.verbatim:
        # as long as what came, but for the name: then nothing stood there twice, or was left out
        if len(body) + len(requested) - len(data) != lane.named and more_keys(data, body) and doubled(data, chat):
            return False
    elif more_keys(data, encode(chat)) and doubled(data, chat):
        return False
    connection = engine.transport.ready(lane.origin)
    if connection is None:
        return False
    if connection.proxy is not None:
        engine.transport.release(connection)
        return False
    kind = DirectStream if streaming else DirectCall
    kind(engine, exchange, identity, lane, connection, requested, body, dropped, routed, ms, wanted)
    return True


def _lane(snapshot: Snapshot, routed: Routed) -> Lane | None:
    """The lane of what `auto` chose, and its routing as it stands in answers."""
    name = routed.resolved.targets[0].name
    lane = snapshot.lanes[name] if name in snapshot.lanes else lane_of(snapshot, name)
    routed.members = encode(routed.routing)[1:-1]
    routed.lane = lane
    return routed.lane  # type: ignore[no-any-return]
