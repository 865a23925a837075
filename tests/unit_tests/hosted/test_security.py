"""The attacker owns the server, the documents, the query or the base_url: what they learn, get, or make us do."""

import asyncio
import base64
import gc
import gzip
import html
import json
import logging
import re
import socket
import threading
import time
import traceback
import unicodedata
import warnings
from contextlib import contextmanager, suppress
from itertools import cycle
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_rerankkit import EndpointError, FallbackReranker, HostedReranker, ScoreError
from langchain_rerankkit.hosted.addresses import is_public
from langchain_rerankkit.hosted.profiles import load_profile, profile_names
from tests.hosted import KEY, MODELS, MORE, hosted, open_accounts, token
from tests.rerank_fakes import FAKES
from tests.rerank_server import Reply, serve

QUERY = "Does Wilhelmina Quackenbush know that she suffers from porphyria?"
DOCUMENTS = [
    "Quackenbush, W.: hereditary coproporphyria, confirmed by Dr. Abernathy on the third of May.",
    "患者はポルフィリン症と診断されました。ご家族にはまだ知らせていません。",
    "Żółta teczka: Kowalczykówna przyjęła łapówkę, tylko do użytku wewnętrznego.",
]
LINES = "alpha\nbravo\ncharlie\ndelta\necho\nfoxtrot"
MARKUP = "x<y&z>'quebec'\"romeo\"<sierra>t&uniform<victor>'golf'<&>'hotel'"
DIACRITICS = "é" * 20 + "ü" * 20
ASTRAL = "𠮷野家で待ち合わせる秘密の𠮷野さん𠮷𠮷𠮷𠮷"
INPUT = {"query": QUERY, "documents": [Document(page_content=text) for text in DOCUMENTS]}
LOOPBACK = "http://127.0.0.1"
ANY = "0.0.0.0"


def case(*values, name=None):
    return pytest.param(*values, id=name)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    """Of the environment's accounts: Google's token is the key."""
    open_accounts(monkeypatch)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def impatient(provider, url, **fields):
    return hosted(provider, url, **({"max_retries": 0, "break_after": None} | fields))


# --- what a text gives away ---------------------------------------------------------------------------------------------


def letters(text):
    """The letters and digits of a text, whatever is between them and however they are escaped."""
    for _ in range(2):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = re.sub(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))", lambda m: chr(int(m[1] or m[2], 16)), text)
        text = re.sub(r"\\[nrt]", " ", unquote(html.unescape(text)))
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def pieces(secret, length=8):
    secret = letters(secret)
    return [secret[start : start + length] for start in range(max(1, len(secret) - length + 1))]


def given_away(said, secrets):
    """The secrets of which a text holds eight letters in a row."""
    said = letters(said)
    return [secret for secret in secrets if any(piece in said for piece in pieces(secret))]


class Listener:
    """Keeps all that a reranker says of its failures."""

    def __init__(self, caplog):
        caplog.set_level(logging.DEBUG)
        self.caplog = caplog
        self.said = []

    @contextmanager
    def __call__(self):
        self.said.clear()
        self.caplog.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
        self.said += [str(warning.message) for warning in warned]

    def describe(self, reranker):
        self.said += [repr(reranker), str(reranker), dumps(reranker), repr(reranker.model_dump())]

    def failed(self, error):
        assert isinstance(error, (EndpointError, ScoreError)), repr(error)
        self.said += [repr(error), str(error), *traceback.format_exception(error), repr(vars(error))]

    def config(self):
        self.collector = RunCollectorCallbackHandler()
        return {"callbacks": [self.collector]}

    def traced(self):
        runs = list(self.collector.traced_runs)
        assert runs
        for run in runs:
            self.said += [
                repr(x) for x in (run.error, run.serialized, run.extra, run.tags, run.metadata, run.name, run.events)
            ]
            assert not given_away(f"{run.inputs} {run.outputs}", [KEY])

    def kept(self, documents):
        assert [document.page_content for document in documents] == DOCUMENTS
        self.said += [repr(document.metadata) for document in documents]

    def heard(self, secrets=(KEY, QUERY, *DOCUMENTS), *, logs=True):
        """What of the secrets was said."""
        messages = [record.getMessage() + str(record.exc_text or "") for record in self.caplog.records] if logs else []
        return given_away("\n".join([*self.said, *messages]), secrets)


@pytest.fixture
def listener(caplog):
    return Listener(caplog)


def ask(listener, reranker):
    listener.describe(reranker)
    with pytest.raises((EndpointError, ScoreError)) as caught:
        reranker.invoke(INPUT, listener.config())
    listener.failed(caught.value)
    listener.traced()
    chain = FallbackReranker([reranker])
    listener.kept(chain.invoke(INPUT, listener.config()))
    listener.describe(chain)
    listener.traced()


async def aask(listener, reranker):
    with pytest.raises((EndpointError, ScoreError)) as caught:
        await reranker.ainvoke(INPUT, listener.config())
    listener.failed(caught.value)
    listener.traced()
    listener.kept(await FallbackReranker([reranker]).ainvoke(INPUT, listener.config()))


# --- what a server says --------------------------------------------------------------------------------------------------


def credential(request):
    """The header with the key, or with what a signer made of it."""
    sent = request.headers
    return next((sent[name] for name in ("authorization", "api-key") if name in sent), KEY)


