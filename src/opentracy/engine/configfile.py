"""Reading the configuration: file, environment, flags; every error names the place and the nearest valid name.

Belongs here: the precedence, the line numbers, the references to secrets. Not here: which settings exist (`config`).
The only I/O is reading the files that the caller names; the environment is an argument.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from .config import Config, Problem, ProviderConfig, Section, check

MAX_FILE = 1 << 20
_PATH = re.compile(r" - at `\$((?:\.[^`\[]+|\[[^`]*\])*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
# variables of the OPENTRACY_ family that are no settings
_NOT_SETTINGS = frozenset({"CONFIG", "DATA_HOME", "LOG_LEVEL", "ENGINE_URL", "API_KEY"})


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that says where and what to do."""


def load(
    path: str | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Config:
    """The effective configuration. `flags`: values by dotted key, None ones left out. Raises ConfigError."""
    return parse(read(path), environ, flags, name=name or path or "the defaults")


def read(path: str | None) -> str:
    """The file's text, none without a file. Raises ConfigError."""
    return "" if path is None else _read(Path(path))


def parse(
    text: str, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None, *, name: str = "opentracy.toml"
) -> Config:
    """As `load`, from the file's text."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{name}: {_syntax(str(e), text)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    origin: dict[tuple[str, ...], str] = {}
    _from_environment(tree, environ, origin)
    for dotted, value in (flags or {}).items():
        if value is not None:
            _put(tree, tuple(dotted.split(".")), value, "command line", origin)
    try:
        config = msgspec.convert(tree, Config)
        check(config)
    except msgspec.ValidationError as e:
        raise ConfigError(_explain(str(e), tree, text, name, origin)) from None
    except Problem as e:
        raise ConfigError(f"{_place(e.where, text, name, origin)}: {e.message}") from None
    return config


def secret(reference: str, environ: Mapping[str, str]) -> str | None:
    """What `env:NAME` or `file:PATH` points at; None when it is not there. ConfigError for a file others may read."""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        return environ.get(rest) or None
    path = Path(rest).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} holds a secret and is readable by others: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read the secret file {path}: {e.__class__.__name__}") from None


def located(value: str | None, environ: Mapping[str, str], name: str) -> str | None:
    """An address as the file gives it: a reference, followed, or the plain text. None without one.

    Raises ConfigError when the reference leads nowhere. `name`: the setting, for the error.
    """
    if value is None or not value.startswith(("env:", "file:")):
        return value
    found = secret(value, environ)
    if found is None:
        raise ConfigError(f"{name}: {value} is not set")
    return found


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(f"{path}: larger than {MAX_FILE >> 20} MiB, which no configuration is")
        return path.read_bytes().decode("utf-8")
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror or e.__class__.__name__}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text (byte {e.start})") from None


def _syntax(message: str, text: str) -> str:
    if message.endswith(" (at end of document)"):
        lines = text.splitlines() or [""]
        return f"line {len(lines)}, column {len(lines[-1]) + 1}: {message.removesuffix(' (at end of document)')}"
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found:
        return f"line {found[1]}, column {found[2]}: {message[: found.start()]}"
    return message


# ---------------------------------------------------------------- environment
def _from_environment(tree: dict[str, Any], environ: Mapping[str, str], origin: dict[tuple[str, ...], str]) -> None:
    for variable, text in environ.items():
        if not variable.startswith("OPENTRACY_") or variable.removeprefix("OPENTRACY_") in _NOT_SETTINGS:
            continue
        rest = variable.removeprefix("OPENTRACY_").lower()
        section = next((f for f in Config.__struct_fields__ if rest.startswith(f + "_")), None)
        if section is None:
            continue  # other programs may have variables of this prefix
        key = rest.removeprefix(section + "_")
        where = _named(tree, section, key)
        if where is None:
            near = _near(key, _keys(section))
            raise ConfigError(f"environment variable {variable}: no such setting{near}")
        _put(tree, where, _value(where, text), f"environment variable {variable}", origin)
    level = environ.get("OPENTRACY_LOG_LEVEL")
    if level:
        _put(tree, ("server", "log_level"), level.lower(), "environment variable OPENTRACY_LOG_LEVEL", origin)


def _keys(section: str) -> list[str]:
    kind = _type_of((section,))
    return list(kind.__struct_fields__) if isinstance(kind, type) and issubclass(kind, Section) else []


def _named(tree: Mapping[str, Any], section: str, key: str) -> tuple[str, ...] | None:
    """The path that SECTION_KEY means; for maps (providers, aliases) SECTION_NAME_KEY."""
    kind = _type_of((section,))
    if isinstance(kind, type) and issubclass(kind, Section):
        return (section, key) if key in kind.__struct_fields__ else None
    fields = get_args(kind)[1].__struct_fields__
    field = next((f for f in fields if key.endswith("_" + f)), None)
    if field is None:
        return None
    wanted = key.removesuffix("_" + field)
    entries = tree.get(section)
    existing = entries if isinstance(entries, dict) else {}
    name = next((n for n in existing if re.sub(r"\W", "_", n).lower() == wanted), wanted)
    return (section, name, field)


def _type_of(where: tuple[str, ...]) -> Any:
    kind: Any = Config
    for key in where:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next((f.type for f in msgspec.structs.fields(kind) if f.name == key), Any)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return Any
    return kind


def _value(where: tuple[str, ...], text: str) -> Any:
    """Text as the setting's type: JSON where it reads as such, a comma list for lists, else the text itself."""
    kind = str(_type_of(where))
    if "list[" in kind and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if "str" in kind and "dict" not in kind and "list[" not in kind:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(
    tree: dict[str, Any], where: tuple[str, ...], value: Any, source: str, origin: dict[tuple[str, ...], str]
) -> None:
    at = tree
    for key in where[:-1]:
        below = at.setdefault(key, {})
        if not isinstance(below, dict):
            return  # the file has something else here; its own type error is reported
        at = below
    at[where[-1]] = value
    origin[where] = source


# ---------------------------------------------------------------- places
def _explain(message: str, tree: Mapping[str, Any], text: str, name: str, origin: dict[tuple[str, ...], str]) -> str:
    found = _PATH.search(message)
    where = tuple(re.findall(r"[^.\[\]]+", found[1].replace("[...]", ".*"))) if found else ()
    if found:
        message = message[: found.start()]
    if "*" in where:
        where = _through_map(where, tree, message)
    unknown = _UNKNOWN.search(message)
    if unknown:
        key = unknown[1]
        kind = _type_of(where)
        known = list(kind.__struct_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []
        message = f"unknown key {'.'.join((*where, key))!r}{_below(key, where) or _near(key, known)}"
        where = (*where, key)
    else:
        message = f"{'.'.join(where) or 'the file'}: {message[:1].lower()}{message[1:]}{_choices(where, message)}"
    return f"{_place(where, text, name, origin)}: {message}"


def _through_map(where: tuple[str, ...], tree: Mapping[str, Any], message: str) -> tuple[str, ...]:
    """msgspec writes `[...]` for a key of a map; finds the entry that has the fault."""
    cut = where.index("*")
    entries: Any = tree
    for key in where[:cut]:
        entries = entries.get(key, {}) if isinstance(entries, dict) else {}
    kind = get_args(_type_of(where[:cut]))[1]
    for entry, value in entries.items() if isinstance(entries, dict) else ():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as e:
            if str(e).startswith(message):
                return (*where[:cut], entry, *where[cut + 1 :])
    return where[:cut]


def _below(key: str, where: tuple[str, ...]) -> str:
    """For a setting that was written outside of its table: where it belongs."""
    if where:
        return ""
    tables = [section for section in Config.__struct_fields__ if key in _keys(section)]
    return f", did you mean {f'{tables[0]}.{key}'!r}?" if len(tables) == 1 else ""


def _choices(where: tuple[str, ...], message: str) -> str:
    """The words that a setting may have, where it has another."""
    kind = _type_of(where)
    if not message.startswith("Invalid enum value"):
        return ""
    words = [word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)]
    return f" (one of {', '.join(map(str, words))})" if words else ""


def _near(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1, 0.5)
    if close:
        return f", did you mean {close[0]!r}?"
    return f"; known are: {', '.join(known)}" if known else ""


def _place(where: tuple[str, ...], text: str, name: str, origin: dict[tuple[str, ...], str]) -> str:
    if where in origin:
        return origin[where]
    line = _line_of(where, text)
    return f"{name}, line {line}" if line else name


def _line_of(where: tuple[str, ...], text: str) -> int | None:
    """Line on which the key (or else the table that should hold it) stands; tomllib keeps no positions."""
    table: tuple[str, ...] = ()
    best: int | None = None
    depth = 0
    for number, raw in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[{1,2}\s*([^\]]+?)\s*\]", raw)
        if header:
            table = _split(header[1])
            here = table
        else:
            pair = re.match(r"\s*((?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.\-]+)(?:\s*\.\s*[^=\s]+)*)\s*=", raw)
            if not pair:
                continue
            here = table + _split(pair[1])
        common = 0
        while common < min(len(here), len(where)) and here[common] == where[common]:
            common += 1
        if common in (len(here), len(where)) and common > depth:
            best, depth = number, common
    return best


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(p.strip().strip("\"'") for p in re.findall(r"\"[^\"]*\"|'[^']*'|[^.\s]+", dotted))


__all__ = ["ConfigError", "ProviderConfig", "load", "located", "parse", "read", "secret"]
