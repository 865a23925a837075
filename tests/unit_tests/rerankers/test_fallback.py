import asyncio
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pydantic import ValidationError

from langchain_rerankkit import (
    ContextualCompressionRetriever,
    EndpointError,
    EnsembleReranker,
    FallbackReranker,
    FunctionReranker,
    LexicalReranker,
    Reranker,
    ScoreError,
)
from langchain_rerankkit.records import DetailedScores, details_of, with_details
from langchain_rerankkit.testing import FixedRetriever, RerankerTests
from tests.hosted import hosted
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

DOCUMENTS = [
    Document(page_content=text, id=str(n)) for n, text in enumerate(["bread", "a river", "the city", "a train"])
]
INPUT = {"query": "the river in the city", "documents": DOCUMENTS}


class Broken(Reranker):
    """Fails, at once or after a while."""

    seconds: float = 0.0

    def _score(self, query, texts):
        time.sleep(self.seconds)
        msg = "out of order"
        raise RuntimeError(msg)


class Slow(Reranker):
    """Takes its time, and answers."""

    seconds: float = 0.5

    def _score(self, query, texts):
        time.sleep(self.seconds)
        return [float(len(text)) for text in texts]


class Saturated(Reranker):
    """A score that is the same for all good ones, as a sigmoid is in the end."""

    def _score(self, query, texts):
        return [float(n) for n in range(len(texts))]

    def _activate(self, raw_score):
        return min(1.0, raw_score)


class TestFallbackReranker(RerankerTests):
    loadable = (LexicalReranker,)

    def make_reranker(self, **fields):
        return FallbackReranker([LexicalReranker(), LexicalReranker()], **{"on_error": "raise"} | fields)


class TestFallbackRerankerOfOne(RerankerTests):
    """With a single stage, whose scores mean something."""

    loadable = (LexicalReranker,)

    def make_reranker(self, **fields):
        return FallbackReranker([LexicalReranker()], **{"on_error": "raise", "deadline": 30.0} | fields)


def both(reranker):
    """Sync and async must come to the same."""
    documents = reranker.invoke(INPUT)
    again = asyncio.run(reranker.ainvoke(INPUT))
    assert [document.id for document in documents] == [document.id for document in again]
    for one, other in zip(documents, again, strict=True):
        for details in (one.metadata["rerank"], other.metadata["rerank"]):
            details.pop("usage", None)
            for failure in details.get("failed", ()):
                failure.get("usage", {}).pop("seconds", None)
        assert one.metadata == other.metadata
    return documents


def test_the_first_one_answers():
    documents = both(FallbackReranker([LexicalReranker(), Broken()]))
    assert [document.id for document in documents[:2]] == [
        document.id for document in LexicalReranker().invoke(INPUT)[:2]
    ]
    details = documents[0].metadata["rerank"]
    assert (details["model"], details["stage"], details["status"]) == ("LexicalReranker", 1, "ok")
    assert "failed" not in details


def test_the_next_one_where_it_fails():
    documents = both(FallbackReranker([Broken(), LexicalReranker()]))
    expected = LexicalReranker().invoke(INPUT)
    assert [document.id for document in documents] == [document.id for document in expected]
    for document, same in zip(documents, expected, strict=True):
        details = document.metadata["rerank"]
        assert document.metadata["relevance_score"] == same.metadata["relevance_score"]
        assert (details["model"], details["stage"], details["status"]) == ("LexicalReranker", 2, "ok")
        assert details["failed"] == [{"model": "Broken", "reason": "RuntimeError"}]


def test_at_the_end_the_order_that_was_there():
    documents = both(FallbackReranker([Broken(), Slow(seconds=5)], deadline=0.3, top_n=3))
    assert [document.id for document in documents] == ["0", "1", "2"]
    for document in documents:
        details = document.metadata["rerank"]
        assert (details["status"], details["reason"]) == ("fallback", "TimeoutError")
        assert details["failed"] == [
            {"model": "Broken", "reason": "RuntimeError"},
            {"model": "Slow", "reason": "TimeoutError"},
        ]


def test_or_the_last_error():
    for error, reranker in (
        (RuntimeError, FallbackReranker([LexicalReranker(), Broken()][::-1][:1], keep_order=False)),
        (TimeoutError, FallbackReranker([Broken(), Slow(seconds=5)], keep_order=False, deadline=0.2)),
    ):
        with pytest.raises(error):
            reranker.invoke(INPUT)
        with pytest.raises(error):
            asyncio.run(reranker.ainvoke(INPUT))


def test_a_late_stage_leaves_time_for_the_next():
    """Half of the deadline each, and not all of it for the first (D35)."""
    reranker = FallbackReranker([Slow(seconds=4), LexicalReranker()], deadline=2.0)
    for call in (lambda: reranker.invoke(INPUT), lambda: asyncio.run(reranker.ainvoke(INPUT))):
        start = time.monotonic()
        documents = call()
        assert 0.9 < time.monotonic() - start < 2.0
        assert documents[0].metadata["rerank"]["stage"] == 2


