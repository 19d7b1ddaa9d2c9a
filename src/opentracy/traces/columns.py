"""The narrow columns of a trace, declared once: what they are called, what they hold, and their type in each database.

Belongs here: the list, and DDL made from it for DuckDB and ClickHouse. SQLite's own DDL stands in `migrations`, where
it must not change; a test holds the two together. Money is nano-USD and time microseconds, both integers, so that sums
are exact and the same in every database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["int", "text", "word", "flag", "tags"]


@dataclass(frozen=True, slots=True)
class Column:
    """`word` is text with few different values. `null`: it may be unknown."""

    name: str
    kind: Kind
    null: bool = False


COLUMNS: Final[tuple[Column, ...]] = (
    Column("seq", "int"),
    Column("ts_ms", "int"),
    Column("outcome", "word"),
    Column("http_status", "int"),
    Column("model", "word"),
    Column("provider", "word"),
    Column("requested_model", "word"),
    Column("alias", "word", null=True),
    Column("project", "word", null=True),
    Column("key_id", "word", null=True),
    Column("user_id", "text", null=True),
    Column("session_id", "text", null=True),
    Column("tags", "tags"),
    Column("cluster_id", "int", null=True),
    Column("stream", "flag"),
    Column("cache_hit", "flag"),
    Column("has_tools", "flag"),
    Column("fallback", "flag"),
    Column("attempts", "int"),
    Column("latency_us", "int"),
    Column("latency_bucket", "int"),
    Column("ttft_us", "int", null=True),
    Column("tokens_in", "int", null=True),
    Column("tokens_out", "int", null=True),
    Column("tokens_cached", "int", null=True),
    Column("tokens_reasoning", "int", null=True),
    Column("cost_nano", "int", null=True),
    Column("counterfactual_nano", "int", null=True),
    Column("error_type", "word", null=True),
    Column("finish_reason", "word", null=True),
)
NAMES: Final = tuple(column.name for column in COLUMNS)

_DUCKDB: Final[dict[Kind, str]] = {
    "int": "BIGINT",
    "text": "VARCHAR",
    "word": "VARCHAR",
    "flag": "TINYINT",
    "tags": "VARCHAR[]",
}
_CLICKHOUSE: Final[dict[Kind, str]] = {
    "int": "Int64",
    "text": "String",
    "word": "LowCardinality(String)",
    "flag": "UInt8",
    "tags": "Array(LowCardinality(String))",
}


def duckdb_columns() -> dict[str, str]:
    """Column name -> DuckDB type."""
    return {column.name: _DUCKDB[column.kind] for column in COLUMNS}


def clickhouse_columns() -> dict[str, str]:
    """Column name -> ClickHouse type."""
    types: dict[str, str] = {}
    for column in COLUMNS:
        kind = _CLICKHOUSE[column.kind]
        if column.null:
            inner = kind.removeprefix("LowCardinality(").rstrip(")") if column.kind == "word" else kind
            kind = f"LowCardinality(Nullable({inner}))" if column.kind == "word" else f"Nullable({inner})"
        types[column.name] = kind
    return types
