"""What can be configured, with defaults, and which combinations make no sense.

Belongs here: the shape of `opentracy.toml` as typed values, and its checks across fields. Not here: files, environment
and line numbers (`configfile`), or what a setting does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from opentracy.core.wire import split_url
from opentracy.providers import registry
from opentracy.providers.base import Provider
from opentracy.traces import QueryError
from opentracy.traces.compile import GROUPS
from opentracy.traces.filters import parse

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Retries = Annotated[int, Meta(ge=0, le=2)]
MAX_FALLBACKS = 5
_SCHEMES = {
    "alerts.webhook": ("https", "http"),
    "clickhouse.dsn": ("clickhouse", "clickhouses", "http", "https", "chdb"),
    "redis.url": ("redis", "rediss", "unix"),
}
_REFERENCE = re.compile(r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+)\Z", re.S)


class Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file: unknown keys are errors."""


class ServerConfig(Section, frozen=True):
    """`[server]`: where the engine listens and whom it lets in."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    #: references to bearer keys: inference scope / reading of traces / everything
    api_keys: list[str] = []
    read_keys: list[str] = []
    admin_keys: list[str] = []
    allowed_hosts: list[str] = []
    max_connections: Count = 8192
    max_in_flight: Count = 4096
    max_body_mb: Annotated[float, Meta(gt=0, le=64)] = 10
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


class LimitsConfig(Section, frozen=True):
    """`[limits]`: how long and how often. Seconds."""

    first_token: Seconds = 60
    idle: Seconds = 60
    total: Seconds = 600
    connect: Seconds = 5
    num_retries: Retries = 1
    #: a provider that asks for a longer wait is not waited for: its answer goes to the client at once
    max_retry_wait: Annotated[float, Meta(ge=0, le=60)] = 60
    keepalive: Seconds = 15
    header: Seconds = 10
    body: Seconds = 30
    write_stall: Seconds = 60


class ProviderConfig(Section, frozen=True):
    """`[providers.NAME]`: key by reference, base, and the provider's own options."""

    api_key: str | None = None
    api_base: str | None = None
    options: dict[str, str] = {}


class AliasConfig(Section, frozen=True):
    """`[aliases.NAME]`: a model, what follows when it fails, and how often each is tried."""

    model: str
    fallbacks: list[str] = []
    num_retries: Retries | None = None
    timeout: Seconds | None = None


class AutoConfig(Section, frozen=True):
    """`[auto]`: what `model="auto"` may choose from. Without `models`: everything that has a key and is known."""

    models: list[str] = []
    default: str | None = None
    cost_weight: Share = 0.3
    fallbacks: Annotated[int, Meta(ge=0, le=MAX_FALLBACKS)] = 1
    router: str = "default"
    #: the feedback that judges an answer (0 to 1, or true and false): the router learns from it
    metric: str = "quality"
    #: seconds between two looks at whether traffic still is what the router was trained for
    drift_every: Seconds = 300


class ShadowConfig(Section, frozen=True):
    """`[shadow]`: a share of the requests of `auto` is asked again of a second model, and both answers are judged."""

    share: Share = 0.0
    #: the model that judges, provider/model or an alias; without it nothing is replayed
    judge: str | None = None
    #: USD a day (UTC), replays and judge together
    budget: Annotated[float, Meta(ge=0)] = 1.0
    every: Seconds = 60


class TracesConfig(Section, frozen=True):
    """`[traces]`: where traces go, what of the texts is kept, and for how long."""

    enabled: bool = True
    path: str | None = None
    content: Literal["all", "redacted", "none"] = "all"
    durability: Literal["normal", "strict"] = "normal"
    #: days that figures and texts are kept; 0 keeps them for ever
    metrics_days: Annotated[float, Meta(ge=0)] = 180
    bodies_days: Annotated[float, Meta(ge=0)] = 14


class AlertRule(Section, frozen=True):
    """`[alerts.rules.NAME]`: what must not be exceeded, over how long; units as in `opentracy.traces.alerts.Rule`."""

    metric: Literal["cost", "error_rate", "p95", "provider_down", "unpriced", "dropped"]
    above: Annotated[float, Meta(ge=0)] = 0.0
    minutes: Annotated[float, Meta(gt=0, le=44_640)] = 60.0
    by: str | None = None
    #: fewer requests than this say nothing about a share or a percentile
    requests: Count = 20
    filter: str = ""
    #: minutes before the same alert is sent again while it lasts
    again: Annotated[float, Meta(gt=0)] = 60.0


