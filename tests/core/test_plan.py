"""Retries and fallbacks, without a clock, a socket or a sleep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.failure import status_failure, transport_failure
from opentracy.core.fold import fold
from opentracy.core.plan import (
    Completed,
    Discard,
    Opened,
    PlanFailed,
    Policy,
    Read,
    Send,
    as_chunks,
    run,
)
from opentracy.core.wire import Call, Chunk, Credentials, Failure, HttpHead, HttpRequest, HttpResponse, Target


class Words:
    """A dialect of its own: one word is one content chunk, `END` the end marker, `BAD` breaks the stream."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        if target.model == "impossible":
            raise ValueError("cannot be said")
        return HttpRequest("POST", target.base_url, {}, target.model.encode())

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Any:
        if response.body == b"error":
            return Failure("provider_error", "inside", status=500, retryable=True)
        return {"id": "1", "object": "chat.completion", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": response.body.decode()}, "finish_reason": "stop"}
        ]}  # fmt: skip

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> Decoder:
        return Decoder()

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        return status_failure(response, "boom secret-key-1234")


class Decoder:
    """Of `Words`."""

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0

    def feed(self, data: bytes) -> list[Chunk]:
        out = []
        for word in data.decode().split():
            if word == "END":
                self.done = True
            elif word == "BAD":
                self.failure = Failure("bad_event", "bad", retryable=True)
            elif word != "PING":
                self.progress += 1
                out.append({"choices": [{"index": 0, "delta": {"content": word}}]})
        return out

    def close(self) -> list[Chunk]:
        if not self.done:
            kind = "stream_truncated" if self.progress else "empty_stream"
            self.failure = Failure(kind, kind, code=kind, retryable=True)  # type: ignore[arg-type]
        return []


def target(name: str = "m", provider: str = "p", dialect: Words | None = None) -> Target:
    return Target(provider, name, dialect or Words(), "http://x/", Credentials("secret-key-1234"))


def status(code: int, **headers: str) -> HttpResponse:
    return HttpResponse(code, headers, b"")


OK = HttpResponse(200, {}, b"fine")
HEAD = HttpHead(200, {"content-type": "text/event-stream"})
RESET = transport_failure("reset", "reset")


def drive(replies: Sequence[Any], names: str = "a", n: int = 0, stream: bool = False, **more: Any) -> tuple[Any, list[str]]:
    """Feeds a plan with replies to Send and Read; returns its outcome and the steps it took."""
    queue, log = list(replies), []
    policy = Policy(timeout=10, num_retries=n, **more.pop("policy", {}))
    dialect = more.pop("dialect", None)
    plan = run(
        Call([], {}, stream), [target(x, dialect=dialect) for x in names.split()], policy, clock=lambda: 0.0, wall=lambda: 1e9,
        uniform=lambda: 1.0, **more,
    )  # fmt: skip
    reply = None
    try:
        while True:
            step = plan.send(reply)
            if isinstance(step, Send):
                log.append(f"send {step.request.body.decode()}")
                reply = queue.pop(0)
            elif isinstance(step, Read):
                reply = queue.pop(0)
            else:
                log.append("discard" if isinstance(step, Discard) else f"sleep {step.seconds:g}")
                reply = None
    except StopIteration as stop:
        return stop.value, log
    except PlanFailed as failed:
        return failed, log


def test_429_then_503_then_200() -> None:
    done, log = drive([status(429), status(503), OK], n=2)
    assert isinstance(done, Completed)
    assert done.response["choices"][0]["message"]["content"] == "fine"
    assert log == ["send a", "sleep 0.5", "send a", "sleep 1", "send a"]
    assert [a.status for a in done.attempts] == [429, 503, 200]
    assert [a.reason for a in done.attempts] == ["first", "retry", "retry"]


def test_what_cannot_be_retried_falls_back_at_once() -> None:
    done, log = drive([status(401), OK], "a b", n=3)
    assert isinstance(done, Completed)
    assert log == ["send a", "send b"]
    assert done.target.model == "b"


def test_the_last_failure_is_raised_and_the_others_are_kept() -> None:
    failed, log = drive([status(500), status(500), RESET, RESET], "a b", n=1)
    assert isinstance(failed, PlanFailed)
    assert [(t.model, f.kind) for t, f in failed.failures] == [("a", "status"), ("b", "reset")]
    assert log == ["send a", "sleep 0.5", "send a", "send b", "sleep 0.5", "send b"]


