"""Retries and fallbacks as a generator: what to do next, without sockets or sleeping.

A driver runs it: it performs each step that the generator yields and sends the result back in. The same plan therefore
serves the blocking SDK, the asyncio SDK and the engine, and "what happens on 429, then 503, then 200" is a unit test
with `plan.send(...)`. A stream is committed only at its first content (or finish): whatever breaks before that can
still be retried or fall back; after it nothing is ever sent again.

Steps and what the driver sends back:
  Send(request, stream, deadline, connect_deadline) -> HttpResponse | HttpHead (stream and 2xx: body unread) | Failure
  Read(deadline)                                    -> bytes (b"" at the end of the body) | Failure
  Discard()                                         -> None: the open answer is not wanted any more
  Sleep(seconds)                                    -> None
The generator returns Completed or Opened, or raises PlanFailed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import msgspec

from .failure import MAX_HINT_S, backoff, hide, interrupted, retry_hint, transport_failure
from .wire import Attempt, Call, Chunk, Decoder, Failure, HttpHead, HttpRequest, HttpResponse, Passing, Target

MAX_CONNECT_S = 5.0
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
MAX_BODY = 32 << 20
#: with less of a call's time left no other request is sent: it would be cut off before anybody could answer it. Timers
#: may also go off a moment before their time.
LEAST_S = 0.005
_BLANK = b"\xef\xbb\xbf \t\r\n"


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send this request; deadlines are points on the plan's clock."""

    request: HttpRequest
    stream: bool
    deadline: float
    connect_deadline: float


class Read(msgspec.Struct, frozen=True, gc=False):
    """Read the next piece of the open answer's body."""

    deadline: float


class Discard(msgspec.Struct, frozen=True, gc=False):
    """Close the open answer's connection."""


class Sleep(msgspec.Struct, frozen=True, gc=False):
    """Wait before the next attempt."""

    seconds: float


Step = Send | Read | Discard | Sleep


class Completed(msgspec.Struct, gc=False):
    """A whole answer in OpenAI's form: a dict, or a `Passing` where the call forwards."""

    response: Any
    target: Target
    attempts: list[Attempt]
    http: HttpHead


class Opened(msgspec.Struct, gc=False):
    """A stream with its first content in hand; the driver's connection still holds the rest.

    `ended`: the whole body was read already (a JSON answer to a stream request, or a very short stream).
    """

    decoder: Decoder | None
    chunks: list[Chunk]
    target: Target
    attempts: list[Attempt]
    http: HttpHead
    ended: bool
    deadline: float


class PlanFailed(Exception):
    """Every target failed. `failures` has one entry a target, in order, but for those that could not be asked after the
    last one that was: that one stands last, and is the one to raise."""

    def __init__(self, failures: list[tuple[Target, Failure]], attempts: list[Attempt]) -> None:
        super().__init__(failures[-1][1].message if failures else "no target")
        self.failures = failures
        self.attempts = attempts


class Guard(Protocol):
    """What an owner of several calls (router, engine) may add: health, circuits, retry budgets."""

    def admit(self, target: Target) -> str | None:
        """None to let the target be tried, else the reason for skipping it. The last target is never asked about."""
        ...

    def may_retry(self, target: Target) -> bool:
        """Whether the retry budget allows another request now."""
        ...

    def report(self, target: Target, failure: Failure | None, seconds: float) -> None:
        """The outcome of one attempt."""
        ...


class Policy(msgspec.Struct, frozen=True, gc=False):
    """Numbers of one call. `timeout`: seconds per attempt; for a stream to the first content, then between contents.

    `first_token` overrides `timeout` for a stream's wait for its first content; `total` bounds the whole call. A
    provider that asks for a longer wait than `max_wait` is not asked again.
    """

    timeout: float = 120.0
    connect: float = MAX_CONNECT_S
    num_retries: int = 0
    first_token: float | None = None
    total: float | None = None
    max_body: int = MAX_BODY
    secrets: tuple[str, ...] = ()
    max_wait: float = MAX_HINT_S

    def __repr__(self) -> str:
        return f"Policy(timeout={self.timeout}, num_retries={self.num_retries}, total={self.total})"


Clock = Callable[[], float]
Run = Generator[Step, Any, Completed | Opened]


