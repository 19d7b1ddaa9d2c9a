"""Three ways to spell SQL: SQLite, DuckDB and ClickHouse.

Belongs here: what differs between them, and nothing that is the same. The compiler (`compile`) and the filters
(`filters`) ask a dialect for the few expressions that differ; everything else they write is common to all three.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """Spelling of one database. `tag_has` and `tag_rows` deal with the list of tags of a trace."""

    name: str
    #: integer division of an expression by a constant, rounded down
    divide: str
    #: condition that the tags contain one parameter
    tag_has: str
    #: FROM clause with one row per tag, named `tag_value`
    tag_rows: str
    tag_value: str
    #: sum of a condition
    count_if: str
    #: a list of text parameters is passed as one placeholder each
    placeholder: str = "?"

    def holes(self, count: int) -> str:
        """`count` placeholders, separated by commas."""
        return ", ".join([self.placeholder] * count)


SQLITE = Dialect(
    "sqlite",
    divide="({0} / {1})",
    tag_has="EXISTS (SELECT 1 FROM json_each(traces.tags) WHERE value = ?)",
    tag_rows="traces, json_each(traces.tags) AS tag",
    tag_value="tag.value",
    count_if="sum(CASE WHEN {0} THEN 1 ELSE 0 END)",
)
DUCKDB = Dialect(
    "duckdb",
    divide="({0} // {1})",
    tag_has="coalesce(list_contains(tags, ?), false)",
    tag_rows="(SELECT *, unnest(tags) AS tag_value FROM traces) AS traces",
    tag_value="tag_value",
    count_if="sum(CASE WHEN {0} THEN 1 ELSE 0 END)",
)
CLICKHOUSE = Dialect(
    "clickhouse",
    divide="intDiv({0}, {1})",
    tag_has="has(tags, %s)",
    tag_rows="traces ARRAY JOIN tags AS tag_value",
    tag_value="tag_value",
    count_if="countIf({0})",
    placeholder="%s",
)