@given(st.lists(st.sampled_from([400, 401, 404, 408, 409, 429, 500, 503, 529]), min_size=1, max_size=4), st.integers(0, 3))
def test_never_more_requests_than_promised(codes: list[int], n: int) -> None:
    expected = [c for c in codes for _ in range(1 if c in (400, 401, 404) else n + 1)]
    failed, log = drive([status(c) for c in expected], " ".join(map(str, codes)), n=n)
    assert isinstance(failed, PlanFailed)
    assert [s for s in log if s.startswith("send")] == [f"send {c}" for c in expected]
    assert failed.failures[-1][1].status == codes[-1]


@pytest.mark.parametrize(
    ("hint", "steps"),
    [
        ({"retry-after": "2"}, ["send a", "sleep 2.2", "send a"]),
        ({"retry-after-ms": "50", "retry-after": "9"}, ["send a", "sleep 0.055", "send a"]),
        ({"retry-after": "3600"}, ["send a"]),
        ({"retry-after": "nan"}, ["send a", "sleep 0.5", "send a"]),
        ({"retry-after": "-5"}, ["send a", "sleep 0.5", "send a"]),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:50 GMT"}, ["send a", "sleep 11", "send a"]),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:30 GMT"}, ["send a", "sleep 0.5", "send a"]),
    ],
)
def test_hints(hint: dict[str, str], steps: list[str]) -> None:
    _, log = drive([status(429, **hint), OK], n=1)
    assert log == steps


@pytest.mark.parametrize(("hint", "steps"), [("5", ["send a", "sleep 5.5", "send a"]), ("6", ["send a"])])
def test_a_longer_hint_than_may_be_waited_for_ends_the_target(hint: str, steps: list[str]) -> None:
    _, log = drive([status(429, **{"retry-after": hint}), OK], n=1, policy={"max_wait": 5.0})
    assert log == steps


def test_x_should_retry_overrides() -> None:
    assert len(drive([status(503, **{"x-should-retry": "false"})], n=2)[1]) == 1
    assert isinstance(drive([status(400, **{"x-should-retry": "true"}), OK], n=2)[0], Completed)


def test_a_stream_is_committed_at_its_first_content() -> None:
    opened, log = drive([HEAD, b"PING", b"hello "], stream=True)
    assert isinstance(opened, Opened)
    assert [c["choices"][0]["delta"]["content"] for c in opened.chunks] == ["hello"]
    assert not opened.ended
    assert log == ["send a"]


@pytest.mark.parametrize("broken", [RESET, b"", b"BAD", transport_failure("timeout", "late")])
def test_a_stream_that_breaks_before_its_content_falls_back(broken: Any) -> None:
    opened, log = drive([HEAD, b"PING", broken, HEAD, b"hello"], "a b", stream=True)
    assert isinstance(opened, Opened)
    assert opened.target.model == "b"
    assert log == (["send a", "discard", "send b"] if broken == b"BAD" else ["send a", "send b"])


def test_content_and_failure_in_one_read_are_committed() -> None:
    opened, _ = drive([HEAD, b"hello BAD"], "a b", n=2, stream=True)
    assert isinstance(opened, Opened)
    assert opened.decoder is not None
    assert opened.decoder.failure is not None


def test_a_document_instead_of_a_stream() -> None:
    json = HttpHead(200, {"content-type": "application/json"})
    opened, _ = drive([json, b"fi", b"ne", b""], stream=True)
    assert isinstance(opened, Opened)
    assert opened.ended
    assert fold(opened.chunks)["choices"][0]["message"]["content"] == "fine"


class Documents(Words):
    """A dialect whose documents are JSON."""

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Any:
        assert response.body.lstrip(b"\xef\xbb\xbf \r\n") == b'{"fine": 1}'
        return super().parse_response(call, target, HttpResponse(200, {}, b"fine"))


