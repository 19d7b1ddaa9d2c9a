"""Model strings, keys, bases: the contract's resolution rules, from an environment that is an argument."""

from __future__ import annotations

import pytest

from opentracy.core.wire import Credentials
from opentracy.providers import registry

LISTED = (
    "openai anthropic gemini groq mistral deepseek together fireworks cerebras sambanova perplexity cohere bedrock"
).split()


def test_the_thirteen_of_the_page_and_those_beyond() -> None:
    assert [row.name for row in registry.providers() if row.listed] == LISTED
    assert {row.name for row in registry.providers() if not row.listed} == {
        "azure", "openrouter", "xai", "moonshot", "ollama", "vllm", "vertex",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("openai/gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("OpenAI/gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("fireworks/accounts/fireworks/models/x", "fireworks", "accounts/fireworks/models/x"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("ChatGPT-4o-latest", "openai", "ChatGPT-4o-latest"),
        ("o1-mini", "openai", "o1-mini"),
        ("o3", "openai", "o3"),
        ("o4-mini", "openai", "o4-mini"),
        ("claude-3-haiku-20240307", "anthropic", "claude-3-haiku-20240307"),
        ("gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"),
        ("mixtral-8x7b", "groq", "mixtral-8x7b"),
        ("gemma2-9b", "groq", "gemma2-9b"),
        ("qwen-qwq-32b", "groq", "qwen-qwq-32b"),
        ("mistral-large-latest", "mistral", "mistral-large-latest"),
        ("ministral-8b", "mistral", "ministral-8b"),
        ("codestral-latest", "mistral", "codestral-latest"),
        ("pixtral-12b", "mistral", "pixtral-12b"),
        ("magistral-medium", "mistral", "magistral-medium"),
        ("devstral-small", "mistral", "devstral-small"),
        ("deepseek-chat", "deepseek", "deepseek-chat"),
        ("command-a-03-2025", "cohere", "command-a-03-2025"),
        ("c4ai-aya", "cohere", "c4ai-aya"),
        ("sonar-pro", "perplexity", "sonar-pro"),
        ("amazon.nova-lite-v1:0", "bedrock", "amazon.nova-lite-v1:0"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "bedrock", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("us-gov.meta.llama3", "bedrock", "us-gov.meta.llama3"),
        ("global.amazon.nova-2", "bedrock", "global.amazon.nova-2"),
    ],
)
def test_a_model_string_finds_its_provider(model: str, provider: str, name: str) -> None:
    row, rest = registry.split(model)
    assert (row.name, rest) == (provider, name)


def test_an_unknown_provider_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Unknown provider: nosuch$"):
        registry.split("nosuch/x")


@pytest.mark.parametrize("model", ["zzz", "auto", "", "grok-4", "xx.anthropic.claude", "openai/"])
def test_an_unresolvable_name_says_what_to_do(model: str) -> None:
    with pytest.raises(ValueError, match=f"^Cannot resolve provider for model '{model}'"):
        registry.split(model)


def test_a_missing_key_is_said_with_the_variable_to_set() -> None:
    with pytest.raises(ValueError, match=r"^No API key for groq .*GROQ_API_KEY"):
        registry.target("groq/x", env={"OPENAI_API_KEY": "other"})
    with pytest.raises(ValueError, match=r"^No API key for bedrock .*AWS_SECRET_ACCESS_KEY"):
        registry.target("bedrock/x", env={"AWS_ACCESS_KEY_ID": "a"})


def test_with_a_base_and_no_key_the_call_goes_out_without_credentials() -> None:
    target = registry.target("openai/x", env={}, api_base="http://localhost:9/v1")
    assert target.credentials == Credentials()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/x", "OPENAI_API_KEY"), ("anthropic/x", "ANTHROPIC_API_KEY"), ("gemini/x", "GEMINI_API_KEY"),
        ("gemini/x", "GOOGLE_API_KEY"), ("together/x", "TOGETHERAI_API_KEY"), ("fireworks/x", "FIREWORKS_AI_API_KEY"),
        ("perplexity/x", "PERPLEXITYAI_API_KEY"), ("perplexity/x", "PPLX_API_KEY"), ("cohere/x", "CO_API_KEY"),
        ("bedrock/x", "AWS_BEARER_TOKEN_BEDROCK"), ("xai/x", "XAI_API_KEY"), ("openrouter/x", "OPENROUTER_API_KEY"),
    ],
)  # fmt: skip
def test_keys_come_from_the_usual_variables(model: str, name: str) -> None:
    assert registry.target(model, env={name: "k-env"}).credentials.key == "k-env"
    assert registry.target(model, env={name: "k-env"}, api_key="k-arg").credentials.key == "k-arg"
    assert registry.has_credentials(model.split("/")[0], {name: "k"})


