"""Handing traces of calls made elsewhere to an engine: one, many, or a file of them.

Belongs here: where the engine is, portions, what went wrong. Not here: what a trace is (the engine checks it and says
what is wrong with which), the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ._calls import sync_transport
from ._job import ENGINE_URL
from .core.jsonio import BadJson, decode, encode
from .core.wire import Failure, HttpRequest, Target
from .errors import error_from
from .providers.registry import engine_target

PORTION = 500
PORTION_BYTES = 4 << 20
TIMEOUT_S = 30.0


def add_trace(trace: Mapping[str, Any], *, engine_url: str | None = None, api_key: str | None = None) -> str:
    """Gives one trace to the engine and returns its id (32 hex digits) once it is on disk. See `add_traces`."""
    return add_traces([trace], engine_url=engine_url, api_key=api_key)[0]


def add_traces(
    traces: Iterable[Mapping[str, Any]], *, engine_url: str | None = None, api_key: str | None = None
) -> list[str]:
    """Gives traces to the engine; returns their ids, in order, once all are on disk.

    A trace is an object with fields of the engine's records, all optional: `model`, `provider`, `request`, `response`
    (JSON or text), `tokens_in`, `tokens_out`, `cost_usd`, `latency_ms`, `outcome`, `tags`, `user_id`, `session_id`,
    `metadata`, `ts_ms` (Unix milliseconds), `trace_id`. A known id is left alone, so a call may be repeated.

    The engine is `engine_url`, or OPENTRACY_ENGINE_URL, or http://localhost:8080; `api_key`, or OPENTRACY_API_KEY, must
    be an admin key where the engine has keys. Raises ValueError for what is no trace, else what `completion` raises.
    Portions before the one that failed are kept; repeat with ids of your own to be safe from doubles.
    """
    target = _target(engine_url, api_key)
    return [trace_id for portion in _portions(traces) for trace_id in _send(target, portion)]


def import_traces(path: str | os.PathLike[str], *, engine_url: str | None = None, api_key: str | None = None) -> int:
    """Gives the traces of a file to the engine; returns their number.

    The file has one JSON object a line, or is one JSON list: as `opentracy traces export` writes it, or as OpenAI's
    logs and batch results, LiteLLM, Langfuse and Helicone do. Raises ValueError with the number of the line that is no
    JSON object, before anything of its portion is sent.
    """
    target = _target(engine_url, api_key)
    return sum([len(_send(target, portion)) for portion in _portions(_lines(Path(path)))])


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        if _is_list(file):
            yield from _listed(path)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = decode(line)
                except BadJson as e:
                    raise ValueError(f"{path}, line {number}: {e}") from None
                if not isinstance(value, dict):
                    raise ValueError(f"{path}, line {number}: a trace is a JSON object")
                yield value


def _is_list(file: BinaryIO) -> bool:
    """Whether a file is one JSON list over several lines, as some tools write it. Leaves it at its begin."""
    head = file.read(4096).lstrip()
    file.seek(0)
    first, _, rest = head.partition(b"\n")
    return head.startswith(b"[") and (not first.rstrip().endswith(b"]") or not rest.strip())


def _listed(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        found = decode(path.read_bytes())
    except BadJson as e:
        raise ValueError(f"{path}: {e}") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{path}: a list of objects is needed")
    yield from found


def _portions(traces: Iterable[Mapping[str, Any]]) -> Iterator[list[bytes]]:
    """Traces as JSON, in requests that every engine accepts."""
    if isinstance(traces, Mapping | str | bytes):
        raise ValueError("traces must be a list of objects; for a single one there is add_trace")
    portion: list[bytes] = []
    size = 0
    for number, trace in enumerate(traces):
        if not isinstance(trace, Mapping):
            raise ValueError(f"traces[{number}] must be an object, got {type(trace).__name__}")
        data = encode(dict(trace))
        if portion and (len(portion) == PORTION or size + len(data) > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(data)
        size += len(data)
    if portion:
        yield portion


def _target(engine_url: str | None, api_key: str | None) -> Target:
    url = engine_url or os.environ.get("OPENTRACY_ENGINE_URL") or ENGINE_URL
    return engine_target("traces", url=url, api_key=api_key or os.environ.get("OPENTRACY_API_KEY"))


def _send(target: Target, portion: list[bytes]) -> list[str]:
    headers = {"content-type": "application/json", "accept": "application/json"}
    if target.credentials.key:
        headers["authorization"] = f"Bearer {target.credentials.key}"
    body = b'{"traces":[%b]}' % b",".join(portion)
    answer = sync_transport().request(HttpRequest("POST", f"{target.base_url}/traces", headers, body), TIMEOUT_S)
    if not isinstance(answer, Failure) and answer.status == 201:
        return [row["trace_id"] for row in decode(answer.body)["data"]]
    failure = answer if isinstance(answer, Failure) else target.dialect.parse_error(target, answer)
    if failure.status == 400:
        raise ValueError(failure.message)
    raise error_from(failure, target, [], tuple(target.credentials.secrets()))
