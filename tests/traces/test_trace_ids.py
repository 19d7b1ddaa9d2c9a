"""Ids are unique, in the order of time, and say when they were made."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.traces.ids import id_time_ms, new_trace_id, normalise_id, trace_id_at


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_is_a_version_7_uuid_of_its_time(ms: int, entropy: bytes) -> None:
    """The id parses as RFC 9562 says and gives its milliseconds back."""
    made = uuid.UUID(trace_id_at(ms, entropy))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert id_time_ms(made.hex) == ms


def test_ids_do_not_repeat_after_a_fork() -> None:
    """A forked worker draws other ids than its parent, though both have the same state."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_trace_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 10_000).decode()
    os.close(read)
    os.close(write)
    all_ids = {theirs[at : at + 32] for at in range(0, 3200, 32)} | {new_trace_id() for _ in range(100)}
    assert len(all_ids) == 200


def test_later_ids_sort_later() -> None:
    """Text order is time order."""
    assert trace_id_at(1000, b"\xff" * 10) < trace_id_at(1001, b"\x00" * 10)


def test_accepts_the_forms_people_write() -> None:
    """Dashes and upper case are fine, anything else is refused by name."""
    made = new_trace_id()
    assert normalise_id(f" {str(uuid.UUID(made)).upper()} ") == made
    with pytest.raises(ValueError, match="Not a trace id: 'abc'"):
        normalise_id("abc")
    assert id_time_ms("f" * 32) is None
