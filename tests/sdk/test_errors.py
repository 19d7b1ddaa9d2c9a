"""The exception tree: ours are openai's, they say what happened, travel through pickle, and hold no secret."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import opentracy as ot
from faultserver import FaultServer, answer, error, stream
from opentracy import errors
from opentracy.core.failure import transport_failure
from opentracy.core.wire import Attempt, Credentials, Failure, Target
from opentracy.providers import registry

KEY = "sk-CANARY0123456789abcdef"
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


def a_target() -> Target:
    return Target("openai", "m", registry.dialect("openai"), "http://x/v1", Credentials(KEY))


@pytest.mark.parametrize("name", errors.__all__)
def test_ours_are_openais(name: str) -> None:
    ours, theirs = getattr(ot, name), getattr(openai, name)
    assert issubclass(ours, theirs)
    assert issubclass(ours, ot.APIError)
    assert ours.__module__ == "opentracy.errors"
    assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (Failure("timeout", "m"), "APITimeoutError"),
        (Failure("pool", "m"), "APITimeoutError"),
        (Failure("dns", "m"), "APIConnectionError"),
        (Failure("tls", "m"), "APIConnectionError"),
        (Failure("body_limit", "m"), "APIConnectionError"),
        (Failure("stream_interrupted", "m"), "APIConnectionError"),
        (Failure("bad_body", "m", status=200), "APIResponseValidationError"),
        (Failure("empty_stream", "m"), "APIResponseValidationError"),
        (Failure("stream_truncated", "m"), "APIError"),
        (Failure("event_limit", "m"), "APIError"),
        (Failure("provider_error", "m"), "APIError"),
        (Failure("provider_error", "m", status=429), "RateLimitError"),
        (Failure("provider_error", "m", status=424), "APIStatusError"),
        (Failure("status", "m", status=418), "APIStatusError"),
        (Failure("redirect", "m", status=308), "APIStatusError"),
    ],
)
def test_each_failure_has_its_class(failure: Failure, name: str) -> None:
    assert type(errors.error_from(failure, a_target(), [])).__name__ == name


def test_what_an_error_says() -> None:
    target = a_target()
    attempts = [Attempt(target, "first", 0.0, failure=transport_failure("refused", "m", sent=False)), Attempt(target, "retry", 1.0)]
    failure = Failure(
        "status", f"bad key {KEY}", status=401, code="invalid_api_key", type="auth", param="p", request_id="r",
        body={"error": {"message": f"bad key {KEY}"}}, headers={"x-request-id": "r", "echo": KEY}, retry_after=3.0,
    )  # fmt: skip
    e = errors.error_from(failure, target, attempts, partial={"a": 1})
    assert str(e) == "bad key ***"
    assert (e.status_code, e.code, e.type, e.param, e.request_id) == (401, "invalid_api_key", "auth", "p", "r")
    assert (e.provider, e.model, e.attempts, e.retry_after) == ("openai", "m", 1, 3.0)
    assert e.body == {"error": {"message": "bad key ***"}}
    again = pickle.loads(pickle.dumps(e))
    assert type(again) is type(e)
    assert vars(again) == vars(e)
    assert again.partial == {"a": 1}
    assert e.response.status_code == 401
    assert e.response.json() == e.body
    assert e.request.method == "POST"
    assert "authorization" not in e.request.headers
    for shown in (str(e), repr(e), repr(vars(e)), repr(e.args), repr(pickle.dumps(e)), repr(e.response.headers)):
        assert "CANARY" not in shown


def test_no_answer_no_response() -> None:
    e = errors.error_from(Failure("reset", "m"), a_target(), [])
    assert e.status_code is None
    assert not hasattr(e, "response")


@pytest.mark.parametrize(
    "step",
    [
        error(401, f"Incorrect API key provided: {KEY}. Also {KEY[:10]}…"),
        answer(200, {"error": {"message": f"quoting {KEY}"}}),
        answer(200, f"<html>{KEY}</html>".encode(), content_type="text/html"),
        stream(b'data: {"error": {"message": "' + KEY.encode() + b'"}}\n\n'),
        stream(b"data: {" + KEY.encode() + b"\n\n"),
        error(400, "x" * 1990 + KEY),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_no_secret_in_anything_that_is_shown(server: FaultServer, step: Any, streamed: bool) -> None:
    server(step)
    with pytest.raises(ot.APIError) as raised:
        list(ot.completion("openai/m", USER, api_key=KEY, api_base=server.base, stream=streamed))
    e = raised.value
    # our own frames only: the caller's frame holds the key because the caller wrote it there
    frames = traceback.TracebackException(type(e), e, e.__traceback__, capture_locals=True)
    ours = "".join(str(f.locals) for f in frames.stack if "/opentracy/" in f.filename and "/tests/" not in f.filename)
    surfaces = [str(e), repr(e), repr(vars(e)), repr(e.args), repr(pickle.dumps(e)), ours, repr(getattr(e, "__notes__", ""))]
    assert [s for s in surfaces if "CANARY" in s] == []
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_errors_where_openai_is_not_installed() -> None:
    code = """
