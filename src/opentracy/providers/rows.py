"""The registry's rows: every provider there is, as data. Adding an OpenAI-compatible one costs one row and one fixture.

Facts are the vendors' own (endpoints, variables, refused parameters); the reading of them stands in `registry`.
"""

from __future__ import annotations

from .base import Provider
from .openai_quirks import ModelRule, Quirks

_SAMPLING = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
_SCORES = frozenset({"logprobs", "top_logprobs", "logit_bias"})
_STORED = frozenset(
    {"store", "metadata", "service_tier", "prediction", "audio", "modalities", "web_search_options", "verbosity",
     "safety_identifier", "prompt_cache_key", "functions", "function_call"}
)  # fmt: skip

# o-series and gpt-5 take no sampling settings; from gpt-5.1 on only while they reason. Which efforts a model knows has
# changed with nearly every one of them. Models that always search the web take no sampling settings at all.
_OPENAI_RULES = (
    ModelRule(r"gpt-[\w.-]*-search", drop=_SCORES | _SAMPLING.keys() | {"n", "seed", "reasoning_effort"}),
    ModelRule(r"gpt-[34]|chatgpt-4o", drop=frozenset({"reasoning_effort"})),
    ModelRule(r"gpt-5[\w.-]*-chat", cap="max_completion_tokens"),
    ModelRule(
        r"o[1-9]", drop=_SCORES, only=_SAMPLING, cap="max_completion_tokens",
        effort={"none": "low", "minimal": "low", "xhigh": "high"},
    ),
    ModelRule(
        r"gpt-5(?:$|-)", drop=_SCORES, only=_SAMPLING, cap="max_completion_tokens",
        effort={"none": "minimal", "xhigh": "high"},
    ),
    ModelRule(
        r"gpt-5\.1(?!\d|-codex-max)", drop=_SCORES, only=_SAMPLING, when_effort=True, cap="max_completion_tokens",
        effort={"minimal": "low", "xhigh": "high"},
    ),
    ModelRule(
        r"gpt-(?:5\.|[6-9]|\d\d)", drop=_SCORES, only=_SAMPLING, when_effort=True, cap="max_completion_tokens",
        effort={"minimal": "low"},
    ),
)  # fmt: skip
_THREE_EFFORTS = {"minimal": "low", "xhigh": "high"}

