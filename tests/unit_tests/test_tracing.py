import asyncio
import json
import math
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import langsmith
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever as ClassicRetriever
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.langchain import LangChainTracer
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from langchain_rerankkit import (
    EnsembleReranker,
    FallbackReranker,
    FunctionReranker,
    LexicalReranker,
    ListwiseReranker,
    Reranker,
    ScoreError,
)
from langchain_rerankkit.records import DetailedScores, Judged, RankedDocument, Ranking, total_usage
from langchain_rerankkit.testing import FixedRetriever
from langchain_rerankkit.tracing import summary
from tests.hosted import hosted
from tests.judge import Judge
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DOCUMENTS = [
    Document(id="short", page_content="a"),
    Document(id="long", page_content="aaa", metadata={"relevance_score": 0.25}),
    Document(id="blank", page_content=" "),
    Document(id="middle", page_content="aa"),
]
INPUT = {"query": "which?", "documents": DOCUMENTS}
ORDER = ["long", "middle", "short", "blank"]


def lengths(query, texts):
    return [float(len(text)) for text in texts]


def broken(query, texts):
    message = f"{query} broke on {texts}"
    raise ConnectionError(message)


class Billed(Reranker):
    """Says what it costs, and where it runs."""

    model: str = "rank-1"

    def _provider(self):
        return "somebody"

    def _score(self, query, texts):
        about = {"usage": {"requests": 1, "search_units": 2, "tokens": 30}, "backend": "fast"}
        return DetailedScores(lengths(query, texts), [dict(about) for _ in texts])


def call(way, reranker, inputs, config=None):
    """The same by each of the ways in."""
    if way == "invoke":
        return [reranker.invoke(one, config) for one in inputs]
    if way == "batch":
        return reranker.batch(inputs, config)
    if way == "abatch":
        return asyncio.run(reranker.abatch(inputs, config))

    async def all_of_them():
        return [await reranker.ainvoke(one, config) for one in inputs]

    return asyncio.run(all_of_them())


every_way = pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])


# --- what a run of LangChain's tracers shows --------------------------------------------------------------------------


@every_way
def test_a_run_shows_what_a_retriever_shows_and_what_the_rerank_did(way):
    collector = RunCollectorCallbackHandler()
    results = call(way, Billed(top_n=3), [INPUT, INPUT], {"callbacks": [collector], "metadata": {"mine": 1}})
    assert len(collector.traced_runs) == 2
    for run, result in zip(collector.traced_runs, results, strict=True):
        assert (run.name, run.run_type) == ("Billed", "retriever")
        assert run.inputs == INPUT
        assert run.outputs.pop("documents") == result
        assert run.outputs == {
            "model": "rank-1",
            "candidates": 4,
            "returned": 3,
            "previous_ranks": [2, 4, 1],
            "scores": [3.0, 2.0, 1.0],
            "statuses": {"ok": 3, "blank": 1},
            "backend": "fast",
            "usage": {"requests": 1, "search_units": 2, "tokens": 30},
        }
        said = {"ls_retriever_name": "billed", "ls_model_name": "rank-1", "ls_provider": "somebody", "mine": 1}
        assert said.items() <= run.extra["metadata"].items()


def test_a_fallback_is_visible_in_the_run_and_an_error_is_its_error():
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    FunctionReranker(function=broken, on_error="keep_order").invoke(INPUT, config)
    results = FunctionReranker(function=broken).batch([INPUT, INPUT], config, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError] * 2
    kept, *failed = collector.traced_runs
    assert kept.outputs["statuses"] == {"fallback": 4}
    assert kept.outputs["reason"] == "ConnectionError"
    assert kept.outputs["scores"] == [None] * 4
    assert kept.error is None
    assert all("ConnectionError" in run.error and not run.outputs for run in failed)


