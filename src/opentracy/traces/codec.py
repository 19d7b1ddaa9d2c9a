"""Blocks: how a batch of records becomes bytes and comes back.

A block holds up to `MAX_ROWS` records in three parts that live and expire apart: the ids (16 bytes each, searchable as
they lie), the records without their bodies, and the bodies. Both parts are msgpack, compressed over the whole block,
since one block of similar prompts compresses better and several times cheaper than the same prompts one by one.

Pure: values in, values out. Not here: when a block is written (`writer`) or to what (`sqlite`, `spill`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from .model import TraceRecord

MAX_ROWS: Final = 1024
#: raw bytes of bodies after which a block is closed
MAX_BYTES: Final = 1_000_000

ZLIB: Final = 1
ZSTD: Final = 2

#: request and response of one record
Body = tuple[bytes | None, bytes | None]


class Block(msgspec.Struct, array_like=True):
    """An encoded batch. `key` is unique per batch, so that a repeated write is recognised."""

    key: bytes
    rows: int
    ts_min: int
    ts_max: int
    ids: bytes
    codec: int
    meta: bytes
    bodies: bytes | None


def _zstd() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]] | None:
    """Level 1 of zstd from the standard library (3.14) or its backport: a quarter of zlib's time at a better ratio."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found, no-redef, unused-ignore]
        except ImportError:
            return None
    return (lambda data: zstd.compress(data, 1), zstd.decompress)


_ZSTD = _zstd()
CODEC: Final = ZSTD if _ZSTD else ZLIB


def compress(data: bytes) -> bytes:
    """`data` in the codec `CODEC`."""
    return _ZSTD[0](data) if _ZSTD else zlib.compress(data, 1)


def decompress(codec: int, data: bytes) -> bytes:
    """The reverse of `compress`, for any codec ever written. Raises ValueError for one this machine cannot read."""
    if codec == ZLIB:
        return zlib.decompress(data)
    if codec == ZSTD:
        if _ZSTD is None:
            raise ValueError("This trace store was written with zstd: pip install backports.zstd to read it")
        return _ZSTD[1](data)
    raise ValueError(f"Unknown compression of a trace block: {codec}")


_ENCODER = msgspec.msgpack.Encoder()
_RECORDS = msgspec.msgpack.Decoder(list[TraceRecord | None])
_BODIES = msgspec.msgpack.Decoder(list[tuple[Any, Any] | None])
_RECORD = msgspec.msgpack.Decoder(TraceRecord | None)
_BODY = msgspec.msgpack.Decoder(tuple[Any, Any] | None)
_UNREAD = msgspec.msgpack.Decoder(list[msgspec.Raw])


def encode_block(key: bytes, records: Sequence[TraceRecord]) -> Block:
    """One block of `records` (at most `MAX_ROWS`). Takes the bodies out of the records it is given.

    Raises ValueError or TypeError, leaving the records as they were, when one holds what cannot be stored (see `mend`).
    """
    if len(records) > MAX_ROWS:
        raise ValueError(f"A block holds at most {MAX_ROWS} records, not {len(records)}")
    bodies: list[Body | None] = [
        None if record.request is None and record.response is None else (record.request, record.response)
        for record in records
    ]
    times = [record.ts_ms for record in records]
    ids = bytes.fromhex("".join([record.trace_id for record in records]))
    if len(ids) != 16 * len(records):
        raise ValueError("A trace id is not 32 hexadecimal digits")
    if not 0 <= min(times) <= max(times) < 2**47:
        raise ValueError("A time is not in milliseconds since 1970")
    for record in records:
        record.request = record.response = None
    try:
        meta = compress(_ENCODER.encode(records))
        texts = compress(_ENCODER.encode(bodies)) if any(bodies) else None
    except BaseException:
        # whoever repairs the records needs them whole
        for record, body in zip(records, bodies, strict=True):
            if body is not None:
                record.request, record.response = body
        raise
    return Block(key, len(records), min(times), max(times), ids, CODEC, meta, texts)


def decode_records(codec: int, meta: bytes) -> list[TraceRecord | None]:
    """The records of a block, in order; None where one was deleted."""
    data = decompress(codec, meta)
    try:
        return _RECORDS.decode(data)
    except msgspec.ValidationError:
        # one field of one record must not hide the records beside it, nor stop the projection of all that follow
        return [None if item is None else _repaired(item) for item in msgspec.msgpack.decode(data)]


def records_at(codec: int, meta: bytes, places: Iterable[int]) -> dict[int, TraceRecord | None]:
    """The records at some positions of a block, as `decode_records` gives them, at a fifth of its cost."""
    items = _UNREAD.decode(decompress(codec, meta))
    found: dict[int, TraceRecord | None] = {}
    for at in places:
        try:
            found[at] = _RECORD.decode(items[at])
        except msgspec.ValidationError:
            found[at] = _repaired(msgspec.msgpack.decode(items[at]))
    return found


def bodies_at(codec: int, bodies: bytes, places: Iterable[int]) -> dict[int, Body | None]:
    """The bodies at some positions of a block, as `decode_bodies` gives them."""
    items = _UNREAD.decode(decompress(codec, bodies))
    found = ((at, _BODY.decode(items[at])) for at in places)
    return {at: None if body is None else (_bytes(body[0]), _bytes(body[1])) for at, body in found}


def _repaired(item: list[Any]) -> TraceRecord | None:
    """The record with the fields that have a wrong type left out; None when what is left is no record."""
    fields = TraceRecord.__struct_fields__
    defaults = dict(zip(fields[-len(TraceRecord.__struct_defaults__) :], TraceRecord.__struct_defaults__, strict=True))
    for _ in fields:
        try:
            return msgspec.convert(item, TraceRecord)
        except msgspec.ValidationError as error:
            place = re.search(r"`\$\[(\d+)\]", str(error))
            name = fields[int(place[1])] if place else ""
            if name not in defaults:
                return None
            item[int(place[1])] = [] if name == "attempts" else defaults[name]  # type: ignore[index]
    return None


def decode_bodies(codec: int, bodies: bytes) -> list[Body | None]:
    """The bodies of a block, in order; None where there is none."""
    found = _BODIES.decode(decompress(codec, bodies))
    return [None if body is None else (_bytes(body[0]), _bytes(body[1])) for body in found]


def _bytes(part: Any) -> bytes | None:
    """A body that was handed over as text was stored as text."""
    return part.encode("utf-8", "replace") if isinstance(part, str) else part


def encode_records(records: Sequence[TraceRecord | None]) -> bytes:
    """The records part of a block, for one that is rewritten."""
    return compress(_ENCODER.encode(records))


def encode_bodies(bodies: Sequence[Body | None]) -> bytes:
    """The bodies part of a block, for one that is rewritten."""
    return compress(_ENCODER.encode(bodies))


def split_ids(ids: bytes) -> list[str]:
    """The ids of a block as hex, in order."""
    text = ids.hex()
    return [text[at : at + 32] for at in range(0, len(text), 32)]


def chunked(ids: bytes) -> list[bytes]:
    """The ids of a block as they are stored, in order."""
    return [ids[at : at + 16] for at in range(0, len(ids), 16)]


def one_id(ids: bytes, at: int) -> str:
    """The id at a position of a block, as hex."""
    return ids[at * 16 : at * 16 + 16].hex()
