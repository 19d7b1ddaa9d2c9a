"""OpenAI's messages as Gemini's system instruction and contents.

Roles alternate by merging; the results of parallel calls stand together, in the order of the calls; signatures go back
to the parts they were on. Source: PROTOCOLS section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core import jsonio
from .content import Media, Part, arguments_object, content_of, function_of, media_of, parts_of, text_of
from .fields import entries, objects
from .gemini_media import OTHER
from .gemini_models import Gemini
from .gemini_signatures import SKIP, opened_id, signature_of, wire_id

_OWN_PARTS = frozenset(
    ("text", "inlineData", "inline_data", "fileData", "file_data", "functionCall", "functionResponse", "executableCode",
     "codeExecutionResult", "thought", "videoMetadata")
)  # fmt: skip

_UNTOLD = {"image_url": "image/jpeg", "file": "application/pdf"}  # films of known services need none


def convert(messages: Sequence[Mapping[str, Any]], model: Gemini) -> tuple[list[Part], list[dict[str, Any]]]:
    """(parts of the system instruction, contents); ValueError names a message that cannot be said on this wire."""
    system: list[Part] = []
    contents = _Contents()
    for number, message in enumerate(messages):
        role = message.get("role")
        if role in ("system", "developer"):
            texts = (text_of(part) for part in parts_of(message.get("content"), str(role)))
            system += [{"text": text} for text in texts if text]
        elif role == "user":
            contents.add("user", _parts(message, "user"))
        elif role == "assistant":
            contents.add("model", _model_parts(message, number, contents, model))
        elif role in ("tool", "function"):
            contents.add_result(message, model)
        else:
            raise ValueError(f"messages[{number}]: unknown role {role!r} (system, developer, user, assistant or tool)")
    turns = contents.close()
    if not turns or not model.system:
        # contents must not be empty, and some models know no system instruction: then the user says it
        turns = _begun_with(system, turns) if system else turns
        system = []
    return system, turns


def _begun_with(parts: list[Part], turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if turns and turns[0]["role"] == "user":
        turns[0]["parts"][:0] = parts
        return turns
    return [{"role": "user", "parts": parts}, *turns]


class _Call:
    """A function call that waits for its result."""

    __slots__ = ("id", "name", "order")

    def __init__(self, id: str, name: str, order: int) -> None:
        self.id, self.name, self.order = id, name, order


class _Contents:
    """Contents in the making."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []
        self.open: list[_Call] = []
        self.made = 0
        self._results: list[tuple[int, Part, list[Part]]] = []  # of the turn that is being filled

    def add(self, role: str, parts: list[Part]) -> None:
        self._flush()
        if not parts:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["parts"] += parts
        else:
            self.turns.append({"role": role, "parts": parts})

    def call(self, id: str, name: str) -> None:
        self.open.append(_Call(id, name, self.made))
        self.made += 1

    def add_result(self, message: Mapping[str, Any], model: Gemini) -> None:
        """A tool message; the function's name is looked up by the call's id."""
        id, _ = opened_id(message.get("tool_call_id"))
        call = next((c for c in self.open if c.id == id), None)
        if call is None and not id and self.open:
            call = self.open[0]
        if call is not None:
            self.open.remove(call)
        name = call.name if call is not None else str(message.get("name") or id)
        if not name:
            raise ValueError("a tool message needs the tool_call_id of a call in an assistant message before it")
        response: Part = {"name": name, "response": _response(message)}
        if (sent := wire_id(id)) is not None:
            response["id"] = sent
        media = [p for p in _parts({"content": message.get("content")}, "tool") if "text" not in p]
        if media and model.result_media:
            response["parts"] = media
            media = []
        self._results.append((call.order if call is not None else self.made, {"functionResponse": response}, media))

    def _flush(self) -> None:
        """Ends a run of results: in the order of their calls, pictures after them."""
        if self._results:
            results = sorted(self._results, key=lambda r: r[0])
            self._results = []
            self.add("user", [r[1] for r in results] + [part for r in results for part in r[2]])

    def close(self) -> list[dict[str, Any]]:
        self._flush()
        return self.turns


def _parts(message: Mapping[str, Any], role: str) -> list[Part]:
    return [out for part in parts_of(content_of(message), role) if (out := _part(part)) is not None]


def _part(part: Part) -> Part | None:
    """One content part; None for empty text."""
    if "type" not in part and part.keys() & _OWN_PARTS:
        return dict(part)  # a part in Gemini's own form
    text = text_of(part)
    if text is not None:
        return {"text": text} if text else None
    media = media_of(part)
    if media is None:
        raise ValueError(f"Gemini has no equivalent for a content part of type {part.get('type')!r}")
    out = _media_part(media, _UNTOLD.get(str(part.get("type")), ""))
    if isinstance(part.get("video_metadata"), dict):
        out["videoMetadata"] = part["video_metadata"]
    return out


def _media_part(media: Media, untold: str) -> Part:
    """`untold`: the type of a link of which nothing tells it; it must have one."""
    if media.data is not None:
        media_type = "image/jpeg" if media.media_type == "image/jpg" else media.media_type
        return {"inlineData": {"mimeType": media_type or "application/octet-stream", "data": media.data}}
    media_type = media.media_type or (untold if media.url else "")
    data = {"fileUri": media.url or media.file_id}
    return {"fileData": {"mimeType": media_type, **data} if media_type else data}


def _model_parts(message: Mapping[str, Any], number: int, contents: _Contents, model: Gemini) -> list[Part]:
    parts = _parts(message, "assistant")
    images = [_signed(shown, image) for image in objects(message.get("images")) if (shown := _part(image)) is not None]
    signature = signature_of(message)
    if signature is not None:
        holder = parts or images or [{"text": ""}]
        holder[-1].setdefault("thoughtSignature", signature)
        parts = parts or (holder if holder is not images else [])
    # what its own tools did stood before what it said of it; thoughts in pictures need not come back
    own = [dict(part) for part in objects(message.get(OTHER)) if part.get("thought") is not True]
    parts = own + parts + images
    signed = False
    calls: list[Part] = []
    for n, call in enumerate(entries(message.get("tool_calls"), "tool_calls")):
        whole, name, arguments = function_of(call)
        id, signature = opened_id(whole or f"call_{number}_{n}")
        contents.call(id, name)
        function: Part = {"name": name, "args": arguments_object(arguments)}
        if (sent := wire_id(id)) is not None:
            function["id"] = sent
        part: Part = {"functionCall": function}
        signature = signature_of(call) or signature
        if signature is not None:
            part["thoughtSignature"] = signature
            signed = True
        calls.append(part)
    if calls and model.signatures and not signed:
        calls[0]["thoughtSignature"] = SKIP
    return parts + calls


def _signed(part: Part, holder: Mapping[str, Any]) -> Part:
    """The part with the signature that came with it."""
    signature = signature_of(holder)
    return part if signature is None else {**part, "thoughtSignature": signature}


def _response(message: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's result as the object that the wire wants.

    An object passes as it is, unless it looks like a schema: Gemini would resolve the references inside.
    """
    texts = [text for part in parts_of(message.get("content"), "tool") if (text := text_of(part)) is not None]
    text = "\n".join(texts)
    if text.lstrip().startswith("{") and '"$' not in text:
        try:
            value = jsonio.decode(text)
        except jsonio.BadJson:
            value = None
        if isinstance(value, dict):
            return value
    return {"error" if message.get("is_error") else "result": text}