def test_a_model_below_keeps_its_own_name_and_a_retriever_above_does_too():
    class Named(Judge):
        def _get_ls_params(self, stop=None, **kwargs):
            return {"ls_provider": "judges", "ls_model_name": "judge-7", "ls_model_type": "chat"}

    collector = RunCollectorCallbackHandler()
    retriever = ClassicRetriever(
        base_compressor=ListwiseReranker(model=Named()), base_retriever=FixedRetriever(documents=DOCUMENTS)
    )
    retriever.invoke("which?", {"callbacks": [collector]})
    (top,) = collector.traced_runs
    _, rerank = top.child_runs
    (model,) = rerank.child_runs
    assert top.extra["metadata"]["ls_retriever_name"] == "contextualcompression"
    assert "ls_model_name" not in top.extra["metadata"]
    assert rerank.extra["metadata"]["ls_retriever_name"] == "listwise"
    assert rerank.extra["metadata"]["ls_model_name"] == "judge"
    assert model.extra["metadata"]["ls_model_name"] == "judge-7"
    assert model.extra["metadata"]["ls_provider"] == "judges"
    assert rerank.outputs["usage"]["calls"] == 1


def test_streamed_events_and_chains_carry_documents_as_before():
    chain = {"query": RunnablePassthrough(), "documents": RunnableLambda(lambda _: DOCUMENTS)} | (
        FunctionReranker(function=broken).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    ).with_fallbacks([FunctionReranker(function=lengths).bind(top_n=2)])

    async def events():
        return [event async for event in chain.astream_events("which?", version="v2")]

    ends = [event for event in asyncio.run(events()) if event["event"] == "on_retriever_end"]
    assert [d.id for d in ends[-1]["data"]["output"]["documents"]] == ["long", "middle"]
    assert [d.id for d in chain.invoke("which?")] == ["long", "middle"]
    assert [[d.id for d in chunk] for chunk in chain.stream("which?")] == [["long", "middle"]]


def test_an_own_run_name_and_id_and_the_callers_configuration_are_kept():
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector], "run_name": "mine", "tags": ["a"], "metadata": {"ls_model_name": "theirs"}}
    FunctionReranker(function=lengths).invoke(INPUT, config)
    (run,) = collector.traced_runs
    assert (run.name, run.tags) == ("mine", ["a"])
    assert config == {
        "callbacks": [collector],
        "run_name": "mine",
        "tags": ["a"],
        "metadata": {"ls_model_name": "theirs"},
    }


any_status = st.sampled_from(["ok", "blank", "not finite", "unjudged", "fallback"])


@given(st.lists(st.tuples(st.floats(), any_status), max_size=8))
def test_a_summary_is_plain_json_and_counts_every_candidate(lines):
    documents = [Document(page_content="t")] * len(lines)
    judged = Judged(documents, [score for score, _ in lines], [status for _, status in lines])
    ranked = [RankedDocument(documents[0], score, score, 1, 1, status) for score, status in lines[:3]]
    said = json.loads(json.dumps(summary("m", judged, ranked), allow_nan=False))
    assert sum(said["statuses"].values()) == said["candidates"] == len(lines)
    assert [score is None for score in said["scores"]] == [not math.isfinite(score) for score, _ in lines[:3]]
    assert "usage" not in said


def test_usage_adds_up_over_stages_and_counts_the_last_failure_once():
    first, second = {"requests": 2, "seconds": 0.5}, {"requests": 1, "tokens": 7, "estimated": True}
    failures = [{"model": "a", "usage": first}, {"model": "b", "usage": second}, {"model": "c"}]
    everything = {"requests": 3, "seconds": 0.5, "tokens": 7, "estimated": True}
    assert total_usage({}) == {}
    assert total_usage({"usage": first}) == first
    assert total_usage({"usage": second, "stage": 2, "failed": failures[:1]}) == everything
    assert total_usage({"usage": second, "failed": failures}) == everything


@pytest.mark.parametrize("usage", [None, "much", {"model": "x", "calls": 1, "none": None}, [1], 3])
@pytest.mark.parametrize("failed", [None, "all", 3, [None, "x"], [{"usage": 5}]])
def test_details_of_any_shape_fail_no_rerank(usage, failed, spans):
    class Chatty(Reranker):
        def _score(self, query, texts):
            return DetailedScores(lengths(query, texts), [{"usage": usage, "failed": failed, "stage": 1}] * len(texts))

    assert len(Chatty().invoke(INPUT)) == 4
    assert spans()[0].attributes["rerankkit.returned"] == 4


# --- what LangSmith's client uploads ----------------------------------------------------------------------------------


