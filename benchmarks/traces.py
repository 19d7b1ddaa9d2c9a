"""What traces cost and how fast they answer: `python benchmarks/traces.py cpu`, `... queries /tmp/traces.db`.

`parts` measures each step by itself. `cpu` stores ready-made records at a steady pace and in bulk and divides the
process's CPU time by their number, in three parts: handing over (on the request path), up to COMMIT, and everything
(rows, sums and indexes as well). `queries` needs a store that `seed.py` filled; each figure is the best of three and
stands beside DuckDB's on the same rows where DuckDB can answer the same question.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import seed

from opentracy.traces import Filters, Limits, Reader, Store, TraceRecord, TraceWriter, chunks, segments, stats, words
from opentracy.traces.codec import encode_block
from opentracy.traces.compile import Query
from opentracy.traces.filters import parse
from opentracy.traces.project import Recent, catch_up
from opentracy.traces.segments import directory, seal
from opentracy.traces.writer import insert_block


def ready_made(rows: int, text_bytes: int) -> list[TraceRecord]:
    """Records of one process: bodies that add up to about `text_bytes`."""
    made = list(seed.records(rows, days=0.01, end_ms=time.time_ns() // 1_000_000))
    for record in made:
        request, response = record.request or b"", record.response or b""
        record.request = (request * 40)[: text_bytes * 3 // 4]
        record.response = (response * 40)[: text_bytes // 4] or None
    return made


def cpu(rows: int, text_bytes: int, pace: float | None) -> None:
    """Prints the CPU time per record; `pace` is records per second, None as fast as the queue takes them."""
    records = ready_made(rows, text_bytes)
    with tempfile.TemporaryDirectory() as place:
        store = Store.open(Path(place) / "traces.db")
        writer = TraceWriter(store)
        began, clock, handing = time.process_time(), time.perf_counter(), 0.0
        for at in range(0, rows, 50):
            used = time.thread_time()
            for record in records[at : at + 50]:
                writer.put(record)
            handing += time.thread_time() - used
            if pace is not None:
                time.sleep(max(0.0, clock + at / pace - time.perf_counter()))
            while writer.counters.queue_rows > 5000:
                time.sleep(0.005)
        writer.flush(None)
        committed, seconds = time.process_time() - began, time.perf_counter() - clock
        writer.close()
        everything = time.process_time() - began
        size = sum(path.stat().st_size for path in Path(place).iterdir())
        store.close()
    name = "bulk" if pace is None else f"{pace:.0f}/s"
    parts = " ".join(f"{part / rows * 1e6:7.2f}" for part in (handing, committed, everything))
    print(f"{name:>8} {parts}   {rows / seconds:9.0f} {size / rows:8.0f}")


def parts(text_bytes: int) -> None:
    """Prints what each step costs at its best of several tries: for a machine that others use at the same time."""
    size, blocks = 256, 16
    for name in ("seeded", "plain"):
        records = ready_made(size * blocks, text_bytes)
        if name == "plain":
            for record in records:
                record.user_id = record.session_id = record.tags = record.cluster_id = None
                record.model, record.provider, record.key_id = "gpt-4o-mini", "openai", "k"
        bodies = [(record.request, record.response) for record in records]
        took: dict[str, list[float]] = {"encode": [], "commit": [], "project": [], "project unpacked": []}
        with tempfile.TemporaryDirectory() as place:
            store = Store.open(Path(place) / "traces.db")
            journal, rows = store.connect(durable=True), store.connect()
            for turn in range(12):
                recent = Recent(size * blocks)
                encoding = committing = 0.0
                for at in range(0, size * blocks, size):
                    batch = records[at : at + size]
                    for record, (request, response) in zip(batch, bodies[at : at + size], strict=True):
                        record.request, record.response = request, response
                    began = time.thread_time()
                    block = encode_block(f"{turn}-{at}".encode(), batch)
                    encoded = time.thread_time()
                    recent.put(insert_block(journal, [block]), batch)
                    encoding += encoded - began
                    committing += time.thread_time() - encoded
                began = time.thread_time()
                catch_up(rows, recent=recent if turn % 2 else None)
                took["project" if turn % 2 else "project unpacked"].append(time.thread_time() - began)
                took["encode"].append(encoding)
                took["commit"].append(committing)
            journal.close()
            rows.close()
            store.close()
        figures = "   ".join(f"{step} {min(all_) / size / blocks * 1e6:5.2f}" for step, all_ in took.items())
        print(f"{name:<8} {figures}   (us of CPU per record)")


def best(ask: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of the fastest of some tries."""
    return both(ask, times)[0]


