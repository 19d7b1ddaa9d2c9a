"""Bookkeeping of connections, and what the environment says about proxies."""

from __future__ import annotations

import pytest

from opentracy.core.wire import Origin
from opentracy.transport.pool import MAX_IDLE, Pool
from opentracy.transport.proxy import Proxy, authority, bypassed, connect_request, proxy_for

A, B = Origin("https", "a.test", 443), Origin("http", "b.test", 8080)


class Thing:
    """A connection as the pool sees it."""

    def __init__(self, expires: float) -> None:
        self.expires = expires


def test_the_youngest_is_used_first_and_origins_are_kept_apart() -> None:
    pool: Pool[Thing] = Pool()
    one, two = Thing(10), Thing(11)
    assert pool.put(A, one, 0) == []
    assert pool.put(A, two, 0) == []
    assert pool.take(B) is None
    assert pool.take(A) is two
    assert pool.take(A) is one
    assert pool.take(A) is None


def test_expired_and_surplus_connections_come_back_to_be_closed() -> None:
    pool: Pool[Thing] = Pool()
    old = Thing(1)
    pool.put(B, old, 0)
    assert pool.put(A, Thing(99), 5) == []  # not yet time to look
    assert pool.put(A, Thing(99), 40) == [old]
    assert pool.take(B) is None
    gone = [c for _ in range(MAX_IDLE + 3) for c in pool.put(A, Thing(99), 41)]
    assert len(gone) == 5
    pool.remove(A, old)
    assert len(list(pool.drain())) == MAX_IDLE
    assert pool.take(A) is None


def test_the_limit_counts_open_connections() -> None:
    pool: Pool[Thing] = Pool(limit=2)
    assert pool.open(A)
    assert pool.open(A)
    assert not pool.open(A)
    assert pool.open(B)
    pool.forget(A)
    assert pool.open(A)


def test_proxies_of_the_environment() -> None:
    env = {"HTTPS_PROXY": "http://user:p%40ss@proxy.test:3128", "http_proxy": "proxy2.test", "HTTP_PROXY": "ignored.test"}
    assert proxy_for(A, env) == Proxy("proxy.test", 3128, "Basic dXNlcjpwQHNz")
    assert proxy_for(B, env) == Proxy("proxy2.test", 80, None)
    assert proxy_for(A, {}) is None
    assert proxy_for(A, {"ALL_PROXY": "http://all.test:1"}) == Proxy("all.test", 1)
    assert proxy_for(A, {**env, "NO_PROXY": "a.test"}) is None
    assert "dXNl" not in repr(proxy_for(A, env))
    with pytest.raises(ValueError, match=r"socks5 proxy s\.test"):
        proxy_for(A, {"ALL_PROXY": "socks5://u:secret@s.test:1"})
    with pytest.raises(ValueError, match="bad port"):
        proxy_for(A, {"ALL_PROXY": "http://s.test:port"})


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("*", "x.test", 1, True),
        ("test", "x.test", 1, True),
        (".test", "x.test", 1, True),
        ("x.test:2", "x.test", 1, False),
        ("x.test:1", "x.test", 1, True),
        ("est", "x.test", 1, False),
        ("127.0.0.1, localhost", "localhost", 1, True),
        ("10.0.0.0/8", "10.1.2.3", 1, True),
        ("10.0.0.0/8", "11.1.2.3", 1, False),
        ("::1", "::1", 1, True),
        ("", "x.test", 1, False),
        (",,", "x.test", 1, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, expected: bool) -> None:
    assert bypassed(Origin("http", host, port), no_proxy) is expected


def test_authority_and_connect() -> None:
    assert authority(A) == "a.test"
    assert authority(B) == "b.test:8080"
    assert authority(Origin("http", "::1", 80), always_port=True) == "[::1]:80"
    asked = connect_request(A, Proxy("p", 1, "Basic eA=="), "ua")
    assert asked.startswith(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n")
    assert b"proxy-authorization: Basic eA==" in asked