def run(
    call: Call,
    targets: Sequence[Target],
    policy: Policy,
    *,
    clock: Clock,
    wall: Clock,
    uniform: Clock,
    guard: Guard | None = None,
    attempts: list[Attempt] | None = None,
    began: float | None = None,
) -> Run:
    """Tries `targets` in order. `clock` is monotonic seconds, `wall` Unix seconds, `uniform` random in [0, 1).

    `attempts`: a list to note them in as they begin, for a driver that may have to give up half-way. `began`: when the
    first request was sent, for a driver that has sent it already and only wants to be told how to go on.
    """
    attempts = [] if attempts is None else attempts
    failures: list[tuple[Target, Failure]] = []
    limit = (clock() if began is None else began) + policy.total if policy.total is not None else None
    for position, target in enumerate(targets):
        last = position == len(targets) - 1
        skipped = guard.admit(target) if guard is not None and not last else None
        if skipped is not None:
            failures.append((target, Failure("unavailable", skipped, retryable=False, sent=False)))
            continue
        try:
            request = target.dialect.build_request(call, target)
        except ValueError as e:
            if not position:
                raise
            # this fallback cannot express the call; that must not hide why the ones before it failed
            failures.append((target, Failure("unavailable", str(e), sent=False)))
            continue
        retry = 0
        waited = 0.0
        while True:
            reason = "retry" if retry else ("fallback" if attempts else "first")
            start = clock() if began is None or attempts else began
            attempt = Attempt(target, reason, start, waited=waited, dropped=request.dropped)  # type: ignore[arg-type]
            attempts.append(attempt)
            signed = target.dialect.sign(request, target, wall())
            outcome = yield from _attempt(call, target, signed, policy, attempt, limit)
            attempt.ended = clock()
            if not isinstance(outcome, Failure):
                if guard is not None:
                    guard.report(target, None, attempt.ended - attempt.started)
                outcome.attempts = attempts
                return outcome
            if outcome.retry_after is None and "retry-after" in outcome.headers:
                outcome.retry_after = retry_hint(outcome.headers, wall())  # a date, which needs to know the time
            _mask(outcome, target, policy)
            attempt.failure = outcome
            attempt.status = outcome.status
            if guard is not None:
                guard.report(target, outcome, attempt.ended - attempt.started)
            if not outcome.retryable or retry >= policy.num_retries:
                break
            if guard is not None and not guard.may_retry(target):
                break
            wait = backoff(outcome, retry, uniform(), policy.max_wait)
            if wait is None or (limit is not None and clock() + wait > limit - LEAST_S):
                break
            yield Sleep(wait)
            waited = wait
            retry += 1
        failures.append((target, outcome))
        if limit is not None and clock() > limit - LEAST_S:
            break
    raise PlanFailed(_told(failures), attempts)


def _told(failures: list[tuple[Target, Failure]]) -> list[tuple[Target, Failure]]:
    """In order, but last the one that was asked last: why another was not even asked must not hide what it said."""
    for position in range(len(failures) - 1, -1, -1):
        if failures[position][1].kind != "unavailable":
            return [*failures[:position], *failures[position + 1 :], failures[position]]
    return failures


def _mask(failure: Failure, target: Target, policy: Policy) -> None:
    hide(failure, (*target.credentials.secrets(), *policy.secrets))


def _attempt(
    call: Call,
    target: Target,
    request: HttpRequest,
    policy: Policy,
    attempt: Attempt,
    limit: float | None,
) -> Generator[Step, Any, Completed | Opened | Failure]:
    """One request and its answer, up to the commit point."""
    start = attempt.started
    first = policy.first_token if call.stream and policy.first_token is not None else policy.timeout
    deadline = start + first if limit is None else min(start + first, limit)
    answer = yield Send(request, call.stream, deadline, min(deadline, start + policy.connect))
    if isinstance(answer, Failure):
        return answer
    attempt.status = answer.status
    if isinstance(answer, HttpResponse):
        return _whole(call, target, answer)
    if _is_document(answer):
        body = yield from _drain(answer, deadline, policy.max_body)
        return body if isinstance(body, Failure) else _whole(call, target, body)
    return (yield from _first_content(call, target, answer, deadline, policy.max_body))


def _whole(call: Call, target: Target, answer: HttpResponse) -> Completed | Opened | Failure:
    try:
        if not 200 <= answer.status < 300:
            return target.dialect.parse_error(target, answer)
        parsed = target.dialect.parse_response(call, target, answer)
    except UNREADABLE as e:
        return unreadable(e, answer.status)
    if isinstance(parsed, Failure):
        return parsed
    head = HttpHead(answer.status, answer.headers)
    if call.stream and not isinstance(parsed, Passing):
        return Opened(None, as_chunks(parsed), target, [], head, True, 0.0)
    return Completed(parsed, target, [], head)


