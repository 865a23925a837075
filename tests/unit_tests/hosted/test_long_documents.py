"""Long documents at hosted endpoints: cut, in chunks, or an error; over real sockets."""

import asyncio
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_rerankkit import EndpointError, ScoreError
from tests.hosted import hosted
from tests.rerank_fakes import FAKES, judge, logit
from tests.rerank_server import serve

QUERY = "Which river flows through the city?"
FILLER = [f"Bread and cheese number {n} are sold at the market hall." for n in range(80)]
LONG = " ".join([*FILLER[:40], "The river flows through the city under nine bridges.", *FILLER[40:]])
SHORT = ["The river.", "The museum of modern art opens at nine.", "A city on a plain."]


def sent(server):
    return [text for request in server.requests for text in request.json["documents"]]


@pytest.fixture(scope="module")
def cohere():
    with serve(FAKES["cohere"]()) as server:
        yield server


@pytest.fixture(autouse=True)
def forget(cohere):
    cohere.requests.clear()


def test_by_default_a_long_document_is_sent_as_it_is_where_no_limit_is_known(cohere):
    (line,) = hosted("cohere", cohere.url).rank(QUERY, [LONG])
    assert sent(cohere) == [LONG]
    assert not {"chunks", "truncated"} & set(line.details)


def test_what_is_far_into_a_long_document_is_found_in_chunks(cohere):
    first, *_ = hosted("cohere", cohere.url, max_characters=300).rank(QUERY, [LONG, *SHORT])
    assert first.document.page_content != LONG
    best, *_ = hosted("cohere", cohere.url, max_characters=300, long_documents="chunk").rank(QUERY, [LONG, *SHORT])
    start, stop = best.details["best_span"]
    assert best.document.page_content == LONG
    assert "The river flows through the city" in LONG[start:stop]
    assert best.score == pytest.approx(judge(QUERY, LONG[start:stop]))
    assert "truncated" not in best.details


def test_a_document_is_cut_from_where_it_says_something(cohere):
    late = " " * 5000 + "The river flows through the city under nine bridges. " * 3
    texts = [late, "\n" * 5000 + SHORT[0], SHORT[1] + "\n" * 5000]
    lines = hosted("cohere", cohere.url, max_characters=100).rank(QUERY, texts)
    assert sent(cohere) == [late.strip()[:100], SHORT[0], SHORT[1]]
    by_text = {line.document.page_content: line.details.get("truncated") for line in lines}
    assert by_text == dict(zip(texts, [True, None, None], strict=True))
    assert len(hosted("cohere", cohere.url, max_characters=100, long_documents="error").rank(QUERY, texts[1:])) == 2


@pytest.mark.parametrize("how", ["max", "mean", "first"])
def test_a_document_has_the_score_that_its_chunks_have_as_documents(cohere, how):
    fields = {"max_characters": 300, "chunk_overlap": 50, "long_documents": "chunk"}
    lines = hosted("cohere", cohere.url, chunk_score=how, **fields).rank(QUERY, [LONG, SHORT[1], LONG + "\n"])
    *chunks, short = sent(cohere)
    assert short == SHORT[1]
    assert all(len(chunk) <= 300 for chunk in chunks)
    places = [LONG.index(chunk) for chunk in chunks]
    assert places == sorted(places)
    scores = [judge(QUERY, chunk) for chunk in chunks]
    expected = {"max": max(scores), "mean": math.fsum(scores) / len(scores), "first": scores[0]}[how]
    by_text = {line.document.page_content: line for line in lines}
    assert by_text[LONG].score == by_text[LONG + "\n"].score == pytest.approx(expected)
    assert by_text[SHORT[1]].score == pytest.approx(judge(QUERY, SHORT[1]))
    assert "chunks" not in by_text[SHORT[1]].details
    details = by_text[LONG].details
    assert details["chunks"] == len(chunks) > 10
    assert LONG[slice(*details["best_span"])] == chunks[scores.index(max(scores))]
    usage = details["usage"]
    assert (usage["documents"], usage["cached"]) == (len(chunks) + 1, len(chunks))


