"""Segments in object storage: copied to a server that speaks S3, read there as one table, as docs/scale.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_seed import seeded

from opentracy.traces import segments
from opentracy.traces.project import SEQ_BITS
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter

duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed (engine extra)")
fs = pytest.importorskip("pyarrow.fs", reason="pyarrow is not installed (dev extra)")
server = pytest.importorskip("moto.server", reason="moto is not installed (dev extra)")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file system over an empty object storage."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    place = fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
    place.create_dir("traces")
    yield place
    running.stop()


def test_segments_of_two_machines_are_one_table_in_object_storage(bucket: object, tmp_path: Path) -> None:
    """Number and cost are those of the stores; a segment never changes, so copying again changes nothing."""
    from pyarrow import dataset

    rows = cost = 0
    for number, name in enumerate(("first", "second")):
        store = Store.open(tmp_path / name / "traces.db")
        with TraceWriter(store, limits=Limits(block_rows=50)) as writer:
            for record in seeded(400 + 100 * number):
                writer.put(record)
        connection = Reader(store).current()
        while segments.seal(store, connection, min_rows=150):
            pass
        sealed = segments.sealed_upto(connection)
        count, sum_ = connection.execute(
            f"SELECT count(*), sum(cost_nano) FROM traces WHERE seq >> {SEQ_BITS} <= ?", (sealed,)
        ).fetchone()
        rows, cost = rows + count, cost + sum_
        for _ in range(2):
            fs.copy_files(
                str(segments.directory(store)), f"traces/{name}", source_filesystem=fs.LocalFileSystem(), destination_filesystem=bucket
            )
        assert len(list(segments.directory(store).glob("*"))) >= 2
        store.close()
    traces = dataset.dataset("traces", filesystem=bucket, format="parquet")
    assert duckdb.sql("SELECT count(*), sum(cost_nano) FROM traces").fetchall() == [(rows, cost)]
    assert rows == 750
    assert traces.count_rows() == rows
