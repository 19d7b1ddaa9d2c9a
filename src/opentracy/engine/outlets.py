"""Where traces go beside the local file: ClickHouse, OpenTelemetry, and alerts to a webhook.

Belongs here: from the configuration's references to what `traces.maintenance` runs, on the leader's thread and never on
the event loop. Not here: what is sent (`opentracy.traces`), the outbox that keeps it until it has arrived.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import msgspec

from opentracy.core.wire import Failure, HttpRequest
from opentracy.providers.conventions import OTEL_NAMES
from opentracy.traces import QueryError, Reader, Store, StoreUnavailable
from opentracy.traces import outbox as boxes
from opentracy.traces.alerts import Alerter, Rule
from opentracy.traces.clickhouse import ClickHouse
from opentracy.traces.compile import Query
from opentracy.traces.filters import parse
from opentracy.traces.outbox import Portion, Sink
from opentracy.transport.sync import SyncTransport

from .config import AlertRule, AlertsConfig, Config, wrong_address
from .configfile import ConfigError, located

T = TypeVar("T")
OTEL = "outbox:otel"
WEBHOOK_S = 10.0
RETRY_S = 10.0  # between attempts to reach a server that is away

#: what is watched where a webhook is named and no rule is
USUAL: dict[str, AlertRule] = {
    "provider down": AlertRule(metric="provider_down", minutes=5),
    "many errors": AlertRule(metric="error_rate", above=0.2, minutes=15),
    "unpriced model": AlertRule(metric="unpriced", minutes=60),
    "traces dropped": AlertRule(metric="dropped"),
}


def require(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where a reference leads nowhere or a package is missing, before anything is started."""
    needed = (
        ("clickhouse.dsn", config.clickhouse.dsn, "clickhouse_connect", "clickhouse"),
        ("redis.url", config.redis.url, "redis", "redis"),
        ("otel.enabled", "yes" if config.otel.enabled else None, "opentelemetry", "otel"),
        ("alerts.webhook", config.alerts.webhook, None, ""),
    )
    places = {"clickhouse.dsn", "redis.url", "alerts.webhook"}
    for name, value, package, extra in needed:
        if value is None:
            continue
        address = located(value, environ, name) if name in places else None
        wrong = wrong_address(name, address) if address is not None else None
        if wrong is not None:
            raise ConfigError(f"{name}: {value} must hold {wrong}")
        if package is not None and find_spec(package) is None:
            raise ConfigError(f"{name}: a package is missing: pip install 'opentracy[{extra}]'")
    if config.otel.enabled and config.otel.setup is not None:
        set_up(config.otel.setup)


class Outlets:
    """What one worker sends on, and what it may ask elsewhere. Made after the fork; reached only when it must be."""

    def __init__(self, config: Config, store: Store, environ: Mapping[str, str]) -> None:
        self.sinks: dict[str, Sink] = {}
        self.names: dict[str, str] = {}  # of /health -> of the outbox
        self.remote: Server | None = None
        dsn = located(config.clickhouse.dsn, environ, "clickhouse.dsn")
        if dsn is not None:
            name = boxes.destination(dsn)
            server = Server(dsn, config.traces.bodies_days, config.traces.metrics_days)
            self.sinks[name], self.names["clickhouse"] = server, name
            self.remote = server if config.clickhouse.read else None
        with contextlib.closing(store.connect(timeout=5.0)) as connection:
            if config.otel.enabled:
                self.sinks[OTEL], self.names["otel"] = spans(config), OTEL
                _from_now_on(connection)
            else:
                # what nobody takes any more must not keep retention from removing it
                connection.execute("DELETE FROM state WHERE name = ?", (OTEL,))

    def waiting(self, store: Store) -> dict[str, dict[str, Any]]:
        """Per destination the number of traces that it does not have yet, and how long the oldest waits (s)."""
        connection, now = store.reader(), time.time()
        found = {}
        for shown, name in self.names.items():
            row = connection.execute(
                "SELECT ifnull(sum(rows), 0), min(ts_max) FROM blocks WHERE id > ?",
                (boxes.delivered(connection, name),),
            ).fetchone()
            age = 0.0 if row[1] is None else max(0.0, now - row[1] / 1000)
            found[shown] = {"waiting": int(row[0]), "oldest_s": round(age, 1)}
        return found

    def close(self) -> None:
        """Ends connections; what was not sent goes out after the next start."""
        for sink in self.sinks.values():
            if isinstance(sink, Server):
                sink.close()


