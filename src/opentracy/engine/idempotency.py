"""`Idempotency-Key`: the same request under the same key is answered once, and that answer given to whoever repeats it.

Belongs here: claiming a key, waiting for whoever has it, keeping and replaying the answer for a day, in the accounts'
directory so that every worker and the next start know of it. Not here: what a request is (`served`). A key belongs to
its caller and its path. An answer is kept when it is final (below 500, and neither about money, permission, time nor
rates): whatever may come out differently next time frees the key, and a waiting repetition then takes its turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from .errors import Refused, error_body
from .exchange import Exchange

log = logging.getLogger("opentracy.engine")
_FILE: Final = "idempotency.db"
KEEP_S: Final = 24 * 3600
MAX_KEY: Final = 255
MAX_ANSWER: Final = 4 << 20
POLL_S: Final = 0.05
_NOT_FINAL: Final = frozenset({402, 403, 408, 409, 429, 499})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, as it was given."""

    status: int
    content_type: bytes
    headers: bytes
    body: bytes


@dataclass(slots=True)
class Claim:
    """A key that this worker is answering."""

    name: bytes
    waiting: list[Callable[[], None]]


class Replays:
    """The keys of one data directory, as one worker sees them. Lives on the event loop."""

    def __init__(self, home: Path, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._later = later
        self._mine: dict[bytes, Claim] = {}
        self._cleaned = 0.0
        path = home / _FILE
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS answers (name BLOB PRIMARY KEY, request BLOB NOT NULL, at REAL NOT NULL, "
            "owner INTEGER NOT NULL, status INTEGER, type BLOB, headers BLOB, body BLOB) WITHOUT ROWID"
        )
        path.chmod(0o600)

    def enter(
        self, caller: str | None, exchange: Exchange, key: bytes, again: Callable[[], None]
    ) -> Claim | Answer | None:
        """A claim (answer it, under `Recorder`), the answer of before, or None: `again` is called when it is time.

        Refused 400 for a key that is none, 422 for a key that was used with another request.
        """
        if not 0 < len(key) <= MAX_KEY or not key.isascii():
            text = f"Idempotency-Key must be 1 to {MAX_KEY} ASCII characters"
            raise Refused(400, text, param="Idempotency-Key")
        try:
            return self._enter(caller, exchange, key, again)
        except sqlite3.Error as e:
            # to go on would be to call twice what must be called once
            text = f"Idempotency-Key cannot be honoured now: {e}"
            raise Refused(503, text, code="idempotency_unavailable", headers={"retry-after": "1"}) from None

    def _enter(
        self, caller: str | None, exchange: Exchange, key: bytes, again: Callable[[], None]
    ) -> Claim | Answer | None:
        name = _digest((caller or "").encode(), exchange.path, key)
        request = _digest(exchange.body)
        self._forget_old()
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO answers (name, request, at, owner) VALUES (?, ?, ?, ?)",
            (name, request, time.time(), os.getpid()),
        ).rowcount
        if inserted:
            return self._claimed(name)
        found = self._db.execute(
            "SELECT request, owner, status, type, headers, body FROM answers WHERE name = ?", (name,)
        ).fetchone()
        if found is None:  # freed in between
            self._later(0.0, again)
            return None
        if found[0] != request:
            text = "This Idempotency-Key was used with another request: take a new key for a new request"
            raise Refused(422, text, code="idempotency_key_reused", param="Idempotency-Key")
        if found[2] is not None:
            return Answer(*found[2:])
        return self._wait(name, found[1], again)

    def _wait(self, name: bytes, owner: int, again: Callable[[], None]) -> Claim | None:
        claim = self._mine.get(name)
        if claim is not None:
            claim.waiting.append(again)
        elif owner != os.getpid() and _lives(owner):
            self._later(POLL_S, again)
        else:  # its worker died over it
            taken = self._db.execute(
                "UPDATE answers SET owner = ?, at = ? WHERE name = ? AND owner = ? AND status IS NULL",
                (os.getpid(), time.time(), name, owner),
            ).rowcount
            if taken:
                return self._claimed(name)
            self._later(0.0, again)
        return None

    def _claimed(self, name: bytes) -> Claim:
        claim = self._mine[name] = Claim(name, [])
        return claim

    def settle(self, claim: Claim, answer: Answer | None) -> None:
        """The claim's answer; None when there is none that would be the same again."""
        if self._mine.pop(claim.name, None) is None:
            return
        try:
            self._keep(claim, answer)
        except sqlite3.Error as e:
            log.error("the answer under an Idempotency-Key could not be kept: %s", e)
        for again in claim.waiting:
            self._later(0.0, again)

    def _keep(self, claim: Claim, answer: Answer | None) -> None:
        if answer is None or answer.status >= 500 or answer.status in _NOT_FINAL or len(answer.body) > MAX_ANSWER:
            self._db.execute("DELETE FROM answers WHERE name = ?", (claim.name,))
        else:
            self._db.execute(
                "UPDATE answers SET status = ?, type = ?, headers = ?, body = ? WHERE name = ?",
                (answer.status, answer.content_type, answer.headers, answer.body, claim.name),
            )

    def _forget_old(self) -> None:
        now = time.time()
        if now - self._cleaned > 60:
            self._cleaned = now
            self._db.execute("DELETE FROM answers WHERE at < ?", (now - KEEP_S,))


