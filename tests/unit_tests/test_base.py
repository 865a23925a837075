import asyncio
import math
import pickle
import threading
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

from langchain_rerankkit import FunctionReranker, Reranker, ScoreError
from langchain_rerankkit.records import DetailedScores, encodable


class LengthReranker(Reranker):
    def _score(self, query, texts):
        assert all(text.strip() for text in texts)
        "".join(texts).encode()
        return [float(len(text)) for text in texts]


metadata = st.dictionaries(st.text(), st.none() | st.integers() | st.floats() | st.text() | st.sets(st.integers()))
documents = st.builds(
    Document,
    page_content=st.text() | st.text(st.characters(exclude_categories=())) | st.just(" "),
    id=st.none() | st.text(),
    metadata=metadata,
)


@given(query=st.text(st.characters(exclude_categories=())), given_documents=st.lists(documents, max_size=20))
def test_nothing_is_changed_and_nothing_is_lost(query, given_documents):
    before = pickle.dumps(given_documents)
    result = LengthReranker().invoke({"query": query, "documents": given_documents})
    assert pickle.dumps(given_documents) == before
    positions = [document.metadata["rerank"]["previous_rank"] - 1 for document in result]
    assert sorted(positions) == list(range(len(given_documents)))
    for document, position in zip(result, positions, strict=True):
        assert document is not given_documents[position]
        assert document.page_content == given_documents[position].page_content
        assert document.id == given_documents[position].id


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1), st.none() | st.floats(allow_nan=False))
def test_any_scores_give_a_sorted_sub_list(scores, threshold):
    reranker = FunctionReranker(function=lambda query, texts: scores, on_nan="last", min_score=threshold)
    ranked = reranker.rank("q", [str(position) for position in range(len(scores))])
    values = [line.score for line in ranked]
    assert values == sorted(values, reverse=True)
    assert all(value >= threshold for value in values) if threshold is not None else len(ranked) == len(scores)
    finite = [score for score in scores if math.isfinite(score)]
    expected = [score for score in finite if threshold is None or score >= threshold]
    assert sorted(v for v in values if math.isfinite(v)) == sorted(expected)


@pytest.mark.parametrize("count", [1, 10_000])
def test_one_and_ten_thousand(count):
    texts = ["x" * (1 + position % 97) for position in range(count)]
    ranked = LengthReranker().rank("q", texts)
    assert len(ranked) == count
    assert ranked[0].previous_rank == min(97, count)


def test_odd_texts_come_back_as_they_were():
    texts = ["a" * (1 << 20), "\ud800 lone", "nul\x00nul", "مرحبا بالعالم", "\ufeff", "\u202eright to left"]
    result = LengthReranker().invoke({"query": "\udfff", "documents": [Document(page_content=t) for t in texts]})
    assert sorted(document.page_content for document in result) == sorted(texts)


@given(st.text(st.characters(exclude_categories=())))
def test_encodable_changes_surrogates_only(text):
    clean = encodable(text)
    clean.encode()
    assert clean == text or any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def test_metadata_that_json_cannot_hold_survives():
    odd = {"when": datetime.now(tz=timezone.utc), "set": {1}, "object": object(), "nan": math.nan, "bytes": b"\xff"}
    (document,) = LengthReranker().invoke({"query": "q", "documents": [Document(page_content="x", metadata=odd)]})
    assert all(document.metadata[key] is value for key, value in odd.items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("query", "keys 'query' and 'documents'"),
        ({"query": "q"}, "keys 'query' and 'documents'"),
        ({"query": 3, "documents": []}, "query must be a str"),
        ({"query": "q", "documents": ["text"]}, "item 0 is a str"),
        ({"query": "q", "documents": "text"}, "not one str"),
        ({"query": "q", "documents": Document(page_content="x")}, "not one Document"),
        ({"query": "q", "documents": [None]}, "item 0 is a NoneType"),
    ],
)
def test_bad_input_is_a_type_error(value, message):
    with pytest.raises(TypeError, match=message):
        LengthReranker().invoke(value)
    with pytest.raises(TypeError, match=message):
        asyncio.run(LengthReranker(on_error="keep_order").ainvoke(value))


def test_iterables_of_documents_are_taken():
    stream = (Document(page_content=text) for text in ("a", "bb"))
    assert [d.page_content for d in LengthReranker().invoke({"query": "q", "documents": stream})] == ["bb", "a"]


