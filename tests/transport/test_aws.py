"""The credential chain: profiles are found through botocore, and nobody is asked where nothing suggests it."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentracy.providers import registry
from opentracy.transport import aws

pytest.importorskip("botocore")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No AWS variables, a home without ~/.aws, no hardware that claims to be Amazon's."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(aws, "_VENDOR", tmp_path / "no-such-file")
    aws.forget()
    yield
    aws.forget()


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def env() -> dict[str, str]:
    return dict(os.environ)


def test_nothing_suggests_a_chain() -> None:
    assert aws.find(env()) is None
    assert asyncio.run(aws.afind(env())) is None


def test_a_profile_with_its_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials = "[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = geheim\naws_session_token = tok\n"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", write(tmp_path / "credentials", credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", write(tmp_path / "config", "[profile work]\nregion = eu-central-1\n"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    found = aws.find(env())
    assert found is not None
    assert dict(found.credentials.extra) == {"access_key": "AKIDWORK", "secret_key": "geheim", "session_token": "tok"}
    assert found.region == "eu-central-1"
    assert "geheim" not in repr(found)

    target = registry.target(
        "bedrock/amazon.nova-lite-v1:0", env={**env(), "AWS_REGION": found.region}, credentials=found.credentials
    )
    assert target.base_url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert target.credentials is found.credentials


def test_the_default_profile_in_the_home_directory(tmp_path: Path) -> None:
    write(tmp_path / ".aws" / "credentials", "[default]\naws_access_key_id = A\naws_secret_access_key = S\n")
    found = asyncio.run(aws.afind(env()))
    assert found is not None
    assert dict(found.credentials.extra) == {"access_key": "A", "secret_key": "S"}
    assert found.region is None


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(ValueError, match=r"AWS credentials could not be loaded.*nowhere"):
        aws.find(env())


def process_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    """A credential process that counts how often it is asked; its answers live for `minutes`."""
    count = tmp_path / "count"
    until = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    script = write(
        tmp_path / "source.sh",
        f"echo x >> {count}\nn=$(wc -l < {count})\n"
        'echo "{\\"Version\\":1,\\"AccessKeyId\\":\\"A$n\\",\\"SecretAccessKey\\":\\"S\\",\\"SessionToken\\":\\"T\\",'
        f'\\"Expiration\\":\\"{until}\\"}}"\n',
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", write(tmp_path / "config", f"[default]\ncredential_process = sh {script}\n"))


def access_key() -> str:
    found = aws.find(env())
    assert found is not None
    return found.credentials.extra["access_key"]


def test_credentials_are_kept_until_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process_source(tmp_path, monkeypatch, minutes=600)
    assert [access_key(), access_key()] == ["A1", "A1"]
    aws.forget()
    assert access_key() == "A2"


def test_credentials_about_to_expire_are_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process_source(tmp_path, monkeypatch, minutes=5)
    assert access_key() != access_key()