OPENAI = Quirks(
    rules=_OPENAI_RULES,
    developer_role=True,
    openai_messages=True,
    allowed_tools=True,
    headers={"OpenAI-Organization": "organization", "OpenAI-Project": "project"},
)
GROQ = Quirks(
    format_with_tools=False,
    drop=_SCORES | {"store", "metadata", "prediction", "audio", "modalities", "web_search_options", "verbosity",
                    "safety_identifier", "prompt_cache_key"},
    single=frozenset({"n"}),
    effort=_THREE_EFFORTS,
    tiers={"default": "on_demand", "priority": "performance"},
    rules=(
        ModelRule(r"openai/gpt-oss", effort={"none": "low", **_THREE_EFFORTS}),  # it cannot stop thinking altogether
        ModelRule(r"qwen/", effort=dict.fromkeys(("minimal", "low", "medium", "high", "xhigh"), "default")),
        ModelRule(r"llama|meta-llama/|gemma|mixtral|allam", drop=frozenset({"reasoning_effort"})),
    ),
    names=False,
    embeddings=False,
    think_tags=r"qwen|deepseek-r1",
)  # fmt: skip
MISTRAL = Quirks(
    cap="max_tokens",
    drop=(_STORED - {"prompt_cache_key", "metadata", "prediction"}) | {"user", "logit_bias"},
    rename={"seed": "random_seed", "dimensions": "output_dimension"},
    effort={"minimal": "none", "low": "high", "medium": "high", "xhigh": "high"},
    usage_option=False,
    files="document_url",
    rich_results=True,
    nine_char_ids=True,
    thoughts_in_content="magistral",
    whole_functions=True,
    max_temperature=1.5,
    prefill=True,
    names=False,
)
DEEPSEEK = Quirks(
    cap="max_tokens",
    drop=_STORED | {"logit_bias", "seed"},
    single=frozenset({"n"}),
    effort={"minimal": "low"},
    effort_off={"thinking": {"type": "disabled"}},
    echo_tool_reasoning=True,
    blank_reasoning=r"deepseek-v(?:[4-9]|\d\d)",
    schema=False,
    embeddings=False,
)
TOGETHER = Quirks(
    cap="max_tokens",
    drop=_STORED,
    effort=_THREE_EFFORTS,
    int_logprobs=True,
    think_tags=r"deepseek-ai/deepseek-r1|.*thinking",
)
FIREWORKS = Quirks(
    cap="max_tokens",
    drop=_STORED - {"metadata", "service_tier", "prediction", "prompt_cache_key"},
    effort=_THREE_EFFORTS,
    model_prefix="accounts/fireworks/models/",
)
CEREBRAS = Quirks(
    cap="max_completion_tokens",
    max_temperature=1.5,
    drop=(_STORED - {"service_tier", "prediction"}) | {"logit_bias", "frequency_penalty", "presence_penalty"},
    single=frozenset({"n"}),
    effort=_THREE_EFFORTS,
    names=False,
    embeddings=False,
)
SAMBANOVA = Quirks(
    cap="max_tokens",
    drop=_STORED | _SCORES | {"seed", "frequency_penalty", "presence_penalty"},
    single=frozenset({"n"}),
    effort=_THREE_EFFORTS,
    names=False,
    think_tags=r"deepseek-r1|qwen3",
)
PERPLEXITY = Quirks(
    cap="max_tokens",
    drop=(_STORED - {"web_search_options"}) | _SCORES | {"tools", "tool_choice", "parallel_tool_calls", "seed"},
    single=frozenset({"n"}),
    effort={"none": "minimal", "xhigh": "high"},
    usage_option=False,
    files="file_url",
    alternate=True,
    tool_history=False,
    json_object=False,
    names=False,
    embeddings=False,
    think_tags=r"sonar-reasoning",
)
AZURE = Quirks(
    auth="api-key",
    rules=_OPENAI_RULES,
    developer_role=True,
    openai_messages=True,
    allowed_tools=True,
    deployments=True,
)
OPENROUTER = Quirks(
    developer_role=True,
    openai_messages=True,
    allowed_tools=True,
    echo=frozenset({"reasoning_details"}),
    cache_marks=True,
    headers={"HTTP-Referer": "referer", "X-Title": "title"},
)
XAI = Quirks(
    drop=_STORED - {"metadata", "service_tier", "prompt_cache_key", "store"},
    rules=(
        ModelRule(
            r"grok-4(?!\.)|grok-code",
            drop=frozenset({"presence_penalty", "frequency_penalty", "stop", "reasoning_effort"}),
        ),
        ModelRule(
            r"grok-3-mini|grok-4|grok-[5-9]", drop=frozenset({"presence_penalty", "frequency_penalty", "stop"}),
            effort=_THREE_EFFORTS,
        ),
    ),
    embeddings=False,
    reasoning_outside=True,
)  # fmt: skip
OLLAMA = Quirks(
    path="/v1/chat/completions",
    drop=_STORED | {"logit_bias", "user", "tool_choice"},
    single=frozenset({"n"}),
)
VLLM = Quirks(echo=frozenset({"reasoning_content"}), drop=frozenset({"store", "metadata", "service_tier"}))
ENGINE = Quirks(developer_role=True, cache_marks=True, verbatim=True)

