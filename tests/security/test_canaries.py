"""S15: one canary for each secret, sent through every kind of fault at debug level; then everything that the engine wrote
is searched for it, its longer prefixes, and its encoded forms."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_kit import Engine, Reply, free_port, running
from faultserver import EVENTS, Exchange, FaultServer, Step, answer, drop, error, head, raw, reset, stream

PROVIDERS = ("OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "MISTRAL", "DEEPSEEK", "TOGETHER", "FIREWORKS", "CEREBRAS", "SAMBANOVA",
             "PERPLEXITY", "COHERE")  # fmt: skip
CANARIES = {name: f"canary{name.lower()}QxZ7{n:02d}LmNoPq" for n, name in enumerate(PROVIDERS)}
AWS = "canaryawssecretQxZ7LmNoPqRsTu"
ENGINE_KEY, ADMIN_KEY, PROXY = "canaryenginekeyQxZ7LmNoPq", "canaryadminkeyQxZ7LmNoPq", "canaryproxyQxZ7LmNoPq"


def echo(x: Exchange) -> bool:
    """Says back everything it was told."""
    said = json.dumps({"error": {"message": f"wrong key in {dict(x.headers)}", "code": str(x.headers)[:500]}}).encode()
    headers = {f"x-echo-{k}": v for k, v in x.headers.items() if k != "content-length"}
    x.send(head(401, content_type="application/json", content_length=len(said), **headers) + said)
    return True


def quote(x: Exchange) -> bool:
    return bool(answer(200, f"<html>{x.headers} {x.path}</html>".encode(), content_type="text/html")(x))


def event_with_it(x: Exchange) -> bool:
    said = json.dumps({"error": {"message": f"boom {x.headers}"}})
    return bool(stream(*EVENTS[:3], f"data: {said}\n\n".encode())(x))


FAULTS: list[Step] = [
    answer(), stream(), echo, quote, event_with_it, error(400), error(429, retry_after="3600"), error(500), error(503), reset, drop,
    raw(b"HTTP/1.1 abc\r\n\r\n"), raw(head(302, location="http://127.0.0.1:1/", content_length=0)), answer(200, b""), answer(200, b"{"),
    answer(200, b"<html>"), stream(*EVENTS[:3]), stream(*EVENTS[:3], end=b""), stream(b"data: {bad\n\n"),
]  # fmt: skip


TRAVELLED: set[str] = set()  # what the provider was told: here the secrets belong


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server


@pytest.fixture(scope="module")
def written(upstream: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """Everything that came out of an engine which went through all faults with all secrets."""
    home = tmp_path_factory.mktemp("canaries")
    env = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": AWS, "AWS_REGION": "us-east-1", "ENGINE": ENGINE_KEY, "ADMIN": ADMIN_KEY,
           "BEDROCK_API_BASE": f"http://127.0.0.1:{upstream.port}", "HTTPS_PROXY": f"http://user:{PROXY}@127.0.0.1:{free_port()}",
           "XAI_API_KEY": "canaryxaiQxZ7LmNoPq"}  # fmt: skip
    for name, key in CANARIES.items():
        env[f"{name}_API_KEY"], env[f"{name}_API_BASE"] = key, f"http://127.0.0.1:{upstream.port}/v1"
    config = '[server]\napi_keys = ["env:ENGINE"]\nadmin_keys = ["env:ADMIN"]\n[limits]\nnum_retries = 0\n'
    with running(config, ["--log-level", "debug"], env, home=home) as engine:
        answers = _talk(engine, upstream)
        engine.headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        for path in ("/health", "/metrics", "/v1/config", "/v1/models", "/v1/traces?limit=1000", "/openapi.json", "/v1/stats",
                     "/v1/traces/export", "/v1/traces/export?format=csv"):  # fmt: skip
            answers[path] = _whole(engine.request("GET", path))
        answers["arguments"] = Path(f"/proc/{engine.process.pid}/cmdline").read_bytes()
    for path in home.rglob("*"):
        if path.is_file():
            answers[f"file {path.name}"] = path.read_bytes()
    yield answers


def _whole(reply: Reply) -> bytes:
    return reply.body + json.dumps(reply.headers).encode()


def _talk(engine: Engine, upstream: FaultServer) -> dict[str, bytes]:
    engine.headers = {"authorization": f"Bearer {ENGINE_KEY}"}
    models = [f"{name.lower()}/m" for name in PROVIDERS] + ["bedrock/anthropic.claude-3-haiku-20240307-v1:0", "xai/grok-4"]
    out = {}
    for number, fault in enumerate(FAULTS):
        for model in models if fault in (echo, FAULTS[0], FAULTS[7]) else models[:2]:
            upstream(fault)
            for streaming in (False, True):
                reply = engine.chat(f"{model}-{number}" if "bedrock" not in model else model, stream=streaming)
                out[f"answer {number} {model} {streaming}"] = _whole(reply)
                TRAVELLED.update(value for x in upstream.seen for value in x.headers.values())
    for headers in ({"authorization": f"Bearer {ENGINE_KEY}x"}, {"authorization": f"Basic {ENGINE_KEY}"}, {"x-api-key": ENGINE_KEY}):
        out[f"refused {headers}"[:20]] = _whole(engine.chat(headers=headers))
    out["query"] = engine.request("GET", f"/v1/models?api_key={ENGINE_KEY[:3]}").body
    return out


def forms(secret: str) -> list[bytes]:
    """The secret, its prefixes from 16 characters on (the rest is common to all), and how else it might be written."""
    plain = secret.encode()
    encoded = base64.b64encode(plain).rstrip(b"=")[:-1]
    return [plain, plain[:16], encoded, base64.b64encode(b"user:" + plain)[8:-4], urllib.parse.quote(secret + "+/").encode()[:-6], plain.hex().encode()]


SECRETS = {**CANARIES, "AWS": AWS, "ENGINE": ENGINE_KEY, "ADMIN": ADMIN_KEY, "PROXY": PROXY, "XAI": "canaryxaiQxZ7LmNoPq"}


@pytest.mark.parametrize("name", SECRETS)
def test_s15_no_canary_in_anything_written(written: dict[str, bytes], name: str) -> None:
    """CVE-2024-9606, CVE-2025-0330: keys in logs and errors."""
    hits = [place for place, data in written.items() for form in forms(SECRETS[name]) if form in data]
    assert hits == []
    assert len(written) > 100


@pytest.mark.parametrize("name", CANARIES)
def test_s15_the_search_would_find_them(written: dict[str, bytes], name: str) -> None:
    """Each secret did travel, to where it belongs, so a search that finds nothing means something."""
    assert written
    seen = "\n".join(TRAVELLED).encode()
    assert any(form in seen for form in forms(CANARIES[name]))


def test_s15_objects_do_not_show_their_secrets() -> None:
    """repr, str, vars and pickle of what holds a key."""
    from opentracy.engine.auth import Identity, Keys
    from opentracy.providers import registry

    target = registry.target("openai/gpt-4o", api_key=CANARIES["OPENAI"], env={})
    keys = Keys([(ENGINE_KEY, Identity("k", frozenset()))])
    for thing in (target, target.credentials, keys, [target], {"x": keys}):
        assert "canary" not in repr(thing) + str(thing) + f"{thing}"
    assert "canary" not in repr(vars(keys))