@contextmanager
def langsmith_server():
    received = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self):
            received.append((self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
            self.send_response(202)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the names that the server looks for

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def test_what_langsmith_is_sent_can_be_read_and_holds_no_secret():
    nothing = Document(id="blank", page_content="", metadata={"odd": math.nan})
    with langsmith_server() as (url, received), serve(FAKES["cohere"]()) as provider:
        client = langsmith.Client(api_url=url, api_key="ls-key", auto_batch_tracing=False, info={"version": "0"})
        reranker = hosted("cohere", provider.url, api_key="sk-of-mine")
        config = {"callbacks": [LangChainTracer(client=client, project_name="p")]}
        reranker.invoke({"query": "which?", "documents": [*DOCUMENTS, nothing]}, config)
        client.close()
    bodies = [json.loads(body) for method, _, body in received if method in {"POST", "PATCH"}]
    merged = {key: value for body in bodies for key, value in body.items() if value}
    assert merged["run_type"] == "retriever"
    assert set(merged["inputs"]) == {"query", "documents"}
    outputs = merged["outputs"]
    assert outputs["candidates"] == len(outputs["documents"]) == 5
    assert outputs["statuses"] == {"ok": 3, "blank": 2}
    assert outputs["usage"]["requests"] == 1
    assert outputs["scores"][-2:] == [None, None]
    assert "page_content" in json.dumps(outputs["documents"])
    assert merged["extra"]["metadata"]["ls_model_name"] == "some-model"
    assert not any(b"sk-of-mine" in body or b"NaN" in body or b"Infinity" in body for _, _, body in received)


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def make_spans(monkeypatch):
    """Sets up an SDK and returns a function that gives the finished spans."""
    monkeypatch.delenv(CAPTURE, raising=False)

    def make(**options):
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **options)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        return exporter.get_finished_spans

    return make


@pytest.fixture
def spans(make_spans):
    return make_spans()


def parents(finished):
    """Name of each span, with that of the one it is in."""
    names = {span.context.span_id: span.name for span in finished}
    return Counter((span.name, names.get(span.parent.span_id) if span.parent else None) for span in finished)


@every_way
def test_each_input_gives_a_span_with_the_names_of_the_conventions(way, spans):
    call(way, Billed(top_n=3), [INPUT, INPUT])
    first, second = spans()
    assert first.context.trace_id != second.context.trace_id
    for span in (first, second):
        assert (span.name, span.kind, span.status.status_code) == ("rerank rank-1", SpanKind.CLIENT, StatusCode.UNSET)
        attributes = dict(span.attributes)
        said = json.loads(attributes.pop("output.value"))
        assert said["previous_ranks"] == [2, 4, 1]
        assert said["ids"] == ORDER[:3]
        assert said["scores"] == [3.0, 2.0, 1.0]
        assert said["usage"] == {"requests": 1, "search_units": 2, "tokens": 30}
        inputs = {f"reranker.input_documents.{n}.document.id": d.id for n, d in enumerate(DOCUMENTS)}
        outputs = {f"reranker.output_documents.{n}.document.id": id_ for n, id_ in enumerate(ORDER[:3])}
        scores = {f"reranker.output_documents.{n}.document.score": 3.0 - n for n in range(3)}
        assert attributes == {
            **inputs,
            **outputs,
            **scores,
            "reranker.input_documents.1.document.score": 0.25,
            "openinference.span.kind": "RERANKER",
            "reranker.model_name": "rank-1",
            "reranker.top_k": 3,
            "gen_ai.operation.name": "rerank",
            "gen_ai.request.model": "rank-1",
            "gen_ai.response.model": "rank-1",
            "gen_ai.provider.name": "somebody",
            "gen_ai.usage.input_tokens": 30,
            "output.mime_type": "application/json",
            "rerankkit.candidates": 4,
            "rerankkit.returned": 3,
            "rerankkit.backend": "fast",
            "rerankkit.statuses.ok": 3,
            "rerankkit.statuses.blank": 1,
            "rerankkit.usage.requests": 1,
            "rerankkit.usage.search_units": 2,
            "rerankkit.usage.tokens": 30,
        }


@pytest.mark.parametrize("switch", [None, "false", "event_only", "true", "True", "span_only"])
def test_texts_are_in_a_span_only_where_the_standard_switch_says_so(switch, spans, monkeypatch):
    if switch is not None:
        monkeypatch.setenv(CAPTURE, switch)
    reranker = FunctionReranker(function=lengths)
    reranker.invoke({"query": "secret query \ud800", "documents": [Document(page_content="secret text")]})
    with pytest.raises(ConnectionError):
        FunctionReranker(function=broken).invoke(
            {"query": "secret query", "documents": [Document(page_content="secret text")]}
        )
    told = "".join(span.to_json() for span in spans())
    if switch in {"true", "True", "span_only"}:
        attributes = spans()[0].attributes
        assert attributes["reranker.query"].startswith("secret query")
        assert attributes["reranker.input_documents.0.document.content"] == "secret text"
        assert attributes["reranker.output_documents.0.document.content"] == "secret text"
    else:
        assert "secret" not in told


@every_way
def test_an_error_is_the_status_of_its_own_span(way, spans):
    def picky(query, texts):
        return broken(query, texts) if query == "bad" else lengths(query, texts)

    inputs = [INPUT, {**INPUT, "query": "bad"}]
    with pytest.raises(ConnectionError):
        call(way, FunctionReranker(function=picky), inputs)
    good, bad = spans()
    assert good.status.status_code is StatusCode.UNSET
    assert "error.type" not in good.attributes
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, "ConnectionError")
    assert bad.attributes["error.type"] == "ConnectionError"


