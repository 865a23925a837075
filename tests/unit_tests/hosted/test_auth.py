"""Which key goes where, and whether signatures are what the vendors' services would compute."""

import hashlib
import hmac
import re
import time
from urllib.parse import urlsplit

import google.auth
import google.oauth2.credentials
import httpx
import jwt
import pytest

from langchain_rerankkit import HostedReranker
from tests.hosted import KEY, hosted, open_accounts
from tests.rerank_fakes import FAKES
from tests.rerank_server import Reply, serve

QUERY, TEXTS = "the river Fluß", ["a river", "bread", "Straße"]
SECRET = "wJalrXUtnFEMI/K7MDENG"


def signed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def expected_signature(request, *, algorithm, start, end, date_header):
    """Signature version 4 from its specification: what the service computes from the request that arrived."""
    authorization = request.headers["authorization"]
    scope = re.search(r"Credential=[^/]+/([^,]+)", authorization)[1]
    names = re.search(r"SignedHeaders=([^,]+)", authorization)[1].split(";")
    assert {"host", date_header} <= set(names)
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "&".join(f"{name}={value}" for name, value in sorted(request.query.items())),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    date = request.headers[date_header]
    text = "\n".join([algorithm, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    day, region, service, _ = scope.split("/")
    assert date.startswith(day)
    key = f"{start}{SECRET}".encode()
    for part in (day, region, service, end):
        key = signed(key, part)
    return signed(key, text).hex()


def test_amazons_signature(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    with serve(FAKES["bedrock"]()) as server, hosted("bedrock", server.url, params={"region": "eu-west-3"}) as reranker:
        reranker.rank(QUERY, TEXTS)
        (request,) = server.requests
    authorization = request.headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-3/bedrock/aws4_request" in authorization
    assert request.headers["x-amz-security-token"] == "session"
    signature = expected_signature(
        request, algorithm="AWS4-HMAC-SHA256", start="AWS4", end="aws4_request", date_header="x-amz-date"
    )
    assert authorization.endswith(f"Signature={signature}")


def test_no_key_is_taken_and_not_used():
    for provider in ("bedrock", "vertex"):
        with pytest.raises(ValueError, match="takes no key"):
            HostedReranker(provider=provider, model="m", api_key=KEY, params=PARAMS[provider]).warmup()


PARAMS = {"bedrock": {"region": "us-west-2"}, "vertex": {"project": "p"}}


def test_volcengines_signature():
    fields = {"api_key": SECRET, "params": {"access_key": "AKLTexample"}}
    with serve(FAKES["volcengine"]()) as server, hosted("volcengine", server.url, **fields) as reranker:
        reranker.rank(QUERY, TEXTS)
        (request,) = server.requests
    authorization = request.headers["authorization"]
    assert authorization.startswith("HMAC-SHA256 Credential=AKLTexample/")
    assert "/cn-north-1/air/request" in authorization
    signature = expected_signature(request, algorithm="HMAC-SHA256", start="", end="request", date_header="x-date")
    assert authorization.endswith(f"Signature={signature}")


def test_googles_token(monkeypatch):
    account = google.oauth2.credentials.Credentials(token="ya29.token")
    monkeypatch.setattr(google.auth, "default", lambda **_: (account, "p"))
    with serve(FAKES["vertex"](key="ya29.token")) as server, hosted("vertex", server.url) as reranker:
        assert len(reranker.rank(QUERY, TEXTS)) == 3
        assert server.requests[0].headers["x-goog-user-project"] == "p"


def test_ibms_token():
    """The API key goes to the identity service alone, once; its token goes to the endpoint."""
    now = int(time.time())
    token = jwt.encode({"iat": now, "exp": now + 3600}, "k" * 32, algorithm="HS256")
    grant = {
        "access_token": token,
        "refresh_token": "",
        "token_type": "Bearer",
        "expires_in": 3600,
        "expiration": now + 3600,
    }
    with serve(lambda _: Reply(grant)) as identity, serve(FAKES["watsonx"](key=token)) as server:
        fields = {"api_key": KEY, "params": {"iam_url": identity.url, "project_id": "p"}}
        with hosted("watsonx", server.url, **fields) as reranker:
            for _ in range(3):
                assert len(reranker.rank(QUERY, TEXTS)) == 3
    assert len(identity.requests) == 1
    assert KEY.encode() in identity.requests[0].body
    assert not any(KEY in str(request.headers) or KEY.encode() in request.body for request in server.requests)


def test_a_token_for_each_request():
    tokens = iter(["first-token", "second-token"])
    with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url, api_key=lambda: next(tokens)) as reranker:
        reranker.rank(QUERY, TEXTS)
        reranker.rank(QUERY, TEXTS)
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer first-token",
        "Bearer second-token",
    ]


@pytest.mark.parametrize(
    ("provider", "env", "base_url", "sent"),
    [
        ("cohere", "COHERE_API_KEY", None, True),
        ("cohere", "CO_API_KEY", None, True),
        ("cohere", "COHERE_API_KEY", "https://api.cohere.com/v2", True),
        ("cohere", "COHERE_API_KEY", "https://api.cohere.com.example", False),
        ("cohere", "COHERE_API_KEY", "https://proxy.example", False),
        ("azure", "AZURE_AI_API_KEY", "https://mine.services.ai.azure.com", True),
        ("azure", "AZURE_AI_API_KEY", "https://mine.azure.com.example", False),
        ("siliconflow", "SILICONFLOW_API_KEY", "https://api.siliconflow.com", True),
        ("dashscope", "DASHSCOPE_API_KEY", "https://w.eu.maas.aliyuncs.com", True),
        ("dashscope", "DASHSCOPE_API_KEY", "https://maas.aliyuncs.com.example", False),
        ("watsonx", "WATSONX_APIKEY", "https://eu-de.ml.cloud.ibm.com", True),
        ("elasticsearch", "ES_API_KEY", "https://my.example:9200", True),  # the environment names this host
        ("elasticsearch", "ES_API_KEY", "https://my.example", False),
    ],
)
def test_the_environments_key_goes_to_the_providers_host_alone(monkeypatch, provider, env, base_url, sent):
    monkeypatch.setenv(env, KEY)
    monkeypatch.setenv("ELASTICSEARCH_URL", "https://my.example:9200")
    reranker = HostedReranker(provider=provider, model="m", base_url=base_url)
    if provider == "watsonx":  # its key is not sent, but what IBM gives for it
        assert reranker._ready().endpoint._signer is not None
        return
    seen = []
    with httpx.Client(transport=httpx.MockTransport(lambda r: seen.append(r) or httpx.Response(401))) as client:
        reranker.http_client = client
        with pytest.raises(OSError, match="401" if sent else "is sent to the provider's own host only"):
            reranker.rank(QUERY, TEXTS)
    assert (KEY in str(seen[0].headers.raw)) is sent


@pytest.mark.parametrize("provider", sorted(FAKES))
def test_each_key_has_its_header(provider, monkeypatch):
    """With the key of another, every fake refuses as its provider does, and the error says what to check."""
    open_accounts(monkeypatch)
    with serve(FAKES[provider](key="another-key")) as server, hosted(provider, server.url) as reranker:
        with pytest.raises(OSError, match=r"Check api_key") as caught:
            reranker.rank(QUERY, TEXTS)
        assert caught.value.status in {401, 403}
        assert urlsplit(server.url).netloc in str(caught.value)
    if provider not in {"bedrock", "volcengine"}:
        with serve(FAKES[provider](key=KEY)) as server, hosted(provider, server.url) as reranker:
            assert len(reranker.rank(QUERY, TEXTS)) == 3


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("watsonx", {"params": {"region": "evil.example/"}}),
        ("bedrock", {"params": {"region": "evil.example#"}, "api_key": None}),
        ("deepinfra", {"model": "../../admin"}),
        ("cloudflare", {"params": {"account_id": ".."}}),
    ],
)
def test_what_stands_in_an_address_leads_nowhere_else(provider, fields):
    with pytest.raises(ValueError, match="stands in the address"):
        HostedReranker(**({"provider": provider, "model": "m", "api_key": KEY} | fields)).warmup()


def test_a_users_address_is_no_template():
    with pytest.raises(OSError, match="could not be reached"):
        HostedReranker(base_url="http://127.0.0.1:9/{model.__class__}", model="m", max_retries=0).rank(QUERY, TEXTS)
    with serve(FAKES["deepinfra"]()) as server, hosted("deepinfra", server.url, model="a/b?c=d#e {f}") as reranker:
        assert len(reranker.rank(QUERY, TEXTS)) == 3
        assert server.requests[0].path == "/v1/inference/a/b?c=d#e {f}"
