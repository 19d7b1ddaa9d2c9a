"""What a registry row is made of. Rows themselves stand in `rows`, wire formats in one file per dialect.

A row is data. What does not belong here: behaviour (it goes into the dialect), anything that needs I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: how to find it, how to authenticate, and which deviations its dialect must heed.

    `base_url` is what `api_base` (or `<NAME>_API_BASE`, `<NAME>_BASE_URL`, `base_vars`) replaces; the dialect appends
    the path. It may hold `{option}` placeholders; `base_for` names the base for one special value of such an option.
    `key_vars` are environment variables in order of preference. `secret_vars` maps further parts of the credentials
    (`Credentials.extra`) to their variables; all of `instead_of_key` together replace a key. `option_vars` maps an
    option name that the dialect reads from `Target.options` to the variables that may hold it. `prefixes` are bare
    model-name prefixes. `quirks` is the dialect's own typed settings object. `listed`: one of the 13 of the reference
    page, or beyond them. `setup` says what else to do, for the error messages. `chain` names a cloud's own way of
    finding credentials (see `transport.chain`), asked where the environment holds none; `chain_option` is the option
    that it knows as well.
    """

    name: str
    dialect: str
    base_url: str
    key_vars: tuple[str, ...] = ()
    base_vars: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    secret_vars: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instead_of_key: tuple[str, ...] = ()
    option_vars: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    option_defaults: Mapping[str, str] = field(default_factory=dict)
    base_for: Mapping[str, str] = field(default_factory=dict)
    quirks: Any = None
    needs_key: bool = True
    listed: bool = True
    setup: str = ""
    chain: str = ""
    chain_option: str = ""
