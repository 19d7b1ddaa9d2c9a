"""What callers get: OpenAI's objects as dicts with attribute access at every level.

A value is a dict first (`json.dumps`, `copy`, pickle, `==` work as for any dict); attributes read and write its items.
Nested dicts are wrapped when they are first reached, a chunk's skeleton when it is made, since everybody reaches in.
Fields that OpenAI documents as optional read as None when absent; any other unknown name is an AttributeError.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec

T = TypeVar("T")
_get = dict.get


class Record(dict[str, Any]):
    """A JSON object with attribute access. `OPTIONAL`: names that read as None; `PARTS`: classes of nested objects."""

    __slots__ = ()
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()
    PARTS: ClassVar[Mapping[str, type[Record]]] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in self.OPTIONAL:
            return None
        raise AttributeError(f"{type(self).__name__!r} has no field {name!r}; it has {', '.join(self) or 'none'}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        value = dict.__getitem__(self, name)
        kind = type(value)
        return value if kind is not dict and kind is not list else _reach(self, name, value)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict."""
        value = dict.get(self, name, default)
        kind = type(value)
        return value if (kind is not dict and kind is not list) or name not in self else _reach(self, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *map(str, self)})

    def __repr__(self) -> str:
        shown = dict.__repr__(self)
        return shown if type(self) is Record else f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[type[Record], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)

    def __copy__(self: T) -> T:
        return type(self)(self)  # type: ignore[call-arg]

    copy = __copy__

    def model_dump(
        self,
        *,
        mode: str = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        exclude_none: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Plain dicts and lists all the way down, sharing nothing with this object.

        `include`, `exclude`: names of its own fields. Further arguments of pydantic's method are taken and change
        nothing: a dict has no fields that are unset, and its values are those of JSON in either `mode`.
        """
        return {
            k: _plain(v, exclude_none)
            for k, v in self.items()
            if (v is not None or not exclude_none)
            and (include is None or k in include)
            and (exclude is None or k not in exclude)
        }

    def model_dump_json(self, *, indent: int | None = None, **given: Any) -> str:
        """JSON text; further arguments as of `model_dump`."""
        data = msgspec.json.encode(self.model_dump(**given))
        return (msgspec.json.format(data, indent=indent) if indent else data).decode()

    to_dict = model_dump

    def to_json(self, *, indent: int | None = 2, **given: Any) -> str:
        """As `model_dump_json`, indented."""
        return self.model_dump_json(indent=indent, **given)


class Records(list[Any]):
    """A list whose dicts have been wrapped already, so that the next look need not go through it again."""

    __slots__ = ()


def _reach(record: Record, name: str, value: Any) -> Any:
    """Wraps a nested value in place, so that a second look finds the same object."""
    part = record.PARTS.get(name, Record)
    wrapped: Any
    if type(value) is dict:
        wrapped = part(value)
    else:
        wrapped = Records([part(item) if type(item) is dict else item for item in value])
    dict.__setitem__(record, name, wrapped)
    return wrapped


def _plain(value: Any, exclude_none: bool) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v, exclude_none) for k, v in value.items() if v is not None or not exclude_none}
    if isinstance(value, (list, tuple)):
        return [_plain(v, exclude_none) for v in value]
    return value


def _field(name: str) -> Any:
    """A field that is read for every chunk: found on the class instead of through a failed lookup and `__getattr__`."""

    def read(self: Record) -> Any:
        value = _get(self, name)
        kind = type(value)
        return value if kind is not dict and kind is not list else _reach(self, name, value)

    def write(self: Record, value: Any) -> None:
        self[name] = value

    return property(read, write)


class Function(Record):
    """Name and arguments (JSON text) of a call."""

    __slots__ = ()
    OPTIONAL = frozenset({"name", "arguments"})


class Custom(Record):
    """Name and input (any text) of a call of a custom tool."""

    __slots__ = ()
    OPTIONAL = frozenset({"name", "input"})


class ToolCall(Record):
    """One call that the model asks for; in a delta, a piece of one."""

    __slots__ = ()
    OPTIONAL = frozenset({"id", "type", "function", "index", "custom"})
    PARTS: ClassVar = {"function": Function, "custom": Custom}


class Audio(Record):
    """A spoken answer: `data` is base64, `expires_at` Unix seconds."""

    __slots__ = ()
    OPTIONAL = frozenset({"id", "data", "expires_at", "transcript"})


class UrlCitation(Record):
    """Where an annotation points."""

    __slots__ = ()
    OPTIONAL = frozenset({"start_index", "end_index", "title", "url"})


class Annotation(Record):
    """A note on the answer's text."""

    __slots__ = ()
    OPTIONAL = frozenset({"type", "url_citation"})
    PARTS: ClassVar = {"url_citation": UrlCitation}


_MESSAGE = frozenset(
    {"content", "role", "refusal", "tool_calls", "function_call", "annotations", "audio", "reasoning_content"}
)
_MESSAGE_PARTS: Mapping[str, type[Record]] = {
    "tool_calls": ToolCall, "function_call": Function, "annotations": Annotation, "audio": Audio,
}  # fmt: skip


class Message(Record):
    """The assistant's message; append it to `messages` for the next turn."""

    __slots__ = ()
    OPTIONAL = _MESSAGE
    PARTS: ClassVar = _MESSAGE_PARTS


class Delta(Record):
    """What a chunk adds to the message."""

    __slots__ = ()
    OPTIONAL = _MESSAGE
    PARTS: ClassVar = _MESSAGE_PARTS


class TopLogprob(Record):
    """A token that might have stood there."""

    __slots__ = ()
    OPTIONAL = frozenset({"token", "logprob", "bytes"})


class TokenLogprob(Record):
    """One token with its log probability and the alternatives."""

    __slots__ = ()
    OPTIONAL = frozenset({"token", "logprob", "bytes", "top_logprobs"})
    PARTS: ClassVar = {"top_logprobs": TopLogprob}


class Logprobs(Record):
    """Log probabilities of an answer's tokens."""

    __slots__ = ()
    OPTIONAL = frozenset({"content", "refusal"})
    PARTS: ClassVar = {"content": TokenLogprob, "refusal": TokenLogprob}


class Choice(Record):
    """One answer of a `ModelResponse`."""

    __slots__ = ()
    OPTIONAL = frozenset({"index", "message", "finish_reason", "logprobs"})
    PARTS: ClassVar = {"message": Message, "logprobs": Logprobs}


class ChunkChoice(Record):
    """One answer's part in a `StreamChunk`."""

    __slots__ = ()
    OPTIONAL = frozenset({"index", "delta", "finish_reason", "logprobs"})
    PARTS: ClassVar = {"delta": Delta, "logprobs": Logprobs}


class TokensDetails(Record):
    """Parts of a token count."""

    __slots__ = ()
    OPTIONAL = frozenset(
        {"cached_tokens", "audio_tokens", "reasoning_tokens", "accepted_prediction_tokens",
         "rejected_prediction_tokens", "cache_creation_tokens", "cache_creation_1h_tokens"}
    )  # fmt: skip


class Usage(Record):
    """Tokens billed."""

    __slots__ = ()
    OPTIONAL = frozenset(
        {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    )
    PARTS: ClassVar = {"prompt_tokens_details": TokensDetails, "completion_tokens_details": TokensDetails}


_ANSWER = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "_provider", "_cost",
     "_latency_ms", "_routing"}
)  # fmt: skip


