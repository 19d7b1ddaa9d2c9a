"""What is the same for every usual request with one model name, worked out once per snapshot.

Belongs here: which names have a short way, and the bytes that all their requests and answers share. Not here: the call
itself (`direct`), what may be sent untranslated (the dialect's `Forwarding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentracy import __version__
from opentracy.core.forwarding import Forwarding
from opentracy.core.jsonio import encode
from opentracy.core.plan import Policy
from opentracy.core.translated import translating
from opentracy.core.wire import HttpRequest, Origin, Target, split_url
from opentracy.traces import TraceRecord
from opentracy.transport.http1 import request_head
from opentracy.transport.proxy import authority

from .errors import Refused
from .metrics import Tally
from .state import Resolved, Snapshot

_LIMIT = 2048


class Lane:
    """The short way to one target, and what its answers say in every case."""

    __slots__ = (
        "auto_extras", "extras", "first", "forwarding", "guarded", "headers", "named", "origin", "priced_headers",
        "record", "resolved", "room", "seconds", "stream_head", "tally", "target", "verbatim", "whole_head",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, resolved: Resolved, target: Target, forwarding: Forwarding) -> None:
        self.resolved = resolved
        self.guarded = len(resolved.targets) > 1  # the last target of an alias is never taken out
        self.room = snapshot.config.server.max_in_flight
        self.tally: Tally | None = None  # where its answers are counted, once there are some
        # what all their traces say, to be copied
        self.record = TraceRecord(
            "", 0, model=target.model, provider=target.provider, alias=resolved.alias, config_hash=snapshot.hash,
            engine_version=__version__,
        )  # fmt: skip
        self.target = target
        self.forwarding = forwarding
        policy = policy_of(snapshot, resolved)
        self.seconds = policy.timeout
        self.first = policy.timeout if policy.first_token is None else policy.first_token
        self.verbatim = forwarding.verbatim
        self.named = len(forwarding.model.encode())  # bytes of the name that the provider is told
        self.origin, self.whole_head = _head(forwarding.whole, stream=False)
        _, self.stream_head = _head(forwarding.streamed, stream=True)
        # to be filled in: request id, trace id, and what it cost
        lines = served_by(target).replace(b"%", b"%%") + b"x-opentracy-attempts: 1\r\n"
        self.headers = b"x-request-id: %b\r\nx-opentracy-trace-id: %b\r\n" + lines
        self.priced_headers = self.headers + b"x-opentracy-cost-usd: %b\r\n"
        routing = {
            "requested_model": resolved.requested, "selected_model": target.model, "provider": target.provider,
            "attempts": 1,
        }  # fmt: skip
        if resolved.alias is not None:
            routing["alias"] = resolved.alias
        #: what stands before the cost, between it and the latency, and between that and the trace id
        self.extras = (
            b'"_provider":%b,"_cost":' % encode(target.provider),
            b',"_latency_ms":',
            b',"_routing":%b,"trace_id":"' % encode(routing)[:-1],
        )
        self.auto_extras = b',"_routing":%b,"trace_id":"' % encode({**routing, "requested_model": "auto"})[:-1]


def _head(request: HttpRequest, *, stream: bool) -> tuple[Origin, bytes]:
    """Where all requests like this one go, and what they begin with."""
    origin, path = split_url(request.url)
    return origin, request_head(request, authority(origin), path, stream=stream)


def policy_of(snapshot: Snapshot, resolved: Resolved) -> Policy:
    """The numbers of a call whose request asks for none of its own."""
    key = (resolved.timeout, resolved.num_retries)
    known = snapshot.policies.get(key)
    if known is None:
        limits = snapshot.config.limits
        total = limits.total
        first = min(resolved.timeout or limits.first_token, total)
        known = snapshot.policies[key] = Policy(
            min(resolved.timeout or total, total), limits.connect, resolved.num_retries, first, total,
            max_wait=limits.max_retry_wait,
        )  # fmt: skip
    return known


def served_by(target: Target) -> bytes:
    """The header lines that name a target."""
    known: bytes | None = target.memo.get("engine_headers")
    if known is None:
        names = target.provider.encode(), target.model.encode("latin-1", "replace")
        known = b"x-opentracy-provider: %b\r\nx-opentracy-selected-model: %b\r\n" % names
        target.memo["engine_headers"] = known
    return known


def routing_headers(routing: Mapping[str, Any], ms: float | None) -> bytes:
    """The header lines that say what `auto` decided."""
    lines = b"x-opentracy-routing-ms: %.3f\r\n" % (ms or 0.0)
    cluster = routing.get("cluster_id")
    return lines if cluster is None else b"x-opentracy-cluster-id: %d\r\n%b" % (cluster, lines)


def lane_of(snapshot: Snapshot, model: str) -> Lane | None:
    """Makes and keeps the lane of a model name or alias; None where its requests need the general way."""
    if len(snapshot.lanes) >= _LIMIT:
        snapshot.lanes.clear()  # the names are the callers'
    found = snapshot.lanes[model] = _lane(snapshot, model)
    return found


def _lane(snapshot: Snapshot, model: str) -> Lane | None:
    if snapshot.config.traces.durability == "strict":
        return None
    try:
        resolved = snapshot.resolve(model)
        target = resolved.targets[0]
        forwarding: Forwarding | None = getattr(target.dialect, "forwarding", translating)(target)
        return None if forwarding is None else Lane(snapshot, resolved, target, forwarding)
    except (Refused, ValueError):
        return None
