"""ClickHouse's HTTP interface in front of chdb, so that the path `clickhouse://` runs for real: `python clickhouse_front.py
PORT DIRECTORY`.

The engine of ClickHouse answers; what is ours is the wire: the query and settings in the URL, data in the body (lz4,
zstd, gzip or plain), the answer in the format asked for, exceptions with their code. One query at a time.
"""

from __future__ import annotations

import gzip
import re
import sys
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

#: parameters of the protocol that are no settings of a query
_NOT_SETTINGS = {
    "query", "database", "session_id", "session_timeout", "query_id", "default_format", "compress", "decompress",
    "enable_http_compression", "http_headers_progress_interval_ms", "send_progress_in_http_headers", "wait_end_of_query",
    "client_protocol_version", "role", "user", "password", "quota_key", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
USER, PASSWORD = "tester", "pw-canary"


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Any
    lock = Lock()

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self.reply(200, b"Ok.\n")
        else:
            self.run(b"")

    def do_POST(self) -> None:
        self.run(self.body())

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            raw = b"".join(parts)
        else:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        kind = self.headers.get("content-encoding", "")
        if kind == "gzip":
            return gzip.decompress(raw)
        if kind == "lz4":
            import lz4.frame

            return frames(raw, lz4.frame.LZ4FrameDecompressor)
        if kind == "zstd":
            import zstandard

            return frames(raw, zstandard.ZstdDecompressor().decompressobj)
        return raw

    def run(self, body: bytes) -> None:
        if not self.allowed():
            self.reply(401, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)\n", code="516")
            return
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        query, data = asked.get("query", ""), body
        if not query:
            # an insert has its data after the first line
            head = re.match(rb"(?is)\s*insert\s.+?\sformat\s+\w+[ \t]*\n", body)
            query, data = (head[0].decode(), body[head.end() :]) if head else (body.decode(), b"")
        settings = {k: v for k, v in asked.items() if k not in _NOT_SETTINGS and not k.startswith("param_")}
        try:
            with self.lock:
                kind, answer = self.answer(query, data, asked, settings)
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            self.reply(500, str(error).encode(), code=code[1] if code else "0")
            return
        self.reply(200, answer, kind=kind)

    def answer(self, query: str, data: bytes, asked: dict[str, str], settings: dict[str, str]) -> tuple[str, bytes]:
        given = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        insert = re.match(r"(?is)\s*(insert\s+into\s.+?)\s+format\s+(\w+)\s*$", query)
        if insert and data:
            # the streaming insert of chdb takes the first of several native blocks only
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                clause = f" SETTINGS {given}" if given else ""
                self.session.query(f"{insert[1]} FROM INFILE '{file.name}'{clause} FORMAT {insert[2]}")
            return "", b""
        found = re.search(r"(?is)\s+format\s+(\w+)\s*;?\s*$", query)
        kind = found[1] if found else asked.get("default_format", "TabSeparated")
        text = query[: found.start()] if found else query
        if given and re.match(r"(?is)\s*(select|with)\b", text):
            text += (", " if re.search(r"(?is)\bsettings\s+\w+\s*=[^()]*$", text) else " SETTINGS ") + given
        return kind, bytes(self.session.query(text, kind).bytes())

    def allowed(self) -> bool:
        import base64

        plain = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        named = (self.headers.get("x-clickhouse-user"), self.headers.get("x-clickhouse-key"))
        return self.headers.get("authorization") == f"Basic {plain}" or named == (USER, PASSWORD)

    def reply(self, status: int, body: bytes, *, kind: str = "", code: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("X-ClickHouse-Summary", "{}")
        if kind:
            self.send_header("X-ClickHouse-Format", kind)
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(body)


def frames(raw: bytes, make: Callable[[], Any]) -> bytes:
    """Each block of an insert is compressed by itself."""
    parts = []
    while raw:
        one = make()
        parts.append(one.decompress(raw))
        raw = one.unused_data or b""
    return b"".join(parts)


def quoted(value: str) -> str:
    return value if re.fullmatch(r"-?\d+(\.\d+)?", value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main(port: int, directory: str) -> None:
    from chdb import session

    Front.session = session.Session(directory)
    ThreadingHTTPServer(("127.0.0.1", port), Front).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
