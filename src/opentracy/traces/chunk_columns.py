"""A column of a chunk: numbers, or codes into the chunk's own sorted words; made of values, put together, packed.

Belongs here: what a column is, as it is looked at and as it is stored. Pure. Not here: which rows a chunk holds, and
where it stands (`chunks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from .columns import COLUMNS
from .project import SEQ_BITS

_TEXT: Final = frozenset(column.name for column in COLUMNS if column.kind in ("text", "word", "tags"))

Mask = NDArray[np.bool_]
Numbers = NDArray[Any]


class _Packed(msgspec.Struct, array_like=True):
    """A column as it is stored. `words` of text; without `values` every row has the value `constant`."""

    words: list[str | None] | None
    dtype: str
    values: bytes | None
    constant: int
    nulls: bytes | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it is looked at: numbers, or codes into `words`; `nulls` marks the numbers that are none."""

    values: Numbers
    words: list[str | None] | None
    nulls: Mask | None


def column_of(name: str, values: Sequence[Any], first: int) -> Column:
    """A column of values as rows of `traces` have them; sequence numbers count from the block `first`."""
    if name in _TEXT:
        words = _in_order(values)
        code_of = {word: code for code, word in enumerate(words)}
        return Column(np.fromiter(map(code_of.__getitem__, values), np.int64, len(values)), words, None)
    missing = np.fromiter((value is None for value in values), np.bool_, len(values))
    filled = [0 if value is None else value for value in values] if missing.any() else values
    numbers = np.fromiter(filled, np.int64, len(values))
    if name == "seq":
        numbers -= first << SEQ_BITS
    return Column(numbers, None, missing if missing.any() else None)


def _in_order(words: Iterable[str | None]) -> list[str | None]:
    return sorted(set(words), key=lambda word: (word is not None, word or ""))


def encoded(column: Column, order: Numbers | None = None) -> bytes:
    """A column packed in as few bytes a number as its largest needs; its rows in another order, where one is given."""
    values, nulls = column.values, column.nulls
    if order is not None:
        values, nulls = values[order], None if nulls is None else nulls[order]
    low, high = int(values.min()), int(values.max())
    fits = (kind for kind in ("<i1", "<i2", "<i4", "<i8") if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    dtype = next(fits)
    raw = None if low == high else values.astype(dtype).tobytes()
    bits = None if nulls is None else np.packbits(nulls).tobytes()
    return msgspec.msgpack.encode(_Packed(column.words, dtype, raw, low, bits))


def together(columns: Sequence[Column]) -> Column:
    """Columns of one name, one behind the other."""
    if columns[0].words is not None:
        words = _in_order(word for column in columns for word in column.words or ())
        code_of = {word: code for code, word in enumerate(words)}
        codes = [np.array([code_of[word] for word in column.words or ()])[column.values] for column in columns]
        return Column(np.concatenate(codes), words, None)
    nulls = [np.zeros(len(one.values), np.bool_) if one.nulls is None else one.nulls for one in columns]
    missing = np.concatenate(nulls) if any(one.nulls is not None for one in columns) else None
    return Column(np.concatenate([column.values for column in columns]), None, missing)


def decoded(data: bytes, rows: int) -> Column:
    """What `encoded` packed, of a chunk of so many rows."""
    packed = msgspec.msgpack.decode(data, type=_Packed)
    if packed.values is None:
        values: Numbers = np.full(rows, packed.constant, np.int64)
    else:
        values = np.frombuffer(packed.values, packed.dtype)
    nulls = None
    if packed.nulls is not None:
        nulls = np.unpackbits(np.frombuffer(packed.nulls, np.uint8), count=rows).astype(np.bool_)
    return Column(values, packed.words, nulls)
