import asyncio

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tracers.context import collect_runs
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_tests.integration_tests.retrievers import RetrieversIntegrationTests
from pydantic import ValidationError

from langchain_rerankkit import ContextualCompressionRetriever, FunctionReranker
from langchain_rerankkit.testing import FixedRetriever

DOCUMENTS = [Document(page_content="x" * n, id=str(n)) for n in (2, 5, 1, 4, 3)]


def length(query, texts):
    if query == "fail":
        msg = "broken"
        raise RuntimeError(msg)
    return [float(len(text)) for text in texts]


def make(**fields):
    fields = {
        "base_compressor": FunctionReranker(function=length),
        "base_retriever": FixedRetriever(documents=DOCUMENTS),
        **fields,
    }
    return ContextualCompressionRetriever(**fields)


class TestStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return ContextualCompressionRetriever

    @property
    def retriever_constructor_params(self):
        return {
            "base_compressor": FunctionReranker(function=length),
            "base_retriever": FixedRetriever(documents=DOCUMENTS),
        }

    @property
    def retriever_query_example(self):
        return "longest"


class First(BaseDocumentCompressor):
    """A compressor that is not one of ours."""

    def compress_documents(self, documents, query, callbacks=None):
        return tuple(documents[:3])


class PickyRetriever(BaseRetriever):
    seen: list = []

    def _get_relevant_documents(self, query, *, run_manager, category="any"):
        self.seen.append(category)
        if query == "no retrieval":
            msg = "store is down"
            raise ConnectionError(msg)
        return [] if query == "nothing" else list(DOCUMENTS)

    async def _aget_relevant_documents(self, query, *, run_manager, category="any"):
        return self._get_relevant_documents(query, run_manager=run_manager, category=category)


def ids(documents):
    return [document.id for document in documents]


def test_best_first():
    assert ids(make().invoke("q")) == ["5", "4", "3", "2", "1"]
    assert ids(asyncio.run(make().ainvoke("q"))) == ["5", "4", "3", "2", "1"]


def test_k_wins_over_top_n():
    reranker = FunctionReranker(function=length, top_n=2)
    assert len(make(base_compressor=reranker).invoke("q")) == 2
    assert len(make(base_compressor=reranker, k=4).invoke("q")) == 4
    assert len(make(base_compressor=reranker, k=4).invoke("q", k=1)) == 1
    assert [len(found) for found in make(k=4).batch(["q", "q"], k=3)] == [3, 3]
    for bad in (0, -1):
        with pytest.raises(ValidationError):
            make(k=bad)
        with pytest.raises(ValueError, match="at least 1"):
            make().invoke("q", k=bad)


def test_any_document_compressor_works():
    retriever = make(base_compressor=First())
    assert ids(retriever.invoke("q")) == ["2", "5", "1"]
    assert ids(asyncio.run(retriever.ainvoke("q", k=2))) == ["2", "5"]
    assert [ids(found) for found in retriever.batch(["q", "q"], k=1)] == [["2"], ["2"]]
    assert [ids(found) for found in asyncio.run(retriever.abatch(["q"], k=1))] == [["2"]]
    empty = make(base_compressor=First(), base_retriever=FixedRetriever(documents=[]))
    assert empty.invoke("q") == []
    assert asyncio.run(empty.ainvoke("q")) == []


def test_other_arguments_reach_the_base_retriever():
    base = PickyRetriever(seen=[])
    retriever = make(base_retriever=base)
    retriever.invoke("q", category="a", k=2)
    asyncio.run(retriever.ainvoke("q", category="b"))
    retriever.batch(["q"], category="c")
    asyncio.run(retriever.abatch(["q"], category="d"))
    assert base.seen == ["a", "b", "c", "d"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_batch_asks_the_model_once_and_traces_each_question(asynchronous):
    calls = []

    class Many(FunctionReranker):
        def _score_many(self, requests):
            calls.append(len(requests))
            return super()._score_many(requests)

        async def _ascore_many(self, requests):
            return self._score_many(requests)

    retriever = make(base_compressor=Many(function=length))
    collector = RunCollectorCallbackHandler()
    questions = ["a", "b", "c"]
    config = {"callbacks": [collector]}
    found = asyncio.run(retriever.abatch(questions, config)) if asynchronous else retriever.batch(questions, config)
    assert [ids(documents) for documents in found] == [["5", "4", "3", "2", "1"]] * 3
    assert calls == [3]
    assert [run.run_type for run in collector.traced_runs] == ["retriever"] * 3
    assert [[child.name for child in run.child_runs] for run in collector.traced_runs] == [
        ["FixedRetriever", "Many"]
    ] * 3


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_failing_question_does_not_lose_the_others(asynchronous):
    retriever = make(base_retriever=PickyRetriever(seen=[]))
    questions = ["q", "no retrieval", "fail", "nothing"]

    def run(**options):
        if asynchronous:
            return asyncio.run(retriever.abatch(questions, **options))
        return retriever.batch(questions, **options)

    good, down, broken, nothing = run(return_exceptions=True)
    assert ids(good) == ["5", "4", "3", "2", "1"]
    assert isinstance(down, ConnectionError)
    assert isinstance(broken, RuntimeError)
    assert nothing == []
    with pytest.raises(ConnectionError):
        run()
    assert (asyncio.run(retriever.abatch([])) if asynchronous else retriever.batch([])) == []


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError):
        make(compressor=1)


async def test_runs_of_a_batch_look_like_those_of_single_calls():
    reranked = ContextualCompressionRetriever(
        base_retriever=FixedRetriever(documents=[Document(page_content="a"), Document(page_content="bb")]),
        base_compressor=FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts]),
    )
    with collect_runs() as collected:
        reranked.invoke("q")
        reranked.batch(["q"])
        await reranked.abatch(["q"])
    for run in collected.traced_runs:
        assert run.run_type == "retriever"
        assert [document.page_content for document in run.outputs["documents"]] == ["bb", "a"]