class AlertsConfig(Section, frozen=True):
    """`[alerts]`: where messages go (a reference or a plain https URL) and what is watched; without rules the usual."""

    webhook: str | None = None
    every: Seconds = 60
    rules: dict[str, AlertRule] = {}


class OtelConfig(Section, frozen=True):
    """`[otel]`: spans and metrics through the OpenTelemetry SDK of this process. `setup`: "module:function" that
    sets it up, called in each worker; without it the process has one already, or nothing is sent."""

    enabled: bool = False
    content: bool = False
    setup: str | None = None


class ClickhouseConfig(Section, frozen=True):
    """`[clickhouse]`: a server that gets every trace. `read`: sums are asked there, over the traces of all engines."""

    dsn: str | None = None
    read: bool = False


class RedisConfig(Section, frozen=True):
    """`[redis]`: limits, budgets and cooldowns of all engines together. `away`: what counts while it is away."""

    url: str | None = None
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "opentracy"
    away: Literal["local", "refuse"] = "local"


class Config(Section, frozen=True):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    providers: dict[str, ProviderConfig] = {}
    aliases: dict[str, AliasConfig] = {}
    auto: AutoConfig = AutoConfig()
    shadow: ShadowConfig = ShadowConfig()
    traces: TracesConfig = TracesConfig()
    alerts: AlertsConfig = AlertsConfig()
    otel: OtelConfig = OtelConfig()
    clickhouse: ClickhouseConfig = ClickhouseConfig()
    redis: RedisConfig = RedisConfig()