QUOTES = {
    "the headers": lambda request: str(request.headers),
    "the key": credential,
    "the body": lambda request: request.body.decode(),
    "the query": lambda _: QUERY,
    "a document": lambda _: f"could not read {DOCUMENTS[0]!r}",
    "part of a document": lambda _: f"unexpected token near {DOCUMENTS[0][20:60]}",
    "documents of other alphabets": lambda _: f"bad input: {DOCUMENTS[1]} and {DOCUMENTS[2]}",
    "the same, escaped": lambda _: json.dumps(DOCUMENTS[1:]),
}
PLACES = {
    "message": lambda text, _: {"message": text},
    "detail": lambda text, _: {"detail": text},
    "error": lambda text, _: {"error": text},
    "error.message": lambda text, _: {"error": {"message": text, "type": "invalid"}},
    "errors": lambda text, _: {"errors": [{"message": text}, {"message": "and more"}]},
    "a mistake": lambda text, request: {"detail": [{"loc": ["body", 0], "msg": text, "input": request.body.decode()}]},
    "a JSON string": lambda text, _: text,
    "a JSON list": lambda text, _: [text],
    "a result": lambda text, _: {"results": [{"index": text, "relevance_score": text}], "data": [text]},
    "HTML": lambda text, _: f"<html><title>400</title><p>{html.escape(text)}</p></html>".encode(),
    "plain text": lambda text, _: text.encode(),
    "no UTF-8": lambda text, _: b"\xff\xfe\xff" + text.encode(),
}
STATUSES = [200, 400, 401, 403, 404, 422, 429, 500]


def hostile_answers(number):
    """All places and quotations, with a status in turn; for each provider another third of them, for the first all."""
    statuses = cycle(STATUSES)
    answers = [
        (f"{quoted} in {place}, {status}", write, quotation, status)
        for place, write in PLACES.items()
        for quoted, quotation in QUOTES.items()
        for status in (STATUSES[::2] if number == 0 else [next(statuses)])
    ]
    return answers if number == 0 else answers[number % 3 :: 3]


def with_a_key(provider, url):
    """A reranker whose key is in a header: tokens of functions and accounts have tests of their own."""
    if provider not in {"watsonx", "vertex"}:
        return impatient(provider, url)
    profile, params = {"like": provider, "signer": None}, MORE[provider].get("params", {})
    fields = {"model": "m", "base_url": url, "api_key": KEY, "params": params, "max_retries": 0, "break_after": None}
    return HostedReranker(provider=profile, **fields)


def refusal(reply, texts=DOCUMENTS, provider="cohere", **fields):
    """What becomes of an answer that is always the same."""
    with serve(lambda _: reply) as server, impatient(provider, server.url, **fields) as reranker:
        return failure(reranker, texts)


def failure(reranker, texts=DOCUMENTS):
    with pytest.raises(EndpointError) as caught:
        reranker.rank(QUERY, texts)
    return caught.value


def listen(listener, answer, provider="cohere", **fields):
    """All that is said of an answer, or of what a function makes of the request."""
    app = answer if callable(answer) else lambda _: answer
    with serve(app) as server, impatient(provider, server.url, **fields) as reranker, listener():
        ask(listener, reranker)
        asyncio.run(aask(listener, reranker))


