"""The request of OpenAI's chat and embedding endpoints, with each server's own rules for the parameters.

Messages stand in `openai_messages`; the settings that steer all this, in `openai_quirks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ..core.jsonio import encode
from ..core.params import CHAT_PARAMS, json_hint, json_schema_of, max_tokens, refuse_dropped, response_format
from ..core.wire import Call, HttpRequest, Target
from .legacy import modern
from .openai_messages import outgoing, with_blank_reasoning, with_thoughts
from .openai_quirks import DEFAULT, ModelRule, Quirks, echoing, rule_for
from .tools import choice_of

_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
_NO_RULE = ModelRule("")
_WITH_USAGE = {"include_usage": True}
# how other APIs spell a choice among tools
_OTHERS_CHOICES = ("function", "tool", "auto", "any", "required", "none")  # no set: what is looked for may be a list


class Ways(NamedTuple):
    """What is the same for every request of a target. `plain`: parameters that it takes as they are given."""

    quirks: Quirks
    model: str
    chat_url: str
    embeddings_url: str
    headers: Mapping[str, str]
    plain: frozenset[str]


def build_request(call: Call, target: Target) -> HttpRequest:
    """The POST for `call`; ValueError names what cannot be sent."""
    ways: Ways = target.memo.get("openai_request") or ways_of(target)
    dropped: list[str] = []
    if call.operation == "embedding":
        url = ways.embeddings_url
        body = _embedding_body(call, target, ways.quirks, dropped)
    else:
        url = ways.chat_url
        if "functions" in ways.quirks.drop:
            call = modern(call)
        body = _chat_body(call, target, ways, dropped)
    if dropped:
        refuse_dropped(dropped, strict=call.strict_params, provider=target.provider)
    return HttpRequest("POST", url, ways.headers, encode(body), tuple(dropped))


def ways_of(target: Target) -> Ways:
    """Worked out from a target once, and kept with it."""
    quirks: Quirks = target.quirks or DEFAULT
    if (urlsplit(target.base_url).hostname or "").endswith("googleapis.com"):
        quirks = echoing(quirks, "extra_content")  # Gemini's thought signatures, which it wants back on their calls
    version = target.options.get("api_version", "")
    paths = quirks.path, quirks.path.replace("/chat/completions", "/embeddings")
    chat, embeddings = (_url(target.base_url, path, quirks.deployments, target.model, version) for path in paths)
    fixed = MappingProxyType(headers(target, quirks))
    found = Ways(quirks, _model_name(target, quirks), chat, embeddings, fixed, _plain_params(quirks, target.model))
    target.memo["openai_request"] = found
    return found


def _plain_params(quirks: Quirks, model: str) -> frozenset[str]:
    """The parameters for which `_Parameters.write` does nothing but to copy them."""
    rule = (rule_for(quirks, model) if quirks.rules else None) or _NO_RULE
    if quirks.verbatim:
        return frozenset()
    special = _SPECIAL.keys() - ({"temperature"} if quirks.max_temperature == 2 else set())
    special -= set() if quirks.tiers else {"service_tier"}
    touched = {*quirks.drop, *rule.drop, *rule.only, *quirks.rename, *special}
    cap = rule.cap or quirks.cap
    # under the name that is wanted anyway, and alone; with both names given `_Parameters.cap` decides
    caps = {"max_tokens" if cap == "either" else cap}
    return frozenset((CHAT_PARAMS - touched) | caps)


def headers(target: Target, quirks: Quirks) -> dict[str, str]:
    """Content type, credentials, and what the options fill."""
    out = {"content-type": "application/json"}
    credentials = target.credentials
    if credentials.key:
        if quirks.auth == "bearer":
            out["authorization"] = f"Bearer {credentials.key}"
        else:
            out[quirks.auth] = credentials.key
    elif credentials.extra.get("ad_token"):
        out["authorization"] = f"Bearer {credentials.extra['ad_token']}"
    for header, option in quirks.headers.items():
        value = target.options.get(option)
        if value:
            out[header] = value
    return out


@lru_cache(maxsize=4096)
def _url(base: str, path: str, deployments: bool, model: str, version: str) -> str:
    if deployments:
        return _deployment_url(base, path, model, version)
    # a base that already holds (part of) the path is what people paste from a provider's page
    if urlsplit(base).path.endswith(path):
        return base
    if path.startswith("/v1/") and base.endswith("/v1"):
        return base + path[3:]
    if path.endswith("/embeddings"):
        base = base.removesuffix("/chat/completions")
    return base + path


def _deployment_url(base: str, path: str, model: str, version: str) -> str:
    """The classic form names the deployment and a dated version; the newer one is OpenAI's own under /openai/v1."""
    if "api-version=" in base:
        return base
    if base.endswith("/openai/v1"):
        return base + path
    if version in ("v1", "preview", "latest"):
        return f"{base}/openai/v1{path}"
    if "/openai/deployments/" in base:
        return f"{base}{path}?api-version={quote(version, safe='')}"
    return f"{base}/openai/deployments/{quote(model, safe='')}{path}?api-version={quote(version, safe='')}"