def test_of_logits_the_mean_is_taken_before_they_are_made_shares():
    with serve(FAKES["llamacpp"]()) as server:
        text = " ".join(f"river {n} city {n * n}" for n in range(30))
        fields = {"max_characters": 60, "chunk_overlap": 0, "long_documents": "chunk", "chunk_score": "mean"}
        (line,) = hosted("llamacpp", server.url, **fields).rank(QUERY, [text])
        chunks = server.requests[-1].json["documents"]
    logits = [logit(judge(QUERY, chunk)) for chunk in chunks]
    assert line.details["chunks"] == len(chunks) > 5
    assert line.raw_score == pytest.approx(math.fsum(logits) / len(logits))
    assert line.score == pytest.approx(1 / (1 + math.exp(-line.raw_score)))


def test_chunks_count_towards_what_a_request_holds(cohere):
    fields = {"max_characters": 100, "long_documents": "chunk", "max_documents": 7}
    texts = [" ".join(f"river {n}" for n in range(start, start + 90)) for start in (0, 1000, 2000)]
    reranker = hosted("cohere", cohere.url, **fields)
    lines = reranker.rank(QUERY, texts)
    bodies = [request.json["documents"] for request in cohere.requests]
    assert len(bodies) == lines[0].details["requests"] == math.ceil(sum(map(len, bodies)) / 7)
    assert all(len(body) <= 7 for body in bodies)
    assert len(lines) == 3
    documents = [Document(page_content=text) for text in texts]
    (batched, _) = reranker.batch([{"query": QUERY, "documents": documents}, {"query": "city", "documents": documents}])
    later = asyncio.run(reranker.acompress_documents(documents, QUERY))
    expected = [(line.document.page_content, line.score) for line in lines]
    for result in (batched, later):
        assert [(d.page_content, d.metadata["relevance_score"]) for d in result] == expected


def test_a_top_n_of_documents_is_not_asked_for_among_chunks(cohere):
    """The three best chunks may all be of one document."""
    texts = ["The river flows through the city. " * 30 + str(n) for n in range(2)] + SHORT
    fields = {"max_characters": 70, "long_documents": "chunk"}
    lines = hosted("cohere", cohere.url, top_n=3, **fields).rank(QUERY, texts)
    assert [line.status for line in lines] == ["ok"] * 3
    assert {lines[0].document.page_content, lines[1].document.page_content} == set(texts[:2])
    assert "top_n" not in cohere.requests[-1].json
    hosted("cohere", cohere.url, top_n=2, **fields).rank(QUERY, SHORT)
    assert cohere.requests[-1].json["top_n"] == 2


def test_an_error_is_of_its_query_alone_and_costs_no_request(cohere):
    reranker = hosted("cohere", cohere.url, max_characters=100, long_documents="error")
    inputs = [{"query": QUERY, "documents": [Document(page_content=text)]} for text in (LONG, SHORT[0], LONG)]
    for results in (
        reranker.batch(inputs, return_exceptions=True),
        asyncio.run(reranker.abatch(inputs, return_exceptions=True)),
    ):
        assert [type(result) for result in results] == [ValueError, list, ValueError]
        assert "longer than 100 characters. Set long_documents='chunk'" in str(results[0])
    assert sent(cohere) == [SHORT[0]] * 2
    kept = hosted("cohere", cohere.url, max_characters=100, long_documents="error", on_error="keep_order")
    assert {line.status for line in kept.rank(QUERY, [LONG, *SHORT])} == {"fallback"}


def test_what_a_server_refuses_as_too_long_is_an_error_then_too():
    texts = [*SHORT, "river " * 1000]
    with serve(FAKES["llamacpp"](max_characters=3000)) as server:
        assert {line.status for line in hosted("llamacpp", server.url).rank(QUERY, texts)} == {"ok"}
        with pytest.raises(EndpointError, match="too large"):
            hosted("llamacpp", server.url, long_documents="error").rank(QUERY, texts)
        # Chunks of no more than the server takes need no refusals.
        before = len(server.requests)
        hosted("llamacpp", server.url, long_documents="chunk").rank(QUERY, texts)
        assert len(server.requests) == before + 1


