"""Who calls, and what they may: bearer keys with scopes, and the checks that keep web pages out.

Belongs here: identities, constant-time comparison, Host and Origin rules. Not here: which scope a route needs (it says
so itself, `routes`), budgets and rate limits (`quota`), the store of virtual keys (`opentracy.traces`).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from .errors import Refused

Scope = Literal["public", "inference", "read", "admin"]
MAX_KEY = 512
COOKIE = "opentracy_session"
SESSION_S = 12 * 3600
_REALM = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `key_id` is what traces show; `models`: the only ones it may use, or None for all."""

    key_id: str | None
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    virtual: Any = field(default=None, repr=False)  # the store's own record of a virtual key

    def allows(self, scope: Scope) -> bool:
        """Admin may everything; reading of traces includes nothing else."""
        return scope == "public" or scope in self.scopes or "admin" in self.scopes


OPEN = Identity(None, frozenset({"inference", "read", "admin"}))
ANYONE = Identity(None, frozenset())


class Keys:
    """The configured keys, kept as keyed hashes only; and a look-up for virtual ones."""

    def __init__(
        self, keys: Iterable[tuple[str, Identity]], virtual: Callable[[str], Identity | None] | None = None
    ) -> None:
        keys = list(keys)
        self._pepper = secrets.token_bytes(32)
        self._entries = [(self._hash(key), identity) for key, identity in keys]
        self._virtual = virtual
        self.required = bool(self._entries)
        # made from the keys themselves: every worker reads the cookies of every other, and a changed key ends them
        self._sealing = blake2b(b"\0".join(sorted(key.encode("utf-8", "surrogateescape") for key, _ in keys)),
                                digest_size=32, person=b"opentracy-cookie").digest()  # fmt: skip

    def use(self, virtual: Callable[[str], Identity | None]) -> None:
        """From here on virtual keys are looked up there."""
        self._virtual = virtual

    @property
    def virtual(self) -> bool:
        """Whether there is somewhere to look virtual keys up."""
        return self._virtual is not None

    def _hash(self, key: str) -> bytes:
        return blake2b(key.encode("utf-8", "surrogateescape"), key=self._pepper, digest_size=32).digest()

    def find(self, token: str) -> Identity | None:
        """The identity behind a token. Every entry is compared, whatever came before."""
        digest = self._hash(token)
        found: Identity | None = None
        for known, identity in self._entries:
            if hmac.compare_digest(known, digest):
                found = identity
        if found is None and self._virtual is not None and token.startswith("ot_"):
            found = self._virtual(token)
        return found

    def cookie_for(self, identity: Identity, now: float) -> str | None:
        """The value of a login cookie for a configured key; None for callers that cannot have one."""
        if identity.key_id is None or identity.virtual is not None:
            return None
        text = f"{int(now) + SESSION_S}.{identity.key_id}"
        return f"{text}.{self._seal(text)}"

    def of_cookie(self, value: str, now: float) -> Identity | None:
        """The identity behind a cookie that we made and that has not run out."""
        text, _, seal = value.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(text).encode()):
            return None
        until, _, key_id = text.partition(".")
        if int(until) < now:
            return None
        return next((identity for _, identity in self._entries if identity.key_id == key_id), None)

    def _seal(self, text: str) -> str:
        return hmac.new(self._sealing, text.encode(), "sha256").hexdigest()


def authenticate(keys: Keys, headers: Mapping[bytes, bytes]) -> Identity:
    """The caller of a request; Refused 401 for none, wrong, revoked or expired keys."""
    given = headers.get(b"authorization")
    if given is None:
        if keys.required:
            identity = _signed_in(keys, headers)
            if identity is not None:
                return identity
            raise Refused(401, "No API key: send 'Authorization: Bearer <key>'", code="invalid_api_key", headers=_REALM)
        return OPEN
    kind, _, token = given.decode("latin-1").partition(" ")
    token = token.strip()
    if not keys.required and not (keys.virtual and token.startswith("ot_")):
        return OPEN  # without keys only this machine is served; clients insist on sending one all the same
    identity = keys.find(token) if kind.lower() == "bearer" and 0 < len(token) <= MAX_KEY else None
    if identity is None:
        raise Refused(401, "The API key is not valid", code="invalid_api_key", headers=_REALM)
    return identity


def _signed_in(keys: Keys, headers: Mapping[bytes, bytes]) -> Identity | None:
    """Who the login cookie names. Browsers say where a request comes from: from elsewhere the cookie does not count."""
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        return None
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and len(value) <= MAX_KEY and value.isascii():
            return keys.of_cookie(value, time.time())
    return None


def authorize(identity: Identity, scope: Scope) -> None:
    """Refused 403 when the caller's scopes do not include the route's."""
    if not identity.allows(scope):
        raise Refused(403, f"This key does not have the {scope!r} scope", code="insufficient_scope")


def is_loopback(host: str) -> bool:
    """Whether binding to this host keeps the engine on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class HostRules:
    """Which Host (and Origin) headers are served: a page that rebinds its name to 127.0.0.1 must not get in."""

    def __init__(self, bind: str, allowed: Iterable[str]) -> None:
        names = {h.lower() for h in allowed}
        self.any = not names and not is_loopback(bind)
        self._names = frozenset(names | {"localhost", "127.0.0.1", "[::1]", bind.lower(), f"[{bind.lower()}]"})
        self._seen: set[bytes] = set()

    def check(self, headers: Mapping[bytes, bytes], *, http11: bool) -> None:
        """Refused 400 for a Host that is malformed or not ours, 403 for another site's Origin."""
        host = headers.get(b"host")
        if host is None:
            if http11:
                raise Refused(400, "The Host header is missing", code="invalid_host")
        elif host not in self._seen:
            self._host(host)
        origin = headers.get(b"origin")
        if origin is not None:
            self._origin(origin, host)

    def _host(self, host: bytes) -> None:
        name = _host_name(host)
        if name is None:
            raise Refused(400, "The Host header is malformed", code="invalid_host")
        if not self.any and name not in self._names:
            raise Refused(400, "This engine does not serve that host name (server.allowed_hosts)", code="invalid_host")
        if len(self._seen) < 64:
            self._seen.add(host)

    def _origin(self, origin: bytes, host: bytes | None) -> None:
        scheme, _, rest = origin.decode("latin-1").lower().partition("://")
        if scheme not in ("http", "https") or host is None or rest != host.decode("latin-1").lower():
            raise Refused(403, "Requests from other web sites are not served", code="foreign_origin")


def _host_name(host: bytes) -> str | None:
    """The name without its port, or None when it is no host at all."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        name, closed, port = text.partition("]")
        name += closed
        if not closed or not all(c in "0123456789abcdef:." for c in name[1:-1]):
            return None
        if port and not (port.startswith(":") and port[1:].isdigit()):
            return None
        return name
    name, colon, port = text.partition(":")
    if colon and not (port.isdigit() and len(port) <= 5):
        return None
    if not name or len(name) > 253 or not all(c.isascii() and (c.isalnum() or c in "-._") for c in name):
        return None
    return name
