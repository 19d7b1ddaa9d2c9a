"""Tool-call fragments of a stream, put into OpenAI's order: calls numbered 0, 1, 2 ..., id and name first and once.

Servers number calls from anywhere, repeat an index with another id, leave ids or indexes out, or send a call whole.
Arguments of finished answers stand in `openai_response`.
"""

from __future__ import annotations

from typing import Any

from ..core.jsonio import BadJson, decode, encode
from .openai_content import says_nothing

Fragment = dict[str, Any]
_TEXT = {"function": "arguments", "custom": "input"}  # kind of call -> its field that comes in pieces
_FIELDS = frozenset({"index", "id", "type", "function", "custom"})


class _Call:
    __slots__ = ("extra", "id", "index", "kind", "name", "pieces", "wire_id")

    def __init__(self, index: int, wire_id: str | None) -> None:
        self.index = index
        self.kind = "function"
        self.wire_id = wire_id
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.extra: dict[str, Any] = {}  # fields of the first fragment beyond OpenAI's (a signature)


class ToolCalls:
    """The calls of one choice. `feed` turns the fragments of one event into fragments in OpenAI's form."""

    __slots__ = ("_by_index", "_calls", "_fallback_id", "_ids")

    def __init__(self, fallback_id: str) -> None:
        self._fallback_id = fallback_id
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._ids: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, fragments: list[Any]) -> list[Fragment]:
        """Nothing for a fragment that adds nothing yet (a call whose name has not come)."""
        out = []
        for fragment in fragments:
            if isinstance(fragment, dict):
                written = self._fragment(fragment)
                if written is not None:
                    out.append(written)
        return out

    def end(self) -> list[Fragment]:
        """What is missing at the end: an empty object for a call that got no arguments, calls without a name."""
        out = []
        for call in self._calls:
            if not call.name:
                call.name = "unknown"
                out.append(self._open(call, "".join(call.pieces) or "{}"))
            elif call.kind == "function" and not any(piece.strip() for piece in call.pieces):
                out.append({"index": call.index, "function": {"arguments": "{}"}})
        return out

    def _fragment(self, fragment: Fragment) -> Fragment | None:
        custom = isinstance(fragment.get("custom"), dict)
        said = fragment.get("custom" if custom else "function")
        said = said if isinstance(said, dict) else {}
        name = said.get("name")
        call = self._find(fragment, name)
        if custom:
            call.kind = "custom"
        value = said.get(_TEXT[call.kind])
        piece = value if isinstance(value, str) else "" if value is None else encode(value).decode()
        if call.kind == "function" and not any(call.pieces) and says_nothing(piece):
            piece = ""  # no arguments; `end` says so if none follow
        if piece:
            call.pieces.append(piece)
        if call.name:
            return {"index": call.index, call.kind: {_TEXT[call.kind]: piece}} if piece else None
        call.extra.update((k, v) for k, v in fragment.items() if k not in _FIELDS)
        if not isinstance(name, str) or not name:
            return None
        call.name = name
        return self._open(call, "".join(call.pieces))

    def _open(self, call: _Call, arguments: str) -> Fragment:
        given = call.wire_id
        call.id = given if given and given not in self._ids else f"call_{self._fallback_id}_{call.index}"
        self._ids.add(call.id)
        said = {"name": call.name, _TEXT[call.kind]: arguments}
        return {"index": call.index, "id": call.id, "type": call.kind, call.kind: said, **call.extra}

    def _find(self, fragment: Fragment, name: Any) -> _Call:
        """The call that a fragment belongs to; a new one when it cannot belong to any."""
        index = fragment.get("index")
        given = fragment.get("id")
        given = given if isinstance(given, str) and given else None
        if type(index) is not int:
            known = next((c for c in self._calls if given is not None and c.wire_id == given), None)
            if known is None and given is None and self._calls and not name:
                known = self._calls[-1]
            return known or self._new(None, given)
        known = self._by_index.get(index)
        if known is None or (given is not None and known.wire_id is not None and given != known.wire_id):
            return self._new(index, given)
        if given is None and name and known.name and _is_whole(known.pieces):
            return self._new(index, None)  # index repeated, no ids: a name after whole arguments begins another call
        if known.wire_id is None:
            known.wire_id = given
        return known

    def _new(self, index: int | None, given: str | None) -> _Call:
        call = _Call(len(self._calls), given)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call


def _is_whole(pieces: list[str]) -> bool:
    try:
        return isinstance(decode("".join(pieces)), dict)
    except BadJson:
        return False
