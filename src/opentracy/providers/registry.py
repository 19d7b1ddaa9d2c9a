"""From a model string to a target: which provider, which key, which base URL, which dialect.

Pure: the environment is an argument. The rows stand in `rows`; what a dialect does with a target, in the dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import cast

from ..core.wire import Credentials, Dialect, Target, split_url
from .base import Provider
from .rows import ENGINE, ROWS

_BY_NAME = {row.name: row for row in ROWS}
_PREFIXES = sorted(((p, row) for row in ROWS for p in row.prefixes), key=lambda pair: -len(pair[0]))
# model ids of AWS: an optional region group, then the vendor
_AWS_ID = re.compile(r"(?:(?:us|eu|apac|jp|au|ca|sa|us-gov|global)\.)?(?:amazon|anthropic|meta)\.")


def providers() -> tuple[Provider, ...]:
    """Every row, the 13 of the reference page first."""
    return ROWS


def provider(name: str) -> Provider:
    """The row of that name, in any case; ValueError for an unknown one."""
    row = _BY_NAME.get(name) or _BY_NAME.get(name.lower())
    if row is None:
        raise ValueError(f"Unknown provider: {name}")
    return row


@lru_cache(maxsize=4096)
def split(model: str) -> tuple[Provider, str]:
    """Provider and its own model name: `provider/model`, cut at the first slash only, or a bare name by its prefix."""
    name, slash, rest = model.partition("/")
    if slash:
        row = provider(name)
        if not rest:
            raise ValueError(f"Cannot resolve provider for model '{model}': no model name after the slash")
        return row, rest
    lower = model.lower()
    if _AWS_ID.match(lower):
        return _BY_NAME["bedrock"], model
    for prefix, row in _PREFIXES:
        if lower.startswith(prefix):
            return row, model
    raise ValueError(
        f"Cannot resolve provider for model '{model}': add the provider in front (provider/model), or set "
        "OPENTRACY_ENGINE_URL, since 'auto' and aliases are resolved by the engine"
    )


def target(
    model: str,
    *,
    env: Mapping[str, str],
    api_key: str | None = None,
    api_base: str | None = None,
    credentials: Credentials | None = None,
) -> Target:
    """Everything needed to call `model`. `env` is the environment (`os.environ`, or a test's dict).

    `credentials`: found elsewhere (a cloud's credential chain), used when neither `api_key` nor `env` has any.
    ValueError: unknown provider, unresolvable name, no key, a base that is no URL.
    """
    row, name = split(model)
    options = _options(row, env)
    found = _credentials(row, api_key, env)
    if found is None and credentials is not None and (credentials.key or credentials.extra):
        found = credentials
    if found is None:
        if row.needs_key and not api_base:
            raise ValueError(_no_key(row))
        found = Credentials()
    return Target(
        provider=row.name,
        model=name,
        dialect=dialect(row.dialect),
        base_url=_base_url(row, api_base, env, options),
        credentials=found,
        quirks=row.quirks,
        options=options,
    )


def has_credentials(name: str, env: Mapping[str, str]) -> bool:
    """Whether a provider could be called with what `env` holds (or needs no key at all)."""
    row = provider(name)
    return not row.needs_key or _credentials(row, None, env) is not None


def engine_target(model: str, *, url: str, api_key: str | None = None) -> Target:
    """Our own engine at `url` (its root, or with `/v1`), seen from the SDK: one more target in the OpenAI dialect."""
    base = _checked(url, "the engine's URL")
    if not base.endswith("/v1"):
        base += "/v1"
    return Target("opentracy", model, dialect("openai"), base, Credentials(api_key or None), ENGINE)


@lru_cache(maxsize=16)
def dialect(name: str) -> Dialect:
    """The wire format of that name, imported when first needed."""
    return cast(Dialect, import_module(f"{__package__}.{name}").DIALECT)


def _credentials(row: Provider, api_key: str | None, env: Mapping[str, str]) -> Credentials | None:
    """A given key stands alone; from the environment, a key or the parts that replace one."""
    if api_key:
        return Credentials(api_key)
    key = _first(row.key_vars, env)
    if not row.secret_vars:
        return Credentials(key) if key else None
    if key:
        return Credentials(key)
    extra = {part: value for part, names in row.secret_vars.items() if (value := _first(names, env))}
    return Credentials(None, extra) if all(part in extra for part in row.instead_of_key) else None


def _options(row: Provider, env: Mapping[str, str]) -> dict[str, str]:
    options = dict(row.option_defaults)
    for option, names in row.option_vars.items():
        value = _first(names, env)
        if value:
            options[option] = value
    return options


def _base_url(row: Provider, api_base: str | None, env: Mapping[str, str], options: Mapping[str, str]) -> str:
    if api_base:
        return _checked(api_base, "api_base")
    upper = row.name.upper()
    names = (f"{upper}_API_BASE", f"{upper}_BASE_URL", *row.base_vars)
    for name in names:
        value = env.get(name)
        if value:
            # a local server's variable often holds host:port only
            local = row.base_url.startswith("http://") and "://" not in value
            return _checked(f"http://{value}" if local else value, name)
    if not row.base_url:
        raise ValueError(f"No endpoint for {row.name}: {row.setup or f'set {names[0]} or pass api_base'}")
    if "{" not in row.base_url:
        return row.base_url
    special = next((row.base_for[v] for v in options.values() if v in row.base_for), None)
    return special or row.base_url.format_map(options)


@lru_cache(maxsize=1024)
def _checked(url: str, source: str) -> str:
    try:
        split_url(url)
    except ValueError:
        raise ValueError(f"{source} must be an http(s) URL, got {url!r}") from None
    return url.rstrip("/")


def _first(names: tuple[str, ...], env: Mapping[str, str]) -> str | None:
    for name in names:
        value = env.get(name)
        if value:
            return value
    return None


def _no_key(row: Provider) -> str:
    """The contract's words first, then what to do."""
    hint = f"pass api_key= or set {row.key_vars[0]}" if row.key_vars else "pass api_key="
    return f"No API key for {row.name} ({hint}{', ' + row.setup if row.setup.startswith('or ') else ''})"