# the text of an answer that may not be stored is not stored here either; that there was one still is, so that a
# repetition is not billed a second time
_NOT_KEPT: Final = Answer(
    410, b"application/json", b"x-should-retry: false\r\n",
    error_body(410, "This Idempotency-Key was answered already; the engine is set not to keep texts as they are",
               code="answer_not_kept", param="Idempotency-Key"),
)  # fmt: skip


class Recorder:
    """An exchange that also keeps what it is answered with, and settles its claim at the end."""

    def __init__(self, exchange: Exchange, replays: Replays, claim: Claim, storable: Callable[[], bool]) -> None:
        self._exchange = exchange
        self._replays = replays
        self._claim = claim
        self._storable = storable
        self._head: tuple[int, bytes, bytes] | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    @property
    def owner(self) -> Any:
        """Whoever is answering."""
        return self._exchange.owner

    @owner.setter
    def owner(self, owner: Any) -> None:
        self._exchange.owner = owner

    def respond(
        self, status: int, body: bytes, content_type: bytes = b"application/json", headers: bytes = b""
    ) -> None:
        """See `Exchange`."""
        self._exchange.respond(status, body, content_type, headers)
        self._settle(Answer(status, content_type, headers, body))

    def open_stream(self, status: int, content_type: bytes, headers: bytes, data: bytes = b"") -> None:
        """See `Exchange`."""
        self._head = (status, content_type, headers)
        self._keep(data)
        self._exchange.open_stream(status, content_type, headers, data)

    def send(self, data: bytes) -> None:
        """See `Exchange`."""
        self._keep(data)
        self._exchange.send(data)

    def finish(self, data: bytes = b"") -> None:
        """See `Exchange`."""
        self._keep(data)
        self._exchange.finish(data)
        whole = b"".join(self._parts)
        # a stream that broke says so in its last event, and may go well the next time
        done = self._head is not None and whole.rstrip().endswith(b"data: [DONE]")
        self._settle(Answer(*self._head, whole) if done and self._head is not None else None)

    def abort(self) -> None:
        """See `Exchange`."""
        self._exchange.abort()
        self.gave_up()

    def gave_up(self) -> None:
        """There is no answer; does nothing where there was one."""
        self._settle(None)

    def _settle(self, answer: Answer | None) -> None:
        if answer is not None and not self._storable():
            # a refusal quotes what was asked and cost nothing: the next time it is asked anew
            answer = _NOT_KEPT if answer.status < 400 else None
        self._replays.settle(self._claim, answer)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_ANSWER + 1:
            self._parts.append(data)


def replay(exchange: Exchange, answer: Answer) -> None:
    """Gives the answer of before, under the ids of before."""
    headers = answer.headers + b"x-opentracy-replayed: true\r\n"
    exchange.respond(answer.status, answer.body, answer.content_type, headers)


def free_open(home: Path) -> None:
    """Frees the keys that were being answered when an engine ended. Called before the first worker starts."""
    path = home / _FILE
    if path.exists():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=1.0)) as database:
            database.execute("DELETE FROM answers WHERE status IS NULL")
            database.commit()


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=24).digest()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