@pytest.mark.parametrize("kind", [None, "text/event-stream", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize("pieces", [[b'{"fine": 1}'], [b'{"fi', b'ne": 1}'], [b"\r\n", b"\n", b'{"fine"', b": 1}"], [b"\xef\xbb\xbf{", b'"fine": 1}']])
def test_a_document_without_its_content_type(kind: str | None, pieces: list[bytes]) -> None:
    """What stands in the body decides, since no stream begins like a JSON document."""
    head = HttpHead(200, {} if kind is None else {"content-type": kind})
    opened, _ = drive([head, *pieces, b""], stream=True, dialect=Documents())
    assert isinstance(opened, Opened)
    assert opened.ended
    assert fold(opened.chunks)["choices"][0]["message"]["content"] == "fine"


def test_a_document_without_content_type_that_is_cut_or_endless() -> None:
    cut, _ = drive([HttpHead(200, {}), b'{"fi', transport_failure("truncated", "cut")], stream=True)
    assert cut.failures[0][1].kind == "truncated"
    endless, log = drive([HttpHead(200, {}), *([b"{" * (1 << 20)] * 3)], stream=True, policy={"max_body": 2 << 20})
    assert endless.failures[0][1].kind == "body_limit"
    assert log == ["send a", "discard"]


def test_a_document_without_end_is_dropped() -> None:
    json = HttpHead(200, {"content-type": "application/json"})
    failed, log = drive([json, *([b"x" * (1 << 20)] * 3)], stream=True, policy={"max_body": 2 << 20})
    assert failed.failures[0][1].kind == "body_limit"
    assert log == ["send a", "discard"]


def test_a_fallback_that_cannot_be_asked_does_not_hide_the_failure_before_it() -> None:
    failed, _ = drive([status(404), status(500)], "a b impossible")
    assert [(t.model, f.status) for t, f in failed.failures] == [("a", 404), ("impossible", None), ("b", 500)]
    with pytest.raises(ValueError, match="cannot be said"):
        drive([], "impossible a")


class Stumbling(Words):
    """A dialect with a bug that odd answers bring out."""

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Any:
        return {}["choices"]

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        raise TypeError("odd")

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> Decoder:
        decoder = Decoder()
        decoder.feed = lambda data: [][1]  # type: ignore[method-assign]
        return decoder


@pytest.mark.parametrize("replies", [[OK], [status(500)], [HEAD, b"x"]])
def test_a_dialect_that_stumbles_is_a_failure_like_any_other(replies: list[Any]) -> None:
    odd = Target("p", "m", Stumbling(), "http://x/", Credentials())
    plan = run(Call([], {}, replies[0] is HEAD), [odd], Policy(), clock=lambda: 0.0, wall=lambda: 0.0, uniform=lambda: 0.0)
    with pytest.raises(PlanFailed) as failed:
        reply = None
        while True:
            step = plan.send(reply)
            reply = replies.pop(0) if isinstance(step, (Send, Read)) else None
    assert failed.value.failures[0][1].kind == "bad_body"


def test_secrets_are_masked() -> None:
    failed, _ = drive([status(500)])
    assert failed.failures[0][1].message == "boom ***"


@pytest.mark.parametrize("total", [0.4, 0.502])
def test_the_total_limit_ends_the_call(total: float) -> None:
    failed, log = drive([status(500)], n=5, policy={"total": total})
    assert isinstance(failed, PlanFailed)
    assert log == ["send a"]  # the next wait would pass the limit


def test_nobody_is_asked_who_has_no_time_left_to_answer() -> None:
    """The timer of the first attempt may go off a moment before the call's time is up."""
    now = [0.0]
    policy = Policy(timeout=10, total=1.0)
    plan = run(Call([], {}), [target("a"), target("b")], policy, clock=lambda: now[0], wall=lambda: 0.0, uniform=lambda: 0.0)
    plan.send(None)
    now[0] = 0.9995
    with pytest.raises(PlanFailed) as failed:
        plan.send(transport_failure("timeout", "late"))
    assert [t.model for t, _ in failed.value.failures] == ["a"]


class Deny:
    """A guard that does not like one target."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reports: list[tuple[str, bool]] = []

    def admit(self, target: Target) -> str | None:
        return "no" if target.model == self.name else None

    def may_retry(self, target: Target) -> bool:
        return False

    def report(self, target: Target, failure: Failure | None, seconds: float) -> None:
        self.reports.append((target.model, failure is None))


def test_a_guard_skips_targets_but_never_the_last() -> None:
    guard = Deny("a")
    done, log = drive([OK], "a b", guard=guard)
    assert isinstance(done, Completed)
    assert log == ["send b"]
    assert guard.reports == [("b", True)]
    assert drive([OK], "a", guard=Deny("a"))[1] == ["send a"]
    assert drive([status(500)], "a", n=4, guard=guard)[1] == ["send a"]


texts = st.text(max_size=20)
calls = st.lists(st.tuples(texts, texts), max_size=3).map(
    lambda pairs: [{"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(pairs)]
)


@given(st.none() | texts, calls, st.sampled_from(["stop", "length", "tool_calls"]), st.integers(1, 3))
def test_chunks_fold_back_to_the_answer(content: str | None, tools: list[Any], finish: str, n: int) -> None:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tools:
        message["tool_calls"] = tools
    whole = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": i, "message": message, "finish_reason": finish} for i in range(n)],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip
    chunks = as_chunks(whole)
    if tools:
        message["content"] = content or None  # with calls, an empty text is none
    assert fold(chunks) == whole

