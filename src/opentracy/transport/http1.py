"""HTTP/1.1 as a client speaks it, without I/O: a request becomes bytes, bytes become a head, a body and an end.

Sockets, pools and deadlines belong to `sync` and `aio`. One `ResponseReader` serves one connection, answer by answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import httptools

from .. import __version__
from ..core.failure import transport_failure
from ..core.wire import Failure, HttpHead, HttpRequest, HttpResponse, Kind
from .encoding import Inflater, inflater
from .fields import RawFields, fields_of

MAX_HEAD = 256 << 10
MAX_BODY = 32 << 20
MAX_INFORMATIONAL = 64
# of a head, as far as an informational answer may not have it
_BODY_FOLLOWS = re.compile(rb"\r\n(?:transfer-encoding:|content-length:[ \t]*0*[1-9])", re.IGNORECASE).search
USER_AGENT = f"opentracy/{__version__}"

# heads of requests whose headers never change, with those headers
_heads: dict[tuple[int, str, bool, str, str], tuple[Mapping[str, str], bytes]] = {}
_MAX_HEADS = 256


def encode_request(
    request: HttpRequest, host: str, target: str, *, stream: bool, proxy_authorization: str | None = None
) -> bytes:
    """The bytes of a request. `host`: value of the Host header; `target`: what stands behind the method.

    Raises ValueError for a header that would not stay one line, naming the header but never its value.
    """
    headers, body = request.headers, request.body
    if type(headers) is not MappingProxyType or proxy_authorization is not None:
        head = _head(request, host, target, stream, proxy_authorization)
    else:
        key = (id(headers), target, stream, host, request.method)
        known = _heads.get(key)
        if known is None:
            if len(_heads) >= _MAX_HEADS:
                _heads.clear()
            # the mapping is held, so that no other can come to its id
            known = _heads[key] = (headers, _head(request, host, target, stream, None))
        head = known[1]
    return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def request_head(request: HttpRequest, host: str, target: str, *, stream: bool) -> bytes:
    """All of a request that comes before the length of its body; ValueError as for `encode_request`."""
    return _head(request, host, target, stream, None)


def _head(request: HttpRequest, host: str, target: str, stream: bool, proxy_authorization: str | None) -> bytes:
    """The request line and all headers but the length, without the last line's end."""
    lines = [f"{request.method} {target} HTTP/1.1\r\nhost: {host}"]
    headers = request.headers
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "user-agent" not in headers:
        lines.append(f"user-agent: {USER_AGENT}")
    if "accept-encoding" not in headers:
        # compressing a stream event by event costs both sides more than the few bytes are worth
        lines.append("accept-encoding: identity" if stream else "accept-encoding: gzip, deflate")
    if proxy_authorization is not None:
        lines.append(f"proxy-authorization: {proxy_authorization}")
    text = "\r\n".join(lines)
    try:
        head = text.encode("ascii")
    except UnicodeEncodeError:
        head = _latin1(request, text)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        _complain(request, target)
    return head