class Problem(Exception):
    """Something in the configuration cannot be. `where`: the path of keys to it, e.g. ("aliases", "smart")."""

    def __init__(self, message: str, where: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.where = where


def check(config: Config) -> None:
    """Raises Problem for what the types cannot say: loops, strangers, secrets in plain sight."""
    _check_places(config)
    _check_rules(config)
    for where, reference in _references(config):
        if not _REFERENCE.match(reference):
            raise Problem(
                f"{'.'.join(where)} must be a reference, env:NAME or file:PATH: secrets never stand in the file", where
            )
    for name, alias in config.aliases.items():
        where = ("aliases", name)
        if name.strip().lower() == "auto" or "/" in name or not name.strip():
            raise Problem(f"{name!r} cannot be an alias: 'auto' and names with a slash are taken", where)
        if len(alias.fallbacks) > MAX_FALLBACKS:
            raise Problem(f"aliases.{name}.fallbacks: at most {MAX_FALLBACKS}", (*where, "fallbacks"))
        _follow(config, name, ())
    auto = config.auto
    for number, model in enumerate(auto.models):
        if model == "auto" or model in config.aliases:
            raise Problem(f"auto.models[{number}] = {model!r} must be a model, not an alias", ("auto", "models"))
    if auto.default is not None and auto.models and auto.default not in auto.models:
        raise Problem(
            f"auto.default = {auto.default!r} is none of auto.models ({', '.join(auto.models)})", ("auto", "default")
        )
    _check_strangers(config)


def _check_strangers(config: Config) -> None:
    """Providers, their options and models must be known; addresses must be some."""
    for name, settings in config.providers.items():
        where = ("providers", name)
        row = _known(name, where)
        for option in settings.options:
            if option not in row.option_vars:
                known = f"; known are: {', '.join(row.option_vars)}" if row.option_vars else "; it has none"
                raise Problem(f"{'.'.join(where)}.options: unknown option {option!r}{known}", (*where, "options"))
        if settings.api_base is not None:
            try:
                split_url(settings.api_base)
            except ValueError:
                raise Problem(f"{'.'.join(where)}.api_base must be an http(s) URL", (*where, "api_base")) from None
    for name, alias in config.aliases.items():
        for field, models in (("model", [alias.model]), ("fallbacks", alias.fallbacks)):
            for model in models:
                if model not in config.aliases:
                    _resolvable(model, ("aliases", name, field))
    for model in config.auto.models:
        _resolvable(model, ("auto", "models"))


def _known(name: str, where: tuple[str, ...]) -> Provider:
    try:
        return registry.provider(name)
    except ValueError as e:
        close = difflib.get_close_matches(name.lower(), [p.name for p in registry.providers()], 1, 0.5)
        raise Problem(f"{'.'.join(where)}: {e}{f', did you mean {close[0]!r}?' if close else ''}", where) from None


def _resolvable(model: str, where: tuple[str, ...]) -> None:
    try:
        registry.split(model)
    except ValueError as e:
        raise Problem(f"{'.'.join(where)}: {str(e).partition(', or set')[0]}", where) from None


def _references(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in ("api_keys", "read_keys", "admin_keys"):
        for reference in getattr(config.server, name):
            yield ("server", name), reference
    for name, provider in config.providers.items():
        if provider.api_key is not None:
            yield ("providers", name, "api_key"), provider.api_key


def _check_places(config: Config) -> None:
    """Addresses of other services: references, or plain URLs without anything secret in them."""
    given = {"alerts.webhook": config.alerts.webhook, "clickhouse.dsn": config.clickhouse.dsn,
             "redis.url": config.redis.url}  # fmt: skip
    for name, value in given.items():
        where = tuple(name.split("."))
        if value is None or _REFERENCE.match(value):
            continue
        wrong = wrong_address(name, value)
        if wrong is not None:
            raise Problem(f"{name} must be a reference, env:NAME or file:PATH, or {wrong}", where)
        parts = urlsplit(value)
        if "@" in value:
            raise Problem(f"{name} holds a password: make it a reference, env:NAME or file:PATH", where)
        if where[0] == "alerts" and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise Problem(f"{name} leads elsewhere unencrypted: use https, or a reference", where)
    for name, wanted in (
        ("alerts", config.alerts.webhook),
        ("clickhouse", config.clickhouse.dsn),
        ("otel", config.otel.enabled),
    ):
        if wanted and not config.traces.enabled:
            raise Problem(f"{name} needs traces, and traces.enabled is false", (name,))
    if config.otel.setup is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", config.otel.setup):
        raise Problem('otel.setup must be "module:function"', ("otel", "setup"))


def wrong_address(name: str, value: str) -> str | None:
    """What an address should have been, without quoting it; None for a good one. `name`: the setting."""
    schemes = _SCHEMES[name]
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    return None if good else f"a URL that begins with {'://, '.join(schemes)}://"


def _check_rules(config: Config) -> None:
    for name, rule in config.alerts.rules.items():
        where = ("alerts", "rules", name)
        try:
            words = parse(rule.filter, now_ms=0).text
        except QueryError as e:
            raise Problem(f"{'.'.join(where)}.filter: {e}", (*where, "filter")) from None
        if words:
            raise Problem(
                f"{'.'.join(where)}.filter: figures cannot be filtered by text ({words!r})", (*where, "filter")
            )
        if rule.by is not None and rule.by not in GROUPS:
            raise Problem(f"{'.'.join(where)}.by = {rule.by!r} is none of {', '.join(GROUPS)}", (*where, "by"))


def _follow(config: Config, name: str, seen: tuple[str, ...]) -> None:
    """Aliases may name aliases; a loop is refused."""
    if name in seen:
        loop = " -> ".join((*seen[seen.index(name) :], name))
        raise Problem(f"aliases refer to each other in a loop: {loop}", ("aliases", name))
    alias = config.aliases[name]
    for model in (alias.model, *alias.fallbacks):
        if model in config.aliases:
            _follow(config, model, (*seen, name))
        elif model == "auto":
            raise Problem(f"aliases.{name}: 'auto' cannot be the target of an alias", ("aliases", name))


def shown(config: Config) -> dict[str, Any]:
    """The effective configuration as plain values; references are shown, what they point at never is."""
    plain = msgspec.to_builtins(config)
    assert isinstance(plain, dict)
    webhook = config.alerts.webhook
    if webhook is not None and not _REFERENCE.match(webhook):
        # whoever knows the path of a webhook can write to it
        parts = urlsplit(webhook)
        plain["alerts"]["webhook"] = f"{parts.scheme}://{parts.netloc}/..."
    return plain
