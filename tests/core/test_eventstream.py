"""AWS event-stream framing: any split gives the same messages, and no damaged byte ever becomes a wrong one."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.eventstream import MAX_FRAME, EventStreamParser, Message, encode_message, read_headers

EVENT = {":message-type": "event", ":event-type": "contentBlockDelta", ":content-type": "application/json"}
messages = st.lists(
    st.tuples(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=4), st.binary(max_size=300)),
    max_size=6,
)


def parse(data: bytes, cuts: list[int] | None = None) -> tuple[list[Message], str | None, int]:
    parser, out, last = EventStreamParser(), [], 0
    for cut in [*sorted(cuts or []), len(data)]:
        out += parser.feed(data[last:cut])
        last = max(last, cut)
    return out, parser.error, parser.pending


def test_a_frame_built_by_hand() -> None:
    header = b"\x05:kind\x07\x00\x03yes"
    lengths = struct.pack(">II", 16 + len(header) + 2, len(header))
    frame = lengths + struct.pack(">I", zlib.crc32(lengths)) + header + b"{}"
    frame += struct.pack(">I", zlib.crc32(frame))
    assert parse(frame) == ([Message({":kind": "yes"}, b"{}")], None, 0)
    assert encode_message({":kind": "yes"}, b"{}") == frame


def test_every_header_type_is_stepped_over() -> None:
    values = {0: b"", 1: b"", 2: b"x", 3: b"xx", 4: b"xxxx", 5: b"8" * 8, 6: b"\x00\x02ab", 8: b"8" * 8, 9: b"u" * 16}
    block = b"".join(b"\x01a" + bytes([kind]) + value for kind, value in values.items()) + b"\x01z\x07\x00\x01v"
    assert read_headers(block) == {"z": "v"}


@pytest.mark.parametrize(
    "block",
    [
        b"\x05ab", b"\x01a", b"\x01a\x07", b"\x01a\x07\x00", b"\x01a\x07\x00\x05abc", b"\x01a\x04\x00",
        b"\x01a\x0a", b"\x01a\xff", b"\x01a\x07\x00\x01\xff", b"\x01\xff\x07\x00\x01a",
    ],
)  # fmt: skip
def test_malformed_headers_are_refused(block: bytes) -> None:
    assert read_headers(block) is None
    lengths = struct.pack(">II", 16 + len(block), len(block))
    frame = lengths + struct.pack(">I", zlib.crc32(lengths)) + block
    out, error, _ = parse(frame + struct.pack(">I", zlib.crc32(frame)))
    assert out == []
    assert error == "unreadable headers of a frame"


@given(messages, st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_gives_the_same_messages(sent: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    data = b"".join(encode_message(h, p) for h, p in sent)
    got, error, pending = parse(data, [c for c in cuts if c <= len(data)])
    assert error is None
    assert pending == 0
    assert got == [Message(h, p) for h, p in sent]


@given(messages.filter(bool), st.data())
def test_one_flipped_bit_is_never_a_message(sent: list[tuple[dict[str, str], bytes]], data: st.DataObject) -> None:
    raw = bytearray(b"".join(encode_message(h, p) for h, p in sent))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    got, error, _ = parse(bytes(raw), [data.draw(st.integers(0, len(raw)))])
    assert error is not None
    assert got == [Message(h, p) for h, p in sent][: len(got)]
    assert len(got) < len(sent)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_noise_never_raises(noise: bytes, cut: int) -> None:
    assert parse(noise, [min(cut, len(noise))]) == parse(noise)


@pytest.mark.parametrize(("total", "head"), [(15, 0), (0, 0), (MAX_FRAME + 1, 0), (0xFFFFFFFF, 0), (40, 25), (16, 1)])
def test_impossible_lengths_end_it_at_once_even_with_a_right_checksum(total: int, head: int) -> None:
    lengths = struct.pack(">II", total, head)
    parser = EventStreamParser()
    assert parser.feed(lengths + struct.pack(">I", zlib.crc32(lengths))) == []
    assert parser.error is not None
    assert "impossible frame lengths" in parser.error


def test_lengths_are_not_believed_before_their_checksum() -> None:
    parser = EventStreamParser()
    parser.feed(struct.pack(">III", 1 << 20, 0, 1))
    assert parser.error == "the checksum of a frame's lengths does not match"
    assert parser.feed(b"more") == []


def test_whole_messages_before_a_damaged_one_are_kept() -> None:
    good = encode_message(EVENT, b'{"a":1}')
    bad = good[:-1] + bytes([good[-1] ^ 1])
    got, error, _ = parse(good + bad + good)
    assert [m.payload for m in got] == [b'{"a":1}']
    assert error == "the checksum of a frame does not match"


def test_an_unfinished_frame_is_pending() -> None:
    assert parse(encode_message(EVENT, b"{}")[:-1])[1:] == (None, len(encode_message(EVENT, b"{}")) - 1)


def test_a_large_frame_in_small_pieces_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the scans instead of the seconds: quadratic work would scan for every piece."""
    scans = 0
    scan = EventStreamParser._scan

    def counting(self: EventStreamParser, buffer: bytes, out: list[Message]) -> int:
        nonlocal scans
        scans += 1
        return scan(self, buffer, out)

    monkeypatch.setattr(EventStreamParser, "_scan", counting)
    payload = b"x" * 2_000_000
    data = encode_message(EVENT, payload)
    parser = EventStreamParser()
    got = [m for i in range(0, len(data), 500) for m in parser.feed(data[i : i + 500])]
    assert [len(m.payload) for m in got] == [len(payload)]
    assert scans <= 3
