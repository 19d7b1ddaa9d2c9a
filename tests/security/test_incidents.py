"""What happened to others, as named tests against a running engine: S1 to S19 of the project's security rules."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import random
import socket
import stat
import string
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_kit import MESSAGES, Engine, Reply, bare_environment, keys_for, running
from faultserver import Exchange, FaultServer, answer, head, stream

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "opentracy"
GIVEN = {"INFERENCE": "inference-0123456789abcdef", "READ": "reading-0123456789abcdef", "ADMIN": "admin-0123456789abcdefgh"}
CONFIG = '[server]\napi_keys = ["env:INFERENCE"]\nread_keys = ["env:READ"]\nadmin_keys = ["env:ADMIN"]\n'
LONG = os.environ.get("OPENTRACY_LONG") == "1"


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {GIVEN[name]}"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server


@pytest.fixture(scope="module")
def engine(upstream: FaultServer) -> Iterator[Engine]:
    """Without keys: this machine only."""
    with running(env=keys_for(upstream.base)) as e:
        yield e


@pytest.fixture(scope="module")
def locked(upstream: FaultServer) -> Iterator[Engine]:
    """With a key for each scope, and virtual keys."""
    with running(CONFIG, env={**keys_for(upstream.base), **GIVEN}) as e:
        yield e


@pytest.fixture
def canary() -> Iterator[list[tuple[Any, ...]]]:
    """A listener that must never hear anything; its first element is its port."""
    heard: list[tuple[Any, ...]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard_port = listener.getsockname()[1]

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    _, address = listener.accept()
                    heard.append(("connection", address))

        threading.Thread(target=listen, daemon=True).start()
        heard.append(("port", heard_port))
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
    assert len(heard) == 1, "somebody dialled the canary"


STEERING = ("api_base", "base_url", "api_key", "extra_headers", "proxy", "proxies", "headers", "default_headers", "azure_endpoint",
            "organization", "custom_llm_provider", "aws_bedrock_runtime_endpoint", "endpoint_url", "http_client")  # fmt: skip


@pytest.mark.parametrize("field", STEERING)
def test_s1_cve_2024_6587_where_a_call_goes(
    engine: Engine, upstream: FaultServer, canary: list[tuple[Any, ...]], field: str
) -> None:
    """LiteLLM: `api_base` in the body sent the key to whoever asked. Every place and disguise is refused."""
    upstream(answer())
    url = f"http://127.0.0.1:{canary[0][1]}/"
    value: Any = {"authorization": url} if "headers" in field or field == "proxies" else url
    nested = [{field: value}, {"metadata": {field: value}}, {"metadata": {"a": [{"b": {field: value}}]}},
              {"metadata": json.dumps({field: value})}, {"metadata": {"x": json.dumps({field: value})}}, {"extra_body": {field: value}},
              {"litellm_params": {field: value}}, {"options": json.dumps({"y": json.dumps({field: value})})}]  # fmt: skip
    for body in nested:
        whole = {"model": "openai/gpt-4o-mini", "messages": MESSAGES, **body}
        assert engine.request("POST", "/v1/chat/completions", whole).status == 400, body
    assert upstream.seen == []


def test_s2_cve_2026_42208_sql_in_a_bearer_token(locked: Engine) -> None:
    """LiteLLM: the look-up of a key was built from its text. Thousands of tokens, each 401, and the store is whole."""
    chance = random.Random(2)
    written = ["' OR '1'='1", "ot_' OR 1=1--_x", "ot_x'; DROP TABLE keys;--_y", "ot_%_x", "ot__", "ot_" + "a" * 90, "\\", "%00", "' UNION SELECT hash FROM keys--",
               "ot_1_' OR hash LIKE '%", "admin", "null", "undefined", "Bearer", "ot_\u00e9_x", '"', "`", "$(id)", "${jndi:x}"]  # fmt: skip
    made = ["".join(chance.choices(string.printable[:94], k=chance.randint(1, 120))) for _ in range(10_000 if LONG else 1500)]
    made += ["ot_" + "".join(chance.choices("abcdef0123456789'_-;%\" ", k=60)) for _ in range(500)]
    with socket.create_connection(("127.0.0.1", locked.port)) as s, s.makefile("rb") as reader:
        for token in written + made:
            value = token.encode("latin-1", "replace")
            s.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % value)
            status = reader.readline()
            assert b" 401 " in status, (token, status)
            length = 0
            while (line := reader.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            reader.read(length)
    assert locked.request("GET", "/v1/models", headers=bearer("INFERENCE")).status == 200


def _sql_calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if named and node.func.attr in ("execute", "executemany", "executescript") and node.args:  # type: ignore[union-attr]
                yield path, node  # type: ignore[misc]


SQL_TEXTS = {
    "routing/tables.py": "DuckDB over files of the command line: fixed names, a quoted path",
    "engine/dashboard_routing.py": "the condition is compiled by traces.filters, its values are parameters",
}


def test_s2_sql_is_built_in_the_store_only() -> None:
    """No SQL text is put together outside the package that owns the tables, and there none with `%` or `.format`."""
    found = []
    for path, call in _sql_calls():
        if path.relative_to(SRC).as_posix() in SQL_TEXTS:
            continue
        text = call.args[0]
        where = f"{path.relative_to(SRC)}:{call.lineno}"
        for part in ast.walk(text):
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod):
                found.append(f"{where} %")
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "format":
                found.append(f"{where} .format")
            if isinstance(part, ast.FormattedValue) and "traces" not in path.parts:
                found.append(f"{where} f-string")
    assert not found, found


def _routes() -> list[tuple[str, str, str]]:
    from opentracy.engine.app import HOT
    from opentracy.engine.table import ROUTES

    hot = [(method, path.decode(), scope) for path, (method, scope, _) in HOT.items()]
    return hot + [(r.method, r.path.replace(":path", "").replace("{", "").replace("}", ""), r.scope) for r in ROUTES]


def test_s3_cve_2026_42271_admin_routes_need_admin(locked: Engine) -> None:
    """LiteLLM: a low key reached a route that started processes. Every admin route with every weaker credential."""
    admin = [(m, p) for m, p, scope in _routes() if scope == "admin"]
    assert admin
    for method, path in admin:
        for headers, want in (({}, 401), ({"authorization": "Bearer x"}, 401), (bearer("INFERENCE"), 403), (bearer("READ"), 403)):
            reply = locked.request(method, path, None if method == "GET" else {}, headers)
            assert reply.status == want, (method, path, headers)
    # that nothing is evaluated and no process started from a request is a rule over the source: tests/test_architecture.py


HOSTS = [b"/", b"?", b"#", b"@", b"\\", b"a b", b"localhost/..", b"localhost?x", b"localhost#x", b"x@localhost", b"localhost\\@evil",
         b"[::1", b"[::1]x", b"[zz]", b"localhost:", b"localhost:99999999", b"localhost:8o", b"evil.example", b"127.0.0.1.evil.example",
         b"localhost, evil.example", b"\xff", b"a" * 300, b"", b"localhost/v1/../health", b"%6cocalhost", b"0", b"0x7f.1", b"2130706433"]  # fmt: skip


def test_s4_cve_2026_48710_malformed_hosts(locked: Engine) -> None:
    """Starlette: with an odd Host the authorization saw another path. No Host makes any protected route answer."""
    for method, path, scope in _routes():
        if scope == "public":
            continue
        data = b"".join(
            b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            % (method.encode(), path.encode(), host)
            for host in [h for h in HOSTS if b"\xff" not in h]
        )
        with socket.create_connection(("127.0.0.1", locked.port), timeout=10) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            out = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                while piece := s.recv(65536):
                    out += piece
        statuses = [int(part[:3]) for part in out.split(b"HTTP/1.1 ")[1:]]
        assert all(s >= 400 for s in statuses), (method, path, statuses)


def test_s4_starlette_is_new_enough() -> None:
    import starlette

    assert tuple(int(n) for n in starlette.__version__.split(".")[:3]) >= (1, 0, 1)


def test_s5_cve_2026_47101_keys_are_made_by_admins_only(locked: Engine) -> None:
    """LiteLLM: a user made a key with more rights than its own. Here nobody below admin makes, changes or ends a key."""
    making = [(m, p) for m, p, scope in _routes() if "key" in p and m != "GET"]
    for method, path in making:
        for name in ("INFERENCE", "READ"):
            for scopes in (["inference"], ["read"], ["admin"], ["*"], []):
                body = {"name": "x", "scopes": scopes, "models": ["*"]}
                assert locked.request(method, path, body, bearer(name)).status == 403, (method, path)
    assert all(scope == "admin" for m, p, scope in _routes() if "key" in p and m != "GET")


@given(wanted=st.sets(st.sampled_from(["inference", "read", "admin", "*", "root", ""]), max_size=4))
def test_s5_no_scope_allows_more_than_it_says(wanted: set[str]) -> None:
    """A property of the rule itself: what a key may is exactly its scopes, and only `admin` includes others."""
    from opentracy.engine.auth import Identity

    identity = Identity("k", frozenset(wanted))
    for scope in ("inference", "read", "admin"):
        assert identity.allows(scope) == (scope in wanted or "admin" in wanted)


def test_s6_cve_2024_8984_content_types(engine: Engine) -> None:
    """LiteLLM: a multipart boundary hung the server. Nothing but JSON is read, whatever the boundary."""
    body = b"--" + b"-" * 200_000 + b"\r\n"
    kinds = ["multipart/form-data; boundary=" + "-" * 4000, "multipart/form-data", "multipart/mixed; boundary=a", "text/plain",
             "application/x-www-form-urlencoded", "application/jsonx", "application/json-patch+json", "", "application/ json", ";", "a" * 3000,
             "text/plain; application/json", "application/xml"]  # fmt: skip
    before = _cpu(engine.process.pid)
    for kind in kinds:
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/route", "/v1/traces"):
            assert engine.request("POST", path, body, {"content-type": kind}).status == 415, kind
    assert _cpu(engine.process.pid) - before < 0.05 * len(kinds) * 4


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "localhost", "LOCALHOST",
    "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "0", "0.0.0.0", "0x0", "00000000",
    "169.254.169.254", "[::ffff:169.254.169.254]", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.170.2", "metadata.google.internal",
    "[fd00:ec2::254]", "100.100.100.200", "100.64.0.1", "100.127.255.255", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "192.168.255.255", "198.18.0.1", "198.19.255.255", "192.0.0.1", "192.0.2.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "[fe80::1]", "[fec0::1]", "[fc00::1]", "[ff02::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::1]", "[2001::1]", "[2001:db8::1]", "127.0.0.1.nip.io", "localtest.me", "spoofed.burpcollaborator.net", "user@127.0.0.1",
    "127.0.0.1#@example.org", "example.org@127.0.0.1", "127.0.0.1%00.example.org", "\u2460\u2461\u2466.0.0.1",
]  # fmt: skip


def test_s7_ghsa_w98g_no_spelling_of_an_address_is_dialled(
    engine: Engine, upstream: FaultServer, canary: list[tuple[Any, ...]]
) -> None:
    """Bifrost: a deny-list missed some networks. There is no list here: a request names no address at all, and none is
    looked up or dialled, as a base, in an image or in a file; a provider's redirect leads nowhere either."""
    assert len(SPELLINGS) >= 60
    upstream(answer())
    for host in SPELLINGS:
        url = f"http://{host}:{canary[0][1]}/x"
        assert engine.chat(api_base=url).status == 400
        assert engine.chat(metadata={"webhook": json.dumps({"base_url": url})}).status == 400
    assert upstream.seen == []
    for code in (301, 302, 303, 307, 308):
        target = f"http://127.0.0.1:{canary[0][1]}/steal"

        def redirect(x: Exchange, code: int = code, target: str = target) -> bool:
            x.send(head(code, location=target, content_length=0))
            return True

        upstream(redirect)
        assert engine.chat(f"openai/redirected-{code}").error["code"] == "upstream_redirect"
        assert len(upstream.seen) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_s8_bifrost_3954_nothing_of_the_upstream_request_comes_back(
    engine: Engine, upstream: FaultServer, streaming: bool
) -> None:
    """A provider that echoes every header of its request, the key among them, in headers, body and error."""

    def echo(status: int) -> Any:
        def step(x: Exchange) -> bool:
            said = json.dumps({"error": {"message": f"bad key {x.headers['authorization']} {x.headers}", "type": "t"}}).encode()
            echoed = {f"x-echo-{k}": v for k, v in x.headers.items() if k != "content-length"}
            x.send(head(status, content_type="application/json", content_length=len(said), **echoed) + said)
            return True

        return step

    for status in (200, 400, 401, 429, 500):
        upstream(echo(status))
        reply = engine.chat(f"openai/echo-{status}-{streaming}", stream=streaming)
        assert_without_secret(reply, engine)


