"""The providers' own clients against the fakes: who satisfies these speaks as the provider does.

Cohere's and langchain-cohere's are among what the package is developed with. The others are skipped where they are not
installed; with them in an environment of their own:
``pytest --noconftest tests/unit_tests/hosted/test_real_clients.py``.
"""

import asyncio

import pytest

from tests.rerank_fakes import FAKES, logit
from tests.rerank_server import serve

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of other firms' code

QUERY = "who made the python language"
TEXTS = [
    "Snakes lay eggs.",
    "Guido made the Python language.",
    "A language is made of words.",
    "The python is a snake.",
    "Nothing at all.",
]
KEY = "key-1"


@pytest.fixture
def fake_server():
    """Start the fake of a name; gives the running server and the fake."""
    running = []

    def start(name, key=KEY, **variant):
        fake = FAKES[name](key, **variant)
        context = serve(fake)
        running.append(context)
        return context.__enter__(), fake

    yield start
    for context in running:
        context.__exit__(None, None, None)


def ranked(fake, top=None, to=float):
    """The fake's verdict: pairs of index and score, best first."""
    scores = [(i, to(fake.judge(QUERY, text))) for i, text in enumerate(TEXTS)]
    return sorted(scores, key=lambda pair: -pair[1])[:top]


def test_cohere(fake_server):
    cohere = pytest.importorskip("cohere")
    server, fake = fake_server("cohere")
    with cohere.ClientV2(KEY, base_url=server.url) as client:
        answer = client.rerank(model="rerank-v4.0-fast", query=QUERY, documents=TEXTS, top_n=3)
    assert [(r.index, r.relevance_score) for r in answer.results] == ranked(fake, 3)
    assert answer.meta.billed_units.search_units == 1


def test_ours_ranks_as_theirs(fake_server):
    """The same server, through Cohere's client, langchain-cohere's compressor and our reranker."""
    cohere = pytest.importorskip("cohere")
    langchain_cohere = pytest.importorskip("langchain_cohere")
    from langchain_core.documents import Document

    import langchain_rerankkit  # here, since the other clients may be alone in their environment

    server, _ = fake_server("cohere")
    documents = [Document(page_content=text) for text in TEXTS]
    with cohere.ClientV2(KEY, base_url=server.url) as client:
        answer = client.rerank(model="m", query=QUERY, documents=TEXTS)
        theirs = [(TEXTS[result.index], result.relevance_score) for result in answer.results]
        compressor = langchain_cohere.CohereRerank(client=client, cohere_api_key=KEY, model="m", top_n=len(TEXTS))
        compressed = compressor.compress_documents(documents, QUERY)
    with langchain_rerankkit.CohereReranker(model="m", api_key=KEY, base_url=server.url) as reranker:
        ours = reranker.compress_documents(documents, QUERY)
    assert [(document.page_content, document.metadata["relevance_score"]) for document in ours] == theirs
    assert [(document.page_content, document.metadata["relevance_score"]) for document in compressed] == theirs


def test_cohere_async(fake_server):
    cohere = pytest.importorskip("cohere")
    server, fake = fake_server("cohere")

    async def ask():
        async with cohere.AsyncClientV2(KEY, base_url=server.url) as client:
            return await asyncio.gather(*(client.rerank(model="m", query=QUERY, documents=TEXTS) for _ in range(20)))

    for answer in asyncio.run(ask()):
        assert [(r.index, r.relevance_score) for r in answer.results] == ranked(fake)


@pytest.mark.parametrize(
    ("query", "texts", "what"),
    [(QUERY, [], "empty"), (" ", TEXTS, "query"), (QUERY, ["a", " "], "index 1"), (QUERY, ["a"] * 10_001, "10001")],
)
def test_cohere_refuses(fake_server, query, texts, what):
    cohere = pytest.importorskip("cohere")
    server, _ = fake_server("cohere")
    with cohere.ClientV2(KEY, base_url=server.url) as client, pytest.raises(cohere.BadRequestError) as raised:
        client.rerank(model="m", query=query, documents=texts)
    assert what in str(raised.value.body)