def _model_name(target: Target, quirks: Quirks) -> str:
    return quirks.model_prefix + target.model if quirks.model_prefix and "/" not in target.model else target.model


def _embedding_body(call: Call, target: Target, quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    if not quirks.embeddings:
        raise ValueError(f"{target.provider} offers no embeddings")
    if call.params.get("input") is None:
        raise ValueError("an embedding needs input=: a string or a list of strings")
    body: dict[str, Any] = {"model": target.model}
    for name, value in call.params.items():
        if value is not None and name in quirks.drop:
            dropped.append(name)
        elif value is not None:
            body[quirks.rename.get(name, name)] = value
    return body


def _chat_body(call: Call, target: Target, ways: Ways, dropped: list[str]) -> dict[str, Any]:
    quirks, params = ways.quirks, call.params
    messages = call.messages
    if quirks.thoughts_in_content is not None and _thinks(ways.model, quirks.thoughts_in_content, params):
        messages = with_thoughts(messages)
    messages = outgoing(messages, quirks, dropped)
    if quirks.blank_reasoning and re.match(quirks.blank_reasoning, ways.model) and _reasons(params):
        messages = with_blank_reasoning(messages)
    body: dict[str, Any] = {"model": ways.model, "messages": messages}
    if params:
        if ways.plain.issuperset(params) and None not in params.values():
            body.update(params)
        elif quirks.verbatim:
            body.update((k, v) for k, v in params.items() if v is not None)
            if "response_format" in body:
                body["response_format"] = response_format(body["response_format"])
        else:
            _Parameters(call, target.model, quirks, body, dropped).write()
    if call.stream:
        body["stream"] = True
        if quirks.usage_option:
            given = body.get("stream_options")
            if given is None:
                body["stream_options"] = _WITH_USAGE
            elif not quirks.verbatim:
                body["stream_options"] = {**given, **_WITH_USAGE}  # asked for always: without it no cost is known
    else:
        body.pop("stream_options", None)  # without `stream` it is refused
    return body


def _thinks(model: str, always: str, params: Mapping[str, Any]) -> bool:
    """Whether a model thinks in this call; one that does not may refuse thoughts."""
    asked = params.get("reasoning_effort") not in (None, "none", "minimal")
    return asked or re.match(always, model.lower()) is not None


def _reasons(params: Mapping[str, Any]) -> bool:
    """Whether thinking was not switched off, by either of its switches."""
    switch = params.get("thinking")
    return params.get("reasoning_effort") != "none" and not (
        isinstance(switch, Mapping) and switch.get("type") == "disabled"
    )


def adapted(params: Mapping[str, Any], model: str, quirks: Quirks) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parameters as a model wants them, and the names of those that it does not take."""
    body: dict[str, Any] = {}
    dropped: list[str] = []
    _Parameters(Call([], params), model, quirks, body, dropped).write()
    return body, tuple(dropped)


class _Parameters:
    """Writes the parameters of one call into its body: one method per parameter that has rules."""

    __slots__ = ("body", "dropped", "params", "quirks", "rule")

    def __init__(self, call: Call, model: str, quirks: Quirks, body: dict[str, Any], dropped: list[str]) -> None:
        self.params = call.params
        self.quirks = quirks
        self.body = body
        self.dropped = dropped
        self.rule = (rule_for(quirks, model) if quirks.rules else None) or _NO_RULE

    def write(self) -> None:
        """All of them."""
        quirks = self.quirks
        rule = self.rule
        strict_sampling = not rule.when_effort or self.params.get("reasoning_effort") not in (None, "none")
        for name, value in self.params.items():
            if value is None:
                continue
            if name not in CHAT_PARAMS:
                self.body[name] = value
            elif name in quirks.drop or (strict_sampling and name in rule.drop):
                self._drop(name, value)
            elif name in rule.only and strict_sampling:
                self._only(name, value, rule.only[name])
            elif (method := _SPECIAL.get(name)) is not None:
                method(self, name, value)
            else:
                self.body[quirks.rename.get(name, name)] = value

    def _drop(self, name: str, value: Any) -> None:
        # an empty or switched-off value asks for nothing, so nothing is lost; this one is on by default
        if (value is not False or name == "parallel_tool_calls") and value != [] and value != {}:
            self.dropped.append(name)

    def _only(self, name: str, value: Any, default: Any) -> None:
        if value == default:
            self.body[name] = value
            return
        low, high = _RANGES[name]
        if isinstance(value, (int, float)) and low <= value <= high:
            self.dropped.append(name)
        else:
            self.body[name] = value  # nonsense: the provider's own words are the better error

    def n(self, name: str, value: Any) -> None:
        """Number of answers."""
        if name not in self.quirks.single:
            self.body[name] = value
        elif value != 1:
            self.dropped.append(name)

    def cap(self, name: str, value: Any) -> None:
        """The output cap under the name that the model wants; once, when both names were given."""
        wanted = self.rule.cap or self.quirks.cap
        if wanted == "either":
            wanted = "max_tokens" if self.params.get("max_completion_tokens") is None else "max_completion_tokens"
        self.body[wanted] = max_tokens(self.params)

    def effort(self, name: str, value: Any) -> None:
        """How much the model may think."""
        if value == "none" and self.quirks.effort_off:
            self.body.update(self.quirks.effort_off)
        else:
            words = self.rule.effort or self.quirks.effort
            self.body[name] = words.get(value, value) if isinstance(value, str) else value

    def format(self, name: str, value: Any) -> None:
        """The form of the answer; where schemas are unknown, JSON is asked for and the schema explained in words."""
        fmt = response_format(value)
        if fmt is None:
            return
        schema = json_schema_of(fmt)
        if self.params.get("tools") and not self.quirks.format_with_tools and fmt.get("type") != "text":
            self._say(json_hint(schema))
            self.dropped.append("response_format")
        elif schema is None and fmt.get("type") == "json_object" and not self.quirks.json_object:
            self._say(json_hint(None))
            self.dropped.append("response_format")
        elif schema is None:
            self.body[name] = fmt
        elif self.quirks.schema:
            inner = fmt.get("json_schema") or {}
            unnamed = isinstance(inner, dict) and not inner.get("name")
            self.body[name] = {**fmt, "json_schema": {"name": "response", **inner}} if unnamed else fmt
        else:
            self.body[name] = {"type": "json_object"}
            self._say(json_hint(schema))
            self.dropped.append("response_format.json_schema")

    def _say(self, text: str) -> None:
        self.body["messages"] = [{"role": "system", "content": text}, *self.body["messages"]]

    def stream_options(self, name: str, value: Any) -> None:
        """Where usage comes unasked the field is unknown, and nothing is lost without it."""
        if self.quirks.usage_option:
            self.body[name] = value

    def tools(self, name: str, value: Any) -> None:
        """Tool definitions; an empty list is refused everywhere and means the same as none."""
        if not value:
            return
        if not self.quirks.cache_marks and any(isinstance(t, dict) and "cache_control" in t for t in value):
            value = [{k: v for k, v in t.items() if k != "cache_control"} for t in value]
        if self.quirks.whole_functions:
            value = [_whole(tool) for tool in value]
        names = self._allowed()
        if names:
            functions = [(t, t.get("function")) for t in value if isinstance(t, dict)]
            found = [t for t, function in functions if isinstance(function, dict) and function.get("name") in names]
            value = found or value
        self.body[name] = value

    def choice(self, name: str, value: Any) -> None:
        """What may be called, in a form that the provider knows."""
        if self._allowed():
            value = "required" if choice_of(value).mode == "required" else "auto"
        elif isinstance(value, dict) and "function" not in value and value.get("type") in _OTHERS_CHOICES:
            meant = choice_of(value)
            value = {"type": "function", "function": {"name": meant.names[0]}} if meant.names else meant.mode
        self.body[name] = "required" if value == "any" else value

    def _allowed(self) -> tuple[str, ...]:
        """The only tools that may be called, where the provider cannot be told so."""
        choice = self.params.get("tool_choice")
        if self.quirks.allowed_tools or not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
            return ()
        return choice_of(choice).names

    def temperature(self, name: str, value: Any) -> None:
        """On OpenAI's scale, as far as the provider's goes."""
        most = self.quirks.max_temperature
        self.body[name] = most if isinstance(value, (int, float)) and most < value <= 2 else value

    def tier(self, name: str, value: Any) -> None:
        """The tier by the provider's name for it."""
        self.body[name] = self.quirks.tiers.get(value, value) if isinstance(value, str) else value

    def logprobs(self, name: str, value: Any) -> None:
        """A switch and a number at OpenAI, one number elsewhere."""
        if not self.quirks.int_logprobs:
            self.body[name] = value
        elif name == "logprobs" and value is True:
            self.body[name] = self.params.get("top_logprobs") or 1
        elif name == "logprobs" and value is not False:
            self.body[name] = value


def _whole(tool: Any) -> Any:
    """A function with `parameters`, even if there are none."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("parameters"), dict):
        return tool
    return {**tool, "function": {**function, "parameters": {"type": "object", "properties": {}}}}


_SPECIAL: dict[str, Callable[[_Parameters, str, Any], None]] = {
    "n": _Parameters.n,
    "max_tokens": _Parameters.cap,
    "max_completion_tokens": _Parameters.cap,
    "reasoning_effort": _Parameters.effort,
    "response_format": _Parameters.format,
    "stream_options": _Parameters.stream_options,
    "tools": _Parameters.tools,
    "logprobs": _Parameters.logprobs,
    "top_logprobs": _Parameters.logprobs,
    "tool_choice": _Parameters.choice,
    "temperature": _Parameters.temperature,
    "service_tier": _Parameters.tier,
}