def _from_now_on(connection: sqlite3.Connection) -> None:
    """Spans begin with the traces to come: nobody wants the past as of now."""
    connection.execute("INSERT OR IGNORE INTO state SELECT ?, ifnull(max(id), 0) FROM blocks", (OTEL,))


class Server:
    """ClickHouse, reached when it is needed and again after it was away. For several threads, one at a time."""

    def __init__(self, dsn: str, body_days: float, days: float) -> None:
        self._dsn = dsn
        self._days = (_whole(body_days), _whole(days))
        self._lock = threading.Lock()
        self._server: ClickHouse | None = None
        self._not_before = 0.0

    def insert(self, token: str, portions: Sequence[Portion]) -> int:
        """See `outbox.Sink`."""
        return self._do(lambda server: server.insert(token, portions))

    def answer(self, query: Query) -> list[dict[str, object]]:
        """The answer to a query, over the traces of all engines."""
        return self._do(lambda server: server.answer(query))

    def _do(self, work: Callable[[ClickHouse], T]) -> T:
        with self._lock:
            if time.monotonic() < self._not_before:
                raise StoreUnavailable("ClickHouse was away a moment ago and is not asked yet")
            try:
                if self._server is None:
                    server = ClickHouse(self._dsn)
                    server.prepare(body_days=self._days[0], days=self._days[1])
                    self._server = server
                return work(self._server)
            except QueryError:
                raise
            except Exception as e:
                # the library raises many kinds, and what they say may quote the dsn with its password
                self._not_before = time.monotonic() + RETRY_S
                self._drop()
                raise StoreUnavailable(f"ClickHouse cannot be used: {type(e).__name__}") from None

    def _drop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(Exception):  # the library raises many kinds; it is given up anyhow
                server.close()

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._drop()


def _whole(days: float) -> int | None:
    return max(1, round(days)) if days else None


# ---------------------------------------------------------------- OpenTelemetry
def set_up(name: str) -> Callable[[], object]:
    """The user's function behind "module:function"; ConfigError when there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"otel.setup = {name!r}: {e}; is its directory in PYTHONPATH?") from None
    if not callable(found):
        raise ConfigError(f"otel.setup = {name!r} is no function")
    made: Callable[[], object] = found
    return made


def spans(config: Config) -> Sink:
    """The exporter through the SDK that this process has; `otel.setup` is called first, where it is named."""
    from opentracy.traces.otel import OtelExporter

    if config.otel.setup is not None:
        set_up(config.otel.setup)()
    return OtelExporter(OTEL_NAMES, content=config.otel.content)


# ---------------------------------------------------------------- alerts
def rules_of(config: AlertsConfig) -> list[Rule]:
    """The rules of the file, or the usual ones."""
    return [
        Rule(name, rule.metric, rule.above, rule.minutes, rule.by, rule.requests, parse(rule.filter), rule.again)
        for name, rule in (config.rules or USUAL).items()
    ]


def alerting(
    config: AlertsConfig, store: Store, environ: Mapping[str, str], dropped: Callable[[], int]
) -> list[tuple[float, Callable[[], object]]]:
    """The duty of watching, with its interval in seconds; none without a webhook."""
    url = located(config.webhook, environ, "alerts.webhook")
    if url is None:
        return []
    alerter = Alerter(Reader(store), rules_of(config), Webhook(url), dropped)

    def alerts() -> None:
        alerter.check(time.time_ns() // 1_000_000)

    return [(config.every, alerts)]


class Webhook:
    """Sends a message as JSON. The URL is the operator's; it may be a secret and is shown nowhere."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transport = SyncTransport()

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Raises RuntimeError when it was not taken, so that it is tried again."""
        request = HttpRequest("POST", self._url, _JSON, msgspec.json.encode(message))
        answer = self._transport.request(request, WEBHOOK_S)
        if isinstance(answer, Failure):
            raise RuntimeError(f"the webhook was not reached: {answer.kind}")
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"the webhook answered {answer.status}")


_JSON = {"content-type": "application/json", "accept": "application/json"}
