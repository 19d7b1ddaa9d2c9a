"""Signatures: the published test vector, and botocore's own signer as the oracle."""

from __future__ import annotations

import datetime
import hashlib
import random
import string
from urllib.parse import quote

import pytest

from opentracy.core import sigv4

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
BODY = b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
URL = (
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"
)
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()


def signed(**change: object) -> dict[str, str]:
    given: dict[str, object] = {
        "access_key": "AKIDEXAMPLE", "secret_key": SECRET, "session_token": "TOKENEXAMPLE", "region": "us-east-1",
        "service": "bedrock", "now": WHEN,
    }  # fmt: skip
    return sigv4.sign("POST", URL, {"content-type": "application/json"}, BODY, **(given | change))  # type: ignore[arg-type]


def test_the_vector_of_the_protocol_notes() -> None:
    headers = {"content-type": "application/json", "x-amz-date": "20260102T030405Z", "x-amz-security-token": "TOKENEXAMPLE"}
    canonical, names = sigv4.canonical_request("POST", URL, headers, BODY)
    assert names == "content-type;host;x-amz-date;x-amz-security-token"
    assert "/model/us.anthropic.claude-haiku-4-5-20251001-v1%253A0/converse" in canonical
    assert hashlib.sha256(canonical.encode()).hexdigest() == (
        "997cd86471e07513601f01ef11c847e81c9faacb8a6b521508cd178a50bdfcfa"
    )
    assert signed()["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, "
        "Signature=e59bfe1adb2d01ee7d5b73bc31265d36ffb8d85d5f05d7fde809fd420923f03a"
    )


def test_without_a_session_token_none_is_sent() -> None:
    headers = signed(session_token=None)
    assert "x-amz-security-token" not in headers
    assert "SignedHeaders=content-type;host;x-amz-date," in headers["authorization"]


def test_signing_again_replaces_the_old_signature() -> None:
    first = signed()
    again = sigv4.sign(
        "POST", URL, first, BODY, access_key="AKIDEXAMPLE", secret_key=SECRET, session_token="TOKENEXAMPLE",
        region="us-east-1", service="bedrock", now=WHEN,
    )  # fmt: skip
    assert again == first
    later = sigv4.sign(
        "POST", URL, first, BODY, access_key="AKIDEXAMPLE", secret_key=SECRET, region="us-east-1", service="bedrock",
        now=WHEN + 60,
    )  # fmt: skip
    assert later["x-amz-date"] == "20260102T030505Z"
    assert "x-amz-security-token" not in later
    assert later["authorization"] != first["authorization"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.COM/x", "example.com"),
        ("https://example.com:443/x", "example.com"),
        ("http://127.0.0.1:8123/x", "127.0.0.1:8123"),
        ("http://[::1]:80/", "[::1]"),
    ],
)
def test_host(url: str, host: str) -> None:
    assert sigv4.host_of(url) == host


def _word(rng: random.Random, alphabet: str, most: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))


def test_a_thousand_random_requests_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = pytest.importorskip("botocore.auth")
    awsrequest = pytest.importorskip("botocore.awsrequest")
    credentials = pytest.importorskip("botocore.credentials")
    rng = random.Random(20260102)
    text = string.ascii_letters + string.digits + " :/%~-_.+@é漢"
    for _ in range(1000):
        now = rng.randint(0, 4_000_000_000)
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        monkeypatch.setattr(auth, "get_current_datetime", lambda m=moment: m)
        segments = [quote(_word(rng, text, 20), safe="-_.~" + rng.choice(["", ":", "%"])) for _ in range(rng.randint(0, 4))]
        path = "/".join(["", *(rng.choice([s, s, s, s, ".", "..", ""]) for s in segments), rng.choice(["converse", ""])])
        query = "&".join(f"{quote(_word(rng, text, 4), safe='')}={quote(_word(rng, text, 4), safe='')}" for _ in range(rng.randint(0, 4)))
        port = rng.choice(["", "", ":443", ":80", ":8443"])
        url = f"{rng.choice(['https', 'http'])}://{_word(rng, string.ascii_lowercase, 9)}.test{port}{path}" + ("?" + query if query else "")
        headers = {f"X-{_word(rng, string.ascii_letters, 8)}": "  " + _word(rng, string.ascii_letters + " ", 30) for _ in range(rng.randint(0, 4))}
        headers = {k.lower(): v for k, v in headers.items()}
        for unsigned in rng.sample(["User-Agent", "Connection", "traceparent", "Expect"], rng.randint(0, 2)):
            headers[unsigned] = "whatever"
        body = rng.randbytes(rng.randint(0, 200))
        secret, token = _word(rng, string.ascii_letters + "/+", 40), rng.choice([None, _word(rng, string.ascii_letters, 60)])
        region, service = rng.choice(["us-east-1", "eu-central-1", "us-gov-west-1"]), rng.choice(["bedrock", "sts"])
        method = rng.choice(["POST", "GET", "put"])

        oracle = awsrequest.AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        auth.SigV4Auth(credentials.Credentials("AKID", secret, token), service, region).add_auth(oracle)
        ours = sigv4.sign(
            method, url, headers, body, access_key="AKID", secret_key=secret, session_token=token, region=region,
            service=service, now=now,
        )  # fmt: skip
        assert ours["authorization"] == oracle.headers["Authorization"], url
        assert ours["x-amz-date"] == oracle.headers["X-Amz-Date"]