def test_errors_of_this_package_say_what_they_say_and_a_fallback_is_no_error(spans):
    with pytest.raises(ScoreError):
        FunctionReranker(function=lambda query, texts: []).invoke(INPUT)
    FunctionReranker(function=broken, on_error="keep_order").invoke(INPUT)
    with pytest.raises(TypeError):
        FunctionReranker(function=lengths).invoke({"query": "q"})
    wrong, kept, bad = spans()
    assert "0 scores for 3 texts" in wrong.status.description
    assert kept.status.status_code is StatusCode.UNSET
    assert kept.attributes["rerankkit.statuses.fallback"] == 4
    assert kept.attributes["rerankkit.reason"] == "ConnectionError"
    assert bad.attributes["error.type"] == "TypeError"


def traced_function(name, work=lengths):
    def function(query, texts):
        with trace.get_tracer("test").start_as_current_span(f"{name} {query}"):
            return work(query, texts)

    function.__name__ = name
    return function


def traced_coroutine(query, texts):
    async def run():
        with trace.get_tracer("test").start_as_current_span(f"f {query}"):
            await asyncio.sleep(0.001)
            return lengths(query, texts)

    return run()


@pytest.mark.parametrize("afunction", [None, traced_coroutine], ids=["on a thread", "on the loop"])
@every_way
def test_spans_nest_in_their_callers_and_hold_what_the_backend_does_for_their_query(way, afunction, spans):
    reranker = FunctionReranker(function=traced_function("f"), afunction=afunction)
    inputs = [{**INPUT, "query": f"q{n}"} for n in range(3)]
    with trace.get_tracer("test").start_as_current_span("caller"):
        call(way, reranker, inputs)
    finished = spans()
    assert parents(finished) == {
        ("caller", None): 1,
        ("rerank f", "caller"): 3,
        **{(f"f q{n}", "rerank f"): 1 for n in range(3)},
    }
    assert len({span.parent.span_id for span in finished if span.name.startswith("f q")}) == 3


@every_way
def test_members_nest_in_the_span_of_their_own_query(way, spans):
    ensemble = EnsembleReranker(
        rerankers=[FunctionReranker(function=traced_function("a")), FunctionReranker(function=traced_function("b"))]
    )
    inputs = [{**INPUT, "query": f"q{n}"} for n in range(2)]
    call(way, ensemble, inputs)
    finished = spans()
    assert parents(finished) == {
        ("rerank a + b", None): 2,
        ("rerank a", "rerank a + b"): 2,
        ("rerank b", "rerank a + b"): 2,
        **{(f"{name} q{n}", f"rerank {name}"): 1 for name in "ab" for n in range(2)},
    }
    for span in finished:
        if span.name[:4] in {"a q0", "b q0"}:
            chain = [s for s in finished if s.context.trace_id == span.context.trace_id]
            assert {s.name for s in chain if " q" in s.name} == {"a q0", "b q0"}


