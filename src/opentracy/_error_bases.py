"""What our exceptions derive from where the openai package is not installed: the standard library's HTTP errors."""

from __future__ import annotations

from urllib.error import HTTPError, URLError


class APIError(URLError):
    """Base of all."""


class APIResponseValidationError(APIError):
    """A successful status whose body is not the protocol."""


class APIConnectionError(APIError):
    """No usable answer arrived."""


class APITimeoutError(APIConnectionError):
    """A deadline passed."""


class APIStatusError(APIError, HTTPError):
    """The provider answered with an error status."""


class BadRequestError(APIStatusError):
    """400."""


class AuthenticationError(APIStatusError):
    """401."""


class PermissionDeniedError(APIStatusError):
    """403."""


class NotFoundError(APIStatusError):
    """404."""


class ConflictError(APIStatusError):
    """409."""


class UnprocessableEntityError(APIStatusError):
    """422."""


class RateLimitError(APIStatusError):
    """429."""


class InternalServerError(APIStatusError):
    """500 and above."""
