"""What the system screen says about alerts: every rule that is configured, how its figure stands now, who is told.

Belongs here: asking each rule's question for display. Not here: the rules and their rhythm (`traces.alerts`), sending
(`outlets`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentracy.traces import Reader
from opentracy.traces.alerts import MINUTE_MS, Rule, measured
from opentracy.traces.compile import Query
from opentracy.traces.stats import answer

from .outlets import rules_of

if TYPE_CHECKING:
    from .app import Engine

FEW_GROUPS = 5  # of one rule that are named


def alerts(engine: Engine, reader: Reader | None, dropped: int) -> dict[str, Any]:
    """Rules with their state. `dropped`: traces lost since the start.

    {"usual": no rule is configured and these are the usual ones, "told": where messages go or None, "every": seconds,
    "rules": [{"name", "metric", "above", "minutes", "by", "filter", "again", "state": "ok", "firing" or "no data",
    "value": the highest or None, "over": [{"group", "value"}, ...], "groups": how many were looked at}]}
    """
    config = engine.state.config.alerts
    now_ms = time.time_ns() // 1_000_000
    rules = rules_of(config)
    return {
        "usual": not config.rules,
        "told": _place(config.webhook),
        "every": config.every,
        "rules": [_standing(rule, config.rules, reader, now_ms, dropped) for rule in rules],
    }


def _standing(rule: Rule, named: dict[str, Any], reader: Reader | None, now_ms: int, dropped: int) -> dict[str, Any]:
    found: list[tuple[str | None, float]] = []
    if rule.metric == "dropped":
        found = [(None, float(dropped))]
    elif reader is not None:
        found = measured(reader, rule, now_ms) or _quiet(reader, rule, now_ms)
    found.sort(key=lambda one: -one[1])
    over = [{"group": group, "value": value} for group, value in found if value > rule.above]
    return {
        "name": rule.name, "metric": rule.metric, "above": rule.above, "minutes": rule.minutes, "by": rule.by,
        "filter": named[rule.name].filter if rule.name in named else "", "again": rule.again,
        "state": "firing" if over else "ok" if found else "no data",
        "value": found[0][1] if found else None, "over": over[:FEW_GROUPS], "groups": len(found),
    }  # fmt: skip


def _quiet(reader: Reader, rule: Rule, now_ms: int) -> list[tuple[str | None, float]]:
    """A provider that is up has no figure: with any traffic at all, none is down."""
    if rule.metric != "provider_down":
        return []
    filters = rule.filters.between(now_ms - round(rule.minutes * MINUTE_MS), now_ms + 1)
    return [(None, 0.0)] if answer(reader, Query(("requests",), filters=filters))[0]["requests"] else []


def _place(webhook: str | None) -> str | None:
    """Where messages go, without what may be secret in it: the reference as written, or the host."""
    if webhook is None:
        return None
    parts = urlsplit(webhook)
    return parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else webhook