@pytest.mark.parametrize("deadline", [None, 20.0])
@every_way
def test_stages_nest_in_the_whole_also_across_threads_and_for_a_part_of_the_batch(way, deadline, spans):
    def picky(query, texts):
        return broken(query, texts) if query == "q1" else lengths(query, texts)

    picky.__name__ = "picky"
    stages = [FunctionReranker(function=picky), FunctionReranker(function=traced_function("last"))]
    with FallbackReranker(stages, deadline=deadline) as reranker:
        results = call(way, reranker, [{**INPUT, "query": f"q{n}"} for n in range(3)])
    assert [result[0].metadata["rerank"]["stage"] for result in results] == [1, 2, 1]
    finished = spans()
    judges = [s.attributes["gen_ai.response.model"] for s in finished if s.name == "rerank picky or last"]
    assert judges == ["picky", "last", "picky"]
    assert parents(finished) == {
        ("rerank picky or last", None): 3,
        ("rerank picky", "rerank picky or last"): 3,
        ("rerank last", "rerank picky or last"): 1,
        ("last q1", "rerank last"): 1,
    }
    (failed,) = [span for span in finished if span.status.status_code is StatusCode.ERROR]
    (last,) = [span for span in finished if span.name == "rerank last"]
    assert failed.parent.span_id == last.parent.span_id


def test_runs_of_both_kinds_agree_for_a_language_model_in_a_batch(spans):
    collector = RunCollectorCallbackHandler()
    reranker = EnsembleReranker(rerankers=[ListwiseReranker(model=Judge()), LexicalReranker()])
    reranker.batch([{**INPUT, "query": f"q{n}"} for n in range(2)], {"callbacks": [collector]})
    assert [len(run.child_runs) for run in collector.traced_runs] == [1, 1]
    judged = [span for span in spans() if span.name == "rerank judge"]
    assert [span.attributes["rerankkit.usage.calls"] for span in judged] == [1, 1]
    assert all(span.attributes["gen_ai.usage.output_tokens"] > 0 for span in judged)


def test_a_cancelled_rerank_ends_its_span(spans):
    async def forever(query, texts):
        await asyncio.sleep(60)

    async def run():
        reranker = FunctionReranker(function=lengths, afunction=forever)
        await asyncio.wait_for(reranker.ainvoke(INPUT), 0.02)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(run())
    (span,) = spans()
    assert span.attributes["error.type"] == "CancelledError"


def test_rank_gives_a_span_too(spans):
    FunctionReranker(function=lengths).rank("q", ["a", "b"], top_n=1)
    (span,) = spans()
    assert span.attributes["reranker.top_k"] == 1
    assert span.attributes["rerankkit.candidates"] == 2


LIMIT = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"


@pytest.mark.parametrize(
    ("environment", "at_least"),
    [
        ({}, 30),
        ({CAPTURE: "true"}, 18),
        ({LIMIT: "40"}, 5),
        ({LIMIT: "20", CAPTURE: "true"}, 0),
        ({LIMIT: "4000", CAPTURE: "true"}, 500),
    ],
)
def test_many_documents_neither_overflow_a_span_nor_push_out_the_essence(
    environment, at_least, make_spans, monkeypatch, caplog
):
    finished = make_spans(span_limits=SpanLimits(max_span_attributes=int(environment.get(LIMIT, "128"))))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    documents = [Document(id=str(number), page_content="a" * (number + 1)) for number in range(500)]
    FunctionReranker(function=lengths).invoke({"query": "q", "documents": documents})
    (span,) = finished()
    assert span.attributes["openinference.span.kind"] == "RERANKER"
    said = json.loads(span.attributes["output.value"])
    assert said["ids"] == [str(number - 1) for number in said["previous_ranks"]] == [str(n) for n in range(499, -1, -1)]
    kept = [n for n in range(500) if f"reranker.output_documents.{n}.document.id" in span.attributes]
    assert kept == list(range(len(kept)))
    assert len(kept) >= at_least
    assert span.dropped_attributes == 0
    assert not caplog.records


def test_a_lower_limit_set_in_code_spares_the_essence_too(make_spans):
    finished = make_spans(span_limits=SpanLimits(max_span_attributes=20))
    FunctionReranker(function=lengths).invoke({"query": "q", "documents": DOCUMENTS * 9})
    (span,) = finished()
    assert span.attributes["openinference.span.kind"] == "RERANKER"
    assert len(json.loads(span.attributes["output.value"])["ids"]) == 36


