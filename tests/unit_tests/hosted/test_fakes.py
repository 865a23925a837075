"""The fakes speak as the fact sheet's examples do, seen by a plain HTTP client."""

import asyncio
import json
import math
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.rerank_fakes import FAKES, judge, logit
from tests.rerank_server import Reply, serve

QUERY = "who made python"
TEXTS = ["snakes hatch", "guido made python", "who knows"]
BEST = [1, 2, 0]

FLAT = {"model": "m", "query": QUERY, "documents": TEXTS, "top_n": 2}
TEI = {"query": QUERY, "texts": TEXTS}
OBJECTS = [{"text": text} for text in TEXTS]
ARN = "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"
BEDROCK = {
    "queries": [{"type": "TEXT", "textQuery": {"text": QUERY}}],
    "sources": [
        {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": document}} for document in OBJECTS
    ],
    "rerankingConfiguration": {
        "type": "BEDROCK_RERANKING_MODEL",
        "bedrockRerankingConfiguration": {"numberOfResults": 2, "modelConfiguration": {"modelArn": ARN}},
    },
}
VERTEX = "/v1/projects/p/locations/global/rankingConfigs/default_ranking_config:rank"
RECORDS = [{"id": str(i), "content": text} for i, text in enumerate(TEXTS)]
WATSONX = {"model_id": "m", "project_id": "p", "query": QUERY, "inputs": OBJECTS}

# By fake: path, a request for two results where that can be asked for, and where the list, index and score of the
# answer are; no index means in the order of the documents.
EXAMPLES = {
    "cohere": ("/v2/rerank", FLAT, "results", "index", "relevance_score"),
    "azure": ("/providers/cohere/v2/rerank", FLAT, "results", "index", "relevance_score"),
    "jina": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "voyage": (
        "/v1/rerank",
        {"model": "m", "query": QUERY, "documents": TEXTS, "top_k": 2},
        "data",
        "index",
        "relevance_score",
    ),
    "pinecone": ("/rerank", {**FLAT, "documents": OBJECTS}, "data", "index", "score"),
    "nvidia": (
        "/v1/ranking",
        {"model": "m", "query": {"text": QUERY}, "passages": OBJECTS, "truncate": "END"},
        "rankings",
        "index",
        "logit",
    ),
    "tei": ("/rerank", TEI, "", "index", "score"),
    "vllm": ("/v2/rerank", FLAT, "results", "index", "relevance_score"),
    "vllm-score": ("/score", {"model": "m", "queries": QUERY, "documents": TEXTS}, "data", "index", "score"),
    "sglang": ("/v1/rerank", FLAT, "", "index", "score"),
    "infinity": ("/rerank", FLAT, "results", "index", "relevance_score"),
    "llamacpp": ("/v1/reranking", FLAT, "results", "index", "relevance_score"),
    "localai": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "xinference": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "mixedbread": ("/v1/reranking", {"query": QUERY, "input": TEXTS, "top_k": 2}, "data", "index", "score"),
    "together": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "isaacus": (
        "/v1/rerankings",
        {"model": "m", "query": QUERY, "texts": TEXTS, "top_n": 2},
        "results",
        "index",
        "score",
    ),
    "zeroentropy": ("/v1/models/rerank", FLAT, "results", "index", "relevance_score"),
    "contextual": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "dashscope": (
        "/api/v1/services/rerank/text-rerank/text-rerank",
        {"model": "m", "input": {"query": QUERY, "documents": TEXTS}, "parameters": {"top_n": 2}},
        "output.results",
        "index",
        "relevance_score",
    ),
    "dashscope-compatible": ("/compatible-api/v1/reranks", FLAT, "results", "index", "relevance_score"),
    "volcengine": (
        "/api/knowledge/service/rerank",
        {"datas": [{"query": QUERY, "content": text} for text in TEXTS]},
        "data.scores",
        None,
        None,
    ),
    "siliconflow": ("/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "fireworks": ("/inference/v1/rerank", FLAT, "data", "index", "relevance_score"),
    "deepinfra": ("/v1/inference/Qwen/m", {"queries": [QUERY] * 3, "documents": TEXTS}, "scores", None, None),
    "openrouter": ("/api/v1/rerank", FLAT, "results", "index", "relevance_score"),
    "watsonx": (
        "/ml/v1/text/rerank?version=2025-01-01",
        {**WATSONX, "parameters": {"return_options": {"top_n": 2}}},
        "results",
        "index",
        "score",
    ),
    "vertex": (VERTEX, {"query": QUERY, "records": RECORDS, "topN": 2}, "records", "id", "score"),
    "bedrock": ("/rerank", BEDROCK, "results", "index", "relevanceScore"),
    "elasticsearch": (
        "/_inference/rerank/mine",
        {"query": QUERY, "input": TEXTS, "top_n": 2},
        "rerank",
        "index",
        "relevance_score",
    ),
    "cloudflare": (
        "/client/v4/accounts/a/ai/run/@cf/baai/bge-reranker-base",
        {"query": QUERY, "contexts": OBJECTS, "top_k": 2},
        "result.response",
        "id",
        "score",
    ),
    "novita": ("/openai/v1/rerank", FLAT, "results", "index", "relevance_score"),
}
NO_TOP = {"nvidia", "tei", "vllm-score"}
HEADERS = {"X-Pinecone-Api-Version": "2025-10"}


@pytest.fixture
def ask():
    """Send a JSON body to a fake; a list of bodies gets a list of answers from the same one."""

    def post(fake, path, body, headers=None):
        with serve(fake) as server, httpx.Client(base_url=server.url, headers=HEADERS) as client:
            bodies = body if isinstance(body, list) else [body]
            answers = [client.post(path, json=one, headers=headers) for one in bodies]
            return answers if isinstance(body, list) else answers[0]

    return post


def read(name, answer):
    """The pairs of index and score in an answer."""
    found, (_, _, place, index, score) = answer.json(), EXAMPLES[name]
    for key in filter(None, place.split(".")):
        found = found[key]
    if index is None:
        return list(enumerate(found))
    return [(int(item[index]), item[score]) for item in found]


def test_every_fake_has_an_example():
    assert EXAMPLES.keys() == FAKES.keys()
    assert len(FAKES) == 32


@pytest.mark.parametrize("name", FAKES)
def test_answers_as_its_example(ask, name):
    path, body, *_, index, _ = EXAMPLES[name]
    answer = ask(FAKES[name](), path, body)
    assert answer.status_code == 200, answer.text
    logits = name in {"nvidia", "watsonx", "llamacpp"}
    scores = [logit(judge(QUERY, text)) if logits else judge(QUERY, text) for text in TEXTS]
    order = [0, 1, 2] if index is None or name == "vllm-score" else BEST if name in NO_TOP else BEST[:2]
    assert [i for i, _ in read(name, answer)] == order
    assert [score for _, score in read(name, answer)] == pytest.approx([scores[i] for i in order], abs=1e-8)


@pytest.mark.parametrize("name", FAKES)
def test_tampered_pairs_come_out(ask, name):
    path, body, *_ = EXAMPLES[name]

    def tamper(pairs):
        return [pairs[0], pairs[0], (pairs[1][0], math.nan)]

    answer = ask(FAKES[name](tamper=tamper), path, body)
    first, second, third = read(name, answer)
    assert first[1] == second[1]
    assert math.isnan(third[1])
    assert "NaN" in answer.text


@pytest.mark.parametrize("name", FAKES)
def test_only_the_key_opens(ask, name):
    path, body, *_ = EXAMPLES[name]
    header = {"pinecone": "Api-Key"}.get(name, "Authorization")
    scheme = {"pinecone": "", "elasticsearch": "ApiKey "}.get(name, "Bearer ")
    signed = name in {"bedrock", "volcengine"}
    refused = ask(FAKES[name]("good"), path, body, {header: scheme + "bad"})
    assert refused.status_code == (403 if signed else 401)
    assert refused.content == FAKES[name]().error(refused.status_code, _message(refused)).content
    if not signed:
        assert ask(FAKES[name]("good"), path, body, {header: scheme + "good"}).status_code == 200


def _message(answer):
    return "the request is not signed with a known key" if answer.status_code == 403 else "no or wrong key"


@pytest.mark.parametrize("name", FAKES)
def test_other_routes_and_senseless_bodies_are_refused(name):
    path, body, *_ = EXAMPLES[name]
    with serve(FAKES[name]()) as server, httpx.Client(base_url=server.url, headers=HEADERS) as client:
        assert client.post("/v3/rerank", json=body).status_code == 404
        assert client.get(path).status_code == 404
        assert client.post(path, content=b"{").status_code in {400, 422}
        assert client.post(path, json=[1]).status_code in {400, 422}
        assert client.post(path, json={}).status_code in {400, 422}


@pytest.mark.parametrize("name", FAKES)
def test_errors_have_a_body_for_any_status(name):
    for status in (400, 401, 402, 403, 404, 409, 413, 422, 424, 429, 498, 500, 501, 502, 503, 504, 529):
        reply = FAKES[name]().error(status, "sorry")
        assert reply.status == status
        assert b"sorry" in reply.content or status == 401


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *[("cohere", 10_000), ("pinecone", 100), ("nvidia", 512), ("tei", 32), ("infinity", 2048), ("bedrock", 1000)],
        *[("vertex", 200), ("volcengine", 200), ("dashscope", 500), ("voyage", 1000), ("mixedbread", 1000)],
    ],
)
def test_limits_of_documents(ask, name, limit):
    path, body, *_ = EXAMPLES[name]

    def longer(thing):
        """With one list of three as a list of as many as the limit."""
        if isinstance(thing, dict):
            return {key: longer(value) for key, value in thing.items()}
        return (
            [{**thing[0], "id": str(i)} if name == "vertex" else thing[0] for i in range(limit)]
            if (isinstance(thing, list) and len(thing) == 3)
            else thing
        )

    def one_more(thing):
        if isinstance(thing, dict):
            return {key: one_more(value) for key, value in thing.items()}
        return [*thing, thing[0]] if isinstance(thing, list) and len(thing) == limit else thing

    most = longer(body)
    allowed, refused = ask(FAKES[name](), path, [most, one_more(most)])
    assert allowed.status_code == 200, allowed.text
    assert refused.status_code in {400, 422}
    assert str(limit) in refused.text