def _latin1(request: HttpRequest, text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        bad = next((n for n, v in request.headers.items() if not (n + v).isascii()), "host")
        raise ValueError(f"the header {bad!r} holds characters that HTTP cannot carry") from None


def _complain(request: HttpRequest, target: str) -> None:
    for name, value in request.headers.items():
        if any(c in name + value for c in "\r\n\0"):
            raise ValueError(f"the header {name!r} holds a line break or NUL; check the key or setting behind it")
    raise ValueError(f"the URL path holds a line break or NUL character: {target.split('?')[0]!r}")


class ResponseReader:
    """Answers of one connection: `start()` before each request, `feed`/`eof` with what arrives; look at the fields.

    `head` is set when the (final) header block is in; `take()` gives the body as far as it came, decoded; `complete`
    says that the answer ended as it should, `failure` that it will not, `reusable` that another may follow.
    """

    __slots__ = (
        "_arrived", "_chunked_or_sized", "_framing", "_inflater", "_informational", "_limit", "_mark", "_max_body",
        "_parser", "_parts", "_raw", "_raw_size", "_size", "_stream", "complete", "failure", "head", "on_body",
        "passed_by", "reusable", "streaming",
    )  # fmt: skip

    def __init__(self, max_body: int = MAX_BODY) -> None:
        # one of these calls for every event of a stream: it shall not cost a frame
        self._arrived: list[bytes] = []
        self.on_body = self._arrived.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._max_body = max_body
        self._parts: list[bytes] = []
        self.reusable = True
        self.start(stream=False)

    def start(self, *, stream: bool) -> None:
        """A request is about to be sent. `stream`: a 2xx body may be as long as it likes."""
        self.head: HttpHead | None = None
        self.failure: Failure | None = None
        self.complete = self.streaming = False  # streaming: a 2xx head of a streamed request is in
        self.passed_by = False  # somebody else has read the answer: nothing of it is here
        self._stream = stream
        self._raw: list[bytes] = []  # what came until the head was whole
        self._raw_size = self._framing = 0  # bytes of it; bytes since then that were no body
        self._informational = self._size = 0
        self._inflater: Inflater | None = None
        self._mark = b""  # the body's first byte, if it may be the beginning of something compressed
        self._limit: int | None = None
        if self._parts:
            self._parts = []

    def feed(self, data: bytes) -> None:
        """Bytes from the peer; what follows a complete answer makes the connection unusable and is ignored."""
        if self.complete or self.failure is not None:
            self.reusable = False
            return
        in_head = self.head is None
        if in_head:
            self._raw.append(data)
            self._raw_size += len(data)
        parser = self._parser
        assert parser is not None
        size = self._size
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("bad_response", "bad response: the provider asked for another protocol")
        except httptools.HttpParserError as e:
            self.reusable = False
            if not self.complete and self.head is None:
                self._fail("bad_response", f"bad response: {e}")
            elif not self.complete:
                if self._arrived:
                    self._take_in()  # what came before it counts as if it had come alone
                # not retryable: whoever frames wrongly does so again, and may have been paid
                self._fail("truncated", f"the framing of the answer's body is broken: {e}", again=False)
        if self._arrived:
            self._take_in()
        if in_head:
            if self.head is None and self._raw_size > MAX_HEAD:
                self._fail("header_limit", f"the answer's header block is larger than {MAX_HEAD >> 10} KiB")
        elif not self.complete:
            self._framing += len(data) - self._size + size
            if self._framing > 2 * MAX_HEAD + 32 * self._size and self._inflater is None:
                self._fail("header_limit", "the answer's trailers are too large")

    def eof(self) -> None:
        """The peer closed its side."""
        self.reusable = False
        if self.complete or self.failure is not None:
            return
        if self.head is None:
            where = "inside the answer's headers" if self._raw_size else "without an answer"
            self._fail("eof", f"the connection was closed {where}")
        elif self._chunked_or_sized:
            self._fail("truncated", "the connection was closed inside the answer's body")
        else:
            self._finish()

    def take(self) -> bytes:
        """Body bytes that arrived since the last call."""
        parts = self._parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return data

    def take_cut(self) -> tuple[bytes, list[bytes]]:
        """As `take`, and the same as the peer had cut it."""
        parts = self._parts
        if not parts:
            return b"", parts
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts), parts

    def peek(self) -> bytes:
        """The same bytes, which stay."""
        parts = self._parts
        if len(parts) > 1:
            parts[:] = [b"".join(parts)]
        return parts[0] if parts else b""

    @property
    def broken(self) -> Failure | None:
        """Why there is nothing to hand on: the failure, unless the first bytes of a stream came before it."""
        return None if self.streaming and self._parts else self.failure

    @property
    def pending(self) -> int:
        """Bytes that `take` would give."""
        return sum(map(len, self._parts)) if self._parts else 0

    def response(self) -> HttpResponse:
        """The whole answer, once `complete`."""
        assert self.head is not None
        return HttpResponse(self.head.status, self.head.headers, self.take())

    def dispose(self) -> None:
        """Breaks the cycle with the parser's callbacks, so that nothing waits for the garbage collector."""
        self._parser = None

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self.complete:  # nobody asked for another answer, and the next one would be read as the rest of it
            self.reusable = False

    def on_headers_complete(self) -> None:
        if self.complete:
            self.reusable = False
            return
        status = self._parser.get_status_code()  # type: ignore[union-attr]  # we are called by it
        raw = self._raw[0] if len(self._raw) == 1 else b"".join(self._raw)
        end = raw.find(b"\r\n\r\n")
        if 100 <= status < 200 and status != 101:
            if _BODY_FOLLOWS(raw, 0, end + 2 if end >= 0 else len(raw)):
                self._fail("bad_response", f"bad response: status {status} with a body")
                raise ValueError  # or what follows would be taken for the answer
            return
        self._raw = []
        if end < 0 or end > MAX_HEAD:
            self._fail("header_limit", f"the answer's header block is larger than {MAX_HEAD >> 10} KiB")
            return
        raw = raw[:end]
        low = raw.lower()
        if not 200 <= status <= 599:
            self._fail("bad_response", f"bad response: status {status}")
        length = low.find(b"\r\ncontent-length:")
        self._chunked_or_sized = length >= 0 or low.find(b"\r\ntransfer-encoding:") >= 0
        # of a good answer that is no stream hardly anybody wants a field
        self.head = HttpHead(status, RawFields(raw) if status == 200 and not self._stream else fields_of(raw))
        if self._stream and 200 <= status < 300:
            self.streaming = True
        else:
            self._limit = self._max_body
            if length >= 0:
                line = low.find(b"\r", length + 17)
                if (line if line >= 0 else end) - length > 23 and self._too_long(raw[length + 17 :]):
                    self._too_large()
        if low.find(b"\r\ncontent-encoding:") >= 0:
            encoding = self.head.headers["content-encoding"]
            found = inflater(encoding)
            if isinstance(found, Failure):
                self.failure, self.reusable = self.failure or found, False
            else:
                self._inflater = found

    def _take_in(self) -> None:
        """What the parser found of the body becomes part of the answer."""
        arrived = self._arrived
        if self.failure is None and not self.complete:
            if self._inflater is not None:
                self._inflate(self._inflater)
            elif self._size or (arrived[0][0] != 0x1F and not self._mark) or self._begins_plainly():
                self._size += len(arrived[0]) if len(arrived) == 1 else sum(map(len, arrived))
                if self._limit is not None and self._size > self._limit:
                    self._too_large()
                else:
                    self._parts += arrived
        arrived.clear()

    def _begins_plainly(self) -> bool:
        """Whether the body begins with anything but gzip's mark, as every dialect's does. Its first byte waits for the
        second one."""
        arrived = self._arrived
        arrived.insert(0, self._mark)
        begin = b"".join(arrived)[:2]
        self._mark = begin if len(begin) < 2 else b""
        if begin == b"\x1f\x8b":
            self._fail("encoding", "the answer is compressed without saying so")
        return begin not in (b"\x1f", b"\x1f\x8b")

    def _inflate(self, inflater: Inflater) -> None:
        for piece in self._arrived:
            data = inflater.feed(piece, self._limit)
            self._size += len(data)
            if data and (inflater.failure is None or self.streaming):
                self._parts.append(data)
            if inflater.failure is not None:
                self.failure, self.reusable = inflater.failure, False
                return

    def on_message_complete(self) -> None:
        if self._arrived:
            self._take_in()
        if self.complete:
            self.reusable = False
        elif self.head is not None:
            self.reusable = self._parser.should_keep_alive()  # type: ignore[union-attr]  # we are called by it
            self._finish()
        else:
            self._informational += 1
            # what follows it in the same piece begins the next head
            rest = b"".join(self._raw).partition(b"\r\n\r\n")[2]
            self._raw = [rest] if rest else []
            if self._informational > MAX_INFORMATIONAL:
                self._fail("bad_response", "bad response: informational answers without end")

    def _finish(self) -> None:
        if self._inflater is not None:
            self._mark = self._inflater.close()
            self.failure = self.failure or self._inflater.failure
        if self._mark and self.failure is None:
            self._parts.append(self._mark)
        self.complete = self.failure is None
        self.reusable &= self.complete

    def _too_long(self, given: bytes) -> bool:
        given = given.split(b"\r")[0].strip(b" \t")
        return given.isdigit() and int(given[:20]) > self._max_body

    def _too_large(self) -> None:
        self._fail("body_limit", f"the answer is larger than {self._max_body >> 20} MiB")

    def _fail(self, kind: Kind, message: str, *, again: bool = True) -> None:
        self.reusable = False
        self.complete = False
        if self.failure is None:
            self.failure = transport_failure(kind, message)
            self.failure.retryable &= again