def test_parts_replace_a_key_only_when_all_are_there() -> None:
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t", "AWS_REGION": "eu-west-3"}
    target = registry.target("bedrock/x", env=env)
    assert dict(target.credentials.extra) == {"access_key": "a", "secret_key": "s", "session_token": "t"}
    assert target.base_url == "https://bedrock-runtime.eu-west-3.amazonaws.com"
    assert registry.target("bedrock/x", env={**env, "AWS_BEARER_TOKEN_BEDROCK": "b"}).credentials == Credentials("b")
    assert registry.target("anthropic/x", env={"ANTHROPIC_AUTH_TOKEN": "t"}).credentials.extra == {"auth_token": "t"}
    assert not registry.has_credentials("bedrock", {"AWS_SECRET_ACCESS_KEY": "s"})


def test_credentials_found_elsewhere_are_the_last_resort() -> None:
    found = Credentials(None, {"access_key": "chain"})
    assert registry.target("bedrock/x", env={}, credentials=found).credentials is found
    assert registry.target("bedrock/x", env={"AWS_BEARER_TOKEN_BEDROCK": "b"}, credentials=found).credentials.key == "b"
    with pytest.raises(ValueError, match="No API key"):
        registry.target("bedrock/x", env={}, credentials=Credentials())


@pytest.mark.parametrize(
    ("env", "base"),
    [
        ({}, "https://api.groq.com/openai/v1"),
        ({"GROQ_BASE_URL": "http://b/v1"}, "http://b/v1"),
        ({"GROQ_API_BASE": "http://a/v1/", "GROQ_BASE_URL": "http://b/v1"}, "http://a/v1"),
        ({"GROQ_API_BASE": "", "OPENAI_API_BASE": "http://no"}, "https://api.groq.com/openai/v1"),
    ],
)
def test_the_base_comes_from_the_providers_own_variables(env: dict[str, str], base: str) -> None:
    assert registry.target("groq/x", env={"GROQ_API_KEY": "k", **env}).base_url == base


def test_a_base_that_is_no_url_is_refused_by_the_name_of_its_source() -> None:
    with pytest.raises(ValueError, match="api_base must be an http"):
        registry.target("openai/x", env={}, api_base="localhost:9")
    with pytest.raises(ValueError, match="GROQ_API_BASE must be an http"):
        registry.target("groq/x", env={"GROQ_API_KEY": "k", "GROQ_API_BASE": "ftp://x"})


def test_local_servers_need_no_key_and_take_a_bare_host() -> None:
    assert registry.target("ollama/x", env={"OLLAMA_HOST": "10.0.0.2:11434"}).base_url == "http://10.0.0.2:11434"
    assert registry.target("vllm/x", env={}).base_url == "http://localhost:8000/v1"
    assert registry.has_credentials("vllm", {})


def test_bases_with_a_place_in_them() -> None:
    env = {"VERTEX_ACCESS_TOKEN": "t", "GOOGLE_CLOUD_PROJECT": "p"}
    assert registry.target("vertex/m", env=env).base_url == "https://aiplatform.googleapis.com"
    here = registry.target("vertex/m", env={**env, "GOOGLE_CLOUD_LOCATION": "europe-west4"})
    assert here.base_url == "https://europe-west4-aiplatform.googleapis.com"
    assert here.options["project"] == "p"


def test_azure_needs_to_be_told_where_it_is() -> None:
    with pytest.raises(ValueError, match="AZURE_OPENAI_ENDPOINT"):
        registry.target("azure/dep", env={"AZURE_OPENAI_API_KEY": "k"})
    env = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/"}
    assert registry.target("azure/dep", env=env).base_url == "https://r.openai.azure.com"


def test_our_engine_is_one_more_target() -> None:
    for url in ("http://e:8080", "http://e:8080/", "http://e:8080/v1"):
        target = registry.engine_target("auto", url=url, api_key="t")
        assert (target.base_url, target.model, target.credentials.key) == ("http://e:8080/v1", "auto", "t")
    with pytest.raises(ValueError, match="the engine's URL must be an http"):
        registry.engine_target("auto", url="engine:8080")


def test_a_target_never_shows_its_key() -> None:
    assert "sk-very-secret" not in repr(registry.target("openai/x", env={}, api_key="sk-very-secret"))


def test_every_dialect_named_by_a_row_can_be_loaded() -> None:
    for row in registry.providers():
        dialect = registry.dialect(row.dialect)
        for method in ("build_request", "sign", "parse_response", "open_stream", "parse_error"):
            assert callable(getattr(dialect, method)), (row.name, method)