@pytest.mark.parametrize("fields", [{"top_n": 0}, {"top_n": -3}, {"top_n": "many"}, {"topn": 3}, {"on_nan": "drop"}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        LengthReranker(**fields)
    reranker = LengthReranker()
    with pytest.raises(ValueError, match="validation error"):
        reranker.top_n = 0
    assert reranker.top_n is None


def test_document_text_by_fields_and_by_function():
    seen = []

    def remember(query, texts):
        seen.extend(texts)
        return [0.0] * len(texts)

    document = Document(page_content="body", metadata={"title": "Title", "year": 1990, "secret": "key", "none": None})
    fields = FunctionReranker(function=remember, document_text=["title", "year", "none", "missing"])
    assert fields.rank("q", [document])[0].document is document
    FunctionReranker(function=remember, document_text=lambda d: d.metadata["title"].upper()).rank("q", [document])
    assert seen == ["Title\n1990\nbody", "TITLE"]
    with pytest.raises(TypeError, match="must return a str"):
        FunctionReranker(function=remember, document_text=lambda d: None).rank("q", [document])


def test_a_subclass_of_document_stays_one():
    class Page(Document):
        number: int = 0

    page = Page(page_content="x", number=7)
    (result,) = LengthReranker().invoke({"query": "q", "documents": [page]})
    assert (type(result), result.number) == (Page, 7)


def test_order_comes_from_the_raw_score_when_the_score_saturates():
    class Saturating(LengthReranker):
        def _activate(self, raw_score):
            return min(raw_score, 1.0)

    ranked = Saturating().rank("q", ["x", "xxx", "xx"])
    assert [(line.score, line.raw_score) for line in ranked] == [(1.0, 3.0), (1.0, 2.0), (1.0, 1.0)]


def test_a_fallback_keeps_the_order_and_says_so(caplog):
    def fail(query, texts):
        message = f"down: {query} {texts}"
        raise ConnectionError(message)

    reranker = FunctionReranker(function=fail, on_error="keep_order", top_n=2, min_score=0.5)
    result = reranker.invoke({"query": "secret", "documents": [Document(page_content=t) for t in "abc"]})
    assert [document.page_content for document in result] == ["a", "b"]
    assert result[0].metadata["rerank"]["status"] == "fallback"
    assert result[0].metadata["rerank"]["reason"] == "ConnectionError"
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text


def test_a_backend_with_its_own_coroutine_is_awaited_on_the_loop():
    threads = []

    async def score(query, texts):
        threads.append(threading.current_thread())
        await asyncio.sleep(0)
        return [float(len(text)) for text in texts]

    reranker = FunctionReranker(function=lambda q, t: pytest.fail("sync"), afunction=score)
    inputs = [{"query": "q", "documents": [Document(page_content=t) for t in ("a", "bb")]}] * 3
    results = asyncio.run(reranker.abatch(inputs))
    assert [[d.page_content for d in r] for r in results] == [["bb", "a"]] * 3
    assert set(threads) == {threading.main_thread()}


def test_local_models_leave_the_default_executor_free():
    names = []

    def score(query, texts):
        names.append(threading.current_thread().name)
        return [0.0] * len(texts)

    asyncio.run(FunctionReranker(function=score).ainvoke({"query": "q", "documents": [Document(page_content="x")]}))
    assert names[0].startswith("rerankkit")


def test_changing_the_model_loads_again_and_changing_the_cut_does_not():
    loaded = []

    class Loading(LengthReranker):
        model: str = "a"

        def _load(self):
            loaded.append(self.model)
            return self.model

    reranker = Loading().warmup()
    reranker.top_n = 2
    reranker.warmup()
    reranker.rank("q", ["x"], top_n=1)
    assert loaded == ["a"]
    reranker.model = "b"
    assert reranker.warmup()._ready() == "b"


def test_in_a_chain_with_retry_and_fallbacks():
    chain = {"query": RunnablePassthrough(), "documents": RunnableLambda(lambda q: [Document(page_content=q)])}
    broken = FunctionReranker(function=lambda query, texts: [])
    result = (
        chain
        | broken.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).with_fallbacks([LengthReranker()])
    ).invoke("abc")
    assert result[0].metadata["relevance_score"] == 3.0
    with pytest.raises(ScoreError):
        (chain | broken).invoke("abc")


def test_a_subclass_without_score_says_what_is_missing():
    class Nothing(Reranker):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must implement _score"):
        Nothing().rank("q", ["x"])


def test_configurable_fields():
    reranker = LengthReranker().configurable_fields(top_n=ConfigurableField(id="top_n"))
    documents = [Document(page_content=text) for text in ("a", "bb", "ccc")]
    found = reranker.invoke({"query": "q", "documents": documents}, {"configurable": {"top_n": 1}})
    assert [document.page_content for document in found] == ["ccc"]
    assert len(reranker.invoke({"query": "q", "documents": documents})) == 3


@given(st.lists(st.tuples(st.floats(-1, 1) | st.just(math.nan), st.sampled_from(["kept", "dropped", "unjudged"]))))
def test_what_a_backend_drops_is_left_out_and_all_else_is_kept(answers):
    class Dropping(Reranker):
        def _score(self, query, texts):
            marked = {what: {n for n, (_, w) in enumerate(answers) if w == what} for what in ("dropped", "unjudged")}
            return DetailedScores([score for score, _ in answers], [{}] * len(texts), **marked)

    given_documents = [Document(page_content=f"text {n}", id=str(n)) for n in range(len(answers))]
    reranker = Dropping(on_nan="last")
    found = reranker.invoke({"query": "q", "documents": given_documents})
    kept = {str(n) for n, (_, what) in enumerate(answers) if what != "dropped"}
    assert {document.id for document in found} == kept
    assert {document.metadata["rerank"]["status"] for document in found} <= {"ok", "unjudged", "not finite"}
    assert [d.id for d in found[:2]] == [
        d.id for d in reranker.invoke({"query": "q", "documents": given_documents}, top_n=2)
    ]
