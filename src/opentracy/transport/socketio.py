"""Absolute deadlines on a blocking socket at the price of one system call per read.

`settimeout` would poll before each `recv`, and a deadline needs a new time-out each time. On Linux a plain socket gets
SO_RCVTIMEO / SO_SNDTIMEO instead, set again only when it has drifted from the deadline by more than `DRIFT_S`.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

DRIFT_S = 0.05
_KERNEL = sys.platform == "linux"
_now = time.monotonic


class Timeouts:
    """Keeps one socket's time-outs near the deadlines it is used with. TLS sockets go through `settimeout`."""

    __slots__ = ("_kernel", "_receive", "_send", "_sock")

    def __init__(self, sock: socket.socket, tls: bool) -> None:
        self._sock = sock
        self._kernel = _KERNEL and not tls
        self._receive = self._send = 0.0
        if self._kernel:
            sock.setblocking(True)

    def before_receive(self, deadline: float) -> None:
        """Arms the next `recv`; TimeoutError once the deadline has passed. Callers repeat after waking early."""
        left = deadline - _now()
        if left > 0 and 0 < self._receive <= left + DRIFT_S and (self._receive > 1.0 or self._receive >= left):
            return
        self._receive = self._set(socket.SO_RCVTIMEO, left)

    def before_send(self, deadline: float) -> None:
        """The same for `send`."""
        left = deadline - _now()
        if left > 0 and 0 < self._send <= left + DRIFT_S and (self._send > 1.0 or self._send >= left):
            return
        self._send = self._set(socket.SO_SNDTIMEO, left)

    def _set(self, option: int, left: float) -> float:
        if left <= 0:
            raise TimeoutError
        if self._kernel:
            # a zero timeval would mean "for ever"
            micros = max(1000, int(left * 1e6))
            self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", micros // 1_000_000, micros % 1_000_000))
        else:
            self._sock.settimeout(left)
            self._receive = self._send = left  # one value for both directions
        return left

    def without_waiting(self, read: Callable[[int], bytes], size: int) -> bytes | None:
        """A TLS read that does not wait; None when there is nothing for us."""
        import ssl

        self._sock.settimeout(0.0)
        self._receive = self._send = 0.0
        try:
            return read(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def __getstate__(self) -> Any:
        raise TypeError("sockets are never pickled")
