"""OpenAI's messages as the system blocks and turns of Bedrock's Converse.

The wire wants turns that alternate and begin with the user, the results of a turn's calls together in the next one, no
blank text, documents with a tame name and some text beside them, and signed thoughts exactly as they were sent.
Source: the service model of bedrock-runtime, PROTOCOLS section 6.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Any

from .content import Media, Part, arguments_object, content_of, function_of, media_of, parts_of, text_of

Block = dict[str, Any]

FIRST_TURN = "(The conversation begins with the assistant.)"
BESIDE_DOCUMENT = "(See the attached document.)"

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc", "text/html": "html", "text/plain": "txt",
    "text/markdown": "md", "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}  # fmt: skip
_FORMATS = frozenset(_DOCUMENTS.values())
_VIDEOS = {
    "video/mp4": "mp4", "video/quicktime": "mov", "video/webm": "webm", "video/mpeg": "mpeg", "video/x-matroska": "mkv",
    "video/x-flv": "flv", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp",
}  # fmt: skip
_AUDIO = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/aac": "aac",
    "audio/flac": "flac", "audio/ogg": "ogg", "audio/mp4": "m4a", "audio/opus": "opus", "audio/webm": "webm",
}  # fmt: skip


def tool_use_id(id: Any) -> str:
    """A call id in the form that the wire takes; equal ids stay equal, so that calls and results still meet."""
    if isinstance(id, str) and _ID.fullmatch(id):
        return id
    return "tooluse_" + blake2s(str(id).encode("utf-8", "replace"), digest_size=12).hexdigest()


class Conversation:
    """What `convert` made: `system` blocks, `turns`, and `tools_used`, the names of the functions in the history."""

    def __init__(self, thoughts: bool) -> None:
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.tools_used: list[str] = []
        self.thoughts = thoughts
        self._open: list[str] = []  # ids of calls without a result so far
        self._names: set[str] = set()  # of documents, which must differ

    def add(self, role: str, blocks: list[Block]) -> None:
        """Appends blocks to the last turn when it is this role's, else as a new turn."""
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def close(self) -> None:
        """Brings the turns into the form that the wire accepts."""
        for turn in self.turns:
            content = turn["content"]
            if turn["role"] == "user":
                # results first; sorting is stable, so everything else keeps its order
                content.sort(key=lambda b: "toolResult" not in b)
            if any("document" in b for b in content) and not any("text" in b for b in content):
                content.append({"text": BESIDE_DOCUMENT})
        if self.turns and self.turns[0]["role"] != "user":
            self.turns.insert(0, {"role": "user", "content": [{"text": FIRST_TURN}]})
        if self.turns and self.turns[-1]["role"] == "assistant" and "text" in self.turns[-1]["content"][-1]:
            last = self.turns[-1]["content"][-1]
            last["text"] = last["text"].rstrip()  # a prefill must not end in white space
        if not self.turns and self.system:
            self.turns, self.system = [{"role": "user", "content": self.system}], []

    def blocks(self, message: Mapping[str, Any], role: str) -> list[Block]:
        """The content of a message; a cache mark on a part, or on the message, becomes a cache point after it."""
        out: list[Block] = []
        for part in parts_of(content_of(message), role):
            block = self._block(part, role)
            if block is not None:
                out.append(block)
                out += cache_point(part)
        return out + cache_point(message) if out else out

    def _block(self, part: Part, role: str) -> Block | None:
        """One content part; None for blank text, which the wire refuses."""
        if "type" not in part and "text" not in part and len(part) == 1:
            return dict(part)  # a block in Converse's own form: the caller knows what it is
        text = text_of(part)
        if text is not None:
            return {"text": text} if text.strip() else None
        media = media_of(part)
        if media is None:
            raise ValueError(f"bedrock knows no content part of type {part.get('type')!r} in a {role} message")
        return self._media(media, part)

    def _media(self, media: Media, part: Part) -> Block:
        kind = media.media_type
        source = _source(media)
        untold = kind in ("", "text/plain", "application/octet-stream") and part.get("type") == "image_url"
        if kind in _IMAGES or untold:
            return {"image": {"format": _IMAGES.get(kind) or _sniffed(media), "source": source}}
        if kind in _VIDEOS:
            return {"video": {"format": _VIDEOS[kind], "source": source}}
        if kind in _AUDIO:
            return {"audio": {"format": _AUDIO[kind], "source": source}}
        form = _DOCUMENTS.get(kind) or (media.name or "").rpartition(".")[2].lower()
        if form not in _FORMATS:
            known = ", ".join(sorted(_FORMATS))
            raise ValueError(f"bedrock takes no {kind or 'unknown'!r} file: use png, jpeg, gif, webp or {known}")
        block: Block = {"format": form, "name": self._name(media.name), "source": source}
        for own in ("citations", "context"):
            if part.get(own) is not None:
                block[own] = part[own]
        return {"document": block}

    def _name(self, given: str | None) -> str:
        """A document's name in the few characters allowed, and not one that was used before."""
        stem = (given or "document").rpartition(".")[0] or given or "document"
        tame = " ".join(re.sub(r"[^A-Za-z0-9 ()\[\]-]+", " ", stem).split())[:190] or "document"
        name, number = tame, 2
        while name in self._names:
            name, number = f"{tame} {number}", number + 1
        self._names.add(name)
        return name

    def assistant(self, message: Mapping[str, Any], number: int) -> list[Block]:
        """The blocks of an assistant message: signed thoughts, text, calls, in the order in which they were made."""
        said = self.blocks(message, "assistant")
        calls: list[Block] = []
        for n, call in enumerate(message.get("tool_calls") or ()):
            id, name, arguments = function_of(call)
            use = tool_use_id(id or f"call_{number}_{n}")
            self._open.append(use)
            self.tools_used.append(name)
            calls.append({"toolUse": {"toolUseId": use, "name": name, "input": arguments_object(arguments)}})
        thoughts = message.get("thinking_blocks") if self.thoughts else None
        return _woven(thoughts, said, calls) if isinstance(thoughts, list) and thoughts else said + calls

    def result(self, message: Mapping[str, Any]) -> list[Block]:
        """A tool's answer; without an id it belongs to the first call that has none yet."""
        id = message.get("tool_call_id")
        if id is None and self._open:
            id = self._open[0]
        use = tool_use_id(id)
        if use in self._open:
            self._open.remove(use)
        content = [b for b in self.blocks({"content": message.get("content")}, "tool") if "cachePoint" not in b]
        # blank text is refused, and so is a result without content; an empty object says "nothing came back"
        block: Block = {"toolUseId": use, "content": content or [{"json": {}}]}
        if message.get("is_error"):
            block["status"] = "error"
        return [{"toolResult": block}, *cache_point(message)]


