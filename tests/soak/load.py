"""A closed-loop load on an engine: threads that ask, read to the end, and write down what was acknowledged.

Belongs here: the client side of soak, kill and reload runs. Not here: what is done to the engine meanwhile.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Seen:
    """What the clients saw. `acknowledged`: (trace id, begin of the request, time of the last byte); `failures`: what
    was no whole answer."""

    acknowledged: list[tuple[str, float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    hashes: set[str] = field(default_factory=set)
    streamed_hashes: set[str] = field(default_factory=set)


class Load:
    """`with Load(port, 8) as load: ...`; every second thread streams. `rate`: requests a second of all threads together at
    most, 0 for as many as they can; `pause`: seconds each thread rests after a request."""

    def __init__(
        self, port: int, clients: int = 8, *, model: str = "openai/gpt-4o-mini", prompt: str = "What is 6 * 7?",
        pause: float = 0.0, rate: float = 0.0, headers: dict[str, str] | None = None, tolerate: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.port = port
        self.seen = Seen()
        self._body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        self._pause = pause
        self._every = clients / rate if rate else 0.0  # seconds from one request of a thread to its next
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._tolerate = tolerate  # whether a broken connection is expected just now
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n % 2 == 1,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, streaming: bool) -> None:
        body = json.dumps({**self._body, "stream": streaming})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        due = time.monotonic() + self._every * random.random()
        while not self._stop.is_set():
            if self._every:
                due = max(due + self._every, time.monotonic() - 5)  # what a busy machine delayed is made up for, in part
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    break
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/chat/completions", body, self._headers)
                response = connection.getresponse()
                data = response.read()
                self._note(response, data, began, streaming=streaming)
            except (OSError, http.client.HTTPException) as e:
                connection.close()
                if not self._tolerate():
                    with self._lock:
                        self.seen.failures.append(f"{e.__class__.__name__}: {e}")
                time.sleep(0.02)
            if self._pause:
                time.sleep(self._pause)
        connection.close()

    def _note(self, response: http.client.HTTPResponse, data: bytes, began: float, *, streaming: bool) -> None:
        whole = data.rstrip().endswith(b"data: [DONE]") if streaming else response.status == 200
        with self._lock:
            if response.status != 200 or not whole:
                if not self._tolerate():
                    self.seen.failures.append(f"{response.status}: {data[-200:]!r}")
                return
            self.seen.acknowledged.append((response.headers["x-opentracy-trace-id"], began, time.monotonic()))
            said = hashlib.sha256(_text(data, streaming).encode()).hexdigest()
            (self.seen.streamed_hashes if streaming else self.seen.hashes).add(said)


def _text(data: bytes, streaming: bool) -> str:
    if not streaming:
        return str(json.loads(data)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
