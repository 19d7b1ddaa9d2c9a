"""AWS Signature Version 4, for requests with their body in hand. Pure: the time is an argument.

Source: "Signature Version 4 signing process" in the IAM user guide. Every service but S3 encodes the path once more
when it canonicalises it, so a percent sign of an already encoded path becomes %25.

Does not belong here: where credentials come from.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
_SAFE = "-_.~"
# what proxies on the way may change, or what carries the signature itself
_UNSIGNED = frozenset(
    {"authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id"}
)  # fmt: skip


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    session_token: str | None = None,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """`headers` together with X-Amz-Date, X-Amz-Security-Token (when there is a token) and Authorization.

    `now` is Unix seconds. Host is signed as the URL implies it and not added: the transport writes it.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    out = {k: v for k, v in headers.items() if k.lower() not in ("authorization", "x-amz-date", "x-amz-security-token")}
    out["x-amz-date"] = stamp
    if session_token:
        out["x-amz-security-token"] = session_token
    canonical, signed = canonical_request(method, url, out, body)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(secret_key, stamp[:8], region, service)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    out["authorization"] = f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    return out


def canonical_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """The canonical request and the list of signed header names (`;` between them)."""
    parts = urlsplit(url)
    lowered = {k.lower(): " ".join(v.split()) for k, v in headers.items() if k.lower() not in _UNSIGNED}
    lowered["host"] = host_of(url)
    names = sorted(lowered)
    signed = ";".join(names)
    head = "".join(f"{n}:{lowered[n]}\n" for n in names)
    digest = hashlib.sha256(body).hexdigest()
    path = quote(_normalised(parts.path), safe="/" + _SAFE)
    return "\n".join((method.upper(), path, _query(parts.query), head, signed, digest)), signed


def host_of(url: str) -> str:
    """The Host header of a URL: without the port where it is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def _normalised(path: str) -> str:
    """The path without `.`, `..` and empty segments, as the services see it."""
    if not path:
        return "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment and segment != ".":
            kept.append(segment)
    tail = "/" if path.endswith("/") and kept else ""
    return "/" + "/".join(kept) + tail


def _query(query: str) -> str:
    """Pairs as they stand in the URL (encoded already), sorted by name, then by value."""
    pairs = [pair.partition("=")[::2] for pair in query.split("&")] if query else []
    return "&".join(f"{k}={v}" for k, v in sorted(pairs))


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Four chained HMACs that change once a day."""
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
