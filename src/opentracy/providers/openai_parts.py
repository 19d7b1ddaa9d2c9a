"""Content parts on their way to a server of the OpenAI family: files in the form it reads, results that are only text.

What becomes of whole messages stands in `openai_messages`. Nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .content import media_of, text_of
from .openai_quirks import Quirks

Message = dict[str, Any]

BESIDE = "(See the attachment in the next message.)"
"""What a tool result says that was nothing but pictures or files."""


def content_for(parts: Sequence[Any], quirks: Quirks) -> list[Any]:
    """The parts as this provider takes them: cache marks only where they are known, a URL inside an object."""
    return [_part(part, quirks) if isinstance(part, dict) else part for part in parts]


def _part(part: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    if "cache_control" in part and not quirks.cache_marks:
        part = {k: v for k, v in part.items() if k != "cache_control"}
    kind = part.get("type")
    if kind == "image_url" and isinstance(part.get("image_url"), str):
        return {**part, "image_url": {"url": part["image_url"]}}
    if kind == "file":
        return _file(part, quirks) if quirks.files != "file" else _data_url(part)
    return part


def _data_url(part: dict[str, Any]) -> dict[str, Any]:
    """A file whose data is bare base64, in the data: URL that it must be."""
    inner = part.get("file")
    data = inner.get("file_data") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(data, str) or data.startswith(("data:", "http://", "https://")):
        return part
    media = media_of(part)
    if media is None or media.data is None:
        return part
    named = {"filename": media.name or "file"}
    rest = {k: v for k, v in inner.items() if k != "format"}
    return {**part, "file": {**named, **rest, "file_data": f"data:{media.media_type};base64,{media.data}"}}


def _file(part: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    """A document in the provider's own form; an uploaded file's id stays as it is: only its service knows it."""
    media = media_of(part)
    if media is None or media.file_id is not None:
        return part
    if quirks.files == "document_url":
        url = media.url or f"data:{media.media_type};base64,{media.data}"
        named = {"document_name": media.name} if media.name else {}
        return {"type": "document_url", "document_url": url, **named}
    named = {"file_name": media.name} if media.name else {}
    return {"type": "file_url", "file_url": {"url": media.url or media.data}, **named}


def shown_after_results(messages: Sequence[Any]) -> list[Message]:
    """Pictures and files of tool results in a user message after them: results themselves hold nothing but text."""
    out: list[Message] = []
    shown: list[Any] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != "tool":
            if shown:
                out.append({"role": "user", "content": shown})
                shown = []
        elif isinstance(message.get("content"), list):
            texts = [part for part in message["content"] if _is_text(part)]
            if len(texts) < len(message["content"]):
                shown = shown + [part for part in message["content"] if not _is_text(part)]
                message = {**message, "content": texts or BESIDE}
        out.append(message)
    return [*out, {"role": "user", "content": shown}] if shown else out


def _is_text(part: Any) -> bool:
    return not isinstance(part, dict) or text_of(part) is not None or part.get("type") not in _MEDIA


_MEDIA = frozenset({"image_url", "file", "input_audio", "video_url", "document_url", "file_url"})
