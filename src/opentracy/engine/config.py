"""What can be configured, with defaults, and which combinations make no sense.

Belongs here: the shape of `opentracy.toml` as typed values, and its checks across fields. Not here: files, environment
and line numbers (`configfile`), or what a setting does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Retries = Annotated[int, Meta(ge=0, le=2)]
MAX_FALLBACKS = 5
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
    max_retry_wait: Annotated[float, Meta(ge=0, le=60)] = 5
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


class TracesConfig(Section, frozen=True):
    """`[traces]`: where traces go, what of the texts is kept, and for how long."""

    enabled: bool = True
    path: str | None = None
    content: Literal["all", "redacted", "none"] = "all"
    durability: Literal["normal", "strict"] = "normal"
    #: days that figures and texts are kept; 0 keeps them for ever
    metrics_days: Annotated[float, Meta(ge=0)] = 180
    bodies_days: Annotated[float, Meta(ge=0)] = 14


class Config(Section, frozen=True):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    providers: dict[str, ProviderConfig] = {}
    aliases: dict[str, AliasConfig] = {}
    auto: AutoConfig = AutoConfig()
    traces: TracesConfig = TracesConfig()


class Problem(Exception):
    """Something in the configuration cannot be. `where`: the path of keys to it, e.g. ("aliases", "smart")."""

    def __init__(self, message: str, where: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.where = where


def check(config: Config) -> None:
    """Raises Problem for what the types cannot say: loops, strangers, secrets in plain sight."""
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


def _references(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in ("api_keys", "read_keys", "admin_keys"):
        for reference in getattr(config.server, name):
            yield ("server", name), reference
    for name, provider in config.providers.items():
        if provider.api_key is not None:
            yield ("providers", name, "api_key"), provider.api_key


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
    return plain