class ModelResponse(Record):
    """An OpenAI `chat.completion` with our extras.

    `_provider` (str), `_cost` (USD as float, None when unknown), `_latency_ms` (float, retries included), `_routing`
    (requested and selected model, provider, attempts; with the engine also what it decided and why).
    """

    __slots__ = ()
    OPTIONAL = _ANSWER
    PARTS: ClassVar = {"choices": Choice, "usage": Usage}


class StreamChunk(Record):
    """An OpenAI `chat.completion.chunk`; `choices` is never empty. The last one carries `usage` and the extras."""

    __slots__ = ()
    OPTIONAL = _ANSWER
    PARTS: ClassVar = {"choices": ChunkChoice, "usage": Usage}


class EmbeddingItem(Record):
    """One vector."""

    __slots__ = ()
    OPTIONAL = frozenset({"index", "embedding", "object"})

    def __getitem__(self, name: str) -> Any:
        return dict.__getitem__(self, name)  # numbers need no wrapping, and there may be thousands

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict."""
        return dict.get(self, name, default)


class EmbeddingResponse(Record):
    """OpenAI's list of embeddings with our extras."""

    __slots__ = ()
    OPTIONAL = frozenset({"object", "data", "model", "usage", "_provider", "_cost", "_latency_ms", "_routing"})
    PARTS: ClassVar = {"data": EmbeddingItem, "usage": Usage}


if not TYPE_CHECKING:
    for _class, _names in (
        (ModelResponse, ("choices", "usage")),
        (StreamChunk, ("choices", "usage")),
        (Choice, ("message", "finish_reason")),
        (ChunkChoice, ("delta", "finish_reason")),
        (Message, ("content", "tool_calls")),
        (Delta, ("content", "tool_calls")),
    ):
        for _name in _names:
            setattr(_class, _name, _field(_name))


def stream_chunk(raw: dict[str, Any]) -> StreamChunk:
    """A decoder's chunk, its skeleton wrapped. `raw` itself stays as it is."""
    chunk = StreamChunk(raw)
    wrapped = Records()
    for choice in raw["choices"]:
        piece = ChunkChoice(choice)
        piece["delta"] = Delta(choice["delta"])
        wrapped.append(piece)
    chunk["choices"] = wrapped
    return chunk