class TestNothingIsTold:
    @pytest.mark.parametrize("provider", FAKES)
    def test_whatever_a_server_quotes(self, provider, listener):
        answers = hostile_answers(list(FAKES).index(provider))
        current = []

        def app(request):
            write, quotation, status = current
            return Reply(write(quotation(request), request), status, {"Set-Cookie": "a=b"})

        async def all_again(reranker):
            for name, *current[:] in answers:
                with listener():
                    await aask(listener, reranker)
                assert not listener.heard(), name

        with serve(app) as server, with_a_key(provider, server.url) as reranker:
            for name, *current[:] in answers:
                with listener():
                    ask(listener, reranker)
                assert not listener.heard(), name
            asyncio.run(all_again(reranker))

    @pytest.mark.parametrize(
        "disguised",
        [
            case(" ".join(KEY), name="a key in pieces"),
            case(KEY.upper(), name="a key in capitals"),
            case(KEY[::-1], name="a key from its end"),
            case(base64.b64encode(KEY.encode()).decode(), name="a key as Base64"),
            case(LINES, name="lines"),
            case(repr(LINES), name="lines of Python"),
            case(html.escape(MARKUP), name="entities"),
            case(quote(DOCUMENTS[1]), name="percent signs"),
            case(DOCUMENTS[0].upper(), name="capitals"),
            case(DOCUMENTS[1][:11], name="a sentence of eleven characters"),
            case(unicodedata.normalize("NFD", DIACRITICS), name="code points"),
            case(json.dumps(ASTRAL), name="surrogates"),
        ],
    )
    def test_in_disguise(self, disguised):
        texts = [*DOCUMENTS, LINES, MARKUP, DIACRITICS, ASTRAL]
        said = str(refusal(Reply({"message": f"bad input: {disguised}"}, 400), texts))
        forms = [KEY, KEY[::-1], base64.b64encode(KEY.encode()).decode()]
        assert not given_away(said, [*forms, QUERY, *texts])

    @pytest.mark.parametrize("provider", ["cohere", "tei", "pinecone", "deepinfra", "volcengine", "dashscope"])
    def test_in_the_names_of_an_answer(self, provider, listener):
        listen(listener, Reply({KEY: 1, QUERY: 2, DOCUMENTS[0]: 3}), provider)
        assert not listener.heard()

    def test_as_the_code_of_an_error(self, listener):
        listen(listener, Reply({"code": f"{QUERY} {KEY}"}), "volcengine")
        assert not listener.heard()

    def test_as_the_place_of_a_mistake(self, listener):
        listen(listener, Reply({"detail": [{"loc": QUERY, "msg": "wrong"}]}, 422))
        assert not listener.heard()

    @pytest.mark.parametrize(
        ("provider", "fields"),
        [
            case("cohere", {"api_key": token}),
            case("pinecone", {"api_key": token}),
            case("watsonx", {}),
            case("vertex", {}),
        ],
    )
    def test_the_token_of_a_function_or_an_account(self, provider, fields, listener):
        listen(listener, lambda request: Reply({"message": credential(request)}, 401), provider, **fields)
        assert not listener.heard([KEY])

    @pytest.mark.parametrize(
        "where",
        [
            case("errors"),
            case("logs"),
        ],
    )
    def test_the_session_of_an_account(self, where, monkeypatch, listener):
        session = "FwoGZXIvYXdzEXAMPLESESSION"
        monkeypatch.setenv("AWS_SESSION_TOKEN", session)
        if where == "logs":
            listen(listener, Reply({"message": "no"}, 403), "bedrock")
        else:
            listen(
                listener, lambda request: Reply({"message": request.headers["x-amz-security-token"]}, 403), "bedrock"
            )
        assert not listener.heard([session], logs=where == "logs")

    @pytest.mark.parametrize(
        "header", ["WWW-Authenticate", "x-request-id", "Location", "Set-Cookie", "Retry-After", "Server"]
    )
    @pytest.mark.parametrize("status", [302, 401, 429])
    def test_in_a_header(self, header, status, listener):
        for quoted in (KEY, QUERY, DOCUMENTS[0]):
            listen(listener, Reply(None, status, {header: quoted}))
            assert not listener.heard(logs=False)

    @pytest.mark.parametrize(
        "head",
        [
            case(f"HTTP/1.1 401 No\r\nx-request-id: {KEY}\r\n", name="a header"),
            case(f"HTTP/1.1 401 {KEY}\r\n", name="the key as a reason"),
            case(f"HTTP/1.1 401 {QUERY}\r\n", name="the query as a reason"),
        ],
    )
    def test_in_the_logs_of_others(self, head, listener):
        answer = f"{head}content-length: 0\r\n\r\n".encode()
        with raw_server(lambda connection: connection.sendall(answer)) as url:
            with impatient("cohere", url) as reranker, listener():
                ask(listener, reranker)
        assert not listener.heard()

    @pytest.mark.parametrize(
        "line",
        [
            KEY,
            QUERY,
            DOCUMENTS[0],
            case(DOCUMENTS[1]),
        ],
        ids=["key", "query", "document", "document of another alphabet"],
    )
    def test_in_an_answer_that_is_no_http(self, line, listener):
        with raw_server(lambda connection: connection.sendall(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode())) as url:
            said = str(failure(impatient("cohere", url)))
        mojibake = [text.encode().decode("latin-1") for text in DOCUMENTS[1:]]
        assert not given_away(said, [KEY, QUERY, *DOCUMENTS, *mojibake])

    @pytest.mark.parametrize(
        "fields",
        [
            case({"api_key": f"{KEY}\n", "base_url": "https://example.com"}),
            case({"api_key": KEY, "provider": "cohere"}),
            case({"api_key": KEY, "base_url": "http://192.0.2.1"}),
            case({"base_url": f"https://user:{KEY}@example.com"}),
            {"api_key": KEY, "base_url": "https://example.com", "timeout": -1},
        ],
        ids=["line break", "no model", "no TLS", "in the URL", "a field"],
    )
    def test_of_fields_that_are_wrong(self, fields):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - whatever it says
            HostedReranker(**fields)
        assert not given_away("".join(traceback.format_exception(caught.value)), [KEY])

    def test_of_a_key_that_is_set(self):
        reranker = HostedReranker(base_url="https://example.com")
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - whatever it says
            reranker.api_key = f"{KEY} "
        assert not given_away(str(caught.value), [KEY])

    def test_of_a_key_that_a_function_or_the_environment_has_wrong(self, monkeypatch, listener):
        monkeypatch.setenv("COHERE_API_KEY", f"{KEY} {KEY}")
        for fields in ({"api_key": lambda: f"{KEY}\r\nX-Evil: 1"}, {}):
            reranker = HostedReranker(provider="cohere", model="m", http_client=client(lambda _: None), **fields)
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - whatever it says
                reranker.rank(QUERY, DOCUMENTS)
            assert not given_away("".join(traceback.format_exception(caught.value)), [KEY])

    @pytest.mark.parametrize(
        "message",
        [
            case("fine\x1b[2J\x07"),
            case(r"fine\u000a2026-11-25 CRITICAL the disk is full"),
            case("fine \ud83d"),
            case("fine\u202e txt.exe"),
        ],
        ids=["terminal", "line", "surrogate", "direction"],
    )
    def test_a_message_is_one_line_that_can_be_printed(self, message):
        said = refusal(Reply({"message": message}, 400, {"x-request-id": "abc"}))
        assert str(said).isprintable()


# --- where the key goes -------------------------------------------------------------------------------------------------


def client(answer):
    """A client without a network."""
    return httpx.Client(transport=httpx.MockTransport(lambda request: answer(request) or httpx.Response(400, json={})))


def requests_of(provider, **fields):
    """What would be sent, by a reranker with the keys of the environment."""
    seen = []
    given = {"provider": provider, "model": "m", "max_retries": 0, "http_client": client(seen.append)}
    if isinstance(provider, str):
        given |= {"model": MODELS.get(provider, "m"), "params": MORE.get(provider, {}).get("params", {})}
    with suppress(EndpointError, ScoreError, ValueError, httpx.InvalidURL):
        HostedReranker(**given | fields).rank(QUERY, DOCUMENTS)
    return seen


def keyed(requests):
    return [request for request in requests if KEY in str(request.url) or KEY in str(request.headers.raw)]


@pytest.fixture
def keys_of_the_environment(monkeypatch):
    for provider in profile_names():
        for name in load_profile(provider).key_env:
            monkeypatch.setenv(name, KEY)


SIGNED = ("vertex", "bedrock")
EVIL = "https://evil.example"
BEDROCK = "https://bedrock-agent-runtime.us-west-2.amazonaws.com"