ROWS: tuple[Provider, ...] = (
    Provider(
        "openai", "openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",),
        prefixes=("gpt-", "chatgpt-", "o1", "o3", "o4"),
        option_vars={"organization": ("OPENAI_ORG_ID", "OPENAI_ORGANIZATION"), "project": ("OPENAI_PROJECT_ID",)},
        quirks=OPENAI,
    ),
    Provider(
        "anthropic", "anthropic", "https://api.anthropic.com", ("ANTHROPIC_API_KEY",), prefixes=("claude",),
        secret_vars={"auth_token": ("ANTHROPIC_AUTH_TOKEN",)}, instead_of_key=("auth_token",),
    ),
    Provider(
        "gemini", "gemini", "https://generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        prefixes=("gemini",),
    ),
    Provider(
        "groq", "openai", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",),
        prefixes=("llama", "mixtral", "gemma", "qwen"), quirks=GROQ,
    ),
    Provider(
        "mistral", "openai", "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",),
        prefixes=("mistral", "ministral", "codestral", "pixtral", "magistral", "devstral"), quirks=MISTRAL,
    ),
    Provider(
        "deepseek", "openai", "https://api.deepseek.com", ("DEEPSEEK_API_KEY",), prefixes=("deepseek",),
        quirks=DEEPSEEK,
    ),
    Provider(
        "together", "openai", "https://api.together.xyz/v1", ("TOGETHER_API_KEY", "TOGETHERAI_API_KEY"),
        quirks=TOGETHER,
    ),
    Provider(
        "fireworks", "openai", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        quirks=FIREWORKS,
    ),
    Provider("cerebras", "openai", "https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",), quirks=CEREBRAS),
    Provider("sambanova", "openai", "https://api.sambanova.ai/v1", ("SAMBANOVA_API_KEY",), quirks=SAMBANOVA),
    Provider(
        "perplexity", "openai", "https://api.perplexity.ai",
        ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY", "PPLX_API_KEY"), prefixes=("sonar",), quirks=PERPLEXITY,
    ),
    Provider(
        "cohere", "cohere", "https://api.cohere.com", ("COHERE_API_KEY", "CO_API_KEY"), prefixes=("command", "c4ai"),
    ),
    Provider(
        "bedrock", "bedrock", "https://bedrock-runtime.{region}.amazonaws.com", ("AWS_BEARER_TOKEN_BEDROCK",),
        base_vars=("AWS_ENDPOINT_URL_BEDROCK_RUNTIME",),
        secret_vars={
            "access_key": ("AWS_ACCESS_KEY_ID",), "secret_key": ("AWS_SECRET_ACCESS_KEY",),
            "session_token": ("AWS_SESSION_TOKEN",),
        },
        instead_of_key=("access_key", "secret_key"),
        option_vars={"region": ("AWS_REGION", "AWS_DEFAULT_REGION")}, option_defaults={"region": "us-east-1"},
        setup="or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", chain="aws", chain_option="region",
    ),
    Provider(
        "azure", "openai", "", ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"), base_vars=("AZURE_OPENAI_ENDPOINT",),
        secret_vars={"ad_token": ("AZURE_OPENAI_AD_TOKEN", "AZURE_AD_TOKEN")}, instead_of_key=("ad_token",),
        option_vars={"api_version": ("OPENAI_API_VERSION", "AZURE_API_VERSION")},
        option_defaults={"api_version": "2024-10-21"}, quirks=AZURE, listed=False,
        setup="set AZURE_OPENAI_ENDPOINT to https://<resource>.openai.azure.com",
    ),
    Provider(
        "openrouter", "openai", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",),
        option_vars={
            "referer": ("OPENROUTER_SITE_URL", "OR_SITE_URL"), "title": ("OPENROUTER_APP_NAME", "OR_APP_NAME"),
        },
        quirks=OPENROUTER, listed=False,
    ),
    Provider("xai", "openai", "https://api.x.ai/v1", ("XAI_API_KEY",), quirks=XAI, listed=False),
    Provider("moonshot", "openai", "https://api.moonshot.ai/v1", ("MOONSHOT_API_KEY",), listed=False),
    Provider(
        "ollama", "openai", "http://localhost:11434", ("OLLAMA_API_KEY",), base_vars=("OLLAMA_HOST",),
        needs_key=False, quirks=OLLAMA, listed=False,
    ),
    Provider(
        "vllm", "openai", "http://localhost:8000/v1", ("VLLM_API_KEY",), needs_key=False, quirks=VLLM, listed=False,
    ),
    Provider(
        "vertex", "gemini", "https://{location}-aiplatform.googleapis.com",
        ("VERTEX_ACCESS_TOKEN", "GOOGLE_ACCESS_TOKEN"),
        option_vars={
            "project": ("GOOGLE_CLOUD_PROJECT", "VERTEXAI_PROJECT", "VERTEX_PROJECT"),
            "location": ("GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION", "VERTEX_LOCATION"),
        },
        option_defaults={"location": "global"}, base_for={"global": "https://aiplatform.googleapis.com"}, listed=False,
        setup="or install google-auth and set GOOGLE_APPLICATION_CREDENTIALS", chain="google", chain_option="project",
    ),
)  # fmt: skip
