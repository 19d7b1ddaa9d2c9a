"""The exception tree: ours are openai's, they say what happened, travel through pickle, and hold no secret."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx2
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
    attempts = [
        Attempt(target, "first", 0.0, failure=transport_failure("refused", "m", sent=False)),
        Attempt(target, "retry", 1.0),
    ]
    failure = Failure(
        "status", f"bad key {KEY}", status=401, code="invalid_api_key", type="auth", param="p", request_id="r",
        body={"error": {"message": f"bad key {KEY}"}}, headers={"x-request-id": "r", "echo": KEY}, retry_after=3.0,
    )  # fmt: skip
    e = errors.error_from(failure, target, attempts, partial={"a": 1})
    assert str(e) == "bad key ***"
    assert (e.status_code, e.code, e.type, e.param, e.request_id) == (401, "invalid_api_key", "auth", "p", "r")
    assert (e.provider, e.model, e.attempts, e.retry_after) == ("openai", "m", 1, 3.0)
    assert e.body == {"message": "bad key ***"}  # the openai package's rule: the error object, not what holds it
    again = pickle.loads(pickle.dumps(e))
    assert type(again) is type(e)
    assert vars(again) == vars(e)
    assert again.partial == {"a": 1}
    assert e.response.status_code == 401
    assert e.response.json() == {"error": e.body}
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
    surfaces = [
        str(e),
        repr(e),
        repr(vars(e)),
        repr(e.args),
        repr(pickle.dumps(e)),
        ours,
        repr(getattr(e, "__notes__", "")),
    ]
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
import httpx2
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


def _in_a_process_of_its_own(code: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


def test_openai_imported_where_our_error_was_caught() -> None:
    """Inside a function, in the handler itself: the error that is being handled is openai's from then on."""
    _in_a_process_of_its_own("""
import sys
import opentracy as ot
class Own(ot.RateLimitError):
    pass
def work():
    for cls in (ot.RateLimitError, Own):
        try:
            raise cls("slow down", status_code=429, retry_after=3.0)
        except ot.APIError as e:
            import openai
            assert isinstance(e, openai.RateLimitError) and isinstance(e, openai.APIStatusError), cls
            try:
                raise
            except openai.RateLimitError as again:
                assert again is e and e.retry_after == 3.0
assert "openai" not in sys.modules
ot.RateLimitError("once"), isinstance(ValueError(), ot.RateLimitError), issubclass(ot.RateLimitError, ot.APIError)
work()
assert issubclass(Own, sys.modules["openai"].RateLimitError)
print("fine")
""")


def test_openai_imported_first_or_reloaded() -> None:
    _in_a_process_of_its_own("""
import importlib, openai
import opentracy as ot
e = ot.RateLimitError("m", status_code=429)
assert isinstance(e, openai.RateLimitError)
again = importlib.reload(openai)
assert isinstance(e, again.RateLimitError) and isinstance(ot.NotFoundError("m"), again.NotFoundError)
print("fine")
""")


def test_openai_imported_by_several_threads_while_errors_are_raised() -> None:
    """No thread sees a class between the two: whoever can name openai's class catches ours with it."""
    _in_a_process_of_its_own("""
import importlib.util, sys, threading
import opentracy as ot
ot.RateLimitError("the classes exist")
sys.setswitchinterval(1e-5)
wrong, over = [], threading.Event()
def raising():
    while not over.is_set():
        try:
            raise ot.RateLimitError("m", status_code=429)
        except ot.APIStatusError as e:
            if not isinstance(e, ot.RateLimitError):
                wrong.append(type(e).__mro__)
def looking():
    while not over.is_set():
        importlib.util.find_spec("openai") if "openai" not in sys.modules else None
def importing():
    e = ot.AuthenticationError("m", status_code=401)
    import openai
    if not isinstance(e, openai.AuthenticationError):
        wrong.append(type(e).__mro__)
beside = [threading.Thread(target=t) for t in (raising, looking, looking)]
ones = [threading.Thread(target=importing) for _ in range(8)]
for t in beside + ones: t.start()
for t in ones: t.join()
over.set()
for t in beside: t.join()
assert not wrong, wrong[:2]
print("fine")
""")


def test_an_import_that_began_before_our_classes_were_made() -> None:
    """Then nobody tells us of its end; the next error notices."""
    _in_a_process_of_its_own("""
import sys
import opentracy as ot
import opentracy._error_classes
sys.meta_path[:] = [f for f in sys.meta_path if "opentracy" not in type(f).__module__]
import httpx2
import openai
assert not issubclass(ot.RateLimitError, openai.RateLimitError)
assert isinstance(ot.NotFoundError("m", status_code=404), openai.NotFoundError)
assert issubclass(ot.RateLimitError, openai.RateLimitError)
print("fine")
""")


def test_a_loader_of_many_modules_is_left_as_it_was(tmp_path: Any) -> None:
    """Applications packed into one archive have one loader for all; and a failed import may be tried again."""
    names = ", ".join(n for n in ot.errors.__all__)
    classes = "\n".join(
        f"class {n}({getattr(openai, n).__mro__[1].__name__.replace('OpenAIError', 'Exception')}): pass"
        for n in sorted(ot.errors.__all__, key=lambda n: len(getattr(openai, n).__mro__))
    )
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr(
            "openai/__init__.py",
            f"import other, os\nif os.environ.pop('FAIL', ''): raise ImportError('not yet')\n{classes}\n",
        )
        archive.writestr("other.py", "x = 1\n")
        archive.writestr("third.py", f"names = {names.split(', ')!r}\n")
    _in_a_process_of_its_own(
        """
import os, sys
sys.path.insert(0, sys.argv[1])
import opentracy as ot
e = ot.RateLimitError("m", status_code=429)
os.environ["FAIL"] = "1"
try:
    import openai
except ImportError as failed:
    assert str(failed) == "not yet"
assert not hasattr(sys.modules.get("openai"), "RateLimitError")
import openai, third
assert openai.__file__.startswith(sys.argv[1])
for name in third.names:
    assert issubclass(getattr(ot, name), getattr(openai, name)), name
assert isinstance(e, openai.RateLimitError)
assert type(openai.__loader__).__name__ == type(openai.__spec__.loader).__name__ == "zipimporter"
assert "exec_module" not in vars(openai.__loader__)
print("fine")
""",
        str(tmp_path / "app.zip"),
    )


def test_an_openai_package_without_the_classes_is_none() -> None:
    """A version too old to have them: importing it works, and our errors are ours."""
    _in_a_process_of_its_own("""
import sys, types
old = types.ModuleType("openai")
class APIError(Exception): pass
old.APIError = APIError
sys.modules["openai"] = old
import opentracy as ot
try:
    raise ot.RateLimitError("m", status_code=429)
except ot.APIError as e:
    assert e.status_code == 429
print("fine")
""")


def test_pickles_travel_between_processes_with_and_without_openai() -> None:
    code = """
import pickle, sys
import opentracy as ot
if sys.argv[1] == "with": import openai
if sys.argv[2]:
    e = pickle.loads(bytes.fromhex(sys.argv[2]))
    assert type(e) is ot.RateLimitError and (e.status_code, e.retry_after, str(e)) == (429, 2.0, "slow"), vars(e)
    assert sys.argv[1] != "with" or isinstance(e, openai.RateLimitError)
else:
    sys.stdout.write(pickle.dumps(ot.RateLimitError("slow", status_code=429, retry_after=2.0)).hex())
"""
    for made in ("with", "without"):
        text = subprocess.run([sys.executable, "-c", code, made, ""], capture_output=True, text=True, check=True).stdout
        for read in ("with", "without"):
            subprocess.run([sys.executable, "-c", code, read, text], check=True)


@pytest.mark.parametrize(
    ("document", "body"),
    [({"error": {"message": "m"}}, {"message": "m"}), ({"message": "m"}, {"message": "m"}), ("<html>", "<html>"), ([1], [1]), (None, None)],
)
def test_the_body_is_what_the_openai_package_calls_so(document: Any, body: Any) -> None:
    e = errors.error_from(Failure("status", "m", status=400, body=document), a_target(), [])
    assert e.body == body
    theirs = openai.OpenAI(api_key="k")._make_status_error_from_response(
        httpx2.Response(400, json=document, request=httpx2.Request("POST", "http://h"))
    )
    assert document in ("<html>", None) or e.body == theirs.body