class TestWhereTheKeyGoes:
    @pytest.mark.parametrize("provider", FAKES)
    def test_redirects_are_not_followed(self, provider):
        answer = Reply()

        async def again(reranker):
            with pytest.raises(EndpointError):
                await reranker.ainvoke(INPUT)

        with serve(lambda _: Reply({})) as other, serve(lambda _: answer) as server:
            with impatient(provider, server.url) as reranker:
                for status in (301, 302, 303, 307, 308):
                    for place in (other.url, "//" + other.url.partition("//")[2], f"{other.url}/v1/rerank?key=1"):
                        answer = Reply(None, status, {"Location": place})
                        with pytest.raises(EndpointError, match="edirect"):
                            reranker.invoke(INPUT)
                        asyncio.run(again(reranker))
            assert other.connections == 0

    def test_nor_by_the_users_client(self):
        with serve(lambda _: Reply({})) as other, httpx.Client(follow_redirects=True) as own:
            said = refusal(Reply(None, 307, {"Location": other.url}), http_client=own)
            assert "Redirects are not followed" in str(said)
            assert other.connections == 0

    @pytest.mark.parametrize("provider", sorted(set(profile_names()) - {"custom"} - set(SIGNED)))
    def test_keys_of_the_environment_go_to_their_own_host(self, provider, keys_of_the_environment):
        requests = requests_of(provider, base_url=EVIL)
        assert requests
        assert not keyed(requests)
        profile = load_profile(provider)
        if profile.url and profile.signer is None:
            assert len(keyed(requests_of(provider))) == 1
            assert len(keyed(requests_of(provider, base_url=profile.url))) == 1

    def test_tokens_of_googles_account_go_to_google(self):
        assert keyed(requests_of("vertex"))
        assert not keyed(requests_of("vertex", base_url=EVIL))

    def test_signatures_of_an_aws_account_go_to_aws(self, monkeypatch):
        monkeypatch.setenv("AWS_SESSION_TOKEN", KEY)
        assert keyed(requests_of("bedrock"))
        assert not keyed(requests_of("bedrock", base_url=EVIL))

    @pytest.mark.parametrize(
        "url",
        [
            "https://api.cohere.com.evil.example",
            "https://evil-api.cohere.com",
            "https://evil.example/api.cohere.com",
            "https://evil.example?api.cohere.com",
            "https://api.cohere.com@evil.example",
            r"https://api.cohere.com\@evil.example",
            r"https://evil.example\.api.cohere.com",
            "https://api.cohere.com%2f@evil.example",
            "https://api.cohere.com%00.evil.example",
            "https://api.cohere.com.",
            "https://api.cohere.co",
            "https://ap\u0131.cohere.com",
            "https://\uff41pi.cohere.com",
            "https://api.cohere.com\u3002evil.example",
            "http://api.cohere.com",
            "//api.cohere.com",
            "ftp://api.cohere.com",
            "https://[api.cohere.com]",
            "https://api.cohere.com:99999",
        ],
    )
    def test_lookalikes_get_none(self, url, keys_of_the_environment):
        assert not keyed(requests_of("cohere", base_url=url))

    @pytest.mark.parametrize(
        "url", ["https://api.cohere.com", "https://API.COHERE.COM/", "https://api.cohere.com:443/v2"]
    )
    def test_other_spellings_do(self, url, keys_of_the_environment):
        assert len(keyed(requests_of("cohere", base_url=url))) == 1

    @pytest.mark.parametrize(
        ("provider", "fields"),
        [
            ("watsonx", {"params": {"region": "evil.example/x"}}),
            ("watsonx", {"params": {"region": "evil.example?x"}}),
            ("bedrock", {"params": {"region": "x.evil.example/"}}),
            (
                "watsonx",
                {"base_url": "https://{model}.ml.cloud.ibm.com", "model": "evil.example/x"},
            ),
        ],
    )
    def test_what_is_put_into_a_url_cannot_change_the_host(self, provider, fields, monkeypatch):
        monkeypatch.setenv("WATSONX_APIKEY", KEY)
        monkeypatch.setenv("AWS_SESSION_TOKEN", KEY)
        kind = {"like": provider, "signer": None} if provider == "watsonx" else provider
        hosts = [request.url.host for request in requests_of(kind, **{"model": "m"} | fields)]
        assert not [host for host in hosts if not host.endswith((".ibm.com", ".amazonaws.com"))]

    @pytest.mark.parametrize(
        "fields",
        [
            case({"api_key": KEY, "params": {"iam_url": "http://192.0.2.1"}}),
            case({"params": {"iam_url": EVIL}}),
        ],
        ids=["no TLS", "a key of the environment"],
    )
    def test_ibms_keys_go_to_ibms_identity_service(self, fields, monkeypatch):
        manager = pytest.importorskip("ibm_cloud_sdk_core").IAMTokenManager
        sent = []
        monkeypatch.setattr(manager, "get_token", lambda self: sent.append(self.url) or "token")
        monkeypatch.setenv("WATSONX_APIKEY", KEY)
        requests_of("watsonx", **fields)
        assert sent == []

    def test_a_key_without_tls_stays_on_this_machine(self, monkeypatch):
        with serve(lambda _: Reply({})) as proxy, serve(FAKES["cohere"]()) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            with impatient("cohere", server.url) as reranker:
                with suppress(EndpointError):
                    reranker.rank(QUERY, DOCUMENTS)
            assert proxy.requests == []

    @pytest.mark.parametrize(
        "identifier", ["../../x", "https://evil.example/x", "//evil.example", "a b", "a?b", "%2e%2e", ""]
    )
    def test_nvidias_identifiers_are_no_urls(self, identifier):
        seen = []

        def answer(request):
            seen.append(request)
            return httpx.Response(202, headers={"NVCF-REQID": identifier})

        for url in ("https://ai.api.nvidia.com", "https://own.example"):
            reranker = impatient("nvidia", url, http_client=client(answer))
            with pytest.raises(EndpointError, match="without saying where"):
                reranker.rank(QUERY, DOCUMENTS)
        assert [request.method for request in seen] == ["POST", "POST"]

    def test_nvidias_other_host_is_asked_for_nvidias_own_only(self):
        hosts = []

        def answer(request):
            hosts.append(request.url.host)
            return httpx.Response(202 if request.method == "POST" else 400, headers={"NVCF-REQID": "abc"})

        for url in ("https://ai.api.nvidia.com", "https://ai.api.nvidia.com.evil.example"):
            with pytest.raises(EndpointError):
                impatient("nvidia", url, http_client=client(answer)).rank(QUERY, DOCUMENTS)
        assert hosts == ["ai.api.nvidia.com", "api.nvcf.nvidia.com", *["ai.api.nvidia.com.evil.example"] * 2]

    @pytest.mark.parametrize("next_token", ["../../x", "https://evil.example/", "$query", "{each}", "a\r\nb: c"])
    def test_bedrocks_tokens_are_data(self, next_token):
        seen = []

        def answer(request):
            seen.append(request)
            results = [{"index": i, "relevanceScore": 0.5} for i in range(3)]
            first = len(seen) == 1
            more = {"nextToken": next_token} if first else {}
            return httpx.Response(200, json={"results": results[:2] if first else results[2:], **more})

        impatient("bedrock", BEDROCK, api_key=None, http_client=client(answer)).rank(QUERY, DOCUMENTS)
        assert {str(request.url) for request in seen} == {f"{BEDROCK}/rerank"}
        assert json.loads(seen[1].content)["nextToken"] == next_token

    @pytest.mark.parametrize(
        "host",
        ["192.0.2.1", "127.1", ANY, "localhost.evil.example", "2130706433", "[::]", "[fe80::1]", "localhost."],
    )
    def test_a_key_needs_tls(self, host, monkeypatch):
        url = f"http://{host}:1"
        with pytest.raises(ValueError, match="unencrypted"):
            HostedReranker(base_url=url, api_key=KEY)
        with pytest.raises(ValueError, match="unencrypted"):
            HostedReranker(base_url=url, api_key=token)
        allowed = requests_of("custom", base_url=url, api_key=KEY, allow_insecure=True)
        assert keyed(allowed)
        monkeypatch.setenv("ELASTICSEARCH_URL", url)
        monkeypatch.setenv("ELASTICSEARCH_API_KEY", KEY)
        assert requests_of("elasticsearch") == []

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "[::1]"])
    def test_but_not_on_this_machine(self, host):
        assert keyed(requests_of("custom", base_url=f"http://{host}:1", api_key=KEY))

    @pytest.mark.parametrize(
        "key", [f"{KEY} x", f"{KEY}\r\nX-Evil: 1", f"{KEY}\n", f"\t{KEY}", f"{KEY}\0", f"{KEY}é", " "]
    )
    def test_a_key_is_one_word(self, key):
        with pytest.raises(ValueError, match="that no key has"):
            HostedReranker(base_url=EVIL, api_key=key)

    @pytest.mark.parametrize(
        "url", [f"https://user:{KEY}@evil.example", "https://user@evil.example", "https://@evil.example"]
    )
    def test_names_and_passwords_are_no_part_of_a_url(self, url):
        with pytest.raises(ValueError, match="name and password"):
            HostedReranker(base_url=url)


