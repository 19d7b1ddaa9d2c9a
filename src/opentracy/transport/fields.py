"""The fields of a response's head, split by us rather than by one call of the parser for each.

Pure. The parser has found the head to be well-formed before; here it only becomes names and values. Most answers are
used without anybody asking for a field of theirs: `RawFields` splits when somebody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_names: dict[str, str] = {}  # as they came -> in lower case; the same two dozen come with every answer
_MAX_NAMES = 512


def fields_of(head: bytes) -> dict[str, str]:
    """Names in lower case with their values, repeated ones joined by commas. `head`: from the status line on, without
    the empty line."""
    text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:  # a value that goes on in the next line, as it was allowed once
        text = text.replace("\r\n ", " ").replace("\r\n\t", " ")
    found: dict[str, str] = {}
    for line in text.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        key = _names.get(name)
        if key is None:
            key = name.lower()
            if len(_names) < _MAX_NAMES:
                _names[name] = key
        value = value.strip(" \t")
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


class RawFields(Mapping[str, str]):
    """`fields_of`, when first looked at."""

    __slots__ = ("_found", "_head")

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._found: dict[str, str] | None = None

    def _fields(self) -> dict[str, str]:
        if self._found is None:
            self._found = fields_of(self._head)
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())

    def __contains__(self, name: object) -> bool:
        return name in self._fields()

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (self._fields(),)
