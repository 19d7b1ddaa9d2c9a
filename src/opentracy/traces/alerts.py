"""Alerts: too much money, too many errors, too slow, a provider down, a model without a price, traces dropped.

Belongs here: the rules, what they ask of the figures, and saying each thing once. How a message travels is the
caller's: a sender is any callable that takes the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .compile import Query
from .filters import EVERYTHING, Filters
from .reader import Reader
from .stats import answer

Metric = Literal["cost", "error_rate", "p95", "provider_down", "unpriced", "dropped"]
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Fires when `metric` exceeds `above` over the last `minutes`.

    Units: cost in USD, error_rate as a share, p95 in milliseconds, unpriced and dropped as counts; `provider_down`
    needs at least `requests` requests to a provider of which none succeeded. `by` gives each group its own alert (cost
    per user, errors per model). Fewer than `requests` requests say nothing about a share or a percentile.
    """

    name: str
    metric: Metric
    above: float = 0.0
    minutes: float = 60.0
    by: str | None = None
    requests: int = 20
    filters: Filters = EVERYTHING
    #: minutes before the same alert is sent again while it lasts
    again: float = 60.0


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong now. `group` names the key, model or provider, None for everything."""

    rule: str
    metric: Metric
    group: str | None
    value: float
    above: float

    def message(self, state: str, now_ms: int) -> dict[str, Any]:
        """What is sent: plain JSON with a sentence in `text`."""
        where = f" of {self.group}" if self.group is not None else ""
        verb = "is over" if state == "firing" else "is back under"
        text = f"{self.rule}: {self.metric}{where} {verb} {self.above:g} ({self.value:.4g})"
        return {
            "state": state, "rule": self.rule, "metric": self.metric, "group": self.group, "value": self.value,
            "above": self.above, "ts_ms": now_ms, "text": text,
        }  # fmt: skip


def evaluate(reader: Reader, rules: Sequence[Rule], now_ms: int, *, dropped: int = 0) -> list[Alert]:
    """Everything that is wrong now. `dropped` is how many traces were lost since the last evaluation."""
    alerts: list[Alert] = []
    for rule in rules:
        if rule.metric == "dropped":
            if dropped > rule.above:
                alerts.append(Alert(rule.name, rule.metric, None, float(dropped), rule.above))
            continue
        for name, value in measured(reader, rule, now_ms):
            if value > rule.above:
                alerts.append(Alert(rule.name, rule.metric, name, value, rule.above))
    return alerts


def measured(reader: Reader, rule: Rule, now_ms: int) -> list[tuple[str | None, float]]:
    """(group, figure) of a rule for everything about which enough is known; not for `dropped`, which no trace tells."""
    group = rule.by or {"provider_down": "provider", "unpriced": "model"}.get(rule.metric)
    filters = rule.filters.between(now_ms - round(rule.minutes * MINUTE_MS), now_ms + 1)
    metric = "errors" if rule.metric == "provider_down" else rule.metric
    query = Query(("requests", metric), (group,) if group else (), filters=filters)
    found = []
    for row in answer(reader, query):
        value = _value(rule, row, metric)
        if value is not None:
            found.append((None if group is None else str(row[group]), value))
    return found


def _value(rule: Rule, row: dict[str, object], metric: str) -> float | None:
    requests, raw = float(str(row["requests"])), row[metric]
    if raw is None:
        return None
    value = float(str(raw))
    if rule.metric == "provider_down":
        return value if requests >= rule.requests and value == requests and row["provider"] else None
    if rule.metric in ("error_rate", "p95") and requests < rule.requests:
        return None
    return value


@dataclass(slots=True)
class Alerter:
    """Sends each alert when it begins, again while it lasts, and once when it is over.

    Call `check` about once a minute (`maintenance` does). A sender that fails is tried again at the next check.
    """

    reader: Reader
    rules: Sequence[Rule]
    send: Callable[[dict[str, Any]], object]
    dropped: Callable[[], int] = lambda: 0
    _sent: dict[tuple[str, str | None], tuple[int, Alert]] = field(default_factory=dict)
    _dropped_before: int = 0

    def check(self, now_ms: int) -> int:
        """Evaluates the rules and sends what is new; returns the number of messages."""
        total = self.dropped()
        found = evaluate(self.reader, self.rules, now_ms, dropped=total - self._dropped_before)
        again = {rule.name: rule.again * MINUTE_MS for rule in self.rules}
        messages = 0
        firing = set()
        for alert in found:
            place = (alert.rule, alert.group)
            firing.add(place)
            last = self._sent.get(place)
            if last is None or now_ms - last[0] >= again[alert.rule]:
                self.send(alert.message("firing", now_ms))
                self._sent[place] = (now_ms, alert)
                messages += 1
        for place in [place for place in self._sent if place not in firing]:
            self.send(self._sent[place][1].message("resolved", now_ms))
            del self._sent[place]
            messages += 1
        self._dropped_before = total
        return messages