def test_cohere_refuses_what_it_does_not_know(ask):
    changes = [{"query": " "}, {"documents": ["a", ""]}, {"documents": []}, {"return_documents": False}, {"top_n": 0}]
    answers = ask(FAKES["cohere"](), "/v2/rerank", [{**FLAT, **change} for change in changes])
    assert [answer.status_code for answer in answers] == [400] * 5
    assert "index 1" in answers[1].json()["message"]


def test_cohere_counts_search_units(ask):
    answer = ask(FAKES["cohere"](), "/v2/rerank", {**FLAT, "documents": ["a"] * 101})
    assert answer.json()["meta"]["billed_units"] == {"search_units": 2}


def test_pinecone_wants_objects_and_a_version(ask):
    assert ask(FAKES["pinecone"](), "/rerank", FLAT).status_code == 400
    versionless = {"X-Pinecone-Api-Version": ""}
    assert ask(FAKES["pinecone"](), "/rerank", {**FLAT, "documents": OBJECTS}, versionless).status_code == 400


def test_tei(ask):
    fake = FAKES["tei"](max_client_batch_size=4)
    with serve(fake) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/info").json()["max_client_batch_size"] == 4
        assert client.post("/v1/rerank", json=TEI).status_code == 404
        assert [item["index"] for item in client.post("/rerank", json={**TEI, "texts": ["a"] * 4}).json()] == [
            3,
            2,
            1,
            0,
        ]
        five = client.post("/rerank", json={**TEI, "texts": ["a"] * 5})
        assert (five.status_code, five.json()["error_type"]) == (422, "Validation")
        assert five.json()["error"] == "batch size 5 > maximum allowed batch size 4"
        assert client.post("/rerank", json={**TEI, "texts": []}).status_code == 400
        assert client.post("/rerank", json={**TEI, "texts": ["a" * 2_000_000]}).status_code == 413
        raw = client.post("/rerank", json={**TEI, "raw_scores": True}).json()
        assert raw[0]["score"] == logit(judge(QUERY, TEXTS[1]))


