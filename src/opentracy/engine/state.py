"""What a request is served by: one immutable snapshot of configuration, keys, targets and router, swapped whole.

Belongs here: making a snapshot from a configuration, and finding targets in it. A request holds on to the snapshot with
which it began, so a reload never changes anything under it. Not here: what is alive (`health`), files (`configfile`).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentracy.core.jsonio import encode
from opentracy.core.plan import Policy
from opentracy.core.wire import Credentials, Target
from opentracy.providers import registry

from .auth import HostRules, Identity, Keys
from .capabilities import candidate
from .config import MAX_FALLBACKS, AliasConfig, Config, shown
from .configfile import ConfigError, secret
from .errors import Refused
from .offered import offered
from .outlets import require

if TYPE_CHECKING:
    from opentracy.routing import Candidate, Router

log = logging.getLogger("opentracy.engine")
_PLAIN = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,255}\Z")
_CACHE_LIMIT = 2048


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model string as targets: the first, then its fallbacks. `labels`: header lines per target, ready to send."""

    requested: str
    alias: str | None
    targets: tuple[Target, ...]
    num_retries: int
    timeout: float | None


class Snapshot:
    """Everything that a reload replaces."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        router: Router | None = None,
        router_problem: str | None = None,
        virtual: Callable[[str], Identity | None] | None = None,
        ambient: Callable[[str], Credentials | None] | None = None,
    ) -> None:
        require(config, environ)
        self.config = config
        self.hash = hashlib.sha256(encode(shown(config))).hexdigest()[:16]
        self.router = router
        self.router_problem = router_problem
        self.keys = Keys(_identities(config, environ), virtual)
        self.hosts = HostRules(config.server.host, config.server.allowed_hosts)
        self._env, self._given = _provider_settings(config, environ)
        self._ambient = ambient
        self._resolved: dict[str, Resolved] = {}
        self.lanes: dict[str, object] = {}  # by model name; `lane` makes them
        self.policies: dict[tuple[float | None, int], Policy] = {}  # by time-out and retries of what was resolved
        for name, alias in config.aliases.items():
            self._check_alias(name, alias)
        self.auto_models = self._auto_models()
        self._candidates: tuple[Candidate, ...] | None = None
        # `route` fills these: targets by order of models, candidates by which of them rest
        self.orders: dict[tuple[str, ...], Resolved] = {}
        self.available: dict[frozenset[str], tuple[Candidate, ...]] = {}

    # ---------------------------------------------------------------- targets
    def target(self, model: str) -> Target:
        """One model's target; ValueError when it cannot be called from here."""
        row, _ = registry.split(model)
        given = self._given.get(row.name, (None, None))
        ambient = self._ambient(row.name) if self._ambient is not None and given[0] is None else None
        return registry.target(model, env=self._env, api_key=given[0], api_base=given[1], credentials=ambient)

    def has_key(self, provider: str) -> bool:
        """Whether a provider can be called from here."""
        given = self._given.get(provider, (None, None))
        if given[0] or given[1]:
            return True
        if registry.provider(provider).needs_key:
            return registry.has_credentials(provider, self._env)
        name = provider.upper()
        return bool(self._env.get(f"{name}_API_BASE") or self._env.get(f"{name}_BASE_URL"))

    def resolve(self, model: str) -> Resolved:
        """Targets of `provider/model`, a bare name or an alias; Refused 404 for what is none of them."""
        found = self._resolved.get(model)
        if found is None:
            found = self._resolve(model)
            if len(self._resolved) >= _CACHE_LIMIT:
                self._resolved.clear()  # the names are the callers': the table must not grow with what they invent
            self._resolved[model] = found
        return found

    def _resolve(self, model: str) -> Resolved:
        if not _PLAIN.match(model):
            raise Refused(404, "The model name has characters that no model has", code="model_not_found", param="model")
        alias = self.config.aliases.get(model)
        retries = self.config.limits.num_retries
        try:
            if alias is None:
                return Resolved(model, None, (self.target(model),), retries, None)
            names = self._expand(model)
            return Resolved(
                model, model, tuple(self.target(name) for name in names),
                retries if alias.num_retries is None else alias.num_retries, alias.timeout,
            )  # fmt: skip
        except ValueError as e:
            raise Refused(404, self._not_found(model, e), code="model_not_found", param="model") from None

    def _not_found(self, model: str, problem: ValueError) -> str:
        text = str(problem)
        if text.startswith("Cannot resolve provider") and self.config.aliases:
            return (
                f"{text.split(':')[0]}: name it provider/model, or one of the aliases {', '.join(self.config.aliases)}"
            )
        return text.partition(", or set OPENTRACY_ENGINE_URL")[0]

    def _expand(self, name: str) -> list[str]:
        """Model names of an alias in order, aliases among them replaced, each once."""
        alias = self.config.aliases[name]
        names: list[str] = []
        for model in (alias.model, *alias.fallbacks):
            names += self._expand(model) if model in self.config.aliases else [model]
        return list(dict.fromkeys(names))[: 1 + MAX_FALLBACKS]

    def _check_alias(self, name: str, alias: AliasConfig) -> None:
        for model in (alias.model, *alias.fallbacks):
            if model not in self.config.aliases:
                try:
                    registry.split(model)
                except ValueError as e:
                    raise ConfigError(f"aliases.{name}: {str(e).partition(', or set')[0]}") from None

    # ---------------------------------------------------------------- auto
    def _auto_models(self) -> tuple[str, ...]:
        """What `auto` may choose from: the configured models, or what is offered of providers that have a key."""
        wanted = self.config.auto.models
        for model in wanted:
            try:
                registry.split(model)
            except ValueError as e:
                raise ConfigError(f"auto.models: {str(e).partition(', or set')[0]}") from None
        if not wanted and self.router is not None:
            wanted = offered(self.router.abilities, self.has_key)
        return tuple(model for model in wanted if self.has_key(registry.split(model)[0].name))

    @property
    def auto_default(self) -> str | None:
        """The model that answers when the router cannot say; None without any."""
        default = self.config.auto.default
        if default is not None and self.has_key(registry.split(default)[0].name):
            return default
        return self.auto_models[0] if default is not None and self.auto_models else None

    def candidates(self) -> tuple[Candidate, ...]:
        """The models of `auto` with their prices in USD per token."""
        if self._candidates is None:
            self._candidates = tuple(candidate(model) for model in self.auto_models)
        return self._candidates


