"""Which failures are worth another try, what may be shown of them, and whose words are quoted."""

from __future__ import annotations

import math
from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.failure import (
    backoff,
    embedded_failure,
    interrupted,
    mask,
    message_of,
    retry_hint,
    status_failure,
    transport_failure,
)
from opentracy.core.wire import Credentials, Failure, HttpResponse


def answer(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(status, {k.replace("_", "-"): v for k, v in headers.items()}, body)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(s, True) for s in (408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529)]
    + [(s, False) for s in (400, 401, 402, 403, 404, 405, 413, 422, 424, 498, 501, 505)],
)
def test_status_decides(status: int, retryable: bool) -> None:
    assert status_failure(answer(status), "policy violation").retryable is retryable


def test_billing_is_not_transient_and_redirects_are_never_followed() -> None:
    assert not status_failure(answer(429), "m", code="insufficient_quota").retryable
    redirect = status_failure(answer(307), "m")
    assert redirect.kind == "redirect"
    assert "redirect" in redirect.message
    assert not redirect.retryable


TOO_LONG = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
    "prompt is too long: 200480 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
    "The input token count (2800010) exceeds the maximum number of tokens allowed (1048576).",
    "Unable to submit request because the input token count is 2800010 but model only supports up to 1048576.",
    "Input is too long for requested model.",
    "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
    "Please reduce the length of the messages or completion.",
    "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
    "The input (10000 tokens) is longer than the model's context length (8192 tokens).",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens",
    "The prompt is too long: 140000, model maximum context length: 131071",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000",
    "too many tokens: size limit exceeded by 1132 tokens. Try using shorter or fewer inputs",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "the request exceeds the available context size, try increasing it",
    "The decoder prompt (length 50000) is longer than the maximum model length of 4096.",
    "You passed 8193 input tokens and requested 0 output tokens. However, the model's context length is only 8192",
    "The provided prompt is 8243 tokens long, but the maximum supported sequence length is just 8192: exceeds the "
    "model's context length",
    "prompt too long; exceeded max context length by 100 tokens",
    "Invalid request: Your request exceeded model token limit: 131072",
]
NOT_TOO_LONG = [
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku",
    "too many tokens: max_tokens must be less than or equal to 4096, the maximum output for this model",
    "Invalid 'user': string too long. Expected a string with maximum length 64",
    "Invalid 'messages[0].tool_calls': array too long. Expected an array with maximum length 128",
    "Expected maxLength: 64, actual: 70",
]


@pytest.mark.parametrize("text", TOO_LONG)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_context_overflow_has_one_code(text: str, status: int) -> None:
    assert status_failure(answer(status), text, code="invalid_request_error").code == "context_length_exceeded"
    for outage in (429, 500, 503):  # an outage stays one whatever it mentions
        assert status_failure(answer(outage), text).code is None


@pytest.mark.parametrize("text", TOO_LONG)
def test_context_overflow_inside_a_200_is_known_too(text: str) -> None:
    for type in ("invalid_request_error", None):
        found = embedded_failure(text, status=None, type=type)
        assert (found.code, found.status, found.retryable) == ("context_length_exceeded", 400, False)


@pytest.mark.parametrize("text", NOT_TOO_LONG)
def test_other_limits_are_no_context_overflow(text: str) -> None:
    assert status_failure(answer(400), text).code is None
    assert embedded_failure(text, status=None).status is None


def test_a_request_beyond_the_rate_limit_is_no_context_overflow() -> None:
    words = "Request too large for model on tokens per minute (TPM): Limit 6000, too many tokens"
    assert status_failure(answer(413), words, code="rate_limit_exceeded").code == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("text", "status", "code", "type", "known"),
    [
        ("Output blocked by content filtering policy", 400, "invalid_request_error", "invalid_request_error", True),
        ("Content Exists Risk", 400, "invalid_request_error", "invalid_request_error", True),
        ("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", 400, "invalid_prompt",
         "invalid_request_error", False),
        ("Your request was rejected as a result of our safety system.", 400, None, "invalid_request_error", True),
        ("Content violates usage guidelines.", 403, None, None, True),
        ("openai/x requires moderation on OpenAI. Your input was flagged for \"violence\"", 403, "403", None, True),
        ("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", 400,
         "content_filter", None, False),
        ("The model returned the following errors: Output blocked by content filtering policy", 400,
         "ValidationException", "ValidationException", True),
    ],
)  # fmt: skip
def test_content_that_is_not_allowed_has_one_code(
    text: str, status: int, code: str | None, type: str | None, known: bool
) -> None:
    expected = "content_policy_violation" if known else code
    assert status_failure(answer(status), text, code=code, type=type).code == expected
    assert embedded_failure(text, status=status, code=code, type=type).code == expected
    assert status_failure(answer(500), text, code=code, type=type).code == code


@pytest.mark.parametrize(
    ("code", "type", "status", "retryable"),
    [
        (None, "overloaded_error", 529, True),
        ("rate_limit_exceeded", None, 429, True),
        ("insufficient_quota", None, 429, False),
        (None, "invalid_request_error", 400, False),
        (None, "modelStreamErrorException", 424, True),
        (None, "never heard of", None, True),
    ],
)
def test_errors_inside_a_200(code: str | None, type: str | None, status: int | None, retryable: bool) -> None:
    failure = embedded_failure("boom", status=None, code=code, type=type)
    assert (failure.status, failure.retryable) == (status, retryable)