def test_a_trace_that_is_not_sampled_stays_so_below(make_spans):
    finished = make_spans(sampler=ALWAYS_OFF)
    seen = []

    def look(query, texts):
        seen.append(trace.get_current_span().get_span_context())
        return lengths(query, texts)

    FunctionReranker(function=look).invoke(INPUT)
    assert finished() == ()
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled


def test_what_cannot_be_described_does_not_fail_the_rerank(spans, caplog):
    class Odd(FunctionReranker):
        def _activate(self, raw_score):
            message = "never called for a member of an ensemble"
            raise RuntimeError(message)

    EnsembleReranker(rerankers=[Odd(function=lengths)]).invoke(INPUT)
    assert "could not be described" in caplog.text
    assert "never called" not in caplog.text
    assert len(spans()) == 2


def test_nothing_needs_opentelemetry():
    code = """
import sys
sys.modules["opentelemetry"] = None
from langchain_core.documents import Document
from langchain_rerankkit import FunctionReranker
reranker = FunctionReranker(function=lambda query, texts: [1.0] * len(texts))
documents = [Document(page_content="a")]
assert len(reranker.invoke({"query": "q", "documents": documents})) == 1
assert "opentelemetry.trace" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_an_sdk_nothing_is_current():
    seen = []

    def look(query, texts):
        seen.append(trace.get_current_span())
        return lengths(query, texts)

    FunctionReranker(function=look).invoke(INPUT)
    assert seen == [trace.INVALID_SPAN]


# --- a ranking in a notebook ------------------------------------------------------------------------------------------


class Table(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.rows = Counter(), Counter(), []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


OURS = {"table", "thead", "tbody", "tr", "th", "td", "span", "bdi", "p"}


def test_a_ranking_is_a_list_and_a_table():
    ranking = FunctionReranker(function=lengths).rank("q", DOCUMENTS)
    assert ranking == list(ranking)
    assert isinstance(ranking[:2], Ranking)
    assert isinstance(ranking[0], RankedDocument)
    assert [line.document.id for line in ranking] == ORDER
    assert Table(ranking._repr_html_()).rows == [
        ["Rank", "Move", "Score", "Status", "Id", "Text"],
        ["1", "▲1", "3", "ok", "long", "aaa"],
        ["2", "▲2", "2", "ok", "middle", "aa"],
        ["3", "▼2", "1", "ok", "short", "a"],
        ["4", "▼1", "-inf", "blank", "blank", ""],
    ]
    assert Table(ranking[:1]._repr_html_()).rows[0] == ["Rank", "Move", "Score", "Id", "Text"]
    assert Table(Ranking()._repr_html_()).rows == [["Rank", "Move", "Score", "Id", "Text"]]


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</td></tr></table><iframe>",
        "</bdi><b>",
        "' onmouseover='x",
        "<!-- ",
        "\u202e gnp.exe",
        "\ud800\x00",
    ],
)
def test_nothing_of_a_document_is_markup(hostile):
    document = Document(id=hostile, page_content=hostile, metadata={hostile: hostile, "relevance_score": hostile})
    html = FunctionReranker(function=lengths).rank("q", [document])._repr_html_()
    html.encode()
    table = Table(html)
    assert set(table.tags) <= OURS
    assert set(table.attributes) <= {"style", "scope"}
    assert len(table.rows) == 2
    assert not table.tags["script"]


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_any_text_stays_in_its_cell(text, id_):
    html = Ranking([RankedDocument(Document(id=id_, page_content=text), 1.0, 1.0, 1, 1)])._repr_html_()
    html.encode()
    table = Table(html)
    assert table.tags == {"table": 1, "thead": 1, "tbody": 1, "tr": 2, "th": 5, "td": 5, "bdi": 2}


def test_a_long_ranking_and_a_long_text_are_cut_and_say_so():
    document = Document(id="i" * 1_000_000, page_content="word " * 1_000_000)
    ranking = Ranking([RankedDocument(document, 1.0, 1.0, rank, rank) for rank in range(1, 1001)])
    html = ranking._repr_html_()
    assert len(html) < 100_000
    table = Table(html)
    assert len(table.rows) == 101
    assert all(cell.endswith("…") for cell in table.rows[1][-2:])
    assert "900 more" in html
