"""Virtual keys: what a caller shows, and what it may do.

Belongs here: making, checking and revoking keys. A key is `ot_<id>_<43 characters>`; the database holds its HMAC-SHA256
under a pepper that is kept elsewhere, so neither the file nor a backup of it opens anything.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from .accounts import Accounts
from .errors import QueryError

PREFIX: Final = "ot"
SCOPES: Final = ("inference", "read", "admin")
#: a key is never longer than this, so hashing a hostile one costs nothing
_MAX_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key without its secret. `models` None allows all; entries may hold `*`. Money is nano-USD."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    owner: str | None = None
    project: str | None = None
    models: tuple[str, ...] | None = None
    content: str | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    daily_nano: int | None = None
    monthly_nano: int | None = None
    rpm: int | None = None
    tpm: int | None = None

    def may_use(self, *names: str) -> bool:
        """True when one of the names of a target (`provider/model`, the bare model, an alias) is allowed."""
        return self.models is None or any(fnmatchcase(name, pattern) for name in names for pattern in self.models)

    def works_at(self, now_ms: int) -> bool:
        """True when it is neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


_FIELDS: Final = (
    "id", "name", "scopes", "created_ms", "owner", "project", "models", "content", "expires_ms", "revoked_ms",
    "daily_nano", "monthly_nano", "rpm", "tpm",
)  # fmt: skip
_CHANGEABLE: Final = frozenset(_FIELDS) - {"id", "created_ms", "revoked_ms"}


def load_pepper(directory: Path) -> bytes:
    """The secret under which keys are hashed: made once, readable by the owner only, kept out of the database."""
    path = directory / "pepper"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        made = secrets.token_bytes(32)
        file.write(made)
    return made


class Keys:
    """The keys of an accounts database. `verify` is cheap enough for every request."""

    def __init__(self, accounts: Accounts, pepper: bytes) -> None:
        if len(pepper) < 16:
            raise ValueError("The pepper of the keys must have at least 16 bytes")
        self._accounts = accounts
        self._pepper = pepper
        self._cache: dict[bytes, Key] = {}
        self._seen = -1

    def create(self, name: str, *, now_ms: int | None = None, **settings: Any) -> tuple[str, Key]:
        """A new key: the text to hand out, which is shown this once and stored nowhere, and its record.

        `settings`: owner, project, scopes, models, content, expires_ms, daily_nano, monthly_nano, rpm, tpm.
        Raises QueryError for a setting that means nothing.
        """
        values = _checked({"name": name, "scopes": ("inference",), **settings})
        now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        key = Key(id=secrets.token_hex(6), created_ms=now, **values)
        text = f"{PREFIX}_{key.id}_{secrets.token_urlsafe(32)}"
        row = [_stored(getattr(key, field)) for field in _FIELDS]
        self._accounts.connection().execute(
            f"INSERT INTO keys (hash, updated_ms, {', '.join(_FIELDS)}) "
            f"VALUES ({', '.join('?' * (len(_FIELDS) + 2))})",
            (self._hash(text), _now(), *row),
        )
        return text, key

    def verify(self, text: str, now_ms: int) -> Key | None:
        """The working key that `text` is; None otherwise, after the same work whatever is wrong with it."""
        if len(text) > _MAX_LENGTH:
            text = ""
        digest = self._hash(text)
        self._refresh()
        key = self._cache.get(digest)
        if key is None:
            parts = text.split("_", 2)
            found = self._find(parts[1] if len(parts) == 3 else "")
            pepper = found.pepper if found is not None and found.pepper is not None else self._pepper
            right = hmac.compare_digest(found.hash if found is not None else b"\0" * 32, _hashed(pepper, text))
            if found is None or not right:
                return None
            key = found.key
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[digest] = key
        return key if key.works_at(now_ms) else None

    def _refresh(self) -> None:
        """Forgets what it knew once any process has changed the database, so that a revocation counts at once."""
        version = self._accounts.connection().execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen:
            self._seen = version
            self._cache.clear()

    def _find(self, key_id: str) -> _Entry | None:
        row = (
            self._accounts.connection()
            .execute(f"SELECT hash, pepper, {', '.join(_FIELDS)} FROM keys WHERE id = ?", (key_id,))
            .fetchone()
        )
        return None if row is None else _Entry(row[0], row[1], _read(row[2:]))

    def get(self, key_id: str) -> Key | None:
        """A key by its id."""
        found = self._find(key_id)
        return None if found is None else found.key

    def all(self) -> list[Key]:
        """Every key, newest first, revoked ones too."""
        found = self._accounts.connection().execute(
            f"SELECT {', '.join(_FIELDS)} FROM keys ORDER BY created_ms DESC, id"
        )
        return [_read(row) for row in found.fetchall()]

    def revoke(self, key_id: str, now_ms: int) -> bool:
        """Ends a key for good; False when there is none that works."""
        self._cache.clear()
        done = self._accounts.connection().execute(
            f"UPDATE keys SET revoked_ms = ?, {_NEWER} WHERE id = ? AND revoked_ms IS NULL", (now_ms, _now(), key_id)
        )
        return done.rowcount > 0

    def rotate(self, key_id: str) -> str | None:
        """A new text for the same key, budgets and spend untouched; the old one ends now. None without a live key."""
        text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        self._cache.clear()
        done = self._accounts.connection().execute(
            f"UPDATE keys SET hash = ?, pepper = NULL, {_NEWER} WHERE id = ? AND revoked_ms IS NULL",
            (self._hash(text), _now(), key_id),
        )
        return text if done.rowcount else None

    def update(self, key_id: str, **settings: Any) -> Key | None:
        """Changes settings of a key (as in `create`); None when there is no such key. Raises QueryError."""
        values = _checked(settings)
        self._cache.clear()
        if values:
            self._accounts.connection().execute(
                f"UPDATE keys SET {', '.join(f'{name} = ?' for name in values)}, {_NEWER} WHERE id = ?",
                (*map(_stored, values.values()), _now(), key_id),
            )
        return self.get(key_id)

    def _hash(self, text: str) -> bytes:
        return _hashed(self._pepper, text)

    # ---------------------------------------------------------------- on many machines
    def states(self) -> dict[str, tuple[bool, int]]:
        """Of every key by id: whether it is revoked, and when it was last changed; the larger of two is the newer."""
        found = self._accounts.connection().execute("SELECT id, revoked_ms IS NOT NULL, updated_ms FROM keys")
        return {key_id: (bool(revoked), updated) for key_id, revoked, updated in found.fetchall()}

    def portable(self, key_id: str) -> SharedKey:
        """A key as another machine needs it. What opens it is not in it: the text has 256 random bits, so the hash
        tells nothing even beside its pepper."""
        row = (
            self._accounts.connection()
            .execute(f"SELECT hash, pepper, updated_ms, {', '.join(_FIELDS)} FROM keys WHERE id = ?", (key_id,))
            .fetchone()
        )
        values = dict(zip(_FIELDS, row[3:], strict=True))
        return SharedKey(row[0].hex(), (row[1] or self._pepper).hex(), row[2], values)

    def absorb(self, shared: SharedKey) -> bool:
        """Takes in a key of another machine; False when what is known here is as new, or it is no key.

        A revoked key stays revoked, whatever came later.
        """
        try:
            values, pepper = [shared.values[name] for name in _FIELDS], bytes.fromhex(shared.pepper)
            _read(values)
            row = [bytes.fromhex(shared.hash), None if pepper == self._pepper else pepper, shared.updated_ms, *values]
        except (KeyError, ValueError, TypeError):
            return False
        names = ("hash", "pepper", "updated_ms", *_FIELDS)
        done = self._accounts.connection().execute(
            f"INSERT INTO keys ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names)} "
            "WHERE (excluded.revoked_ms IS NOT NULL, excluded.updated_ms) "
            "> (keys.revoked_ms IS NOT NULL, keys.updated_ms)",
            row,
        )
        self._cache.clear()
        return done.rowcount > 0