def test_top_n_of_nothing(ask):
    nothing = {**FLAT, "top_n": 0}
    assert len(ask(FAKES["vllm"](), "/rerank", nothing).json()["results"]) == 3
    assert ask(FAKES["vllm"](), "/rerank", {**FLAT, "top_n": None}).status_code == 400
    assert ask(FAKES["llamacpp"](), "/rerank", nothing).json()["results"] == []
    assert ask(FAKES["infinity"](), "/rerank", nothing).status_code == 422
    localai = ask(FAKES["localai"](), "/v1/rerank", nothing)
    assert (localai.status_code, type(localai.json())) == (422, str)
    assert ask(FAKES["localai"](), "/v1/rerank", {**FLAT, "documents": []}).json()["results"] is None


def test_documents_that_come_back(ask):
    assert ask(FAKES["jina"](), "/v1/rerank", FLAT).json()["results"][0]["document"] == TEXTS[1]
    old = ask(FAKES["jina"](document="object"), "/v1/rerank", FLAT).json()
    assert old["results"][0]["document"] == {"text": TEXTS[1]}
    unasked = ask(FAKES["jina"](), "/v1/rerank", {**FLAT, "return_documents": False}).json()
    assert "document" not in unasked["results"][0]
    vllm = ask(FAKES["vllm"](), "/rerank", {**FLAT, "return_documents": False}).json()
    assert vllm["results"][0]["document"] == {"text": TEXTS[1], "multi_modal": None}
    assert ask(FAKES["infinity"](), "/rerank", FLAT).json()["results"][0]["document"] is None