def convert(messages: Sequence[Any], *, thoughts: bool = True) -> Conversation:
    """The conversation in Converse's form; ValueError names a message that cannot be said.

    `thoughts`: the model takes signed thoughts back.
    """
    made = Conversation(thoughts)
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role in ("system", "developer"):
            made.system += made.blocks(message, "system")
        elif role == "user":
            made.add("user", made.blocks(message, "user"))
        elif role == "assistant":
            made.add("assistant", made.assistant(message, number))
        elif role in ("tool", "function"):
            made.add("user", made.result(message))
        else:
            raise ValueError(f"messages[{number}]: unknown role {role!r} (system, developer, user, assistant or tool)")
    made.close()
    return made


def cache_point(marked: Mapping[str, Any]) -> list[Block]:
    """The cache point that a part's `cache_control` asks for, if it has one."""
    mark = marked.get("cache_control")
    if not isinstance(mark, Mapping):
        return []
    point = {"type": "default"}
    if mark.get("ttl") in ("5m", "1h"):
        point["ttl"] = mark["ttl"]
    return [{"cachePoint": point}]


def _source(media: Media) -> dict[str, Any]:
    if media.data is not None:
        return {"bytes": media.data}
    if media.url is not None and media.url.startswith("s3://"):
        return {"s3Location": {"uri": media.url}}
    what = f"the URL {media.url[:200]}" if media.url else "an uploaded file's id"
    raise ValueError(f"bedrock cannot read {what}: send the data itself as a data: URL (base64), or an s3:// URL")


def _sniffed(media: Media) -> str:
    """The format of a picture that came without a media type, by its first bytes."""
    try:
        head = base64.b64decode((media.data or "")[:32] + "==")
    except ValueError:
        head = b""
    for mark, form in ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp")):
        if head.startswith(mark):
            return form
    raise ValueError("bedrock needs the type of an image: send a data: URL with a media type (png, jpeg, gif or webp)")


def _thought(block: Any) -> Block | None:
    """A kept thought in Converse's form; None for what carries no signature, which the wire refuses."""
    if not isinstance(block, Mapping):
        return None
    if block.get("data"):
        return {"reasoningContent": {"redactedContent": block["data"]}}
    if block.get("signature"):
        text = {"text": block.get("thinking") or "", "signature": block["signature"]}
        return {"reasoningContent": {"reasoningText": text}}
    return None


def _woven(thoughts: list[Any], said: list[Block], calls: list[Block]) -> list[Block]:
    """Thoughts come first unless they tell another place (`after`: length of the text, number of calls before)."""
    whole = said[0]["text"] if len(said) == 1 and "text" in said[0] else None
    out: list[Block] = []
    shown = used = 0
    for kept in thoughts:
        block = _thought(kept)
        if block is None:
            continue
        after = kept.get("after")
        if isinstance(after, list) and len(after) == 2 and whole is not None and shown <= after[0] <= len(whole):
            if whole[shown : after[0]].strip():
                out.append({"text": whole[shown : after[0]]})
                shown = after[0]
            out += calls[used : after[1]]
            used = max(used, after[1])
        out.append(block)
    if shown and whole is not None:
        said = [{"text": whole[shown:]}] if whole[shown:].strip() else []
    return out + said + calls[used:]