import sys
sys.modules["openai"] = None
import pickle, urllib.error
import opentracy as ot
e = ot.RateLimitError("slow down", status_code=429, body={"a": 1}, headers={"x": "y"}, provider="p", retry_after=2.0)
assert isinstance(e, urllib.error.HTTPError) and isinstance(e, ot.APIError), type(e).__mro__
assert isinstance(ot.APITimeoutError("late"), urllib.error.URLError)
assert (e.status_code, e.retry_after, str(e)) == (429, 2.0, "slow down")
assert pickle.loads(pickle.dumps(e)).headers == {"x": "y"}
try:
    ot.completion("openai/m", [{"role": "user", "content": "x"}], api_key="k", api_base="http://127.0.0.1:9/v1", num_retries=0)
except urllib.error.URLError as raised:
    assert isinstance(raised, ot.APIConnectionError) and raised.attempts == 0
import asyncio
try:
    asyncio.run(ot.acompletion("openai/m", [{"role": "user", "content": "x"}]))
except ImportError as missing:
    assert "openai package required for async" in str(missing)
else:
    raise AssertionError
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


def test_an_error_does_not_import_openai_and_is_openais_all_the_same() -> None:
    """That import takes half a second, for a class that nobody can name who has not imported it already."""
    code = """
import asyncio, pickle, sys
import opentracy as ot
def fail(**more):
    try:
        ot.completion("openai/m", [{"role": "user", "content": "x"}], api_key="k" * 20, api_base="http://127.0.0.1:9/v1", **more)
    except ot.APIConnectionError as e:
        return e
async def afail():
    try:
        await ot.acompletion("openai/m", [{"role": "user", "content": "x"}], api_key="k" * 20, api_base="http://127.0.0.1:9/v1")
    except ot.APIConnectionError as e:
        return e
early = [fail(), fail(stream=True), asyncio.run(afail()), ot.RateLimitError("m", status_code=429), ot.APITimeoutError("m")]
assert "openai" not in sys.modules and "pydantic" not in sys.modules
text = pickle.dumps(early[0])
import openai
late = [fail(), asyncio.run(afail()), ot.RateLimitError("m", status_code=429), pickle.loads(text)]
for e in (*early, *late):
    assert isinstance(e, getattr(openai, type(e).__name__)) and isinstance(e, openai.APIError), type(e).__mro__
    assert isinstance(e, getattr(ot, type(e).__name__)) and isinstance(e, ot.APIError)
    assert not isinstance(e, (OSError, ValueError))
    assert str(e) and repr(e)
assert isinstance(early[3], openai.APIStatusError) and not isinstance(early[3], openai.BadRequestError)
assert issubclass(ot.APITimeoutError, openai.APITimeoutError) and issubclass(openai.APITimeoutError, openai.APIConnectionError)
from opentracy import errors
for name in errors.__all__:
    assert "stand_ins" not in repr(getattr(ot, name).__mro__), getattr(ot, name).__mro__
    try:
        raise getattr(ot, name)("m", status_code=400)
    except getattr(openai, name):
        pass
assert not [f for f in sys.meta_path if "opentracy" in type(f).__module__]
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr
