"""The engine's pure parts: configuration, circuits, hosts, validation, framing from any split of the bytes."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentracy.core.wire import Failure
from opentracy.engine.auth import HostRules, Identity, Keys
from opentracy.engine.config import Config
from opentracy.engine.configfile import ConfigError, parse, secret
from opentracy.engine.errors import Refused, status_of
from opentracy.engine.exchange import Exchange
from opentracy.engine.health import Health
from opentracy.engine.http import Connection
from opentracy.engine.offered import offered
from opentracy.engine.route import available
from opentracy.engine.server import HttpLimits, HttpServer
from opentracy.engine.state import Snapshot
from opentracy.engine.tags import read_tags
from opentracy.engine.validate import check_chat, decode_body
from opentracy.engine.watchdog import Watchdog
from opentracy.routing import load
from opentracy.routing.prior import Abilities, Ability, Figure, plain_name, published


# ---------------------------------------------------------------- configuration
def test_precedence_file_environment_flag() -> None:
    text = "[server]\nport = 1\nhost = '127.0.0.2'\n[limits]\nidle = 5\n"
    env = {"OPENTRACY_SERVER_PORT": "2", "OPENTRACY_LIMITS_IDLE": "7.5", "OPENTRACY_LOG_LEVEL": "INFO"}
    config = parse(text, env, {"server.port": 3, "server.host": None})
    assert (config.server.port, config.server.host, config.limits.idle) == (3, "127.0.0.2", 7.5)
    assert config.server.log_level == "info"


def test_environment_reaches_maps_and_lists() -> None:
    env = {
        "OPENTRACY_PROVIDERS_ANTHROPIC_API_KEY": "env:X", "OPENTRACY_ALIASES_MY_SMART_MODEL": "openai/gpt-4o",
        "OPENTRACY_AUTO_MODELS": "openai/a, openai/b",
    }  # fmt: skip
    config = parse("[aliases.my-smart]\nmodel = 'openai/x'\n", env)
    assert config.providers["anthropic"].api_key == "env:X"
    assert config.aliases["my-smart"].model == "openai/gpt-4o"
    assert config.auto.models == ["openai/a", "openai/b"]


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[server]\nport = 'x'\n", {}, ("line 2", "server.port", "int")),
        ("[aliases.a]\nmodel = 3\n", {}, ("line 2", "aliases.a.model")),
        ("[aliases.a]\nmodel = 'x'\nfallback = []\n", {}, ("line 3", "did you mean 'fallbacks'")),
        ("[server]\nport = 1\nport = 2\n", {}, ("line 3",)),
        ("[auto]\ncost_weight = 3\n", {}, ("line 2", "1.0")),
        ("", {"OPENTRACY_SERVER_PROT": "1"}, ("OPENTRACY_SERVER_PROT", "'port'")),
        ("", {"OPENTRACY_SERVER_PORT": "abc"}, ("environment variable OPENTRACY_SERVER_PORT",)),
        ("[aliases.auto]\nmodel = 'x'\n", {}, ("'auto'", "line 1")),
        ("\n[alias.a]\nmodel = 'x'\n", {}, ("line 2", "did you mean 'aliases'")),
        ("port = 1\n", {}, ("line 1", "did you mean 'server.port'")),
        ("[traces]\ncontent = 'some'\n", {}, ("line 2", "one of all, redacted, none")),
        ("[providers.opnai]\n", {}, ("line 1", "did you mean 'openai'")),
        ("[providers.openai]\napi_base = 'h/v1'\n", {}, ("line 2", "http(s) URL")),
        ("[providers.openai]\n[providers.openai.options]\nzone = 'x'\n", {}, ("line 2", "'zone'", "organization")),
        ("[auto]\ndefault = 'openai/a'\nmodels = ['openai/a', 'zzz']\n", {}, ("line 3", "'zzz'")),
        ("[aliases.a]\nmodel = 'openai/x'\nfallbacks = ['nope/y']\n", {}, ("line 3", "Unknown provider: nope")),
    ],
)
def test_configuration_errors_name_the_place(text: str, env: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, env)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        parse(text, {})
    except ConfigError as e:
        assert str(e)


def test_secret_files_must_be_private(tmp_path: Any) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        secret(f"file:{path}", {})
    path.chmod(0o600)
    assert secret(f"file:{path}", {}) == "s3cret"


# ---------------------------------------------------------------- requests
@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function", "function": {"name": "f"}}, None), ({"type": "web_search"}, None), ({"googleSearch": {}}, None),
        ({"systemTool": {"name": "nova_grounding"}}, None), ({}, "tools[0].type"), ({"type": 3}, "tools[0].type"),
        ({"x": 1}, "tools[0].type"), ({"function": {"name": "f"}}, "tools[0].type"),
        ({"type": "function", "name": "f"}, "tools[0].function.name"),
    ],
)  # fmt: skip
def test_tools_have_a_type_or_are_a_providers_own(tool: dict[str, Any], param: str | None) -> None:
    body = {"model": "gemini/m", "messages": [{"role": "user", "content": "x"}], "tools": [tool], "logprobs": 3}
    if param is None:
        check_chat(body)
        return
    with pytest.raises(Refused) as caught:
        check_chat(body)
    assert caught.value.param == param


# ---------------------------------------------------------------- health
class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def status(code: int, after: float | None = None) -> Failure:
    return Failure("status", "x", status=code, retryable=True, retry_after=after)


def test_circuit_opens_probes_and_closes() -> None:
    clock = Clock()
    health = Health(clock, lambda: 0.5)
    for _ in range(4):
        health.failed("a", status(500))
        assert health.admit("a") is None
    health.failed("a", status(500))
    assert "out for 5.0 s" in (health.admit("a") or "")
    clock.now += 5.1
    assert health.admit("a") is None
    assert "probed" in (health.admit("a") or "")
    health.failed("a", status(500))
    assert "out for 10.0 s" in (health.admit("a") or "")
    clock.now += 10.1
    assert health.admit("a") is None
    health.succeeded("a")
    assert health.admit("a") is None and health.admit("a") is None


def test_half_of_twenty_opens() -> None:
    health = Health(Clock(), lambda: 0.5)
    for _ in range(10):
        health.failed("a", status(500))
        assert health.state("a")[0] == "closed"
        health.succeeded("a")
    health.failed("a", status(500))
    assert health.state("a")[0] == "open"


@pytest.mark.parametrize(("failure", "seconds"), [(status(429, 7.0), 7.0), (status(429), 5.0), (status(401), 60.0)])
def test_cooldowns(failure: Failure, seconds: float) -> None:
    clock = Clock()
    health = Health(clock, lambda: 0.5)
    health.failed("a", failure)
    clock.now += seconds - 0.1
    assert health.state("a")[0] == "cooling"
    clock.now += 0.2
    assert health.admit("a") is None


def test_callers_mistakes_do_not_count() -> None:
    health = Health(Clock(), lambda: 0.5)
    for _ in range(30):
        health.failed("a", status(400))
    assert health.known() == []


def test_retry_budget() -> None:
    health = Health(Clock(), lambda: 0.5)
    target: Any = type("T", (), {"provider": "p", "name": "p/m"})()
    guards = [health.guard() for _ in range(10)]
    assert [g.may_retry(target) for g in guards] == [True] * 3 + [False] * 7
    guards[0].report(target, None, 0.1)
    guards[1].release()
    assert health.retrying["p"] == 1
    health.active["p"] = 100
    assert sum(health.guard().may_retry(target) for _ in range(30)) == 19


def test_abandoned_probe_does_not_stay_out() -> None:
    clock = Clock()
    health = Health(clock, lambda: 0.5)
    for _ in range(5):
        health.failed("p/m", status(500))
    clock.now += 10
    target: Any = type("T", (), {"provider": "p", "name": "p/m"})()
    guard = health.guard()
    assert guard.admit(target) is None
    guard.release()
    assert health.admit("p/m") is None


# ---------------------------------------------------------------- errors, hosts, keys, tags
@pytest.mark.parametrize(
    ("failure", "want"),
    [
        (Failure("dns", "x"), (502, "upstream_unreachable")), (Failure("tls", "x"), (502, "upstream_tls")),
        (Failure("pool", "x"), (503, "overloaded")), (Failure("proxy", "x"), (502, "proxy_error")),
        (Failure("timeout", "x"), (504, "timeout")), (status(520), (503, "overloaded")),
        (status(410), (502, "upstream_4xx")), (Failure("body_limit", "x"), (502, "bad_upstream")),
    ],
)  # fmt: skip
def test_status_of_failures(failure: Failure, want: tuple[int, str]) -> None:
    assert status_of(failure) == want


@given(st.binary(max_size=40))
def test_only_our_own_hosts(host: bytes) -> None:
    """Whatever the bytes are: our own names pass, everything else is refused, nothing escapes."""
    rules = HostRules("127.0.0.1", ["api.example.com"])
    try:
        rules.check({b"host": host}, http11=True)
    except Refused as e:
        assert e.status == 400
    else:
        name = host.decode("latin-1").lower().rsplit(":", 1)[0] if not host.endswith(b"]") else host.decode()
        assert name.rstrip(":") in {"127.0.0.1", "localhost", "[::1]", "api.example.com", "[127.0.0.1]"}


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(text: str) -> None:
    identity = Identity("a", frozenset({"inference"}))
    keys = Keys([("the-right-key", identity)])
    assert keys.find(text) is (identity if text == "the-right-key" else None)


@pytest.mark.parametrize("value", [b"-1", b"x", b"0", b"1e3", b"9" * 40])
def test_bad_timeout_header(value: bytes) -> None:
    with pytest.raises(Refused, match="x-request-timeout-ms"):
        read_tags({b"x-request-timeout-ms": value}, {})


def test_unreadable_traceparent_is_ignored() -> None:
    assert read_tags({b"traceparent": b"00-zz-yy-01"}, {}).parent is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["model", "messages", "stream", "temperature", "tools", "metadata", "stop", "n", "api_base", "zz"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=6))
def test_validation_says_400_or_passes(body: dict[str, Any]) -> None:
    """No body makes it raise anything else."""
    try:
        check_chat(body)
    except Refused as e:
        assert e.status == 400
        assert e.param


@given(st.binary(max_size=60))
def test_decoding_says_400_or_gives_an_object(data: bytes) -> None:
    try:
        assert isinstance(decode_body(data), dict)
    except Refused as e:
        assert e.status == 400


# ---------------------------------------------------------------- framing
class FakeTransport:
    def __init__(self) -> None:
        self.out = b""

    def write(self, data: bytes) -> None:
        self.out += data

    def set_write_buffer_limits(self, **_: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def exchange(pieces: list[bytes]) -> tuple[list[tuple[str, bytes, bytes]], bytes]:
    """Requests that the application saw, and all that was written."""
    seen: list[tuple[str, bytes, bytes]] = []

    async def run() -> bytes:
        def app(x: Exchange) -> None:
            seen.append((x.method, x.path + b"?" + x.query, x.body))
            x.respond(200, b"{}")

        server = HttpServer(app, HttpLimits(max_body=200))
        connection = Connection(server)
        transport: Any = FakeTransport()
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        await server.close()
        return bytes(transport.out)

    return seen, asyncio.run(run())


WIRE = (
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
)


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_split_is_the_same_requests(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    seen, out = exchange([WIRE[a:b] for a, b in pairwise(edges) if b > a])
    assert seen == [("GET", b"/a?b=c", b""), ("POST", b"/d?", b"hello"), ("POST", b"/e?", b"abcde")]
    assert out.count(b"HTTP/1.1 200") == 3


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_or_wait(data: bytes) -> None:
    """Nothing that is no request reaches the application, and the answer to it is one error."""
    seen, out = exchange([data])
    assert seen == [] or data[:1].isalpha()
    assert out == b"" or out.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))


def test_body_limit_counts_chunks_together() -> None:
    seen, out = exchange(
        [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"a" * 100 + b"\r\n"]
        + [b"64\r\n" + b"a" * 100 + b"\r\n"] * 2
    )
    assert seen == []
    assert out.startswith(b"HTTP/1.1 413")


def test_what_another_engine_says_is_heard_but_not_repeated() -> None:
    """Only a longer rest is news; what was only heard is not told on, or two engines would keep it alive for ever."""
    now = [100.0]
    health = Health(lambda: now[0], lambda: 0.5)
    health.told({"a/x": (10.0, "429")})
    assert health.state("a/x") == ("cooling", 10.0, "429")
    assert health.resting() == {}
    health.failed("a/x", Failure("status", "m", status=429, retry_after=30.0))
    assert health.resting() == {"a/x": (30.0, "429")}
    health.told({"a/x": (5.0, "other"), "b/y": (1e9, "500")})
    assert health.state("a/x") == ("cooling", 30.0, "429")
    assert health.state("b/y") == ("cooling", 300.0, "500")
    now[0] += 31
    assert health.resting() == {}
    assert health.admit("a/x") is None
    health.succeeded("b/y")
    assert health.admit("b/y") is None


def test_watchdog_tells_once_for_each_stand_still(caplog: pytest.LogCaptureFixture) -> None:
    """A late beat is one line; a loop that goes round is none; a second stand-still is another line."""
    beat = [time.monotonic()]
    dog = Watchdog(lambda: beat[0], blocked=0.05)
    try:
        while dog.noticed < 1:
            time.sleep(0.01)
        time.sleep(0.2)
        assert dog.noticed == 1
        beat[0] = time.monotonic() + 3600  # it goes round, and will for a while
        time.sleep(0.2)
        assert dog.noticed == 1
        beat[0] = time.monotonic() - 7.0
        while dog.noticed < 2:
            time.sleep(0.01)
    finally:
        dog.stop()
    first, second = (r.getMessage() for r in caplog.records if "stood still" in r.getMessage())
    assert "test_watchdog_tells_once" in first
    assert " 7." in second


def test_auto_without_a_list_takes_each_model_once() -> None:
    """The published figures name some models under their dates as well."""
    models = Snapshot(Config(), {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, router=load("default")).auto_models
    bare = [re.sub(r"-\d{4}-\d{2}-\d{2}$|-\d{8}$|-latest$", "", model) for model in models]
    assert len(set(bare)) == len(bare) > 4
    assert {model.partition("/")[0] for model in models} == {"openai", "anthropic"}
    assert len({plain_name(model) for model in models}) == len(models)


def test_auto_without_a_list_leaves_out_what_another_model_makes_needless() -> None:
    def found(**values: tuple[float, float] | Ability) -> list[str]:
        rows = {n.replace("_", "-"): v if isinstance(v, Ability) else Ability(Figure(*v)) for n, v in values.items()}
        return [name.partition("/")[2] for name in offered(Abilities(rows), lambda provider: provider == "openai")]

    # o1 costs more than o3, which costs more than o4-mini; claude has no key
    assert found(o1=(0.8, 0.02), o3=(0.9, 0.02), o4_mini=(0.7, 0.02), claude_opus_4_5=(0.95, 0.02)) == ["o3", "o4-mini"]
    assert found(o1=(0.95, 0.02), o3=(0.9, 0.02)) == ["o1", "o3"]
    # hardly known, it displaces nobody
    assert found(o1=(0.8, 0.02), o3=(0.82, 0.06)) == ["o1", "o3"]
    # a specialist stays
    coder = Ability(Figure(0.8, 0.02), {"code": Figure(0.95)})
    assert found(o1=coder, o3=Ability(Figure(0.9, 0.02), {"code": Figure(0.85)})) == ["o1", "o3"]
    assert found(o1=coder, o3=Ability(Figure(0.9, 0.02), {"math": Figure(0.85)})) == ["o3"]
    # one that is not offered neither appears nor displaces, and an unknown price is no price
    assert found(o1=(0.8, 0.02), o3=Ability(Figure(0.9, 0.02), offered=False), gpt_unheard_of=(0.9, 0.02)) == ["o1"]


def test_every_provider_has_something_to_offer() -> None:
    found = offered(published(), lambda provider: True)
    assert {name.partition("/")[0] for name in found} >= {
        "anthropic", "bedrock", "cerebras", "cohere", "deepseek", "fireworks", "gemini", "groq", "mistral", "openai",
        "perplexity", "sambanova", "together",
    }  # fmt: skip
    assert len(found) < 100  # each of them is looked at for every prompt
    assert "together/meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo" in found  # as it spells it
    assert not [name for name in found if name.startswith("openai/gpt-oss")]  # its weights are open, its API has not got it


def test_models_that_rest_are_marked_while_they_rest_and_no_longer() -> None:
    snapshot, clock = Snapshot(Config(), {"OPENAI_API_KEY": "k"}, router=load("default")), Clock()
    health = Health(clock, lambda: 0.5)
    everyone = available(snapshot, health)
    assert all(c.healthy for c in everyone)
    ill = everyone[1].model
    health.failed(ill, status(429, 7.0))
    resting = available(snapshot, health)
    assert [c.model for c in resting if not c.healthy] == [ill]
    assert available(snapshot, health) is resting
    assert available(snapshot, health, frozenset([ill])) == (resting[1],)
    clock.now += 8.0
    assert available(snapshot, health) is everyone
