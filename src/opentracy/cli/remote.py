"""The traces of a running engine over HTTP, for the commands that otherwise read the local store.

Belongs here: requests to an engine and their answers as rows and records. Not here: arguments, and what is printed.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import click
import msgspec

from opentracy.core.jsonio import encode
from opentracy.traces.export import Imported, batches
from opentracy.traces.model import TraceRecord, from_dict, to_dict
from opentracy.traces.reader import TraceRow

TIMEOUT_S = 30.0
#: of the traces in one request; every engine takes so many
PORTION_BYTES: Final = 4 << 20
Pairs = list[tuple[str, str]]

engine_option = click.option(
    "--engine", "engine_url", default=None, help="URL of an engine to ask instead (default: OPENTRACY_ENGINE_URL)."
)


class Unreachable(click.ClickException):
    """Nobody answers there."""

    exit_code = 3


class Remote:
    """An engine. `key` is sent as its bearer."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"Not the URL of an engine: {url}")
        self._parts, self._key = parts, key

    def rows(self, asked: Pairs, limit: int) -> Iterator[TraceRow]:
        """The newest traces that match."""
        cursor: Pairs = []
        while limit > 0:
            page = self.get("/v1/traces", [*asked, ("limit", str(min(limit, 1000))), *cursor])
            _tell_missing(page)
            for row in page["data"]:
                yield msgspec.convert(row, TraceRow)
            limit -= len(page["data"])
            if page["next"] is None:
                return
            cursor = [("cursor", page["next"])]

    def every(self, asked: Pairs) -> Iterator[TraceRow]:
        """All traces that match."""
        return self.rows(asked, 2**62)

    def forget(self, trace_id: str) -> bool:
        """Removes a trace; False when there is none."""
        answer = self._asked("DELETE", f"/v1/traces/{quote(trace_id, safe='')}", [], None)
        if answer.status >= 400 and answer.status != 404:
            _refused(answer)
        answer.read()
        return answer.status != 404

    def record(self, trace_id: str) -> TraceRecord:
        """One whole trace."""
        return from_dict(self.get(f"/v1/traces/{quote(trace_id, safe='')}", []))

    def figures(self, asked: Pairs) -> list[dict[str, Any]]:
        """The answer to a query."""
        found = self.get("/v1/stats", asked)
        _tell_missing(found)
        return list(found["data"])

    def tail(self, asked: Pairs) -> Iterator[TraceRow]:
        """New traces as they come, without end."""
        for line in self._lines("/v1/traces/tail", asked):
            if line.startswith(b"data: "):
                yield msgspec.json.decode(line[6:], type=TraceRow)

    def export(self, asked: Pairs) -> Iterator[bytes]:
        """The bytes of an export."""
        return self.pieces("/v1/traces/export", asked)

    def say(self, body: Mapping[str, Any]) -> None:
        """Feedback on a trace."""
        self._answer("POST", "/v1/feedback", [], json.dumps(body).encode()).read()

    def take(self, lines: Iterable[bytes], step: Callable[[int], object]) -> Imported:
        """Gives the traces of JSON lines to the engine; `step` is told how many lines are done."""
        done = Imported()
        for read, batch in batches(lines, done.errors):
            self._give([encode(to_dict(record)) for record in batch], done)
            step(read)
        return done

    def _give(self, traces: list[bytes], done: Imported) -> None:
        if len(traces) > 1 and sum(map(len, traces)) > PORTION_BYTES:
            half = len(traces) // 2
            self._give(traces[:half], done)
            self._give(traces[half:], done)
        elif traces:
            answer = self._answer("POST", "/v1/traces", [], b'{"traces":[%b]}' % b",".join(traces))
            known = int(json.loads(answer.read())["known"])
            done.known += known
            done.added += len(traces) - known

    def text(self, path: str) -> str:
        """An answer that is plain text."""
        return self._answer("GET", path, [], None).read().decode()

    def send(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer to a POST."""
        return dict(json.loads(self._answer("POST", path, [], json.dumps(body).encode()).read()))

    def pieces(self, path: str, asked: Pairs) -> Iterator[bytes]:
        """The bytes of a file."""
        answer = self._answer("GET", path, asked, None)
        while piece := answer.read(65_536):
            yield piece

    def get(self, path: str, asked: Pairs) -> dict[str, Any]:
        """A JSON answer."""
        value = json.loads(self._answer("GET", path, asked, None).read())
        return dict(value)

    def _lines(self, path: str, asked: Pairs) -> Iterator[bytes]:
        answer = self._answer("GET", path, asked, None)
        while line := answer.readline():
            yield line.rstrip(b"\r\n")

    def _answer(self, method: str, path: str, asked: Pairs, body: bytes | None) -> http.client.HTTPResponse:
        answer = self._asked(method, path, asked, body)
        if answer.status >= 400:
            _refused(answer)
        return answer

    def _asked(self, method: str, path: str, asked: Pairs, body: bytes | None) -> http.client.HTTPResponse:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
        headers = {"accept": "*/*", **({"content-type": "application/json"} if body is not None else {})}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        base = parts.path.rstrip("/").removesuffix("/v1")
        try:
            connection.request(method, f"{base}{path}{'?' + urlencode(asked) if asked else ''}", body, headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"No engine answers at {parts.hostname}: {type(error).__name__}") from None


def _tell_missing(answer: Mapping[str, Any]) -> None:
    if answer.get("behind"):
        click.echo(f"{answer['behind']} traces came lately and are not in this yet", err=True)


def _refused(answer: http.client.HTTPResponse) -> None:
    """The engine's own words, with exit code 2 for a question that means nothing and 1 for the rest."""
    try:
        message = str(json.loads(answer.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"The engine answered {answer.status}"
    raise click.UsageError(message) if answer.status == 400 else click.ClickException(message)


def remote(store: object, engine_url: str | None) -> Remote | None:
    """The engine that is meant; None for the local store: with `--store`, or when nobody answers and there is one.

    Raises Unreachable (exit code 3) when an engine that was named does not answer.
    """
    url = engine_url or (None if store is not None else os.environ.get("OPENTRACY_ENGINE_URL"))
    if url is None:
        return None
    engine = Remote(url, os.environ.get("OPENTRACY_API_KEY"))
    try:
        engine.get("/health/live", [])
    except Unreachable as error:
        from opentracy.traces.sqlite import default_path

        if engine_url is not None or not default_path().exists():
            raise
        click.echo(f"{error}; this is the local store", err=True)
        return None
    return engine


def pairs(
    query: str, since: str | None, until: str | None, text: str = "", more: Iterable[tuple[str, str]] = ()
) -> Pairs:
    """URL parameters of the options."""
    found: Pairs = [("q", f"{query} {text}".strip())] if query or text else []
    found += [(name, value) for name, value in (("since", since), ("until", until)) if value]
    return [*found, *more]
