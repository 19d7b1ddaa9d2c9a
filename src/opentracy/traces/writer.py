"""The writer: from the request path to a committed journal block, without the request ever waiting.

Belongs here: the bounded queue, group commit, what is given up first when the disk does not keep up, and the counters
that say so. `put` appends to a queue and returns; one background thread per process does the rest:

    queue -> redact -> encode one block -> INSERT (one transaction) -> acknowledge
                                        -> spill file, when the database cannot take it
    and, when there is time or much has piled up: projection (`project.catch_up`)

Order of loss under pressure: first the bodies (the queue is 80 % full), then blocks go to the spill file, and only when
that is full or broken are records dropped. Everything given up is counted in `Counters`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from .codec import MAX_BYTES, Block, encode_block
from .mend import mended
from .model import TraceRecord
from .project import Recent, catch_up, projected_upto
from .spill import Spill, SpillFull, orphans
from .sqlite import Store

log = logging.getLogger("opentracy.traces")

#: rough weight of a record without its bodies, for the queue's limit in bytes
RECORD_BYTES: Final = 600
#: after so many rows a writer looks what others have made rows of, and need not be kept for it
LOOK_ROWS: Final = 1_000

Item = tuple[TraceRecord, "Future[str] | None", int]  # and its weight in bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and how it is grouped. Times in seconds."""

    queue_rows: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024
    group_rows: int = 200
    group_seconds: float = 0.05
    #: larger blocks compress better, but encoding one holds the interpreter (about 1.5 us per record)
    block_rows: int = 512
    #: a block waits this long for a database lock and goes to the spill file then, where a killed process leaves it
    #: behind; so this and `group_seconds` are what an acknowledged record is at risk
    lock_seconds: float = 0.25
    #: a lock of another process is trouble, to be told of, once it has lasted this long
    trouble_seconds: float = 2.0
    spill_bytes: int = 64 * 1024 * 1024
    #: rows that may wait for projection while the process is busy: it costs more than all the rest, and can wait for
    #: a quieter moment; whoever asks a question brings it up to date first (100,000 rows take one to two seconds)
    lag_rows: int = 100_000
    #: of these, how many are kept in memory, so that they need not be unpacked
    recent_rows: int = 10_000
    #: projection runs when nothing was put for this long
    idle_seconds: float = 0.5


DEFAULT_LIMITS: Final = Limits()


@dataclass(slots=True)
class Counters:
    """What happened so far in this process; monotonic, except `queue_rows`, `queue_bytes` and `spilled_waiting`."""

    put: int = 0
    committed: int = 0
    blocks: int = 0
    bodies_shed: int = 0
    spilled: int = 0
    spilled_waiting: int = 0
    retries: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    queue_rows: int = 0
    queue_bytes: int = 0


