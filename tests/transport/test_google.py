"""Google's application default credentials: a service account's token from a real token server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from opentracy.transport import google

pytest.importorskip("google.auth")


class _TokenServer(BaseHTTPRequestHandler):
    status = 200
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        good = {"access_token": f"ya29.token{self.asked}", "expires_in": 3600, "token_type": "Bearer"}
        body = json.dumps(good if self.status == 200 else {"error": "invalid_grant"}).encode()
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a service account whose tokens come from loopback."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()
    _TokenServer.status, _TokenServer.asked = 200, 0
    with HTTPServer(("127.0.0.1", 0), _TokenServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        path = tmp_path / "account.json"
        uri = f"http://127.0.0.1:{server.server_port}/token"
        document = {"type": "service_account", "project_id": "my-project", "private_key": pem, "token_uri": uri}
        path.write_text(json.dumps({**document, "client_email": "me@my-project.iam.gserviceaccount.com"}))
        env = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        google.forget()
        yield env
        google.forget()
        server.shutdown()
        thread.join()


def test_a_service_account_gives_a_token_and_its_project_once(account: dict[str, str]) -> None:
    first, second = google.find(account), google.find(account)
    assert first is not None and second is not None
    assert first.credentials.key == second.credentials.key == "ya29.token1"
    assert first.project == "my-project"
    assert _TokenServer.asked == 1
    assert "ya29" not in repr(first)


def test_a_refused_account_is_an_error_that_says_so(account: dict[str, str]) -> None:
    _TokenServer.status = 400
    with pytest.raises(ValueError, match="Google credentials could not be loaded"):
        google.find(account)


def test_nobody_is_asked_where_nothing_points_to_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(google, "_VENDOR", tmp_path / "absent")
    assert google.find({}) is None