def _identities(config: Config, environ: Mapping[str, str]) -> list[tuple[str, Identity]]:
    found: list[tuple[str, Identity]] = []
    server = config.server
    kinds = (("api_keys", {"inference"}), ("read_keys", {"read"}), ("admin_keys", {"inference", "read", "admin"}))
    for name, scopes in kinds:
        for number, reference in enumerate(getattr(server, name)):
            key = secret(reference, environ)
            if key is None:
                raise ConfigError(f"server.{name}[{number}]: {reference} is not set")
            label = f"{name.removesuffix('_keys')}-{number + 1}"
            found.append((key, Identity(label, frozenset(scopes))))
    return found


def _provider_settings(
    config: Config, environ: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, tuple[str | None, str | None]]]:
    """The environment as providers see it, and per provider (key, base) of the file."""
    env = dict(environ)
    given: dict[str, tuple[str | None, str | None]] = {}
    for name, settings in config.providers.items():
        try:
            row = registry.provider(name)
        except ValueError as e:
            import difflib

            close = difflib.get_close_matches(name.lower(), [p.name for p in registry.providers()], 1, 0.5)
            raise ConfigError(f"providers.{name}: {e}{f', did you mean {close[0]!r}?' if close else ''}") from None
        key = secret(settings.api_key, environ) if settings.api_key is not None else None
        if settings.api_key is not None and key is None:
            log.warning("providers.%s.api_key: %s is not set; its models cannot be called", name, settings.api_key)
        for option, value in settings.options.items():
            variables = row.option_vars.get(option)
            if variables is None:
                raise ConfigError(f"providers.{name}.options: unknown option {option!r}{_options_of(row.option_vars)}")
            env[variables[0]] = value
        if settings.api_base is not None:
            # as a variable, not as an argument: a base in the file does not mean that no key is needed
            env[f"{row.name.upper()}_API_BASE"] = settings.api_base
        given[row.name] = (key, None)
    return env, given


def _options_of(known: Mapping[str, Any]) -> str:
    return f"; known are: {', '.join(known)}" if known else "; it has none"
