"""Reading the content of OpenAI's chat messages, for the dialects whose wire has another form of it.

Belongs here: what a part, a data URL or an argument string *says*. How a provider spells it stands in its dialect.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from ..core import jsonio
from .fields import text_or

Part = dict[str, Any]

# Extension -> media type. Our own table: the standard library's reads files of the machine it runs on.
_MEDIA_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown",
    "csv": "text/csv", "html": "text/html", "xml": "text/xml", "json": "application/json", "mp3": "audio/mpeg",
    "wav": "audio/wav", "aac": "audio/aac", "ogg": "audio/ogg", "flac": "audio/flac", "m4a": "audio/mp4",
    "mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm", "mpeg": "video/mpeg", "avi": "video/avi",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, document, recording or film: exactly one of `data` (base64), `url` and `file_id` is set.

    `media_type` is '' where nothing tells it.
    """

    media_type: str
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None


def content_of(message: Mapping[str, Any]) -> Any:
    """The content of a message; of an answer that was only refused or spoken, those words."""
    content = message.get("content")
    if content or message.get("role") != "assistant":
        return content
    audio = message.get("audio")
    said = message.get("refusal") or (audio.get("transcript") if isinstance(audio, Mapping) else None)
    return said if isinstance(said, str) and said else content


def parts_of(content: Any, role: str) -> list[Part]:
    """The content of a message as a list of parts; ValueError when it is neither text nor a list of parts."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, (list, tuple)):
        kind = type(content).__name__
        raise ValueError(f"content of a {role} message must be a string or a list of parts, not {kind}")
    parts: list[Part] = []
    for part in content:
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
        elif isinstance(part, dict):
            parts.append(part)
        else:
            raise ValueError(f"a content part of a {role} message must be a dict, not {type(part).__name__}")
    return parts


def text_of(part: Part) -> str | None:
    """The text of a text or refusal part; None for a part of another kind."""
    kind = part.get("type", "text")
    if kind in ("text", "input_text", "output_text"):
        text = part.get("text")
    elif kind == "refusal":
        text = part.get("refusal")
    else:
        return None
    return text if isinstance(text, str) else ""


def media_of(part: Part) -> Media | None:
    """What an image_url, video_url, file or input_audio part holds; None for parts of other kinds."""
    kind = part.get("type")
    if kind in ("image_url", "video_url"):
        inner = part.get(kind)
        url = inner.get("url") if isinstance(inner, dict) else inner
        if not isinstance(url, str) or not url:
            raise ValueError(f"a part of type {kind} needs {{'{kind}': {{'url': ...}}}}")
        told = inner.get("format") if isinstance(inner, dict) else None
        return _from_url(url, text_or(told, ""))
    if kind == "file":
        return _from_file(part)
    if kind == "input_audio":
        inner = part.get("input_audio")
        if not isinstance(inner, dict) or not isinstance(inner.get("data"), str):
            raise ValueError("a part of type input_audio needs {'input_audio': {'data': <base64>, 'format': 'wav'}}")
        form = str(inner.get("format") or "wav")
        return Media(form if "/" in form else _MEDIA_TYPES.get(form, f"audio/{form}"), data=inner["data"])
    return None


def _from_url(url: str, media_type: str, name: str | None = None) -> Media:
    if url[:5].lower() == "data:":
        found, data = read_data_url(url)
        return Media(media_type or found, data=data, name=name)
    return Media(media_type or guess_media_type(urlsplit(url).path), url=url, name=name)


def _from_file(part: Part) -> Media:
    inner = part.get("file")
    inner = inner if isinstance(inner, dict) else part
    name = text_or(inner.get("filename"), "") or None
    told = text_or(inner.get("format"), "")
    data = inner.get("file_data")
    if isinstance(data, str) and data:
        if data[:5].lower() == "data:" or data.startswith(("http://", "https://")):
            return _from_url(data, told, name)
        return Media(told or guess_media_type(name or "") or "application/pdf", data=data, name=name)
    url = inner.get("file_url")
    if isinstance(url, str) and url:
        return _from_url(url, told, name)
    if isinstance(inner.get("file_id"), str):
        return Media(told or guess_media_type(name or ""), file_id=inner["file_id"], name=name)
    raise ValueError("a part of type file needs file_data (base64 or a data: URL), file_url or file_id")


def guess_media_type(path: str) -> str:
    """Media type by the extension of a path or name; '' when there is none that we know."""
    return _MEDIA_TYPES.get(path.rpartition(".")[2].lower(), "") if "." in path else ""


def read_data_url(url: str) -> tuple[str, str]:
    """(media type, base64) of a `data:` URL (RFC 2397); the type defaults to text/plain."""
    head, comma, data = url[5:].partition(",")
    if not comma:
        raise ValueError("a data: URL needs a comma before its data")
    media_type, *flags = head.split(";")
    if "base64" in (f.strip().lower() for f in flags):
        return media_type or "text/plain", data.strip()
    return media_type or "text/plain", base64.b64encode(unquote_to_bytes(data)).decode()


def decoded_text(data: str) -> str:
    """The text inside base64; ValueError when the data is not base64."""
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except binascii.Error as e:
        raise ValueError(f"the file's data is not base64: {e}") from None


def arguments_object(raw: Any) -> dict[str, Any]:
    """A tool call's `arguments` as the object that native wires want.

    Nothing ('', ' ', None, 'null') is an empty object. What the model wrote wrongly stays visible to it instead of
    ending the conversation: text that is no JSON object is wrapped.
    """
    if isinstance(raw, dict):
        return raw
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return {}
    try:
        value = jsonio.decode(raw) if isinstance(raw, str) else raw
    except jsonio.BadJson:
        return {"invalid_json": raw}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"value": value}


def function_of(call: Any) -> tuple[str | None, str, Any]:
    """(id, name, arguments) of an entry of `tool_calls`; ValueError when it names no function."""
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise ValueError("an entry of tool_calls needs {'id': ..., 'function': {'name': ..., 'arguments': ...}}")
    return call.get("id"), name, function.get("arguments")
