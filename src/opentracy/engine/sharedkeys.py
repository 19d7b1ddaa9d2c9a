"""Virtual keys of all engines: made, changed or revoked at one, they count at every other within a second.

Belongs here: the thread that keeps this machine's keys and those in Redis alike. Not here: what a key is
(`opentracy.traces.keys`), how Redis keeps them (`opentracy.traces.shared`). Each machine's own database answers the
requests, so keys work on while Redis is away; what is changed meanwhile travels once it is back.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

import msgspec

from opentracy.traces import StoreUnavailable
from opentracy.traces.accounts import Accounts
from opentracy.traces.keys import Keys, SharedKey, load_pepper
from opentracy.traces.shared import RedisKeys, SharedUnavailable

log = logging.getLogger("opentracy.engine")
PAUSE_S = 0.25
AWAY_S = 1.0


class SharedKeys:
    """The exchange of one worker, four times a second, on a thread of its own."""

    def __init__(self, home: Path, url: str, prefix: str) -> None:
        self._home = home
        self._redis = RedisKeys(url, prefix=prefix)
        #: what Redis is known to have, by key id: whether revoked, and when changed
        self._there: dict[str, tuple[bool, int]] = {}
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="opentracy-keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        accounts = Accounts(self._home / "accounts.db")
        keys = Keys(accounts, load_pepper(self._home))
        while True:
            try:
                self._round(keys)
                self._away = False
            except (SharedUnavailable, StoreUnavailable, sqlite3.Error, ValueError) as e:
                if not self._away:
                    log.warning("keys of all engines: %s", e)
                self._away = True
            if self._stop.wait(AWAY_S if self._away else PAUSE_S):
                break
        accounts.close()
        self._redis.close()

    def _round(self, keys: Keys) -> None:
        here = keys.states()
        told = []
        for key_id, state in here.items():
            if state > self._there.get(key_id, (False, -1)):
                told.append((key_id, *state, msgspec.json.encode(keys.portable(key_id)).decode()))
        found = self._redis.exchange(told)
        if found is None:
            return
        # all that is there: a Redis that lost its data has none, and is told again in the next round
        self._there = {}
        for revoked, updated, text in found:
            shared = msgspec.json.decode(text, type=SharedKey)
            key_id = str(shared.values.get("id"))
            self._there[key_id] = (revoked, updated)
            if (revoked, updated) > here.get(key_id, (False, -1)) and keys.absorb(shared):
                log.info("key %s came from another engine", key_id)
