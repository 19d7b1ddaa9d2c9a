"""The engine's column of the project's fault table, over the shared fault server: every case a client can meet, driven
through one engine, plain and streamed, in five dialects. Skipped with a reason where the shared data is absent."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_kit import Engine, Reply, running

SHARED = Path(os.environ.get("OPENTRACY_SHARED", str(Path(__file__).parents[3] / "shared"))) / "faults"
pytestmark = pytest.mark.shared

CONFIG = "[limits]\nfirst_token = 1.2\nidle = 1.2\nkeepalive = 0.5\n"
PATHS = {"OPENAI": "/v1", "GROQ": "/openai/v1", "MISTRAL": "/v1", "CEREBRAS": "/v1", "DEEPSEEK": "", "ANTHROPIC": "",
         "GEMINI": "", "COHERE": "", "BEDROCK": ""}  # fmt: skip
# what the engine makes of a provider's status; a refused key is the engine's own, so it is not the caller's fault
STATUS = {400: 400, 401: 502, 402: 402, 403: 502, 404: 404, 408: 504, 409: 409, 413: 413, 422: 422, 425: 503, 429: 429,
          500: 502, 502: 502, 503: 503, 504: 504}  # fmt: skip
# what it makes of everything that is no status: row -> status, codes, outcomes
ROWS: dict[str, tuple[set[int], set[str], set[str]]] = {
    "06": ({502}, {"upstream_reset"}, {"upstream_error"}),
    "07": ({502}, {"upstream_reset"}, {"upstream_error"}),
    "08": ({504}, {"timeout"}, {"timeout"}),
    "09": ({502, 504}, {"timeout", "bad_upstream"}, {"timeout", "upstream_error"}),
    "10": ({504}, {"timeout"}, {"timeout"}),
    "11": ({502}, {"upstream_truncated"}, {"truncated"}),
    "12": ({504}, {"timeout"}, {"timeout"}),
    "14": ({502}, {"upstream_redirect"}, {"upstream_error"}),
    "33": ({502, 504}, {"bad_upstream", "timeout"}, {"upstream_error", "timeout"}),
    "54": ({502}, {"empty_stream"}, {"truncated"}),
    "56": ({502}, {"empty_stream"}, {"truncated"}),
    "64": ({504}, {"timeout"}, {"timeout"}),
    **{row: ({502}, {"bad_upstream"}, {"upstream_error"})
       for row in ("36", "37", "38", "40", "41", "43", "44", "46", "47", "48", "55")},
}  # fmt: skip
EVENTS = {"stream_truncated": "truncated", "stream_interrupted": "truncated", "bad_event": "upstream_error"}
LOCAL = ("01", "02", "03", "04", "05", "13", "113", "115", "116", "75", "107", "N7", "S-KEY", "ACC")


def _cases() -> list[Any]:
    if not (SHARED / "cases.py").exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="needs the shared fault suite"))]
    sys.path.insert(0, str(SHARED))
    with contextlib.suppress(ValueError):
        sys.path.append(sys.path.pop(0))
    from cases import CASES  # type: ignore[import-not-found]

    found = {}
    counted: set[str] = set()
    for case in CASES:
        plain = case.action == "call" and case.base == "fault" and case.row not in LOCAL and not case.env
        # these faults count the requests of a key, and one engine has one key: the first case of each will do
        once = not case.fault.startswith("seq.") and case.fault not in counted
        if case.fault.startswith(("ra", "xsr", "retryinfo")) and case.id.rpartition("/")[0] not in found:
            counted.add(case.fault)
        if plain and once and not case.kw and case.provider in {n.lower() for n in PATHS}:
            found[case.id.rpartition("/")[0]] = case
    return [pytest.param(case, id=name) for name, case in found.items()]


@pytest.fixture(scope="module")
def faults() -> Iterator[int]:
    command = [sys.executable, str(SHARED / "faultserver.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])
        process.kill()


@pytest.fixture(scope="module")
def engine(faults: int) -> Iterator[Engine]:
    env = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "SECRETCANARYCCCC"}
    for name, path in PATHS.items():
        env[f"{name}_API_BASE"] = f"http://127.0.0.1:{faults}/f/model/k/x{path}"
        env[f"{name}_API_KEY"] = f"KEYCANARY{name}77"
    with running(CONFIG, env=env) as e:
        yield e


def _said(reply: Reply) -> str:
    events = [e for e in reply.events if e != "[DONE]" and "error" not in e]
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])


@pytest.mark.parametrize("case", _cases())
def test_engine_column(engine: Engine, case: Any) -> None:
    headers = {"x-opentracy-num-retries": str(case.num_retries)}
    if not case.stream:
        headers["x-request-timeout-ms"] = str(int(case.timeout * 1000))
    model = f"{case.provider}/{case.fault}"
    reply = engine.chat(model, headers, stream=case.stream)
    trace = engine.trace(reply)
    problems = []
    for want in case.expect:
        problem = _good(want, reply, trace) if want["kind"] == "ok" else _bad(case, want, reply, trace)
        if problem is None:
            break
        problems.append(problem)
    else:
        pytest.fail(f"{problems}\n{reply.status} {reply.body[:600]!r}\n{trace['outcome']} {trace['attempts']}")
    low, high = (case.hits, case.hits) if isinstance(case.hits, int) else case.hits or (0, 99)
    if trace["outcome"] == "timeout" and not case.stream:
        low = 1  # the header bounds the whole request, so nothing is left for a retry
    assert low <= len(trace["attempts"]) <= high
    assert b"KEYCANARY" not in reply.body + str(reply.headers).encode()
    assert b"SECRETCANARY" not in reply.body


def _good(want: dict[str, Any], reply: Reply, trace: dict[str, Any]) -> str | None:
    if reply.status != 200 or trace["outcome"] != "ok":
        return f"not ok: {reply.status} {trace['outcome']}"
    if "text/event-stream" in reply.headers["content-type"]:
        if reply.events[-1] != "[DONE]":
            return "no [DONE]"
        text = _said(reply)
    else:
        text = reply.json["choices"][0]["message"]["content"] or ""
    expected = want.get("text")
    if expected is not None and "...(" not in expected and text != expected:
        return f"text {text[:80]!r}"
    if want.get("usage_unknown") and trace["cost_nano"] is not None:
        return "usage unknown, cost known"
    return None


def _bad(case: Any, want: dict[str, Any], reply: Reply, trace: dict[str, Any]) -> str | None:
    if trace["outcome"] == "ok":
        return "the trace says ok"
    if case.stream and want.get("text"):
        return _broken(want, reply, trace)
    if reply.headers["content-type"] != "application/json" or reply.headers.get("x-should-retry") != "false":
        return "not a final JSON error"
    status, error = want["status"], reply.error
    if error.get("request_id") != trace["trace_id"]:
        return "request_id"
    if status is not None:
        wanted = STATUS.get(status) or (503 if 520 <= status < 530 else 502)
        if error["code"] == "insufficient_quota":
            wanted = 402
        if error["code"] == "context_length_exceeded":
            wanted = 400
        if reply.status != wanted:
            return f"status {reply.status}, wanted {wanted}"
    elif case.row in ROWS:
        statuses, codes, outcomes = ROWS[case.row]
        if reply.status not in statuses or error["code"] not in codes or trace["outcome"] not in outcomes:
            return f"{reply.status} {error['code']} {trace['outcome']}, wanted {statuses} {codes} {outcomes}"
    if reply.status < 400:
        return "an error with a good status"
    contains = want.get("contains")
    if contains and contains.lower() not in error["message"].lower() and "redirect" not in contains:
        return f"the provider's text {contains!r} is lost: {error['message'][:100]!r}"
    return None


def _broken(want: dict[str, Any], reply: Reply, trace: dict[str, Any]) -> str | None:
    """After the first content: what was said, then an error event, and no [DONE]."""
    if reply.status != 200:
        return f"status {reply.status} although content was there"
    if b"[DONE]" in reply.body:
        return "[DONE] after a broken stream"
    if "error" not in reply.events[-1]:
        return "no error event"
    if _said(reply) != want["text"]:
        return f"said {_said(reply)!r}"
    if want["code"] in EVENTS and trace["outcome"] != EVENTS[want["code"]]:
        return f"outcome {trace['outcome']}"
    return None