def test_llamacpp_variants(ask):
    old = ask(FAKES["llamacpp"](old=True), "/rerank", FLAT).json()["results"]
    assert [item["index"] for item in old] == [0, 1, 2]
    like_tei = ask(FAKES["llamacpp"](), "/rerank", TEI).json()
    assert [item["index"] for item in like_tei] == BEST
    long = ask(FAKES["llamacpp"](max_characters=9), "/rerank", FLAT)
    assert long.status_code == 500
    assert "is too large to process" in long.json()["error"]["message"]
    assert ask(FAKES["llamacpp"](reranking=False), "/rerank", FLAT).status_code == 501


def test_infinity_prefix(ask):
    assert ask(FAKES["infinity"](prefix="/v1"), "/v1/rerank", FLAT).status_code == 200
    assert ask(FAKES["infinity"](prefix="/v1"), "/rerank", FLAT).status_code == 404


def test_localai_loads(ask):
    first, second = ask(FAKES["localai"](loading=1), "/v1/rerank", [FLAT, FLAT])
    assert (first.status_code, first.headers["Retry-After"]) == (503, "1")
    assert second.status_code == 200


def test_nvidia_hosted(ask):
    body = {"model": "nvidia/llama-3.2-x", "query": {"text": QUERY}, "passages": OBJECTS}
    hosted = "/v1/retrieval/nvidia/llama-3_2-x/reranking"
    assert ask(FAKES["nvidia"](), hosted, body).status_code == 200
    assert ask(FAKES["nvidia"](), hosted.replace("_", "."), body).status_code == 404
    assert ask(FAKES["nvidia"](), hosted, body).json()["rankings"][-1]["logit"] < 0
    with serve(FAKES["nvidia"](pending=2)) as server, httpx.Client(base_url=server.url) as client:
        first = client.post(hosted, json=body)
        status = f"/v2/nvcf/pexec/status/{first.headers['NVCF-REQID']}"
        assert [first.status_code, *(client.get(status).status_code for _ in range(3))] == [202, 202, 200, 404]


def test_volcengine_hides_errors_behind_200(ask):
    answer = ask(FAKES["volcengine"](quiet=True), "/api/knowledge/service/rerank", {"datas": []})
    assert (answer.status_code, answer.json()["code"]) == (200, 1_000_003)


def test_zeroentropy_gets_slow(ask):
    fake = FAKES["zeroentropy"](budget=600, slow=0.01)
    first, second, third = ask(fake, "/v1/models/rerank", [FLAT, FLAT, {**FLAT, "latency": "fast"}])
    assert first.json()["total_bytes"] == 3 * (150 + len(QUERY)) + sum(map(len, TEXTS))
    assert (first.json()["actual_latency_mode"], second.json()["actual_latency_mode"]) == ("fast", "slow")
    assert third.status_code == 429


def test_bedrock_pages(ask):
    first, second = ask(FAKES["bedrock"](page=1), "/rerank", [BEDROCK, {**BEDROCK, "nextToken": "from:1"}])
    assert [item["index"] for item in first.json()["results"] + second.json()["results"]] == BEST[:2]
    assert first.json()["nextToken"]
    assert second.json()["nextToken"] is None