def test_cohere_wrong_key(fake_server):
    cohere = pytest.importorskip("cohere")
    server, _ = fake_server("cohere")
    with cohere.ClientV2("key-2", base_url=server.url) as client, pytest.raises(cohere.UnauthorizedError):
        client.rerank(model="m", query=QUERY, documents=TEXTS)


def test_langchain_cohere(fake_server):
    cohere = pytest.importorskip("cohere")
    langchain_cohere = pytest.importorskip("langchain_cohere")
    from langchain_core.documents import Document

    server, fake = fake_server("cohere")
    with cohere.ClientV2(KEY, base_url=server.url) as client:  # its own would stay open
        reranker = langchain_cohere.CohereRerank(client=client, model="m", cohere_api_key=KEY, top_n=2)
        found = reranker.compress_documents([Document(text) for text in TEXTS], QUERY)
    wanted = ranked(fake, 2)
    assert [document.page_content for document in found] == [TEXTS[i] for i, _ in wanted]
    assert [document.metadata["relevance_score"] for document in found] == [score for _, score in wanted]


def test_voyageai(fake_server):
    voyageai = pytest.importorskip("voyageai")
    server, fake = fake_server("voyage")
    client = voyageai.Client(KEY, base_url=f"{server.url}/v1")
    answer = client.rerank(QUERY, TEXTS, "rerank-2.5", top_k=3)
    assert [(r.index, r.relevance_score) for r in answer.results] == ranked(fake, 3)
    assert len(client.rerank(QUERY, TEXTS, "rerank-2.5").results) == len(TEXTS)
    with pytest.raises(voyageai.error.InvalidRequestError, match="too many tokens"):
        client.rerank(QUERY, ["long " * 40_000], "rerank-2.5", truncation=False)
    with pytest.raises(voyageai.error.AuthenticationError):
        voyageai.Client("key-2", base_url=f"{server.url}/v1").rerank(QUERY, TEXTS, "rerank-2.5")


def test_pinecone(fake_server):
    pinecone = pytest.importorskip("pinecone")
    server, fake = fake_server("pinecone")
    with pinecone.Pinecone(api_key=KEY, host=server.url) as client:
        answer = client.inference.rerank(model="bge-reranker-v2-m3", query=QUERY, documents=TEXTS, top_n=3)
    assert [(r.index, r.score) for r in answer.data] == ranked(fake, 3)
    assert answer.data[0].document["text"] == TEXTS[answer.data[0].index]


def test_mixedbread(fake_server):
    mixedbread = pytest.importorskip("mixedbread")
    server, fake = fake_server("mixedbread")
    with mixedbread.Mixedbread(api_key=KEY, base_url=server.url, _strict_response_validation=True) as client:
        answer = client.rerank(query=QUERY, input=TEXTS, top_k=3)
        assert [(r.index, r.score) for r in answer.data] == ranked(fake, 3)
        with pytest.raises(mixedbread.BadRequestError, match="1000"):
            client.rerank(query=QUERY, input=["a"] * 1001)


def test_together(fake_server):
    together = pytest.importorskip("together")
    server, fake = fake_server("together")
    with together.Together(api_key=KEY, base_url=server.url, _strict_response_validation=True) as client:
        answer = client.rerank.create(model="m", query=QUERY, documents=TEXTS, top_n=3, return_documents=True)
    assert [(r.index, r.relevance_score) for r in answer.results] == ranked(fake, 3)
    assert answer.results[0].document.text == TEXTS[answer.results[0].index]


def test_isaacus(fake_server):
    isaacus = pytest.importorskip("isaacus")
    server, fake = fake_server("isaacus")
    with isaacus.Isaacus(api_key=KEY, base_url=f"{server.url}/v1", _strict_response_validation=True) as client:
        answer = client.rerankings.create(model="kanon-2-reranker", query=QUERY, texts=TEXTS, top_n=3)
        assert [(r.index, r.score) for r in answer.results] == ranked(fake, 3)
        with pytest.raises(isaacus.BadRequestError, match="blank"):
            client.rerankings.create(model="kanon-2-reranker", query=QUERY, texts=[" "])


