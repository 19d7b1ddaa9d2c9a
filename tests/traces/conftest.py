"""Stores and records for the tests of traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import TraceWriter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A fresh store in its own directory."""
    made = Store.open(tmp_path / "data" / "traces.db")
    yield made
    made.close()


@pytest.fixture
def reader(store: Store) -> Reader:
    """A reader of `store`."""
    return Reader(store)


@pytest.fixture
def put(store: Store) -> Callable[..., list[TraceRecord]]:
    """Writes records and waits until they are committed."""

    def write(*records: TraceRecord) -> list[TraceRecord]:
        with TraceWriter(store) as writer:
            for record in records:
                assert writer.put(record)
            assert writer.flush(30)
        return list(records)

    return write