def test_an_unknown_variant_is_an_error():
    with pytest.raises(TypeError, match="no variant old"):
        FAKES["vllm"](old=True)


# ---- the server ------------------------------------------------------------------------------------------------------


def test_server_replies():
    replies = {
        "/bytes": Reply(b"<html>", 403, {"Content-Type": "text/html"}),
        "/str": Reply("sorry", 422),
        "/none": Reply(status=401),
        "/drip": Reply(b"x" * 50, drip=0.01),
        "/cut": Reply(b"x" * 50, cut=20),
        "/drop": Reply(drop=True),
    }
    with serve(lambda request: replies[request.path]) as server, httpx.Client(base_url=server.url) as client:
        html = client.get("/bytes?a=1&b=%C3%A9")
        assert (html.content, html.status_code, html.headers["content-type"]) == (b"<html>", 403, "text/html")
        assert client.post("/%73tr", json=[1]).json() == "sorry"
        assert client.get("/none").content == b""
        assert client.get("/drip").elapsed.total_seconds() >= 0.03
        assert (server.connections, server.open_connections) == (1, 1)
        with pytest.raises(httpx.RemoteProtocolError, match="received 20 bytes, expected 50"):
            client.get("/cut")
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            client.get("/drop")
        assert server.requests[0].query == {"a": "1", "b": "é"}
        assert (server.requests[1].path, server.requests[1].json) == ("/str", [1])
        assert server.requests[1].headers["content-type"] == "application/json"


async def test_server_answers_many_at_once():
    with serve(lambda _: Reply("yes", wait=0.2)) as server:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200), timeout=30) as client:
            answers = await asyncio.gather(*(client.get(server.url) for _ in range(200)))
    assert {answer.json() for answer in answers} == {"yes"}
    assert server.most_at_once > 100
    assert server.most_connections == 200
    assert server.open_connections == 0


def test_server_closes_although_replies_wait_and_connections_are_open():
    with serve(lambda request: Reply("late", wait=60 if request.path == "/late" else 0)) as server:
        client = httpx.Client(base_url=server.url)
        client.get("/")

        def wait():
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{server.url}/late", timeout=30)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while len(server.requests) < 2:
            time.sleep(0.01)
        start = time.perf_counter()
    assert time.perf_counter() - start < 5
    waiting.join()
    client.close()


def test_server_forgets_clients_that_leave():
    with serve(lambda _: Reply("late", wait=60)) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(server.url, timeout=0.1)
        while server.open_connections:
            time.sleep(0.01)
        assert server.most_at_once == 1


def test_server_takes_requests_in_pieces_and_several_in_one():
    with serve(lambda request: Reply(request.path)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            for piece in (b"POST /a HTTP/1.1\r\nContent-", b"Length: 2\r\n\r\n", b"x", b"yGET /b HTTP/1.1\r\n\r\n"):
                raw.sendall(piece)
                time.sleep(0.02)
            raw.sendall(b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n")
            said = b"".join(iter(lambda: raw.recv(4096), b""))
    assert [said.count(path) for path in (b'"/a"', b'"/b"', b'"/c"')] == [1, 1, 1]
    assert server.requests[0].body == b"xy"


def test_a_failing_app_fails_the_test():
    with pytest.raises(ZeroDivisionError), serve(lambda _: 1 / 0) as server:
        assert httpx.get(server.url).status_code == 500


def test_a_process_of_its_own_with_faults():
    command = [
        sys.executable,
        "-m",
        "tests.rerank_server",
        "cohere",
        "--latency",
        "0.01",
        "--faults",
        "0.5",
        "--seed",
        "7",
    ]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        seen = []
        for _ in range(12):
            try:
                answer = httpx.post(f"{url}/v2/rerank", json=FLAT, timeout=1)
                seen.append(answer.status_code)
                assert answer.status_code != 429 or answer.headers["Retry-After"] == "0.05"
            except (httpx.RemoteProtocolError, httpx.ReadTimeout) as error:
                seen.append(type(error).__name__)
        counts = json.loads(process.communicate("")[0])["faults"]
    assert counts == {
        name: seen.count(kind)
        for name, kind in {
            "none": 200,
            "429": 429,
            "500": 500,
            "cut": "RemoteProtocolError",
            "slow": "ReadTimeout",
        }.items()
        if kind in seen
    }
    assert len(counts) > 2