def test_zeroentropy(fake_server):
    zeroentropy = pytest.importorskip("zeroentropy")
    server, fake = fake_server("zeroentropy", budget=10)
    options = {"api_key": KEY, "base_url": f"{server.url}/v1", "max_retries": 0, "_strict_response_validation": True}
    fake.slow = 0.01
    with zeroentropy.ZeroEntropy(**options) as client:
        answer = client.models.rerank(model="zerank-2", query=QUERY, documents=TEXTS, top_n=3)
        assert [(r.index, r.relevance_score) for r in answer.results] == ranked(fake, 3)
        assert answer.actual_latency_mode == "slow"
        with pytest.raises(zeroentropy.RateLimitError):
            client.models.rerank(model="zerank-2", query=QUERY, documents=TEXTS, latency="fast")


def test_contextual(fake_server):
    contextual = pytest.importorskip("contextual")
    server, fake = fake_server("contextual")
    options = {"api_key": KEY, "base_url": f"{server.url}/v1", "_strict_response_validation": True}
    with contextual.ContextualAI(**options) as client:
        answer = client.rerank.create(model="m", query=QUERY, documents=TEXTS, instruction="new first", top_n=3)
        assert [r.index for r in answer.results] == [i for i, _ in ranked(fake, 3)]
        with pytest.raises(contextual.UnprocessableEntityError, match="as long as"):
            client.rerank.create(model="m", query=QUERY, documents=TEXTS, metadata=["one"])


@pytest.mark.parametrize("pending", [0, 1, 3])
def test_langchain_nvidia(fake_server, pending):
    endpoints = pytest.importorskip("langchain_nvidia_ai_endpoints")
    from langchain_core.documents import Document

    server, fake = fake_server("nvidia", pending=pending)
    base_url = f"{server.url}/v1"
    model = "nvidia/llama-nemotron-rerank-1b-v2"
    options = {"usage_telemetry_enabled": False, "api_key": KEY, "base_url": base_url}
    reranker = endpoints.NVIDIARerank(model=model, top_n=3, **options)
    reranker._client.polling_url_tmpl = server.url + "/v2/nvcf/pexec/status/{request_id}"
    found = reranker.compress_documents([Document(text) for text in TEXTS], QUERY)
    assert [(d.page_content, d.metadata["relevance_score"]) for d in found] == [
        (TEXTS[i], score) for i, score in ranked(fake, 3, logit)
    ]
    assert [request.method for request in server.requests] == ["POST"] + ["GET"] * pending


def test_xinference(fake_server):
    client = pytest.importorskip("xinference_client.client.restful.restful_client")
    server, fake = fake_server("xinference")
    model = client.RESTfulRerankModelHandle("m", server.url, {"Authorization": f"Bearer {KEY}"})
    answer = model.rerank(TEXTS, QUERY, top_n=3)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == ranked(fake, 3)


def test_boto3(fake_server):
    boto3 = pytest.importorskip("boto3")
    server, fake = fake_server("bedrock", page=2)
    session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key="secret", region_name="us-west-2")
    client = session.client("bedrock-agent-runtime", endpoint_url=server.url)
    inline = [{"type": "TEXT", "textDocument": {"text": text}} for text in TEXTS]
    arn = "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"
    inner = {"numberOfResults": 5, "modelConfiguration": {"modelArn": arn}}
    pages = client.get_paginator("rerank").paginate(
        queries=[{"type": "TEXT", "textQuery": {"text": QUERY}}],
        sources=[{"type": "INLINE", "inlineDocumentSource": source} for source in inline],
        rerankingConfiguration={"type": "BEDROCK_RERANKING_MODEL", "bedrockRerankingConfiguration": inner},
    )
    found = [(r["index"], r["relevanceScore"]) for page in pages for r in page["results"]]
    assert found == ranked(fake)
    assert len(server.requests) == 3


def test_elasticsearch(fake_server):
    elasticsearch = pytest.importorskip("elasticsearch")
    server, fake = fake_server("elasticsearch")
    with elasticsearch.Elasticsearch(server.url, api_key=KEY) as client:
        answer = client.inference.rerank(inference_id=".rerank-v1-elasticsearch", query=QUERY, input=TEXTS)
        assert [(r["index"], r["relevance_score"]) for r in answer["rerank"]] == ranked(fake)
        with pytest.raises(elasticsearch.BadRequestError, match="must not be empty"):
            client.inference.rerank(inference_id="x", query=QUERY, input=[])