def unreadable(error: Exception, status: int | None = None) -> Failure:
    """What a provider sent was so odd that a dialect stumbled. Dialects must not; but no caller shall see that."""
    return Failure("bad_body", f"the answer cannot be read: {type(error).__name__}: {error}"[:300], status=status)


def _is_document(head: HttpHead) -> bool:
    """Whether an answer to a stream request is no stream but one JSON or HTML document."""
    kind = head.content_type
    return kind.endswith("json") or kind in ("text/html", "application/xhtml+xml", "application/xml", "text/xml")


def _drain(
    head: HttpHead, deadline: float, max_body: int, begun: bytes = b""
) -> Generator[Step, Any, HttpResponse | Failure]:
    """The whole body; `begun`: what was read of it already."""
    parts = [begun]
    size = len(begun)
    while True:
        data = yield Read(deadline)
        if isinstance(data, Failure):
            return data
        if not data:
            return HttpResponse(head.status, head.headers, b"".join(parts))
        parts.append(data)
        size += len(data)
        if size > max_body:
            yield Discard()
            return transport_failure("body_limit", f"the answer is larger than {max_body >> 20} MiB")


def _first_content(
    call: Call, target: Target, head: HttpHead, deadline: float, max_body: int
) -> Generator[Step, Any, Completed | Opened | Failure]:
    """Reads a stream up to its first content; nothing of it has been shown when this fails."""
    decoder = target.dialect.open_stream(call, target, head)
    # what comes in the same piece as the first content is better left to a relay, if there will be one
    feed = getattr(decoder, "begin", decoder.feed) if call.forwards else decoder.feed
    chunks: list[Chunk] = []
    seen = b""
    while True:
        data = yield Read(deadline)
        if isinstance(data, Failure):
            return interrupted(data)
        if not data:
            chunks += decoder.close()
            if decoder.failure is not None:
                return _before_content(decoder.failure, seen, head)
            return Opened(decoder, chunks, target, [], head, True, deadline)
        if len(seen) < 400:
            if not seen.lstrip(_BLANK) and data.lstrip(_BLANK)[:1] in (b"{", b"["):
                # no event of any dialect begins so: a JSON document without a content type, or with a wrong one
                body = yield from _drain(head, deadline, max_body, seen + data)
                return body if isinstance(body, Failure) else _whole(call, target, body)
            seen += data[:400]
        try:
            chunks += feed(data)
        except UNREADABLE as e:
            yield Discard()
            return unreadable(e, head.status)
        if decoder.failure is not None:
            if not decoder.progress:
                yield Discard()
                return decoder.failure
            return Opened(decoder, chunks, target, [], head, False, deadline)
        if decoder.progress or decoder.done:
            return Opened(decoder, chunks, target, [], head, False, deadline)


def _before_content(failure: Failure, seen: bytes, head: HttpHead) -> Failure:
    """An end of file before any content. A body that never was a stream is called what it is."""
    text = seen.lstrip()
    if text[:1] == b"<" and failure.code in ("empty_stream", None):
        shown = seen[:200].decode("utf-8", "replace")
        what = head.content_type or "no content type"
        return Failure("bad_body", f"not an event stream ({what}): {shown}", status=head.status)
    return failure


def as_chunks(response: dict[str, Any]) -> list[Chunk]:
    """A whole `chat.completion` as the chunks of a stream: one with the content, one with finish and usage."""
    base = {k: v for k, v in response.items() if k not in ("choices", "usage", "object")}
    first, last = [], []
    for choice in response["choices"]:
        message = {k: v for k, v in choice["message"].items() if v is not None or k == "content"}
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": i, **c} for i, c in enumerate(message["tool_calls"])]
        rest = {k: v for k, v in choice.items() if k not in ("message", "finish_reason", "index")}
        first.append({"index": choice["index"], "delta": message, "finish_reason": None, **rest})
        last.append({"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]})
    tail: Chunk = {**base, "object": "chat.completion.chunk", "choices": last}
    if response.get("usage") is not None:
        tail["usage"] = response["usage"]
    return [{**base, "object": "chat.completion.chunk", "choices": first}, tail]
