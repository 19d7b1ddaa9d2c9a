"""Server-sent events, as the WHATWG standard says, from any split of the bytes.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Line ends are LF, CRLF and CR only (U+2028 and
the like are text). One deviation, on purpose: an event without its closing blank line is dispatched at end of file,
since several providers leave it out; whether the stream was complete is the decoder's business.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT = 16 << 20


class Event(NamedTuple):
    """One dispatched event; `name` is b'' where the stream named none."""

    name: bytes
    data: bytes


class SseParser:
    """Bytes in, events out. `overflow` is set once an event grew beyond 16 MiB, and nothing is parsed after that.

    `idle`: what came so far ended with a whole event, so that the next bytes begin one.
    """

    __slots__ = ("_held", "_line", "_pieces", "_skip_lf", "_started", "idle", "overflow")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of an unfinished event; joined only once its end is there
        self._held = 0  # bytes in them
        self._line = False  # whether they end with a line end
        self._skip_lf = False
        self._started = False
        self.idle = False
        self.overflow = False

    def feed(self, data: bytes) -> list[Event]:
        """Events completed by `data`."""
        block = self.split(data)
        return parse_block(block) if block else []

    def split(self, data: bytes) -> bytes:
        """The bytes of the events completed by `data`: LF only, blank lines between them, none after the last."""
        if not data or self.overflow:
            return b""
        self.idle = False
        if not self._started:
            data = self._strip_mark(data)
            if not data:
                return b""
        if self._skip_lf or data.find(b"\r") >= 0:
            data = self._unify(data)
        end = data.rfind(b"\n\n")
        if end < 0 and not (self._line and data.startswith(b"\n")):
            # no blank line ends here: keep the piece, join later (linear for huge events, of however many lines)
            if data:
                self._keep(data)
            return b""
        if self._pieces:
            data = b"".join((*self._pieces, data))
            self._pieces.clear()
            self._held = 0
            end = data.rfind(b"\n\n")
        self._line = False
        rest = data[end + 2 :]
        if rest:
            self._keep(rest)
        else:
            self.idle = not self._skip_lf
        return data[:end]

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        self._line = data.endswith(b"\n")
        if self._held > MAX_EVENT:
            self.overflow = True
            self._pieces.clear()

    def close(self) -> list[Event]:
        """End of file: the last event, when its blank line never came."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        return parse_block(rest) if rest and not self.overflow else []

    def _strip_mark(self, data: bytes) -> bytes:
        if self._pieces:
            data = self._pieces.pop() + data
        if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
            self._pieces.append(data)  # perhaps the first bytes of a byte-order mark
            return b""
        self._started = True
        return data[3:] if data.startswith(b"\xef\xbb\xbf") else data

    def _unify(self, data: bytes) -> bytes:
        """All line ends as LF; a CR at the end counts at once, an LF that follows it in the next piece is dropped."""
        if self._skip_lf and data.startswith(b"\n"):
            data = data[1:]
        self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def parse_block(block: bytes) -> list[Event]:
    """The events in what `SseParser.split` returned."""
    out = []
    for raw in block.split(b"\n\n"):
        if raw.startswith(b"data: ") and raw.find(b"\n") < 0:  # what nearly every event looks like
            out.append(Event(b"", raw[6:]))
        elif raw:
            event = _named(raw) or _fields(raw)
            if event is not None:
                out.append(event)
    return out


def _named(raw: bytes) -> Event | None:
    """An event of two lines, name and data, which is what every event of some providers looks like; else None."""
    head, found, data = raw.partition(b"\ndata: ")
    if found and head.startswith(b"event: ") and b"\n" not in data and b"\n" not in head:
        return Event(head[7:], data)
    return None


def _fields(raw: bytes) -> Event | None:
    name = b""
    data: list[bytes] = []
    for line in raw.split(b"\n"):
        field, colon, value = line.partition(b":")
        if not field:  # a comment, or an empty line left over between events
            continue
        if colon and value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(name, b"\n".join(data)) if data else None