def test_shares():
    reranker = FallbackReranker([Slow(seconds=0.4), LexicalReranker()], deadline=1.0, shares=[9, 1])
    assert reranker.invoke(INPUT)[0].metadata["rerank"]["stage"] == 1
    reranker = FallbackReranker([Slow(seconds=0.4), LexicalReranker()], deadline=1.0, shares=[1, 9])
    assert reranker.invoke(INPUT)[0].metadata["rerank"]["stage"] == 2
    for fields in ({"shares": [1.0]}, {"shares": [1.0, 0.0], "deadline": 1}, {"shares": [1.0, 1.0]}):
        with pytest.raises(ValidationError, match="share"):
            FallbackReranker([Broken(), Broken()], **fields)


def test_what_a_stage_leaves_goes_to_the_next():
    reranker = FallbackReranker([Broken(), Slow(seconds=1.2)], deadline=2.0)
    assert reranker.invoke(INPUT)[0].metadata["rerank"]["stage"] == 2


def test_one_failing_query_of_a_batch_goes_on_alone():
    asked = []

    def score(query, texts):
        asked.append(query)
        if query == "bad":
            msg = "no"
            raise ValueError(msg)
        return [1.0] * len(texts)

    reranker = FallbackReranker([FunctionReranker(function=score), LexicalReranker()])
    results = reranker.batch([{"query": query, "documents": DOCUMENTS} for query in ("good", "bad", "fine")])
    assert [result[0].metadata["rerank"]["stage"] for result in results] == [1, 2, 1]
    assert sorted(asked) == ["bad", "fine", "good"]


def test_wrong_answers_are_failures_too():
    reranker = FallbackReranker([FunctionReranker(function=lambda *_: [1.0]), LexicalReranker()])
    assert reranker.invoke(INPUT)[0].metadata["rerank"]["failed"] == [{"model": "<lambda>", "reason": "ScoreError"}]
    with pytest.raises(ScoreError):
        FallbackReranker([FunctionReranker(function=lambda *_: [1.0])], keep_order=False).invoke(INPUT)


def test_saturated_scores_keep_the_order_of_the_raw_ones():
    documents = FallbackReranker([Saturated()]).invoke(INPUT)
    assert [document.id for document in documents] == [document.id for document in Saturated().invoke(INPUT)]
    scores = [document.metadata["relevance_score"] for document in documents]
    assert scores == pytest.approx([1.0, 1.0, 1.0, 0.0])


def test_no_threshold_fits_stages_that_differ():
    with pytest.raises(ValidationError, match="min_score"):
        FallbackReranker([LexicalReranker(), Broken()], min_score=0.5)
    with pytest.raises(ValidationError, match="on its member"):
        FallbackReranker([LexicalReranker(top_n=3)])
    with pytest.raises(ValidationError):
        FallbackReranker([])


def test_endpoints_are_told_the_deadline():
    """So that they do not wait for a second attempt that nobody will hear of; the status says why."""
    fake = FAKES["cohere"]()
    with serve(lambda _: fake.error(503, "away")) as server:
        stages = [hosted("cohere", server.url, backoff=5), LexicalReranker()]
        with FallbackReranker(stages, deadline=1.0) as reranker:
            start = time.monotonic()
            documents = both(reranker)
            assert time.monotonic() - start < 0.8
            (failed,) = documents[0].metadata["rerank"]["failed"]
            assert failed.pop("usage")["requests"] == 1
            assert failed == {"model": "some-model", "reason": "EndpointError", "status": 503}
            assert documents[0].metadata["rerank"]["stage"] == 2
            assert len(server.requests) == 2
        with hosted("cohere", server.url, backoff=0) as alone, pytest.raises(EndpointError):
            FallbackReranker([alone], keep_order=False).invoke(INPUT)


def test_the_trace_says_it_too():
    collector = RunCollectorCallbackHandler()
    FallbackReranker([Broken()]).invoke(INPUT, {"callbacks": [collector]})
    (run,) = collector.traced_runs
    details = run.outputs["documents"][0].metadata["rerank"]
    assert (details["status"], details["reason"]) == ("fallback", "RuntimeError")


def test_it_is_a_reranker_among_others():
    fallback = FallbackReranker([Broken(), LexicalReranker()], keep_order=False)
    assert EnsembleReranker(rerankers=[fallback, LexicalReranker()]).invoke(INPUT)[0].id in {"1", "2"}
    nested = FallbackReranker([FallbackReranker([Broken()], keep_order=False), LexicalReranker()])
    assert nested.invoke(INPUT)[0].metadata["rerank"]["stage"] == 2
    retriever = ContextualCompressionRetriever(
        base_compressor=FallbackReranker([Broken()], top_n=2), base_retriever=FixedRetriever(documents=DOCUMENTS)
    )
    assert [document.id for document in retriever.invoke("river")] == ["0", "1"]


def test_late_threads_neither_pile_up_nor_starve_the_next_stage():
    reranker = FallbackReranker([Slow(seconds=1), LexicalReranker()], deadline=3.0, shares=[1, 9])
    with ThreadPoolExecutor(100) as threads:
        results = list(threads.map(lambda _: reranker.invoke(INPUT), range(100)))
    assert {result[0].metadata["rerank"]["stage"] for result in results} == {2}
    assert len(reranker._ready()[0].threads._threads) < 100
    reranker.close()


