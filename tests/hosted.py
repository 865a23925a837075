"""A `HostedReranker` for each provider's fake."""

from typing import Any

import google.auth
import google.oauth2.credentials
import pytest

import langchain_rerankkit
from langchain_rerankkit import HostedReranker
from langchain_rerankkit.rerankers import providers

KEY = "sk-test-4f9d1c0b7a6e"


def token() -> str:
    """What a function given as ``api_key`` returns."""
    return KEY


MODELS = {"nvidia": "nvidia/rerank-1b-v2", "cloudflare": "@cf/baai/bge-reranker-base", "bedrock": "amazon.rerank-v1:0"}
MORE: dict[str, dict[str, Any]] = {
    "volcengine": {"params": {"access_key": "AKLTexample"}},
    "vertex": {"params": {"project": "p"}, "api_key": None},  # of google-auth
    "cloudflare": {"params": {"account_id": "account"}},
    # IBM's own host would turn the key into a token.
    "watsonx": {"params": {"project_id": "p"}, "api_key": token},
    "bedrock": {"params": {"region": "eu-west-3"}, "api_key": None},  # of botocore
}
NAMED = {
    vars(getattr(langchain_rerankkit, name))["__pydantic_fields__"]["provider"].default: name
    for name in providers.__all__
}


def open_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for the providers that are signed for: Google's token is the key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    account = google.oauth2.credentials.Credentials(token=KEY)
    monkeypatch.setattr(google.auth, "default", lambda **_: (account, "p"))


def hosted(provider: str, url: str, **fields: Any) -> HostedReranker:
    """The reranker that talks to a provider's fake: the provider's own class where it has one."""
    kind = getattr(langchain_rerankkit, NAMED[provider]) if provider in NAMED else HostedReranker
    given: dict[str, Any] = {"api_key": KEY, "model": MODELS.get(provider, "some-model"), "base_url": url}
    given |= {} if provider in NAMED else {"provider": provider}
    return kind(**(given | MORE.get(provider, {}) | fields))