# --- private networks ---------------------------------------------------------------------------------------------------

LITERALS = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    ANY,
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[2002:7f00:1::]",
    case("[::127.0.0.1]"),
    case("[::ffff:0:127.0.0.1]"),
    case("[fec0::1]"),
]
SPELLINGS = [
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "017700000001",
    "127.1",
    "localhost",
    "innocent.example",
]


@pytest.fixture
def innocent_names(monkeypatch):
    """A name that resolves to this machine."""
    known = socket.getaddrinfo

    def resolve(host, *rest, **more):
        name = host.decode() if isinstance(host, bytes) else host
        return known("127.0.0.1" if name in {"innocent.example", "localhost"} else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


class TestPrivateNetworks:
    @pytest.mark.parametrize("host", LITERALS)
    def test_addresses_are_refused_at_once(self, host):
        with pytest.raises(ValueError, match="not a public one"):
            HostedReranker(base_url=f"http://{host}:8080", allow_private_networks=False)

    @pytest.mark.parametrize(
        "address",
        [
            case("64:ff9b:1::7f00:1"),
            case("192.0.0.192"),
            case("168.63.129.16"),
        ],
    )
    def test_other_services_of_clouds_are_not_public(self, address):
        assert not is_public(address)

    @pytest.mark.parametrize("host", SPELLINGS)
    def test_names_and_spellings_are_refused_when_they_are_looked_up(self, host, innocent_names):
        async def again():
            with pytest.raises(EndpointError, match="not a public one"):
                await reranker.ainvoke(INPUT)
            await reranker.aclose()

        with serve(FAKES["cohere"]()) as server:
            url = f"http://{host}:{urlsplit(server.url).port}"
            reranker = impatient("cohere", url, api_key=None, allow_private_networks=False)
            with reranker, pytest.raises(EndpointError, match="not a public one"):
                reranker.invoke(INPUT)
            asyncio.run(again())
            assert server.requests == []
            gc.collect()  # an unclosed socket would warn
            assert soon(lambda: server.open_connections == 0)
        with serve(FAKES["cohere"]()) as server:
            url = f"http://{host}:{urlsplit(server.url).port}"
            with impatient("cohere", url, api_key=None) as reranker:
                assert len(reranker.rank(QUERY, DOCUMENTS)) == 3

    def test_an_address_that_is_none(self):
        """Octal to some, and to httpx nothing."""
        with impatient("cohere", "http://0177.0.0.1:9", api_key=None) as reranker:
            with pytest.raises(EndpointError, match="leads nowhere"):
                reranker.invoke(INPUT)

    def test_the_question_for_the_limit_is_not_sent_either(self, innocent_names):
        with serve(FAKES["tei"]()) as server:
            url = f"http://innocent.example:{urlsplit(server.url).port}"
            said = failure(impatient("tei", url, api_key=None, allow_private_networks=False))
            assert "not a public one" in str(said)
            assert server.requests == []

    def test_a_proxy_of_the_environment_hides_nothing(self, innocent_names, monkeypatch):
        with serve(FAKES["cohere"]()) as server, serve(FAKES["cohere"]()) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            url = f"http://innocent.example:{urlsplit(server.url).port}"
            said = failure(impatient("cohere", url, api_key=None, allow_private_networks=False))
            assert "not a public one" in str(said)
            assert server.requests == proxy.requests == []

    @pytest.mark.parametrize("name", ["proxy", "http_client", "http_async_client"])
    def test_what_cannot_be_checked_is_refused(self, name):
        given = {name: "http://proxy.example" if name == "proxy" else object()}
        with pytest.raises(ValueError, match="must check its own"):
            HostedReranker(base_url=EVIL, allow_private_networks=False, **given)

    def test_nobody_is_told_which_ports_are_open(self, innocent_names):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed = unused.getsockname()[1]
        said = set()
        with serve(FAKES["cohere"]()) as server:
            for port in (urlsplit(server.url).port, closed):
                url = f"http://innocent.example:{port}"
                error = failure(impatient("cohere", url, api_key=None, allow_private_networks=False))
                said.add(str(error).replace(str(port), "PORT"))
        assert len(said) == 1


# --- size, shape and time -----------------------------------------------------------------------------------------------


def soon(condition, seconds=2.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@contextmanager
def raw_server(answer):
    """A server that says whatever bytes it wants: ``answer(connection)`` is called for every request's head and body."""
    listening, over, threads, connections = socket.create_server(("127.0.0.1", 0)), threading.Event(), [], []

    def talk(connection):
        with connection:
            connection.settimeout(5)
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                head, _, body = head.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                while length and len(body) < int(length[1]):
                    body += connection.recv(65536)
                answer(connection)
            except OSError:
                pass  # the client has gone

    def accept():
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            connections.append(connection)
            threads.append(threading.Thread(target=talk, args=(connection,)))
            threads[-1].start()

    with listening:
        listening.settimeout(0.05)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"{LOOPBACK}:{listening.getsockname()[1]}"
        finally:
            over.set()
            for connection in connections:
                with suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)
            for one in (thread, *threads):
                one.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD = {"results": [{"index": i, "relevance_score": 0.5} for i in range(3)]}


def trickle(connection, head, each):
    connection.sendall(head)
    for _ in range(200):
        connection.sendall(each)
        time.sleep(0.02)


def both_ways(reranker, expected=(EndpointError, ScoreError), match=None):
    """Ask twice, in both ways: seconds that each took."""
    took = []

    async def again():
        start = time.perf_counter()
        with pytest.raises(expected, match=match):
            await reranker.ainvoke(INPUT)
        took.append(time.perf_counter() - start)

    start = time.perf_counter()
    with pytest.raises(expected, match=match):
        reranker.invoke(INPUT)
    took.append(time.perf_counter() - start)
    asyncio.run(again())
    return took


def results(index=b"0", score=b"0.5"):
    return b'{"results":[{"index":%b,"relevance_score":%b}]}' % (index, score)


class TestSizeAndShape:
    def test_a_body_without_end(self):
        def answer(connection):
            connection.sendall(HEAD + b"\r\n")
            while True:
                connection.sendall(b" " * 65536)

        with raw_server(answer) as url, impatient("cohere", url, max_response_bytes=1_000_000) as reranker:
            assert max(both_ways(reranker, match="more than 1000000 bytes")) < 2

    def test_one_byte_too_many(self):
        body = json.dumps(GOOD).encode()
        with serve(lambda _: Reply(body)) as server:
            with impatient("cohere", server.url, max_response_bytes=len(body)) as reranker:
                assert len(reranker.rank(QUERY, DOCUMENTS)) == 3
                assert len(asyncio.run(reranker.ainvoke(INPUT))) == 3
            with impatient("cohere", server.url, max_response_bytes=len(body) - 1) as reranker:
                both_ways(reranker, match=f"more than {len(body) - 1} bytes")

    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity, gzip", "deflate", "br", "zstd", "x"])
    @pytest.mark.parametrize("status", [200, 500])
    def test_compression_that_was_not_asked_for(self, encoding, status):
        bomb = gzip.compress(b" " * 10_000_000)
        with serve(lambda _: Reply(bomb, status, {"Content-Encoding": encoding})) as server:
            with impatient("cohere", server.url) as reranker:
                both_ways(reranker, match="compressed")

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b'{"results":' * 100_000,
            b'{"results":' + b"[" * 900 + b"]" * 900 + b"}",
            results(index=b"9" * 5000),
            results(score=b"9" * 5000),
            results(index=b"9" * 4000),
            case(results(score=b"9" * 400)),
            results(score=b"1e999"),
            results(score=b"-Infinity"),
            results(index=b"0.0"),
            results(index=b"-1"),
            results(score=b'"0.5"'),
            results(score=b"[[[]]]"),
            b'{"results":[' + b"{}," * 500_000 + b"{}]}",
            b'{"results":null}',
            b'{"results":{"0":{"index":0}}}',
            b"\xef\xbb\xbf",
            b"\xff\xfe\x00",
            b"null",
            b"",
            b'"\\ud800"',
        ],
        ids=range(22),
    )
    def test_answers_that_are_no_ranking(self, body):
        with serve(lambda _: Reply(body)) as server, impatient("cohere", server.url) as reranker:
            assert max(both_ways(reranker)) < 3

    @pytest.mark.parametrize(
        ("status", "body", "headers"),
        [
            case(422, {"detail": [{"loc": 5, "msg": "x"}]}, {}),
            (422, {"detail": [{"loc": {"a": 1}, "msg": {"b": 2}}, 7, None, "x"]}, {}),
            (500, {"error": {"message": {"deep": [1]}, "reason": 5}}, {}),
            (429, {}, {"Retry-After": "NaN"}),
            (429, {}, {"Retry-After": "-1e308"}),
            (429, {}, {"Retry-After": "9" * 400}),
            case(429, {}, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999"}),
            (429, {}, {"Retry-After": "Mon, 01 Jan 99999999 00:00:00 GMT"}),
            (500, b"<script" * 2800, {}),
            (500, b"<" * 19_000, {}),
            (500, b"&#x110000;&#99999999999;&amp;" * 500, {}),
            (500, {"message": "\\u" * 5000 + "\\ud800\\x00"}, {}),
            (500, {"id": 10**4000, "message": [["x"] * 5] * 5}, {}),
            (999, {}, {}),
            (204, None, {}),
        ],
        ids=range(15),
    )
    def test_errors_that_are_none(self, status, body, headers):
        with serve(lambda _: Reply(body, status, headers)) as server, impatient("cohere", server.url) as reranker:
            assert max(both_ways(reranker)) < 1.5

    @pytest.mark.parametrize(
        "said",
        [
            case(b"NaN"),
            case(b"1e999"),
            case(b"9" * 4000),
            b'"9999999999999999999999"',
            b"true",
            b"[1]",
        ],
        ids=["NaN", "inf", "4000 digits", "text", "bool", "list"],
    )
    def test_usage_is_a_number_that_anybody_can_read(self, said):
        body = json.dumps(GOOD).encode()[:-1] + b',"meta":{"tokens":{"input_tokens":%b}}}' % said
        with serve(lambda _: Reply(body)) as server, impatient("cohere", server.url) as reranker:
            usage = reranker.rank(QUERY, DOCUMENTS)[0].details["usage"]
        assert json.loads(json.dumps(usage, allow_nan=False)) == usage
        assert all(abs(value) < 1e18 for value in usage.values())

    @pytest.mark.parametrize("lines", ["one", "many", "informational"])
    def test_headers_without_end(self, lines):
        def answer(connection):
            connection.sendall(HEAD + (b"X: " if lines == "one" else b""))
            for _ in range(2000):
                connection.sendall(b"y" * 10_000 if lines == "one" else b"X-Y: " + b"z" * 10_000 + b"\r\n")

        def continues(connection):
            for _ in range(100):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

        with raw_server(continues if lines == "informational" else answer) as url, impatient("cohere", url) as reranker:
            assert max(both_ways(reranker, match="could not be reached")) < 3

    @pytest.mark.parametrize(
        ("head", "each"),
        [
            (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
            (HEAD, b"X-Y: z\r\n"),
            (b"HT", b"T"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
            (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        ],
        ids=["body", "headers", "status", "chunks", "hints"],
    )
    def test_trickling_is_over_at_the_deadline(self, head, each):
        with raw_server(lambda connection: trickle(connection, head, each)) as url:
            with impatient("cohere", url, deadline=0.2) as reranker:
                assert max(both_ways(reranker)) < 0.6

    def test_also_of_what_the_limit_is(self):
        with raw_server(lambda connection: trickle(connection, HEAD, b"X-Y: z\r\n")) as url:
            with impatient("tei", url, deadline=0.2) as reranker:
                assert max(both_ways(reranker)) < 0.6

    def test_a_server_that_trickles_does_not_keep_others_waiting(self):
        bad = True

        def answer(connection):
            if bad:
                trickle(connection, HEAD, b"X-Y: z\r\n")
            body = json.dumps(GOOD).encode()
            connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        with raw_server(answer) as url, impatient("cohere", url, deadline=0.2, max_concurrency=2) as reranker:
            for _ in range(2):
                with pytest.raises(EndpointError):
                    reranker.rank(QUERY, DOCUMENTS)
            bad = False
            assert len(reranker.rank(QUERY, DOCUMENTS)) == 3

    def test_an_answer_that_never_comes(self, monkeypatch):
        slept, polls, clock = [], [], time.monotonic
        monkeypatch.setattr(time, "sleep", slept.append)
        monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(slept))

        def answer(request):
            polls.append(request)
            return httpx.Response(202 if len(polls) < 3000 else 400, headers={"NVCF-REQID": "abc"})

        with pytest.raises(EndpointError):
            impatient("nvidia", EVIL, http_client=client(answer)).rank(QUERY, DOCUMENTS)
        assert len(polls) < 1000  # about half an hour

    def test_pages_that_bring_nothing(self):
        seen = []

        def answer(request):
            seen.append(request)
            return httpx.Response(200, json={"results": [], "nextToken": "more"})

        with pytest.raises(ScoreError):
            impatient("bedrock", BEDROCK, api_key=None, http_client=client(answer)).rank(QUERY, DOCUMENTS)
        assert len(seen) < 10

    @pytest.mark.parametrize(
        "next_token",
        [
            case(b"[" * 300 + b"]" * 300),
            case(b"9" * 30),
            case(b'"\\ud800"'),
        ],
        ids=["deep", "big", "surrogate"],
    )
    def test_tokens_that_cannot_be_written(self, next_token):
        body = b'{"results":[{"index":0,"relevanceScore":0.5}],"nextToken":%b}' % next_token
        reranker = impatient(
            "bedrock", BEDROCK, api_key=None, http_client=client(lambda _: httpx.Response(200, content=body))
        )
        with pytest.raises((EndpointError, ScoreError)):
            reranker.rank(QUERY, DOCUMENTS)

    def test_a_host_that_is_no_name(self):
        with (
            impatient("custom", f"https://{'a' * 70}.example") as reranker,
            pytest.raises((EndpointError, ValueError)) as said,
        ):
            reranker.rank(QUERY, DOCUMENTS)
        assert not isinstance(said.value, UnicodeError)

    def test_what_quoting_costs(self):
        """A message is compared with all documents, here of 3 MB."""
        texts = [f"{number} " + "lorem ipsum dolor " * 900 for number in range(200)]
        start = time.perf_counter()
        refusal(Reply({"message": "lorem ipsum dalor " * 90}, 400), texts)
        assert time.perf_counter() - start < 3


# --- user data is data --------------------------------------------------------------------------------------------------

TEMPLATES = [
    "$model",
    "$query",
    "$documents",
    "{each: {text: $text}}",
    "{key}",
    "{model.__class__}",
    "%s %(key)s",
    "${HOME}",
]
PATHS = {  # of a model named "m"
    "deepinfra": "/v1/inference/",
    "nvidia": "/v1/retrieval/",
    "elasticsearch": "/_inference/rerank/",
    "cloudflare": "/client/v4/accounts/account/ai/run/",
}


def leaves(data):
    if isinstance(data, dict):
        return [leaf for value in data.values() for leaf in leaves(value)]
    if isinstance(data, list):
        return [leaf for value in data for leaf in leaves(value)]
    return [data]


class TestUserDataIsData:
    @pytest.mark.parametrize("provider", FAKES)
    def test_nothing_in_texts_is_a_template(self, provider):
        query = "$documents {each} %s"
        with serve(FAKES[provider]()) as server, impatient(provider, server.url) as reranker:
            assert len(reranker.rank(query, TEMPLATES)) == len(TEMPLATES)
            (request,) = [request for request in server.requests if request.method == "POST"]
        sent = leaves(request.json)
        assert query in sent
        assert [text for text in sent if text in TEMPLATES] == TEMPLATES

    @pytest.mark.parametrize("provider", ["deepinfra", "elasticsearch", "cloudflare"])
    @pytest.mark.parametrize("model", ["../../../admin", "a/../../../../b"])
    def test_a_models_name_does_not_go_up(self, provider, model):
        for request in requests_of(provider, base_url=EVIL, model=model, api_key=KEY):
            assert request.url.path.startswith(PATHS[provider])

    @pytest.mark.parametrize("provider", PATHS)
    @pytest.mark.parametrize(
        "model",
        [
            "m?admin=1",
            "%2e%2e/%2e%2e/admin",
            "{model}{key}{account_id}",
            "m m\r\nX-Evil: 1",
            "https://evil.example/m",
            "//evil.example",
            "m#fragment",
        ],
    )
    def test_a_models_name_in_a_path_stays_there(self, provider, model):
        for request in requests_of(provider, base_url=EVIL, model=model, api_key=KEY):
            path, _, query = request.url.raw_path.decode().partition("?")
            assert request.url.host == "evil.example"
            assert path.startswith(PATHS[provider])
            assert query == ""
            assert ".." not in path.split("/")

    @pytest.mark.parametrize(
        ("provider", "params", "path"),
        [
            ("cloudflare", {"account_id": "../../x"}, "/client/v4/accounts/"),
            ("vertex", {"project": "../../x"}, "/v1/projects/"),
            ("watsonx", {"version": "1&admin=1"}, "/ml/v1/text/rerank"),
        ],
    )
    def test_so_do_params(self, provider, params, path):
        requests = requests_of(provider, base_url=EVIL, params=params, api_key=token)
        for request in requests:
            assert request.url.path.startswith(path)
            assert "admin" not in dict(request.url.params)

    @pytest.mark.parametrize(
        "path",
        [
            "{model}",
            "{model.__class__.__name__}",
            "{model:>3000}",
            "{key}",
            "{",
        ],
    )
    def test_a_base_url_is_no_template(self, path):
        urls = []
        own = client(lambda request: urls.append(str(request.url)))
        reranker = HostedReranker(base_url=f"{EVIL}/{path}/rerank", model="m", http_client=own)
        with pytest.raises(EndpointError):
            reranker.rank(QUERY, DOCUMENTS)
        assert unquote(urls[0]) == f"{EVIL}/{path}/rerank"

    @pytest.mark.parametrize(
        "options",
        [
            {"documents": ["x"]},
            {"documents": None},
            {"query": {}},
            case({"documents": {"x": 1}}),
            case({"query": {"x": 1}}),
        ],
    )
    def test_request_options_do_not_replace_texts(self, options):
        with pytest.raises(ValueError, match="cannot set"):
            HostedReranker(provider="cohere", model="m", request_options=options)

    def test_request_options_are_no_templates(self):
        options = {"a": "$query", "b": {"each": "$text"}, "c": ["$documents", "{key}"]}
        with serve(FAKES["vllm"]()) as server, impatient("vllm", server.url, request_options=options) as reranker:
            reranker.rank(QUERY, DOCUMENTS)
            assert server.requests[0].json.items() >= options.items()

    def test_a_profile_of_ones_own_signs_for_nobody_without_a_key(self, monkeypatch):
        profile = {"like": "cohere", "key": "optional", "signer": "ibm", "params": {"iam_url": {"default": EVIL}}}
        monkeypatch.setenv("COHERE_API_KEY", KEY)
        assert not keyed(requests_of(profile, base_url=EVIL))

    @pytest.mark.parametrize(
        "text",
        [
            "!!python/object/apply:os.putenv [RERANKKIT_EVIL, '1']",
            "title: !!python/name:os.system",
            "request: {query: !!python/object/new:tuple [[1]]}",
        ],
    )
    def test_a_profile_in_a_file_runs_nothing(self, text, tmp_path):
        (tmp_path / "evil.yaml").write_text(text)
        with pytest.raises(Exception, match="could not determine a constructor"):
            load_profile(str(tmp_path / "evil.yaml"))