def test_forty_at_the_same_time_are_not_late_for_it():
    reranker = FallbackReranker([Slow(seconds=0.2), LexicalReranker()], deadline=4.0)
    with ThreadPoolExecutor(40) as threads:
        results = list(threads.map(lambda _: reranker.invoke(INPUT), range(40)))
    assert {result[0].metadata["rerank"]["stage"] for result in results} == {1}
    reranker.close()


def test_members_that_hang_under_an_event_loop_leave_the_threads_of_others_free():
    release = threading.Event()

    def hang(query, texts):
        release.wait(20)
        return [0.0] * len(texts)

    slow = FallbackReranker([FunctionReranker(function=hang), LexicalReranker()], deadline=6.0, shares=[1, 19])

    async def main():
        late = await asyncio.gather(*(slow.ainvoke(INPUT) for _ in range(20)))
        return late, await asyncio.wait_for(LexicalReranker().ainvoke(INPUT), 5)

    try:
        late, other = asyncio.run(main())
    finally:
        release.set()
    assert {documents[0].metadata["rerank"]["stage"] for documents in late} == {2}
    assert len(other) == len(DOCUMENTS)
    slow.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("deadline", [None, 2.0])
def test_a_forked_process_has_threads_of_its_own(asynchronous, deadline):
    def judged():
        found = asyncio.run(reranker.ainvoke(INPUT)) if asynchronous else reranker.invoke(INPUT)
        return found[0].metadata["rerank"]["stage"] == 1

    with FallbackReranker([LexicalReranker(), Broken()], deadline=deadline) as reranker:
        assert judged()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(0 if judged() and judged() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert judged()


def test_closing_while_others_judge():
    reranker = FallbackReranker([Slow(seconds=0.0)], keep_order=False, deadline=20.0)
    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(reranker.invoke, INPUT) for _ in range(200)]
        while not all(result.done() for result in results):
            reranker.close()
    assert {len(result.result()) for result in results} == {len(DOCUMENTS)}
    lane = reranker._ready()[0]
    reranker.close()
    assert lane.submit(len, "ab").result(5) == 2  # of a call that had begun before


def test_queries_that_share_an_error_do_not_share_what_it_says():
    class Down(Reranker):
        def _score_many(self, requests):
            msg = "down"
            raise RuntimeError(msg)

    def picky(query, texts):
        raise with_details(ValueError("no"), usage={"requests": 1}) if query == "bad" else TypeError("no")

    reranker = FallbackReranker([FunctionReranker(function=picky), Down()], keep_order=False)
    inputs = [{"query": query, "documents": DOCUMENTS} for query in ("bad", "good")]
    errors = reranker.batch(inputs, return_exceptions=True)
    reasons = [[(one["reason"], one.get("usage")) for one in details_of(error)["failed"]] for error in errors]
    assert reasons == [
        [("ValueError", {"requests": 1}), ("RuntimeError", None)],
        [("TypeError", None), ("RuntimeError", None)],
    ]


class FormattedError(RuntimeError):
    """Makes its message of what it is given."""

    def __init__(self, number):
        super().__init__(f"number {number}")


class WantingError(RuntimeError):
    """Cannot be made again of what it keeps."""

    def __init__(self, *, number):
        super().__init__(f"number {number}")


@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("a", 1), FormattedError(3), FileNotFoundError(2, "gone", "file")),
        EndpointError("away", provider="p", status=503, retry_after=1.0),
        *(KeyError("k"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")),
    ],
)
def test_an_error_with_more_to_say_is_a_copy_that_says_the_same(error):
    error.__cause__ = ValueError("cause")
    with pytest.raises(type(error)):
        raise error
    said = with_details(error, usage={"requests": 1})
    assert said.__traceback__
    assert said is not error
    assert details_of(error) == {}
    assert details_of(said) == {"usage": {"requests": 1}}
    assert (type(said), str(said), said.args) == (type(error), str(error), error.args)
    assert {name: value for name, value in vars(said).items() if name != "rerank_details"} == vars(error)
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__"):
        assert getattr(said, name) is getattr(error, name)


def test_an_error_that_cannot_be_copied_is_given_back_itself():
    error = WantingError(number=3)
    assert with_details(error, usage={}) is error
    assert details_of(error) == {"usage": {}}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_stage_drops_stays_dropped(asynchronous):
    class Dropping(Reranker):
        def _score(self, query, texts):
            return DetailedScores(
                [float(n) for n in range(len(texts))], [{}] * len(texts), dropped={0, 3}, unjudged={1}
            )

    reranker = FallbackReranker([Broken(), Dropping()])
    found = asyncio.run(reranker.ainvoke(INPUT)) if asynchronous else reranker.invoke(INPUT)
    assert [(d.id, d.metadata["rerank"]["status"]) for d in found] == [("2", "ok"), ("1", "unjudged")]
    assert {d.metadata["rerank"]["stage"] for d in found} == {2}