def assert_without_secret(reply: Reply, engine: Engine) -> None:
    shown = reply.body + json.dumps(reply.headers).encode()
    for secret in ("sk-openai-secret-0123456789", "sk-groq-secret-0123456789"):
        assert secret.encode() not in shown
        assert base64.b64encode(secret.encode()) not in shown
        assert secret not in engine.log.read_text()


def test_s9_bifrost_5772_no_key_means_this_machine_only(tmp_path: Path) -> None:
    """Elsewhere a missing password left the administration open. Without a key another bind is refused, exit 2."""
    for host in ("0.0.0.0", "::", "192.168.1.1", "[::]"):
        command = [sys.executable, "-m", "opentracy", "serve", "--host", host, "--port", "0"]
        env = {**bare_environment(), "OPENTRACY_DATA_HOME": str(tmp_path)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_s10_mal_2026_2144_dependencies_are_locked_by_hash() -> None:
    """A stolen publishing path: every dependency of a deployment has its hashes, and nothing else is installed."""
    lines = [x for x in (ROOT / "requirements.lock").read_text().splitlines() if x and not x.startswith("#")]
    entries = " ".join(lines).replace("\\", "").split("==")
    assert len(entries) > 10
    for entry in entries[1:]:
        assert "--hash=sha256:" in entry, entry
    assert "://" not in "".join(lines)


def test_s10_the_wheel_holds_nothing_that_runs_by_itself() -> None:
    """No `.pth`, no build hook, no console script but ours; what goes into the wheel is one package."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["build-system"] == {"requires": ["hatchling"], "build-backend": "hatchling.build"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["src/opentracy"]}
    assert "hooks" not in project["tool"]["hatch"]["build"]
    assert project["project"]["scripts"] == {"opentracy": "opentracy.cli:main"}
    assert not {p.suffix for p in SRC.rglob("*") if p.is_file()} & {".pth", ".so", ".pkl", ".sh", ".exe", ".pyd"}
    # that an import opens no socket and writes no file: tests/test_architecture.py


def test_s11_cve_2026_5760_weights_hold_no_code(tmp_path: Path) -> None:
    """SGLang and others: code inside a model file. A pickled array, a bomb, a foreign path, any flipped byte is refused."""
    from opentracy.routing import load
    from opentracy.routing.artifact import ArtifactError, unpack

    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (ran,))

    buffer = io.BytesIO()
    np.savez(buffer, scores=np.array([Evil()], dtype=object))
    for expected in ({"scores": "f4"}, {"scores": "O"}):
        with pytest.raises(ArtifactError):
            unpack(buffer.getvalue(), expected)
    assert not ran.exists()
    source = SRC / "routing" / "data" / "default"
    whole = {p.name: p.read_bytes() for p in source.iterdir() if p.is_file()}
    chance = random.Random(11)
    for n in range(300 if LONG else 40):
        copy = tmp_path / f"w{n}"
        copy.mkdir()
        for name, data in whole.items():
            if name.endswith(".npz"):
                changed = bytearray(data)
                at = chance.randrange(len(changed))
                changed[at] ^= 1 << chance.randrange(8)
                data = bytes(changed) if n % 2 else data[:at]
            (copy / name).write_bytes(data)
        with pytest.raises((ValueError, OSError)):
            load(str(copy))


@pytest.mark.parametrize("name", ["../evil.npy", "/etc/evil.npy", "a/../../evil.npy", "scores.npy/../x", "C:\\evil.npy"])
def test_s17_archives_write_nowhere(tmp_path: Path, name: str) -> None:
    """The first engine extracted archives unchecked. Ours are read in memory, and a foreign name is refused."""
    from opentracy.routing.artifact import ArtifactError, unpack

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"x")
        link = zipfile.ZipInfo("scores.npy")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(ArtifactError):
        unpack(buffer.getvalue(), {"scores": "f4"})
    with pytest.raises(ArtifactError):
        unpack(buffer.getvalue(), {"scores": "f4", name.removesuffix(".npy"): "f4"})


def test_s17_bombs_are_refused_before_they_unpack() -> None:
    from opentracy.routing.artifact import ArtifactError, unpack

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", b"\0" * 100_000)
    raw = bytearray(buffer.getvalue())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (0xF000_0000).to_bytes(4, "little")  # what it says it would unpack to
    with pytest.raises(ArtifactError, match="unpack to more"):
        unpack(bytes(raw), {"scores": "f4"})
    raw[entry + 24 : entry + 28] = (10).to_bytes(4, "little")  # more than it says
    with pytest.raises(ArtifactError):
        unpack(bytes(raw), {"scores": "f4"})


def test_s12_cve_2026_33626_no_url_in_content_is_fetched(
    engine: Engine, upstream: FaultServer, canary: list[tuple[Any, ...]]
) -> None:
    """LMDeploy: the server fetched image URLs. Here they travel to the provider as they are, or are refused."""
    url = f"http://127.0.0.1:{canary[0][1]}/image.png"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "file", "file": {"file_data": url}},
             {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}}, {"type": "video_url", "video_url": {"url": url}}]  # fmt: skip
    for model in ("openai/gpt-4o", "anthropic/claude-sonnet-4-6", "groq/llama-3.3-70b-versatile"):
        for part in parts:
            upstream(answer())
            reply = engine.chat(model, messages=[{"role": "user", "content": [{"type": "text", "text": url}, part]}])
            assert reply.status in (200, 400, 422, 502), reply.body
    engine.chat("openai/gpt-4o", user=url, metadata={"callback": url})
    time.sleep(0.2)


def test_s13_litellm_18730_limits_hold_in_parallel() -> None:
    """Parallel requests passed limit and budget. 200 at once on a limit: never more than the limit, in many rounds."""
    import tempfile

    from opentracy.traces.accounts import Accounts
    from opentracy.traces.budgets import Reservation, SqliteBudgets
    from opentracy.traces.limits import MemoryLimits, SqliteLimits

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(16) as pool:
        accounts = Accounts(Path(folder) / "accounts.db")
        now = 1_700_000_000_000
        for n in range(100 if LONG else 8):
            budgets, limits = SqliteBudgets(accounts), SqliteLimits(accounts)
            got = list(pool.map(lambda _, n=n, b=budgets: b.reserve(f"b{n}", 10, {"day": 95}, now), range(200)))
            assert sum(isinstance(g, Reservation) for g in got) == 9
            took = list(pool.map(lambda _, n=n, x=limits: x.take(f"l{n}", {"requests": 1}, {"requests": 13}, now), range(200)))
            assert sum(t.allowed for t in took) == 13
            memory = MemoryLimits()
            took = list(pool.map(lambda _, x=memory: x.take("m", {"requests": 1}, {"requests": 13}, now), range(200)))
            assert sum(t.allowed for t in took) == 13


def test_s14_cve_2024_2952_no_template_is_rendered(engine: Engine, upstream: FaultServer) -> None:
    """LiteLLM: templates and eval on input. Text that is a template elsewhere is text here."""
    for text in ("{{7*7}}", "${7*7}", "#{7*7}", "{% for x in ().__class__.__base__.__subclasses__() %}", "__import__('os').system('id')", "%(x)s %s {0}"):
        upstream(answer())
        engine.chat(messages=[{"role": "user", "content": text}])
        assert upstream.seen[0].json["messages"][0]["content"] == text
    # that there is no template engine and no eval: tests/test_architecture.py


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route", "/v1/reload", "/v1/traces", "/v1/embeddings"])
def test_s16_no_web_page_can_call(engine: Engine, path: str) -> None:
    """The first engine read JSON whatever its type, from any site. Simple requests of a browser are refused, CORS is off."""
    for headers, want in (
        ({"content-type": "text/plain"}, {415}), ({"content-type": "application/x-www-form-urlencoded"}, {415}),
        ({"content-type": "application/json", "origin": "https://evil.example"}, {403}), ({"origin": "null"}, {403}),
        ({"content-type": "application/json", "host": "evil.example"}, {400}),
    ):  # fmt: skip
        reply = engine.request("POST", path, json.dumps({"model": "openai/x", "messages": MESSAGES}).encode(), headers)
        assert reply.status in want, (headers, reply.body)
        assert not [h for h in reply.headers if h.startswith("access-control")]
    asked = engine.request("OPTIONS", path, headers={"origin": "https://evil.example", "access-control-request-method": "POST"})
    assert asked.status in (403, 405)
    assert not [h for h in asked.headers if h.startswith("access-control")]


def test_s18_pages_run_no_script_but_their_own(engine: Engine, upstream: FaultServer) -> None:
    """The policy forbids inline script; that 200 payloads do not run is shown in a browser (tests/dashboard)."""
    page = engine.request("GET", "/")
    policy = page.headers["content-security-policy"]
    directives = {d.split()[0]: d.split()[1:] for d in policy.split(";") if d.strip()}
    scripts = directives.get("script-src", directives.get("default-src", []))
    assert "'unsafe-inline'" not in scripts
    assert "'unsafe-eval'" not in scripts
    assert directives["frame-ancestors"] == ["'none'"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert b"onerror=" not in page.body
    payload = "<img src=x onerror=alert(1)>"
    upstream(answer(400, {"error": {"message": payload, "type": payload}}))
    reply = engine.chat(f"openai/{payload}"[:60], messages=[{"role": "user", "content": payload}])
    assert reply.headers["content-type"] == "application/json"
    trace = engine.request("GET", f"/v1/traces/{reply.headers['x-opentracy-trace-id']}")
    assert trace.headers["content-type"] == "application/json"
    assert trace.headers["x-content-type-options"] == "nosniff"


def test_s18_csv_runs_nothing_in_a_spreadsheet(engine: Engine, upstream: FaultServer) -> None:
    upstream(answer())
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1"):
        engine.chat(user=text, headers={"x-opentracy-tags": text.strip()})
    import csv

    table = list(csv.reader(io.StringIO(engine.request("GET", "/v1/traces/export?format=csv").body.decode())))
    users = [row[table[0].index("user_id")] for row in table[1:]]
    assert [u for u in users if u.strip("'")]
    for row in table[1:]:
        for cell in row:
            risky = cell[:1] in ("=", "+", "@", "\t", "\r") or (cell[:1] == "-" and not cell[1:].replace(".", "").isdigit())
            assert not risky, cell


def test_s19_keys_are_compared_in_constant_time() -> None:
    """Where a text is compared with a secret it is `hmac.compare_digest`; the measurement is a command (see the docs)."""
    for name in ("engine/auth.py", "traces/keys.py"):
        tree = ast.parse((SRC / name).read_text())
        assert [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "compare_digest"], name
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
                words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                assert not words & {"token", "digest", "hash", "seal", "key", "secret"}, f"{name}:{node.lineno}"


def test_secrets_at_rest(tmp_path: Path) -> None:
    """Only by reference; a key file that others may read is refused at start; our own pepper is 0600."""
    key = tmp_path / "key"
    key.write_text("file-secret-0123456789")
    key.chmod(0o644)
    config = f'[server]\napi_keys = ["file:{key}"]\n'
    file = tmp_path / "c.toml"
    file.write_text(config)
    env = {**bare_environment(), "OPENTRACY_DATA_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "opentracy", "serve", "--port", "0", "--config", str(file)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr
    assert "file-secret" not in done.stderr
    key.chmod(0o600)
    with running(config, home=tmp_path / "home") as engine:
        assert engine.request("GET", "/v1/models").status == 401
        assert engine.request("GET", "/v1/models", headers={"authorization": "Bearer file-secret-0123456789"}).status == 200
        mode = (tmp_path / "home" / "traces.db").stat().st_mode & 0o077
        assert mode == 0, oct(mode)
        pepper = tmp_path / "home" / "pepper"
        assert not pepper.exists() or pepper.stat().st_mode & 0o077 == 0


def test_stream_carries_no_foreign_header(engine: Engine, upstream: FaultServer) -> None:
    upstream(stream(set_cookie="a=b", x_internal="1"))
    reply = engine.chat(stream=True)
    assert "set-cookie" not in reply.headers
    assert "x-internal" not in reply.headers