@given(st.sampled_from(["nan", "inf", "-inf", "0", "-1", "", "soon", "1e999", "Wed, 99 Foo 2020 00:00:00 GMT",
                        "1_0", "0x10", "infinity", "\u0661\u0662", "1,5", "1 2", "9" * 50, "-0.0", "1e", "\x1f5"]))
def test_unusable_hints_are_no_hints(value: str) -> None:
    assert retry_hint({"retry-after": value, "retry-after-ms": value}, 1e9) is None


@pytest.mark.parametrize(("value", "seconds"), [("1", 1.0), (" 2.5\t", 2.5), ("+3", 3.0), (".5", 0.5), ("4.", 4.0), ("1e1", 10.0)])
def test_usable_hints(value: str, seconds: float) -> None:
    assert retry_hint({"retry-after": value}, 1e9) == seconds
    assert retry_hint({"retry-after-ms": value, "retry-after": "9"}, 1e9) == seconds / 1000


@pytest.mark.parametrize("date", ["Sun, 09 Sep 2001 01:46:50 GMT", "Sunday, 09-Sep-01 01:46:50 GMT", "Sun Sep  9 01:46:50 2001",
                                  "Sun, 09 Sep 2001 01:46:50 -0000", "Sun, 09 Sep 2001 03:46:50 +0200"])  # fmt: skip
def test_a_date_is_the_same_moment_wherever_the_caller_is(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert retry_hint({"retry-after": date}, 1e9) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.one_of(st.none(), st.floats(allow_nan=True)), st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(hint: float | None, retry: int, uniform: float) -> None:
    wait = backoff(Failure("status", "m", retry_after=hint), retry, uniform)
    if hint is not None and math.isfinite(hint) and hint > 60:
        assert wait is None
    elif hint is not None and math.isfinite(hint) and hint > 0:
        assert wait is not None
        assert hint <= wait <= hint * 1.1
    else:
        assert wait is not None
        assert 0.05 <= wait <= 8


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=12, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_a_masked_secret_is_gone(secret: str, before: str, after: str) -> None:
    shown = mask(f"{before} {secret} {after} {secret[:8]}…", [secret])
    assert secret not in shown
    assert secret not in mask("x" * 1995 + secret, [secret])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"message": "b"}, "b"),
        ({"Message": "c"}, "c"),
        ({"detail": "d"}, "d"),
        ({"detail": [{"loc": ["body", "temperature"], "msg": "too hot"}]}, "too hot (body.temperature)"),
        ({"error": "e"}, "e"),
        ([{"error": {"message": "f"}}], "f"),
    ],
)
def test_the_providers_own_words(body: object, said: str) -> None:
    assert message_of(body, answer(400)) == said


def test_no_words_at_all() -> None:
    page = answer(502, b"<html>bad gateway</html>", content_type="text/html; charset=utf-8")
    assert message_of(None, page) == "HTTP 502, text/html: <html>bad gateway</html>"
    assert message_of(None, answer(502)) == "HTTP 502 without a body"


@pytest.mark.parametrize("kind", ["reset", "eof", "truncated", "bad_response"])
def test_a_broken_stream_has_one_name(kind: str) -> None:
    failure = interrupted(transport_failure(kind, "m"))  # type: ignore[arg-type]
    assert (failure.kind, failure.code, failure.retryable) == ("stream_interrupted", "stream_interrupted", True)
    assert interrupted(transport_failure("timeout", "m")).kind == "timeout"


def test_credentials_do_not_show_themselves() -> None:
    import copy
    import pickle

    secret = Credentials("sk-very-secret", {"secret_key": "aws-secret", "region": "eu-west-1"})
    assert "secret" not in repr(secret).replace("Credentials", "")
    assert set(secret.secrets()) == {"sk-very-secret", "aws-secret"}
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


LONG = "sk-proj-" + "".join(chr(97 + n * 7 % 26) for n in range(150))


@pytest.mark.parametrize("kept", [8, 9, 20, 100, len(LONG)])
def test_a_secret_cut_anywhere_is_gone(kept: int) -> None:
    """What quotes a key may be cut off inside it: by the provider, or by our own limits before the text gets here."""
    for piece in (LONG[:kept], LONG[-kept:]):
        shown = mask(f"bad key: {piece}", [LONG])
        assert shown == "bad key: ***"
        assert mask(f"{piece} and {piece}!", [LONG]) == "*** and ***!"


def test_an_encoded_secret_is_gone() -> None:
    key = "p@ss/word+with=signs&more"
    assert mask(f"proxy http://u:{quote(key, safe='')}@h failed", [key]) == "proxy http://u:***@h failed"
    shown = mask(f"header was {b64encode(key.encode()).decode()}", [key])
    assert b64encode(key.encode()).decode()[:8] not in shown
    assert b64encode(key.encode()).decode()[8:24] not in shown