class SharedKey(msgspec.Struct, frozen=True):
    """A key as it travels between machines: hash and pepper as hex, when it was changed, its columns by name."""

    hash: str
    pepper: str
    updated_ms: int
    values: dict[str, Any]


class _Entry(NamedTuple):
    """`pepper` of the machine that made the key; None: this one."""

    hash: bytes
    pepper: bytes | None
    key: Key


#: a change is newer than what it changes, also where the clocks of two machines differ
_NEWER: Final = "updated_ms = max(?, updated_ms + 1)"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _hashed(pepper: bytes, text: str) -> bytes:
    return hmac.new(pepper, text.encode("utf-8", "replace"), hashlib.sha256).digest()


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        if name not in _CHANGEABLE:
            raise QueryError(f"Unknown setting of a key: {name!r} (known: {', '.join(sorted(_CHANGEABLE))})")
        if (
            name in ("daily_nano", "monthly_nano", "rpm", "tpm")
            and value is not None
            and (not isinstance(value, int) or isinstance(value, bool) or value < 0)
        ):
            raise QueryError(f"{name} must be a whole number, 0 or more")
        if name == "content" and value not in (None, "all", "redacted", "none"):
            raise QueryError(f"content is all, redacted or none, not {value!r}")
    values = dict(settings)
    if "scopes" in values:
        values["scopes"] = _names(values["scopes"], "scopes")
        wrong = [scope for scope in values["scopes"] if scope not in SCOPES]
        if wrong or not values["scopes"]:
            raise QueryError(f"scopes are {', '.join(SCOPES)}, not {', '.join(wrong) or 'none'}")
    if values.get("models") is not None:
        values["models"] = _names(values["models"], "models")
    return values


def _names(value: Sequence[str] | str, what: str) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise QueryError(f"{what} must be a list of names")
    return tuple(value)


def _stored(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, tuple) else value


def _read(row: Sequence[Any]) -> Key:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in ("scopes", "models"):
        if values[name] is not None:
            values[name] = tuple(msgspec.json.decode(values[name]))
    return Key(**values)
