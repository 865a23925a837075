"""What a user sees of each fault of each provider, as a table: docs/hosted.md holds what this file finds.

python -m pytest tests/unit_tests/hosted/test_faults.py --write-tables
"""

import gzip
import json
import re
import time
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

import pytest
from langchain_core.documents import Document

from langchain_rerankkit import EndpointError, ScoreError
from tests.hosted import hosted, open_accounts
from tests.rerank_fakes import FAKES, judge
from tests.rerank_server import Reply, serve

GUIDE = Path(__file__).parents[3] / "docs/hosted.md"
MARKS = "<!-- faults: python -m pytest tests/unit_tests/hosted/test_faults.py --write-tables -->", "<!-- end -->"
QUERY = "Which river flows through the city?"
LONG = "The river. " * 600
TEXTS = [
    "The museum of modern art opens at nine.",
    "A river flows through the city and under nine bridges.",
    "Trains leave for the coast every hour.",
    "Bread and cheese in the city.",
    "The river flows.",
]
BY_POSITION = {"deepinfra", "volcengine"}  # no index to get wrong


@dataclass
class Fault:
    """How an answer goes wrong.

    Attributes:
        name: For the table.
        reply: From the right answer, and the fake for its error bodies, to what is sent.
        times: How many answers go wrong.
        tamper: Changes results before they are written.
        fields: Fields of the reranker.
    """

    name: str
    reply: object = None
    times: int = 1000
    tamper: object = None
    fields: dict = None


def first(change):
    """Changes the first result."""
    return lambda pairs: [change(*pairs[0]), *pairs[1:]]


def refused(status, message="it went wrong", **headers):
    def reply(_, fake):
        refusal = fake.error(status, message)
        return replace(refusal, headers=refusal.headers | {k.replace("_", "-"): v for k, v in headers.items()})

    return reply


def too_long(_, fake):
    return refused(413, "the payload is too large")(_, fake)