class TraceWriter:
    """Takes records from any thread, commits them in groups. One per process; made after a fork, never before.

    `before_write` sees each record on the background thread before it is encoded, and may change it (redaction stands
    there). `degraded` is None while all is well, else a sentence for /health.
    """

    def __init__(
        self,
        store: Store,
        *,
        limits: Limits = DEFAULT_LIMITS,
        before_write: Callable[[TraceRecord], None] | None = None,
        project: bool = True,
    ) -> None:
        self.store = store
        self.limits = limits
        self.counters = Counters()
        self.degraded: str | None = None
        self._before_write = before_write
        self._project = project
        self._queue: deque[Item] = deque()
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._asleep = False
        self._hurry = False
        self._closing = False
        self._settled_rows = 0
        self._unprojected = 0
        self._recent = Recent(limits.recent_rows)
        self._looked = 0  # rows committed when it was looked what others have projected
        self._last_block = 0
        self._shed_at_rows = limits.queue_rows * 4 // 5
        self._shed_at_bytes = limits.queue_bytes * 4 // 5
        self._key = os.urandom(8)
        self._batch = 0
        self._spill_prefix = store.path.with_name(store.path.name + ".spill")
        self._spill = Spill(self._spill_prefix, limits.spill_bytes)
        self._failing_since: float | None = None
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="opentracy-traces", daemon=True)
        self._thread.start()

    # the request path ------------------------------------------------------------------------------------------------

    def put(self, record: TraceRecord) -> bool:
        """Hands a record over; the record belongs to the writer from now on. Never blocks, never raises for the store.

        False when the record had to be dropped (queue full), which is counted.
        """
        return self._put(record, None)

    def put_durable(self, record: TraceRecord) -> Future[str]:
        """As `put`; the future holds the trace id once the record is committed, and an exception if it was dropped."""
        future: Future[str] = Future()
        if not self._put(record, future):
            future.set_exception(RuntimeError("The trace was dropped: the queue is full"))
        else:
            self._hurry = True
            self._wake.set()
        return future

    def _put(self, record: TraceRecord, future: Future[str] | None) -> bool:
        request, response = record.request, record.response
        size = RECORD_BYTES
        if request is not None:
            size += len(request)
        if response is not None:
            size += len(response)
        counters = self.counters
        with self._lock:
            rows, waiting = counters.queue_rows, counters.queue_bytes + size
            if rows >= self._shed_at_rows or waiting >= self._shed_at_bytes:
                if rows >= self.limits.queue_rows or self._closing:
                    counters.put += 1
                    self._settled_rows += 1
                    self._drop("queue_full", 1)
                    return False
                if size > RECORD_BYTES:
                    waiting -= size - RECORD_BYTES
                    record.request = record.response = None
                    record.body_state = "dropped"
                    counters.bodies_shed += 1
                    size = RECORD_BYTES
            counters.put += 1
            counters.queue_rows = rows + 1
            counters.queue_bytes = waiting
            self._queue.append((record, future, size))
        if self._asleep:
            self._wake.set()
        return True

    # waiting and ending ----------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether everything put so far is committed (or counted as dropped)."""
        return self._settled_rows >= self.counters.put

    def flush(self, timeout: float | None = 10.0) -> bool:
        """Waits until everything put before this call is committed (or counted as dropped). False on timeout.

        Rows that went to the spill file count as settled only once they are in the database.
        """
        with self._settled:
            target = self.counters.put
            self._hurry = True
            self._wake.set()
            return self._settled.wait_for(lambda: self._settled_rows >= target, timeout)

    def close(self, timeout: float = 30.0) -> bool:
        """Commits what waits, ends the thread and closes the connection. False when rows were left behind.

        Rows that cannot be committed in time are spilled, and taken in at the next start.
        """
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._queue and not self._spill.waiting

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # the background thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._adopt_orphans()
        except (OSError, sqlite3.Error) as error:
            log.warning("Spilled traces of an earlier process wait for the next start: %s", error)
        while True:
            try:
                if not self._turn():
                    break
            except Exception:
                # nothing may end this thread: it would fill the queue and lose every later record
                log.exception("The trace writer failed and goes on")
                time.sleep(0.2)
        lost = self._spill.close()
        if lost:
            log.error("Traces: %d blocks could be written nowhere and are lost", lost)
        self._close_connection()

    def _adopt_orphans(self) -> None:
        """Takes in what killed processes had spilled; a block that they had committed too is recognised by its key."""
        for lock, blocks in orphans(self._spill_prefix):
            connection = self._connected()
            for block in blocks:
                insert_block(connection, [block])
                self._unprojected += block.rows
            lock.path.unlink(missing_ok=True)

    def _turn(self) -> bool:
        """One round: wait, write a group, use idle time. False when the writer is closed and empty."""
        idle = self._await_work()
        more = True
        while self._queue and more:
            self._write(self._take())
            more = self._hurry or self._closing or len(self._queue) >= self.limits.group_rows
        self._hurry = False
        if self._spill.waiting:
            self._drain_spill()
        if self._closing and not self._queue:
            self._bring_up_to_date()
            return False
        if self._project and (idle or self._unprojected >= self.limits.lag_rows):
            self._bring_up_to_date()
        return True

    def _await_work(self) -> bool:
        """Sleeps for one group interval, or until a put when there is nothing to do. True after an idle stretch."""
        if self._hurry or self._closing:
            self._wake.clear()
            return False
        if self._queue:
            self._wake.clear()
            if len(self._queue) < self.limits.group_rows:
                self._wake.wait(self.limits.group_seconds)
            return False
        waits = bool(self._unprojected or self._spill.waiting)
        self._wake.clear()
        self._asleep = True
        try:
            # looked at again after `_asleep` is set: a put in between would find nobody to wake
            nothing = not self._queue and not self._closing and not self._hurry
            if nothing and not self._wake.wait(self.limits.idle_seconds if waits else None):
                return True
        finally:
            self._asleep = False
        if not self._hurry and not self._closing:
            self._wake.clear()
            self._wake.wait(self.limits.group_seconds)
        return False

    def _take(self) -> list[Item]:
        """Up to one block's worth of records off the queue."""
        queue = self._queue
        items: list[Item] = []
        size = 0
        for _ in range(min(len(queue), self.limits.block_rows)):
            item = queue.popleft()
            items.append(item)
            size += item[2]
            if size >= MAX_BYTES:
                break
        with self._lock:
            self.counters.queue_rows -= len(items)
            self.counters.queue_bytes -= size
        return items

    def _write(self, items: list[Item]) -> None:
        records = self._prepared(items)
        block = self._encoded(records)
        if self._spill.waiting or not self._commit_patiently(block):
            self._divert(block, items)
            return
        if self._project:
            self._recent.put(self._last_block, records)
        self._acknowledge(items)
        if self.counters.committed - self._looked >= LOOK_ROWS:
            self._forget_projected()

    def _encoded(self, records: list[TraceRecord]) -> Block:
        """The block of some records; one that cannot be encoded is mended, so that its neighbours are not lost."""
        try:
            return encode_block(self._next_key(), records)
        except (ValueError, TypeError, OverflowError, RecursionError):
            now_ms = time.time_ns() // 1_000_000
            records[:] = [mended(record, now_ms) for record in records]
            log.error("A trace held what cannot be stored; that part of it was left out")
            return encode_block(self._next_key(), records)

    def _prepared(self, items: list[Item]) -> list[TraceRecord]:
        before = self._before_write
        records = [item[0] for item in items]
        for record in records:
            if before is not None:
                try:
                    before(record)
                except Exception:
                    self._unhooked(record)
            if record.body_state == "none" and (record.request is not None or record.response is not None):
                record.body_state = "full"
        return records

    def _unhooked(self, record: TraceRecord) -> None:
        """The hook failed. It may have been about to remove a secret, so nothing that a person wrote is kept."""
        log.exception("The hook before writing failed; the text of trace %s is not stored", record.trace_id)
        record.request = record.response = record.error_msg = record.metadata = None
        record.body_state = "dropped"
        self.counters.bodies_shed += 1

    def _next_key(self) -> bytes:
        self._batch += 1
        return self._key + self._batch.to_bytes(8, "big")

    def _commit_patiently(self, block: Block) -> bool:
        """Tries until it is in, or until waiting longer would fill the queue. False: the block must go elsewhere."""
        patience = time.monotonic() + self.limits.lock_seconds
        while True:
            try:
                self._commit(block)
            except sqlite3.Error as error:
                self.counters.retries += 1
                if not self._failed(error) or self._closing or time.monotonic() > patience:
                    return False
                time.sleep(0.02)
            else:
                self._unprojected += block.rows
                if not self._spill.waiting:
                    self._recovered("The trace database can be written again")
                return True

    def _failed(self, error: sqlite3.Error) -> bool:
        """Notes that a commit failed; whether that was another's lock, which soon ends (or has become trouble)."""
        self._close_connection()
        now = time.monotonic()
        since = self._failing_since = self._failing_since or now
        busy = _busy(error)
        if not busy or now - since >= self.limits.trouble_seconds:
            self._degrade(f"the trace database cannot be written: {error}")
        return busy

    def _recovered(self, text: str) -> None:
        self._failing_since = None
        if self.degraded:
            log.warning(text)
            self.degraded = None

    def _commit(self, block: Block) -> None:
        self._last_block = insert_block(self._connected(), [block])

    def _connected(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            connection = self._connection = self.store.connect(durable=True, timeout=self.limits.lock_seconds)
            # it only appends: what it wrote it does not read again, and a large cache would fill up for hours
            connection.execute("PRAGMA cache_size = -2000")
        return connection

    def _divert(self, block: Block, items: list[Item]) -> None:
        """Puts a block into the spill file; drops it, counted, when that cannot take it."""
        try:
            self._spill.append(block, [(rec.trace_id, future) for rec, future, _ in items if future is not None])
        except (OSError, SpillFull) as error:
            reason = "spill_full" if isinstance(error, SpillFull) else "disk"
            self._degrade(f"traces are being dropped: {error}")
            with self._settled:
                self._drop(reason, len(items))
                self._settled_rows += len(items)
                self._settled.notify_all()
            for _, future, _ in items:
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_exception(RuntimeError(f"The trace was dropped: {error}"))
            return
        self.counters.spilled += len(items)
        self.counters.spilled_waiting += len(items)

    def _drain_spill(self) -> None:
        """Moves spilled blocks into the database, oldest first; stops at the first that fails."""
        while (block := self._spill.peek()) is not None:
            try:
                self._commit(block)
            except sqlite3.Error as error:
                self._failed(error)
                if not self._closing and not self._queue:
                    time.sleep(0.02)
                return
            self._spill.done()
            self._unprojected += block.rows
            self.counters.spilled_waiting -= block.rows
            self._settle(block.rows)
        if self._spill.waiting:
            self._lose_spill()
        self._recovered("The trace database can be written again; spilled traces are in it")

    def _lose_spill(self) -> None:
        """Somebody has removed or damaged the spill file."""
        rows, self.counters.spilled_waiting = self.counters.spilled_waiting, 0
        log.error("Traces: the spill file is gone or damaged, %d traces in it are lost", rows)
        with self._settled:
            self._drop("spill_lost", rows)
            self._settled_rows += rows
            self._settled.notify_all()
        for _, future in self._spill.forget():
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError("The trace was dropped: the spill file is gone"))

    def _acknowledge(self, items: list[Item]) -> None:
        self._settle(len(items))
        for record, future, _ in items:
            if future is not None and future.set_running_or_notify_cancel():
                future.set_result(record.trace_id)

    def _settle(self, rows: int) -> None:
        with self._settled:
            self.counters.committed += rows
            self.counters.blocks += 1
            self._settled_rows += rows
            self._settled.notify_all()

    def _bring_up_to_date(self) -> None:
        if not self._project or not self._unprojected:
            return
        try:
            with contextlib.closing(self.store.connect(timeout=self.limits.lock_seconds)) as connection:
                while catch_up(connection, max_rows=1, recent=self._recent):
                    # new records never wait behind a long projection, unless that has fallen far behind itself
                    patient = self._unprojected >= self.limits.lag_rows
                    if len(self._queue) >= (self.limits.group_rows if patient else 1) and not self._closing:
                        return
            self._unprojected = 0
            self._recent.clear()
        except sqlite3.Error as error:
            level = logging.DEBUG if _busy(error) else logging.WARNING
            log.log(level, "Projection of traces waits: %s", error)

    def _forget_projected(self) -> None:
        """Where traffic is calm the leader projects all the time; records would be kept here for nothing."""
        self._looked = self.counters.committed
        with contextlib.suppress(sqlite3.Error):  # the next commit says what is wrong
            self._recent.forget(projected_upto(self._connected()))

    def _drop(self, reason: str, rows: int) -> None:
        dropped = self.counters.dropped
        dropped[reason] = dropped.get(reason, 0) + rows

    def _degrade(self, why: str) -> None:
        if self.degraded != why:
            log.error("Traces: %s", why)
        self.degraded = why

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the database just now."""
    return "locked" in str(error) or "busy" in str(error)


def insert_block(connection: sqlite3.Connection, blocks: Sequence[Block]) -> int:
    """Writes blocks in one transaction and returns the number of the last one that was added (0: none was).

    A block that is already there (same key) is left alone.

    The connection is in autocommit mode and clean afterwards, whatever happened.
    """
    last = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for block in blocks:
            added = connection.execute(
                "INSERT OR IGNORE INTO blocks (batch, rows, ts_min, ts_max, codec, ids, meta) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (block.key, block.rows, block.ts_min, block.ts_max, block.codec, block.ids, block.meta),
            )
            if not added.rowcount:
                continue
            last = int(added.lastrowid or 0)
            if block.bodies is not None:
                connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (last, block.codec, block.bodies))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return last