def both(ask: Callable[[], object], times: int = 7) -> tuple[float, float]:
    """Milliseconds of the fastest of some tries, by the clock and of CPU (of DuckDB's threads too)."""
    took, used = [], []
    for _ in range(times):
        began, cpu = time.perf_counter(), time.process_time()
        ask()
        took.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - cpu) * 1000)
    return min(took), min(used)


METRICS = ("requests", "errors", "cost", "tokens_in", "tokens_out")
HOUR = 3_600_000


def questions(now: int) -> dict[str, Query]:
    """The dashboard's queries."""
    day, week = Filters(since=now - 24 * HOUR, until=now), Filters()
    return {
        "24 h by model, hourly": Query(METRICS, ("model",), HOUR, day),
        "24 h by model, 15 minutes": Query(METRICS, ("model",), HOUR // 4, day),
        "7 d by model, hourly": Query(METRICS, ("model",), HOUR, week),
        "7 d p50/95/99 by provider, hourly": Query(("p50", "p95", "p99"), ("provider",), HOUR, week),
        "7 d cost by key and tag": Query(("cost",), ("key", "tag"), filters=week),
        "7 d top errors": Query(("requests",), ("error", "model"), filters=parse("status:error")),
        "7 d top 20 users by cost": Query(("cost",), ("user",), filters=week, limit=20),
        "tiles of 24 h": Query(("requests", "error_rate", "p50", "p95", "ttft_avg", "cost"), filters=day),
    }


#: combinations that few or no rows have, each value of which many have
RARE = (
    "key:k_39 model:dbrx", "model:none", "model:gpt-4o tag:none", "-model:gpt-4o key:k_39 cost>0.005",
    "status:529 stream:true fallback:true", "tag:eu tag:search model:dbrx key:k_38 status:error",
    "cluster:63 latency>20s", "tokens_in>100000", "user:user-77 status:error", "http:529 -tag:prod cluster:1",
    "-tag:prod -status:error -model:gpt-4o finish:length", "provider:openai error:overloaded attempts>3",
)  # fmt: skip


def page(reader: Reader, text: str) -> object:
    """The first page of a list."""
    return reader.page(parse(text))


def queries(path: Path) -> None:
    """Prints the time of every query over the store at `path`."""
    store = Store.open(path)
    reader = Reader(store)
    connection = store.connect()
    reader.current()
    while segments.available() and seal(store, connection):
        pass
    began, used = time.perf_counter(), time.process_time()
    made = 0
    while rows := chunks.build(connection):
        made += rows
        chunks.merge(connection)
    if made:
        spent = (time.process_time() - used) / made * 1e6
        print(f"chunks: {made} rows in {time.perf_counter() - began:.1f} s, {spent:.1f} us of CPU per row")
    began, used = time.perf_counter(), time.process_time()
    indexed = 0
    while blocks := words.add_some(connection, blocks=50):
        indexed += blocks
    if indexed:
        spent = time.process_time() - used
        print(f"text index: {indexed} blocks in {time.perf_counter() - began:.1f} s, {spent:.1f} s of CPU")
    newest = reader.page(limit=20).rows
    now = newest[0].ts_ms
    rows = connection.execute("SELECT count(*) FROM traces").fetchone()[0]
    middle = reader.select("seq >= (SELECT max(seq) / 2 FROM traces)", [], order="seq", limit=1)[0]
    print(f"{rows} rows, {size_of(store) / rows:.0f} bytes per row with segments and index\n")
    single: dict[str, Callable[[], object]] = {
        "newest 50": lambda: reader.page(limit=50),
        "one by id": lambda: reader.get(middle.trace_id),
        "an id that is not there": lambda: reader.find("f" * 32),
        "tail": lambda: reader.tail(newest[19].seq),
        "status:error": lambda: reader.page(parse("status:error")),
        "model:gpt-4o-mini status:error": lambda: reader.page(parse("model:gpt-4o-mini status:error")),
        "user:user-77": lambda: reader.page(parse("user:user-77")),
        **{f"{text[:33]}": partial(page, reader, text) for text in RARE},
        "text: import lambda": lambda: reader.page(Filters(text="import lambda")),
        "text: a phrase": lambda: reader.page(Filters(text='"return self"')),
        "text: nothing matches": lambda: reader.page(Filters(text="xyzzyplugh")),
    }
    print(f"{'':<36}{'clock':>9}    {'CPU':>9}")
    for name, ask in single.items():
        clock, cpu = both(ask)
        print(f"{name:<36}{clock:9.1f} ms {cpu:9.1f} ms")
    print(f"\n{'':<36}{'here':>9} {'CPU':>12}    {'DuckDB':>9} {'CPU':>12}    {'ratio':>6} {'CPU':>6}")
    for name, query in questions(now).items():
        clock, cpu = both(partial(stats.answer, reader, query))
        duck = both(partial(scan_all, store, query)) if segments.available() else (float("nan"), float("nan"))
        ratios = f"{clock / duck[0]:6.2f} {cpu / duck[1]:6.2f}"
        print(f"{name:<36}{clock:9.1f} ms {cpu:9.1f} ms {duck[0]:9.1f} ms {duck[1]:9.1f} ms    {ratios}")
    fields = ["status", "model", "provider", "key", "cluster", "tag", "stream"]
    for text in ("", *RARE[2:5]):
        clock, cpu = both(partial(stats.facets, reader, parse(text), fields))
        print(f"{'facets of 7 fields ' + text[:17]:<36}{clock:9.1f} ms {cpu:9.1f} ms")
    connection.close()
    store.close()


def scan_all(store: Store, query: Query) -> None:
    """The same question to DuckDB over the Parquet segments alone."""
    from opentracy.traces.compile import Cells, finish

    cells = Cells()
    assert segments.scan(store, query, cells)
    finish(query, cells)


def size_of(store: Store) -> int:
    """Bytes of the database and its segments."""
    return store.path.stat().st_size + sum(path.stat().st_size for path in directory(store).glob("*.parquet"))


def retention(rows: int) -> None:
    """Prints the latency of commits beside a retention run and without it."""
    from opentracy.traces.retention import Retention, prune

    with tempfile.TemporaryDirectory() as place:
        store = Store.open(Path(place) / "traces.db")
        with TraceWriter(store) as writer:
            for record in seed.records(rows, days=30, end_ms=time.time_ns() // 1_000_000):
                writer.put(record)
                while writer.counters.queue_rows > 5000:
                    time.sleep(0.005)
        for name in ("alone", "retention"):
            stop = threading.Event()

            def work(stop: threading.Event = stop) -> None:
                connection = store.connect()
                while not stop.is_set():
                    prune(store, connection, Retention(10, 5), time.time_ns() // 1_000_000, seconds=0.1)
                    stop.wait(0.9)
                connection.close()

            thread = threading.Thread(target=work)
            if name == "retention":
                thread.start()
            took = []
            with TraceWriter(store, limits=Limits(group_seconds=0.005)) as writer:
                for record in ready_made(400, 1000):
                    began = time.perf_counter()
                    writer.put(record)
                    took.append((time.perf_counter() - began) * 1e6)
                    time.sleep(0.005)
            stop.set()
            if thread.is_alive():
                thread.join()
            cuts = statistics.quantiles(took, n=100)
            print(f"{name:<12} put p50 {cuts[49]:7.1f} us   p99 {cuts[98]:7.1f} us")
        store.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["cpu", "parts", "queries", "retention"])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--text", type=int, default=1000)
    options = parser.parse_args()
    if options.what == "cpu":
        print(f"{'':>8} {'put':>7} {'commit':>7} {'all':>7}   {'rows/s':>9} {'bytes':>8}   (us of CPU per record)")
        for pace in (None, 5000.0, 1000.0):
            cpu(options.rows if pace is None else min(options.rows, int(pace * 6)), options.text, pace)
    elif options.what == "parts":
        parts(options.text)
    elif options.what == "retention":
        retention(options.rows)
    else:
        if options.path is None:
            parser.error("queries needs the path of a store that seed.py filled")
        queries(options.path)


if __name__ == "__main__":
    main()