def test_by_default_a_chunk_is_one_that_every_model_reads(cohere):
    (line,) = hosted("cohere", cohere.url, long_documents="chunk").rank(QUERY, [LONG])
    assert 1000 < max(map(len, sent(cohere))) <= 2000
    assert line.details["chunks"] == len(sent(cohere)) == 3
    with serve(FAKES["infinity"]()) as server:  # its limit of 122,880 characters is no model's
        hosted("infinity", server.url, long_documents="chunk").rank(QUERY, ["river " * 40_000])
        assert max(len(text) for text in server.requests[-1].json["documents"]) <= 2000


def test_a_document_is_judged_by_those_of_its_chunks_that_are_taken():
    fake = FAKES["cohere"]()

    def app(request):
        return fake.error(413, "too large") if b"poison" in request.body else fake(request)

    texts = ["The river flows. " * 9 + "poison " * 12 + "Through the city. " * 9, "poison " * 40, *SHORT]
    with serve(app) as server:
        reranker = hosted("cohere", server.url, max_characters=80, chunk_overlap=0, long_documents="chunk")
        by_text = {line.document.page_content: line for line in reranker.rank(QUERY, texts)}
    half, none = by_text[texts[0]], by_text[texts[1]]
    start, stop = half.details["best_span"]
    assert (half.status, half.details["truncated"]) == ("ok", True)
    assert "poison" not in texts[0][start:stop]
    assert (none.status, none.score, none.rank) == ("unjudged", -math.inf, 5)
    assert "best_span" not in none.details
    assert {by_text[text].status for text in SHORT} == {"ok"}


def test_a_score_that_is_none_among_chunks_is_not_hidden():
    def broken(query, text):
        return math.nan if "nine bridges" in text else judge(query, text)

    with serve(FAKES["cohere"](judge=broken)) as server:
        fields = {"max_characters": 300, "long_documents": "chunk"}
        with pytest.raises(ScoreError, match="not finite"):
            hosted("cohere", server.url, **fields).rank(QUERY, [LONG, *SHORT])
        *_, last = hosted("cohere", server.url, on_nan="last", **fields).rank(QUERY, [LONG, *SHORT])
    assert (last.document.page_content, last.status) == (LONG, "not finite")


def test_a_document_of_ten_megabytes_has_as_many_chunks_as_are_paid_for(cohere):
    huge = " ".join(map(str, range(1_500_000)))
    fields = {"long_documents": "chunk", "max_response_bytes": 2**20}
    line, *_ = hosted("cohere", cohere.url, **fields).rank(QUERY, [huge])
    assert len(huge) > 10_000_000
    assert len(sent(cohere)) == line.details["chunks"] == 100
    assert line.details["truncated"] is True
    cohere.requests.clear()
    (line,) = hosted("cohere", cohere.url, max_chunks=None, **fields).rank(QUERY, [huge])
    assert len(cohere.requests) == math.ceil(line.details["chunks"] / 1000) > 5
    assert "truncated" not in line.details


@given(st.text("ab 河。\n\x00é", max_size=60).filter(str.strip), st.integers(1, 7), st.integers(0, 9))
@example("a" * 60, 7, 9)
@settings(max_examples=25)
def test_chunks_smaller_than_a_word_hold_something_and_no_more_than_they_may(cohere, text, size, overlap):
    cohere.requests.clear()
    fields = {"max_characters": size, "chunk_overlap": overlap, "long_documents": "chunk", "max_chunks": None}
    (line,) = hosted("cohere", cohere.url, **fields).rank(QUERY, [text])
    chunks = sent(cohere)
    assert line.status == "ok"
    assert all(chunk.strip() and len(chunk) <= size for chunk in chunks)
    assert line.details.get("chunks", 1) <= 4 * len(text) / size + 2  # whatever the overlap
    assert set("".join(chunks)) | set(" \n") >= set(text)
    if line.details.get("chunks"):
        start, stop = line.details["best_span"]
        assert line.score == pytest.approx(judge(QUERY, text[start:stop]))
