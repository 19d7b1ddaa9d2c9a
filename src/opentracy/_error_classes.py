"""The classes of `errors`, which explains them.

They derive from the openai package's if that is imported, and from the moment on when it is; see `_openai_later`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _openai_later

_waiting = False
if TYPE_CHECKING or _openai_later.settled():
    import openai as _base
elif _openai_later.installed():
    _base = _openai_later.stand_ins()
    _waiting = True
else:
    from . import _error_bases as _base


class _Described(Exception):
    """What all of them carry. Built without an HTTP library; `request` and `response` are made when asked for."""

    if TYPE_CHECKING:
        message: str
        status_code: int | None
        code: str | None
        type: str | None
        param: str | None
        body: Any
        headers: Mapping[str, str]
        provider: str | None
        model: str | None
        attempts: int
        request_id: str | None
        retry_after: float | None
        partial: Any
        _url: str
    _document: Any

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        provider: str | None = None,
        model: str | None = None,
        url: str = "",
        attempts: int = 0,
        request_id: str | None = None,
        retry_after: float | None = None,
        partial: Any = None,
    ) -> None:
        if _waiting:
            adopt()
        Exception.__init__(self, message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.type = type
        self.param = param
        # as in the openai package: the error object where there is one, the whole document otherwise
        self.body = body.get("error", body) if isinstance(body, Mapping) else body
        self._document = body
        self.headers = dict(headers or {})
        self.provider = provider
        self.model = model
        self.attempts = attempts
        self.request_id = request_id
        self.retry_after = retry_after
        self.partial = partial
        self._url = url

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        facts = f", status_code={self.status_code}" if self.status_code is not None else ""
        facts += f", code={self.code!r}" if self.code else ""
        return f"{self.__class__.__name__}({self.message!r}, provider={self.provider!r}, model={self.model!r}{facts})"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (self.__class__.__name__, self.message, dict(vars(self)))

    @property
    def request(self) -> Any:
        """An HTTP library's request object without credentials or body, for code written against the openai package."""
        return _http().Request("POST", self._url or "http://unknown.invalid")

    @property
    def response(self) -> Any:
        """The answer as an HTTP library's response object; AttributeError where none was received."""
        if self.status_code is None:
            raise AttributeError("no response was received")
        import json

        headers = {k: v for k, v in self.headers.items() if k not in ("content-encoding", "content-length")}
        text = self._document if isinstance(self._document, str) else json.dumps(self._document)
        return _http().Response(self.status_code, headers=headers, content=text.encode(), request=self.request)


def _http() -> Any:
    """The HTTP library whose types the openai package uses."""
    import importlib

    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise AttributeError("request and response objects need the httpx2 package")


def _rebuild(name: str, message: str, state: dict[str, Any]) -> Any:
    error = globals()[name](message)
    vars(error).update(state)
    return error


# the openai package declares `request`, `response` and `status_code` as plain attributes of the types they have there;
# ours are made when asked for, and `status_code` is None where there was no answer
class APIError(_Described, _base.APIError):  # type: ignore[override]
    """Whatever a provider, the network or the engine did wrong."""

    def __init__(self, message: str, **facts: Any) -> None:
        _Described.__init__(self, message, **facts)


class APIResponseValidationError(APIError, _base.APIResponseValidationError):  # type: ignore[misc, override]
    """A successful status whose body is not the protocol."""


class APIConnectionError(APIError, _base.APIConnectionError):  # type: ignore[override]
    """No usable answer arrived."""


class APITimeoutError(APIConnectionError, _base.APITimeoutError):  # type: ignore[override]
    """A deadline passed."""


class APIStatusError(APIError, _base.APIStatusError):  # type: ignore[misc, override]
    """The provider answered with an error status."""


class BadRequestError(APIStatusError, _base.BadRequestError):  # type: ignore[misc, override]
    """400."""


class AuthenticationError(APIStatusError, _base.AuthenticationError):  # type: ignore[misc, override]
    """401."""


class PermissionDeniedError(APIStatusError, _base.PermissionDeniedError):  # type: ignore[misc, override]
    """403."""


class NotFoundError(APIStatusError, _base.NotFoundError):  # type: ignore[misc, override]
    """404."""


class ConflictError(APIStatusError, _base.ConflictError):  # type: ignore[misc, override]
    """409."""


class UnprocessableEntityError(APIStatusError, _base.UnprocessableEntityError):  # type: ignore[misc, override]
    """422."""


class RateLimitError(APIStatusError, _base.RateLimitError):  # type: ignore[misc, override]
    """429."""


class InternalServerError(APIStatusError, _base.InternalServerError):  # type: ignore[misc, override]
    """500 and above."""


_CLASSES = [c for c in list(globals().values()) if isinstance(c, type) and issubclass(c, APIError)]
for _class in _CLASSES:
    _class.__module__ = f"{__package__}.errors"


def adopt() -> None:
    """From here on our classes are openai's too, if that package was imported meanwhile.

    Called when it is, and for each error until then: a thread may have begun its import before we came to watch.
    """
    global _waiting
    if _waiting and _openai_later.imported():
        _openai_later.adopt(_CLASSES, _base)
        _waiting = False


if _waiting:
    _openai_later.when_imported(adopt)