FAULTS = [
    Fault("results in another order", tamper=lambda pairs: pairs[::-1]),
    Fault("an index twice", tamper=lambda pairs: [pairs[1], *pairs[1:]]),
    Fault("index 999", tamper=first(lambda _, score: (999, score))),
    Fault('index "0"', tamper=lambda pairs: [(str(index), score) for index, score in pairs]),
    Fault("a result missing", tamper=lambda pairs: pairs[1:]),
    Fault("score NaN", tamper=first(lambda index, _: (index, float("nan")))),
    Fault("score null", tamper=first(lambda index, _: (index, None))),
    Fault('score "0.3"', tamper=first(lambda index, _: (index, "0.3"))),
    Fault("score true", tamper=first(lambda index, _: (index, True))),
    Fault("no list", lambda *_: Reply({})),
    Fault("an error as 200", lambda *_: Reply({"code": 7, "message": "it went wrong"})),
    Fault("JSON that ends early", lambda reply, _: Reply(reply.content[:-9])),
    Fault("compressed", lambda reply, _: Reply(gzip.compress(reply.content), headers={"content-encoding": "gzip"})),
    Fault("more bytes than allowed", lambda *_: Reply(b" " * 200_000), fields={"max_response_bytes": 100_000}),
    Fault("connection lost, once", lambda *_: Reply(drop=True), times=1),
    Fault("connection lost half way, once", lambda reply, _: replace(reply, cut=len(reply.content) // 2), times=1),
    Fault("connection always lost", lambda *_: Reply(drop=True)),
    Fault("body trickles", lambda reply, _: replace(reply, drip=0.05), fields={"deadline": 0.15}),
    Fault("429, once", refused(429), times=1),
    Fault("429, Retry-After: 0.01", refused(429, Retry_After="0.01"), times=1),
    Fault("429, retry-after-ms: 5", refused(429, retry_after_ms="5"), times=1),
    Fault("429, Retry-After: a date", refused(429, Retry_After=formatdate(0, usegmt=True)), times=1),
    Fault("429, Retry-After: 3600", refused(429, Retry_After="3600")),
    Fault("500, once", refused(500), times=1),
    Fault("500, always", refused(500)),
    Fault("503, twice", refused(503), times=2),
    Fault("400", refused(400)),
    Fault("401", refused(401)),
    Fault("403 as HTML", lambda *_: Reply(b"<html><h1>Forbidden</h1></html>", 403, {"content-type": "text/html"})),
    Fault("404", refused(404)),
    Fault("422", refused(422)),
    Fault("501", refused(501)),
    Fault("redirect", lambda *_: Reply(None, 307, {"location": "http://127.0.0.1:9/elsewhere"})),
    Fault("413 for a long document", too_long),
]


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    open_accounts(monkeypatch)


def outcome(provider, fault):
    """What a user sees."""
    fake, left = FAKES[provider](tamper=fault.tamper), [fault.times]
    texts = [*TEXTS, LONG] if fault.reply is too_long else TEXTS

    def app(request):
        reply = fake(request)
        if request.method == "GET" or fault.reply is None or not left[0]:
            return reply
        if fault.reply is too_long and len(request.body) < 4000:
            return reply
        left[0] -= 1
        return fault.reply(reply, fake)

    with (
        serve(app) as server,
        hosted(provider, server.url, backoff=0.002, break_after=None, **(fault.fields or {})) as reranker,
    ):
        start = time.perf_counter()
        try:
            documents = reranker.invoke({"query": QUERY, "documents": [Document(page_content=text) for text in texts]})
        except ScoreError:
            said = "ScoreError"
        except EndpointError as error:
            requests = sum(request.method == "POST" for request in server.requests)
            status = f" {error.status}" if error.status not in {None, 200} else ""
            said = f"EndpointError{status}" + (f", {requests} requests" if requests > 1 else "")
            assert error.provider == provider  # noqa: PT017 - one outcome of several
        else:
            assert sorted(document.page_content for document in documents) == sorted(texts)
            if fault.reply is not too_long:
                expected = sorted(texts, key=lambda text: judge(QUERY, text), reverse=True)
                assert [document.page_content for document in documents] == expected
            said = "ranked"
            details = [document.metadata["rerank"] for document in documents]
            retries = details[0]["usage"]["retries"]
            said += f", {retries} retries" if retries > 1 else ", 1 retry" if retries else ""
            said += ", cut" if any(detail.get("truncated") for detail in details) else ""
        if "deadline" in (fault.fields or {}):
            assert time.perf_counter() - start < 1
    return said


def applies(provider, fault):
    return not (
        provider in BY_POSITION
        and fault.name in {"results in another order", "an index twice", "index 999", 'index "0"'}
    )


SEEN: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("provider", FAKES)
def test_fault(provider, fault):
    if not applies(provider, fault):
        SEEN.setdefault(fault.name, {})[provider] = "-"
        return
    SEEN.setdefault(fault.name, {})[provider] = outcome(provider, fault)


def table():
    """One line for each fault: what most providers come to, and who differs."""
    lines = [f"| fault | {len(FAKES)} providers | but |", "|---|---|---|"]
    for name, said in SEEN.items():
        usual = max(dict.fromkeys(said.values()), key=list(said.values()).count)
        others: dict[str, list[str]] = {}
        for provider, other in said.items():
            if other != usual:
                others.setdefault("no index" if other == "-" else other, []).append(provider)
        but = "; ".join(f"{other}: {', '.join(providers)}" for other, providers in others.items())
        lines.append(f"| {name} | {usual} | {but} |")
    return "\n".join(lines)


def test_the_guide_holds_this_table(request):
    if any(len(said) != len(FAKES) for said in SEEN.values()) or len(SEEN) != len(FAULTS):
        pytest.skip("needs all tests of this file")
    text = GUIDE.read_text()
    start, end = (re.escape(mark) for mark in MARKS)
    written = re.sub(f"(?<={start}\n).*?(?={end})", lambda _: f"{table()}\n", text, count=1, flags=re.DOTALL)
    if request.config.getoption("--write-tables"):
        GUIDE.write_text(written)
    assert GUIDE.read_text() == written, "the table in docs/hosted.md is not what the faults come to"


def test_the_right_answer_is_json():
    """The faults above change answers: that needs them to be what the fakes would send."""
    with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url) as reranker:
        reranker.rank(QUERY, TEXTS)
        assert json.loads(server.requests[0].body)["documents"] == TEXTS
