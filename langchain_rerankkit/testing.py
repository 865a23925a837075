"""For people who write a reranker: the contract as a test suite, and a retriever that needs no index.

Inherit `RerankerTests`, say how to make the reranker, and pytest runs the 20 clauses against it::

    class TestMyReranker(RerankerTests):
        def make_reranker(self, **fields):
            return MyReranker(model=folder, **fields)

A clause can be switched off only by overriding it with ``@pytest.mark.skip(reason="…")`` or ``xfail`` and a reason.
"""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pydantic import ValidationError

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import MissingExtraError, ScoreError
from langchain_rerankkit.records import RerankInput
from langchain_rerankkit.retrievers.reranked import ContextualCompressionRetriever

__all__ = ["FixedRetriever", "RerankerTests"]


class FixedRetriever(BaseRetriever):
    """Returns the same documents for every question."""

    documents: list[Document]
    """What it returns."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return list(self.documents)


class RerankerTests(ABC):
    """The contract of a `Reranker` in 20 clauses."""

    @abstractmethod
    def make_reranker(self, **fields: Any) -> Reranker:
        """The reranker under test, cheap to make; ``fields`` are passed to its constructor."""

    required_module: str | None = None
    """The optional module that the reranker imports at first use, if there is one."""

    secrets: Sequence[str] = ()
    """Secrets that `make_reranker` puts into the reranker, if it takes any."""

    tolerance: float = 1e-4
    """Largest difference between scores that were computed in different batches."""

    query: str = "Which river flows through the city?"
    """The question asked in the tests."""

    texts: Sequence[str] = (
        "The museum of modern art opens at nine.",
        "A river flows through the city and under nine bridges.",
        "Trains leave for the coast every hour.",
        "The city lies on a plain. " * 12,
        "Bread and cheese.",
        "The river.",
    )
    """The candidates; different texts of different lengths."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The reranker under test."""
        return self.make_reranker()

    @pytest.fixture
    def documents(self) -> list[Document]:
        """The candidates, with ids and metadata of several kinds."""
        return [
            Document(
                page_content=text,
                id=f"document-{position}",
                metadata={"position": position, "tags": ["a", "b"], "odd": {1, 2}, "nothing": None},
            )
            for position, text in enumerate(self.texts)
        ]

    def test_no_clause_is_overridden(self) -> None:
        """A clause that does not apply is skipped or expected to fail, with a reason."""
        for name in vars(RerankerTests):
            own = getattr(type(self), name)
            if not name.startswith("test_") or own is vars(RerankerTests)[name]:
                continue
            marks = [m for m in getattr(own, "pytestmark", []) if m.name in {"skip", "xfail"}]
            assert any(m.kwargs.get("reason") for m in marks), f"{name} is overridden without a stated reason"

    def test_01_inputs_are_not_modified(self, reranker: Reranker, documents: list[Document]) -> None:
        """Documents and metadata are as they were, and what comes back can be changed freely."""
        before = copy.deepcopy(documents)
        for document in reranker.invoke(_input(self.query, documents)):
            document.metadata["changed"] = True
            document.page_content = "changed"
        assert documents == before

    def test_02_id_metadata_and_type_survive(self, reranker: Reranker, documents: list[Document]) -> None:
        """Every document comes back once, with its id, text, type and metadata."""
        result = reranker.invoke(_input(self.query, documents))
        assert sorted(str(document.id) for document in result) == sorted(str(document.id) for document in documents)
        originals = {document.id: document for document in documents}
        for document in result:
            original = originals[document.id]
            assert type(document) is type(original)
            assert document.page_content == original.page_content
            assert original.metadata.items() <= document.metadata.items()

    def test_03_the_score_is_written_last(self, reranker: Reranker, documents: list[Document]) -> None:
        """The score is a float, is the last metadata field, and wins over a stale one, which is kept aside."""
        stale = [d.model_copy(update={"metadata": {"relevance_score": 123.5, "rerank": 1}}) for d in documents]
        for rank, document in enumerate(reranker.invoke(_input(self.query, stale)), start=1):
            assert type(document.metadata["relevance_score"]) is float
            assert document.metadata["relevance_score"] != 123.5
            assert list(document.metadata)[-1] == "relevance_score"
            details = document.metadata["rerank"]
            assert details["rank"] == rank
            assert documents[details["previous_rank"] - 1].id == document.id
            assert details["status"] == "ok"
            assert details["previous_score"] == 123.5
        plain = self.make_reranker(details=False).invoke(_input(self.query, documents))
        assert all("rerank" not in document.metadata for document in plain)

    def test_04_descending_and_ties_keep_their_order(
        self, reranker: Reranker, documents: list[Document], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Best first; equal scores stay in the order they came in."""
        scores = [document.metadata["relevance_score"] for document in reranker.invoke(_input(self.query, documents))]
        assert scores == sorted(scores, reverse=True)
        _answer(monkeypatch, reranker, lambda texts: [1.0] * len(texts))
        assert [d.id for d in reranker.invoke(_input(self.query, documents))] == [d.id for d in documents]

    def test_05_top_n(self, reranker: Reranker, documents: list[Document]) -> None:
        """``top_n`` cuts the full ranking, may exceed the list, may be set per call, and must be at least 1."""
        ranking = [document.id for document in reranker.invoke(_input(self.query, documents))]
        assert [d.id for d in self.make_reranker(top_n=2).invoke(_input(self.query, documents))] == ranking[:2]
        assert [d.id for d in reranker.invoke(_input(self.query, documents), top_n=2)] == ranking[:2]
        assert [d.id for d in reranker.bind(top_n=2).invoke(_input(self.query, documents))] == ranking[:2]
        assert [d.id for d in self.make_reranker(top_n=99).invoke(_input(self.query, documents))] == ranking
        for refused in (0, -1):
            with pytest.raises(ValidationError):
                self.make_reranker(top_n=refused)
            with pytest.raises(ValidationError):
                reranker.invoke(_input(self.query, documents), top_n=refused)

    def test_06_an_empty_list_asks_nobody(self, reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
        """No documents: no model is loaded or called."""
        _forbid(monkeypatch, reranker, "_load", "_score", "_score_many", "_ascore", "_ascore_many")
        assert reranker.invoke(_input(self.query, [])) == []
        assert reranker.compress_documents([], self.query) == []
        assert asyncio.run(reranker.ainvoke(_input(self.query, []))) == []
        assert reranker.batch([]) == []
        assert reranker.batch([_input(self.query, [])]) == [[]]

    def test_07_duplicates_and_blank_texts_come_back(self, reranker: Reranker) -> None:
        """Nothing is lost: equal texts score the same, texts without content go last and say so."""
        texts = ["", self.texts[1], " \n\t", self.texts[0], self.texts[1], "\u200b \x00 \ud800 odd"]
        documents = [Document(page_content=text, id=str(position)) for position, text in enumerate(texts)]
        result = reranker.invoke(_input(self.query, documents))
        assert sorted(str(document.id) for document in result) == [str(position) for position in range(len(texts))]
        assert [document.id for document in result[-2:]] == ["0", "2"]
        assert [document.metadata["rerank"]["status"] for document in result[-2:]] == ["blank", "blank"]
        score = {document.id: document.metadata["relevance_score"] for document in result}
        assert score["1"] == pytest.approx(score["4"], abs=self.tolerance)
        blank = [Document(page_content=" ", id="only")]
        assert [document.id for document in reranker.invoke(_input(self.query, blank))] == ["only"]

    def test_08_min_score_is_inclusive(self, reranker: Reranker, documents: list[Document]) -> None:
        """The threshold is compared with the score that is shown; rank scores have none."""
        if reranker.scores_are == "rank":
            with pytest.raises(ValidationError, match="min_score"):
                self.make_reranker(min_score=0.5)
            return
        ranked = reranker.rank(self.query, documents)
        threshold = ranked[2].score
        # The same call again: a different batch could differ in the last digits.
        kept = reranker.rank(self.query, documents, min_score=threshold)
        assert [line.rank for line in kept] == [line.rank for line in ranked if line.score >= threshold]
        assert self.make_reranker(min_score=math.inf).rank(self.query, documents) == []

    def test_09_a_wrong_count_raises(
        self, reranker: Reranker, documents: list[Document], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Too few or too many scores, or no numbers, never drop or shift documents."""
        answers: list[Callable[[list[str]], Any]] = [
            lambda texts: [1.0] * (len(texts) - 1),
            lambda texts: [1.0] * (len(texts) + 1),
            lambda _: [],
            lambda texts: [None] * len(texts),
            lambda texts: [[1.0, 2.0]] * len(texts),
        ]
        for answer in answers:
            _answer(monkeypatch, reranker, answer)
            with pytest.raises(ScoreError):
                reranker.invoke(_input(self.query, documents))
            kept = self.make_reranker(on_error="keep_order", details=False).invoke(_input(self.query, documents))
            assert [document.id for document in kept] == [document.id for document in documents]
            assert {document.metadata["rerank"]["status"] for document in kept} == {"fallback"}

    def test_10_scores_that_are_not_finite(self, documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
        """NaN and infinity raise, or go last by policy and say so; they never enter the sort."""
        bad = [0.5, math.nan, 0.9, math.inf, 0.7, -math.inf]
        strict, lenient = self.make_reranker(), self.make_reranker(on_nan="last")
        for reranker in (strict, lenient):
            _answer(monkeypatch, reranker, lambda texts: bad[: len(texts)])
        with pytest.raises(ScoreError, match="not finite"):
            strict.invoke(_input(self.query, documents))
        result = lenient.invoke(_input(self.query, documents))
        assert [document.id for document in result] == [documents[i].id for i in (2, 4, 0, 1, 3, 5)]
        assert [d.metadata["rerank"]["status"] for d in result] == ["ok"] * 3 + ["not finite"] * 3
        assert all(d.metadata["relevance_score"] == -math.inf for d in result[3:])

    def test_11_async_equals_sync(self, reranker: Reranker, documents: list[Document]) -> None:
        """The asynchronous methods give what the synchronous ones give."""
        inputs = [_input(self.query, documents), _input(self.query, documents[:2])]

        async def run() -> list[list[Document]]:
            one = await reranker.ainvoke(inputs[0])
            return [
                one,
                list(await reranker.acompress_documents(documents, self.query)),
                *await reranker.abatch(inputs),
            ]

        expected = [reranker.invoke(inputs[0]), reranker.compress_documents(documents, self.query)]
        expected += reranker.batch(inputs)
        for got, wanted in zip(asyncio.run(run()), expected, strict=True):
            self._assert_same(got, wanted)

    def test_12_batch_equals_invoke(self, reranker: Reranker, documents: list[Document]) -> None:
        """A batch gives what single calls give, with a traced run for each input, and one bad input fails alone."""
        inputs = [_input(self.query, documents), _input("bread", documents[::-1]), _input(self.query, [])]
        collector = RunCollectorCallbackHandler()
        results = reranker.batch(inputs, {"callbacks": [collector]})
        for got, input_ in zip(results, inputs, strict=True):
            self._assert_same(got, reranker.invoke(input_))
        assert len(collector.traced_runs) == len(inputs)
        mixed: list[Any] = [inputs[0], {"query": self.query, "documents": ["text"]}, inputs[1]]
        first, second, third = reranker.batch(mixed, return_exceptions=True)
        assert isinstance(second, TypeError)
        self._assert_same(first, results[0])
        self._assert_same(third, results[1])

    def test_13_one_traced_run(
        self, reranker: Reranker, documents: list[Document], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each call is one run of type retriever, nested in its caller's, and errors are recorded in it."""
        collector = RunCollectorCallbackHandler()
        chain: Runnable[Any, Any] = RunnableLambda(lambda documents: reranker.compress_documents(documents, self.query))
        chain.invoke(documents, {"callbacks": [collector]})
        (parent,) = collector.traced_runs
        (run,) = parent.child_runs
        assert (run.name, run.run_type, run.error) == (type(reranker).__name__, "retriever", None)
        outputs: dict[str, Any] = run.outputs or {}
        assert len(outputs["documents"]) == outputs["candidates"] == len(documents)
        order = [documents[rank - 1].id for rank in outputs["previous_ranks"]]
        assert order == [document.id for document in outputs["documents"]]
        assert run.extra["metadata"]["ls_model_name"] == reranker._label()
        _answer(monkeypatch, reranker, lambda _: [])
        collector = RunCollectorCallbackHandler()
        with pytest.raises(ScoreError):
            reranker.invoke(_input(self.query, documents), {"callbacks": [collector]})
        assert "ScoreError" in str(collector.traced_runs[0].error)

    def test_14_unknown_fields_are_refused(self, reranker: Reranker, documents: list[Document]) -> None:
        """A misspelt field or option is an error."""
        with pytest.raises(ValidationError):
            self.make_reranker(topn=3)
        with pytest.raises(TypeError, match="topn"):
            reranker.invoke(_input(self.query, documents), topn=3)

    def test_15_nothing_leaks(
        self, reranker: Reranker, documents: list[Document], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Secrets are in no repr, dump, trace or exception; texts are in no exception."""
        _answer(monkeypatch, reranker, lambda _: [])
        collector = RunCollectorCallbackHandler()
        with pytest.raises(ScoreError) as caught:
            reranker.invoke(_input(self.query, documents), {"callbacks": [collector]})
        run = collector.traced_runs[0]
        seen = [repr(reranker), str(reranker), dumps(reranker), str(run.serialized), str(run.extra), str(caught.value)]
        for secret in self.secrets:
            assert not [text for text in [*seen, str(run.inputs), str(run.outputs)] if secret in text]
        assert self.query not in str(caught.value)
        assert not [text for text in self.texts if text in str(caught.value)]

    def test_16_dump_and_load(self, reranker: Reranker, documents: list[Document]) -> None:
        """LangChain's serialisation gives back a reranker that ranks the same."""
        kinds = [type(reranker), *self.loadable]
        loaded = loads(
            dumps(self.make_reranker(top_n=3)),
            allowed_objects=kinds,
            valid_namespaces=sorted({kind.__module__.partition(".")[0] for kind in kinds}),
        )
        assert type(loaded) is type(reranker)
        self._assert_same(loaded.invoke(_input(self.query, documents)), self._top(reranker, documents, 3))

    loadable: Sequence[type[Any]] = ()
    """Classes that a dump of the reranker holds beside the reranker itself."""

    def test_17_pickle_and_deepcopy(self, reranker: Reranker, documents: list[Document]) -> None:
        """Copies rank the same, made before or after the model was loaded."""
        expected = self._top(reranker, documents, 3)
        for fresh in (self.make_reranker(top_n=3), self.make_reranker(top_n=3).warmup()):
            for other in (copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))):
                self._assert_same(other.invoke(_input(self.query, documents)), expected)

    def test_18_constructing_loads_nothing(self, documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
        """The constructor neither imports nor reads a model; a missing package says which extra to install."""
        with monkeypatch.context() as patch:
            _forbid(patch, self.make_reranker(), "_load")
            if self.required_module is not None:
                patch.setitem(sys.modules, self.required_module, None)
            fresh = self.make_reranker()
        if self.required_module is not None:
            monkeypatch.setitem(sys.modules, self.required_module, None)
            with pytest.raises(MissingExtraError, match=r"pip install 'langchain-rerankkit\[[a-z-]+\]'"):
                fresh.invoke(_input(self.query, documents))

    def test_19_document_compressor(self, reranker: Reranker, documents: list[Document]) -> None:
        """``compress_documents`` is ``invoke``, and it works in ours and langchain-classic's retriever."""
        expected = reranker.invoke(_input(self.query, documents))
        self._assert_same(reranker.compress_documents(documents, self.query), expected)
        base = FixedRetriever(documents=documents)
        ours = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
        self._assert_same(ours.invoke(self.query), expected)
        self._assert_same(ours.batch([self.query, self.query])[1], expected)
        classic = pytest.importorskip("langchain_classic.retrievers")
        theirs = classic.ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
        self._assert_same(theirs.invoke(self.query), expected)
        self._assert_same(asyncio.run(theirs.ainvoke(self.query)), expected)

    def test_20_threads(self, reranker: Reranker, documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
        """32 threads on a fresh reranker: one load, and the scores of a serial run."""
        expected = {n: reranker.invoke(_input(self.query, documents[:n])) for n in range(1, len(documents) + 1)}
        loads_seen = []
        load = type(reranker)._load

        def counted(self: Reranker) -> Any:
            loads_seen.append(self)
            return load(self)

        monkeypatch.setattr(type(reranker), "_load", counted)
        fresh = self.make_reranker()
        sizes = [1 + position % len(documents) for position in range(64)]
        with ThreadPoolExecutor(32) as pool:
            results = list(pool.map(lambda n: fresh.invoke(_input(self.query, documents[:n])), sizes))
        for size, result in zip(sizes, results, strict=True):
            self._assert_same(result, expected[size])
        assert sum(seen is fresh for seen in loads_seen) <= 1

    def _top(self, reranker: Reranker, documents: list[Document], n: int) -> list[Document]:
        return reranker.invoke(_input(self.query, documents), top_n=n)

    def _assert_same(self, got: Sequence[Document], wanted: Sequence[Document]) -> None:
        """The same documents with the same scores; near ties may change places between batches."""
        scores = [document.metadata["relevance_score"] for document in got]
        assert scores == pytest.approx([d.metadata["relevance_score"] for d in wanted], abs=self.tolerance)
        expected = {document.id: document.metadata["relevance_score"] for document in wanted}
        assert {document.id for document in got} == set(expected)
        for document, score in zip(got, scores, strict=True):
            assert score == pytest.approx(expected[document.id], abs=self.tolerance)


def _input(query: str, documents: Sequence[Document]) -> RerankInput:
    return {"query": query, "documents": documents}


def _answer(monkeypatch: pytest.MonkeyPatch, reranker: Reranker, answer: Callable[[list[str]], Any]) -> None:
    """Let the backend answer what we say."""
    monkeypatch.setattr(
        type(reranker), "_score_many", lambda _, requests: [answer(request.texts) for request in requests]
    )


def _forbid(monkeypatch: pytest.MonkeyPatch, reranker: Reranker, *methods: str) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("The backend was asked although there was nothing to ask.")

    for method in methods:
        monkeypatch.setattr(type(reranker), method, refuse)
