import ast
import asyncio
import datetime as dt
import enum
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from langchain_rerankkit import BiEncoderReranker, IndexFormatError
from langchain_rerankkit.vectorstores import faiss as module
from langchain_rerankkit.vectorstores.faiss import FAISS
from langchain_rerankkit.vectorstores.reading import stored_texts, stored_vectors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # langchain-community announces its end when imported
    from langchain_community import vectorstores as community
    from langchain_community.vectorstores.utils import DistanceStrategy

    CommunityFAISS = community.FAISS

DISTANCES = ["euclidean", "cosine", "inner_product"]
MODEL = DeterministicFakeEmbedding(size=6)


class Table(Embeddings):
    """Vectors as given, and a count of which methods were called."""

    def __init__(self, vectors, query=None):
        self.vectors, self.query, self.calls = vectors, query, Counter()

    def embed_documents(self, texts):
        self.calls["documents"] += 1
        return self.vectors

    def embed_query(self, text):
        self.calls["query"] += 1
        return self.query

    async def aembed_documents(self, texts):
        self.calls["async documents"] += 1
        return self.vectors

    async def aembed_query(self, text):
        self.calls["async query"] += 1
        return self.query


def make(count=20, *, size=6, seed=0, **kwargs):
    """Documents "0", "1", … with random vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return FAISS.from_embeddings(
        ((f"text {n}", vector) for n, vector in enumerate(vectors)),
        DeterministicFakeEmbedding(size=size),
        metadatas=[{"n": n, "even": n % 2 == 0, "tags": ["a", {"deep": n}]} for n in range(count)],
        ids=[str(n) for n in range(count)],
        **kwargs,
    )


def content(store):
    ids = [document.id for document in store._documents]
    vectors = store.get_vectors_by_ids(ids)
    return {d.id: (d.page_content, d.metadata, vectors[d.id].tolist()) for d in store.get_by_ids(ids)}


class TestEuclidean(VectorStoreIntegrationTests):
    distance = "euclidean"

    @pytest.fixture
    def vectorstore(self):
        return FAISS(self.get_embeddings(), distance=self.distance)


class TestCosine(TestEuclidean):
    distance = "cosine"


# Searching


def brute_force(distance, vectors, query):
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if distance == "euclidean":
        return ((vectors - query) ** 2).sum(axis=1)
    products = vectors @ query
    if distance == "inner_product":
        return products
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return 1 - np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


finite = st.floats(-100, 100, width=32)
cases = st.tuples(st.integers(1, 40), st.integers(1, 12)).flatmap(
    lambda shape: st.tuples(
        npst.arrays(np.float32, shape, elements=finite), npst.arrays(np.float32, shape[1], elements=finite)
    )
)


def assert_nearest(pairs, expected, k, distance):
    """Scores are the best k; each document has its own score; ids of tied scores may differ."""
    sign = -1 if distance == "inner_product" else 1
    scores = [score for _, score in pairs]
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * max(1, np.abs(expected).max())}
    np.testing.assert_allclose(scores, sign * np.sort(sign * expected)[:k], **tolerance)
    np.testing.assert_allclose(scores, [expected[int(d.id)] for d, _ in pairs], **tolerance)
    assert all(type(score) is float for score in scores)
    assert [sign * score for score in scores] == sorted(sign * score for score in scores)
    assert len({d.id for d, _ in pairs}) == len(pairs) == min(k, len(expected))


@pytest.mark.parametrize("distance", DISTANCES)
@given(case=cases, k=st.integers(1, 50))
def test_finds_what_brute_force_finds(distance, case, k):
    vectors, query = case
    store = FAISS.from_embeddings(
        ((str(n), v) for n, v in enumerate(vectors)), MODEL, ids=map(str, range(len(vectors))), distance=distance
    )
    pairs = store.similarity_search_with_score_by_vector(query, k)
    assert_nearest(pairs, brute_force(distance, vectors, query), k, distance)


@given(case=cases, k=st.integers(1, 50))
def test_finds_what_langchain_community_finds(case, k):
    vectors, query = case
    pairs = [(str(n), vector.tolist()) for n, vector in enumerate(vectors)]
    ids = [text for text, _ in pairs]
    ours = FAISS.from_embeddings(pairs, MODEL, ids=ids).similarity_search_with_score_by_vector(query, k)
    theirs = CommunityFAISS.from_embeddings(pairs, MODEL, ids=ids).similarity_search_with_score_by_vector(query, k)
    assert [score for _, score in ours] == pytest.approx([float(score) for _, score in theirs], rel=1e-5, abs=1e-5)
    assert Counter(score for _, score in ours).keys() == {score for _, score in ours}
    tied = Counter(round(float(score), 3) for _, score in theirs)
    if max(tied.values()) == 1:
        assert [d.id for d, _ in ours] == [d.id for d, _ in theirs]


def test_defaults_and_relevance_are_those_of_langchain_community():
    texts = [f"text {n}" for n in range(30)]

    class Unit(DeterministicFakeEmbedding):
        def embed_documents(self, texts):
            return [(np.array(v) / np.linalg.norm(v)).tolist() for v in super().embed_documents(texts)]

        def embed_query(self, text):
            return self.embed_documents([text])[0]

    ours, theirs = FAISS.from_texts(texts, Unit(size=6)), CommunityFAISS.from_texts(texts, Unit(size=6))
    assert [d.page_content for d in ours.similarity_search("q")] == [
        d.page_content for d in theirs.similarity_search("q")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs falls below 0
        expected = [score for _, score in theirs.similarity_search_with_relevance_scores("q", k=30)]
    found = [score for _, score in ours.similarity_search_with_relevance_scores("q", k=30)]
    assert min(expected) < 0
    assert found == pytest.approx([max(0.0, float(score)) for score in expected], abs=1e-5)
    threshold = sorted(float(s) for _, s in theirs.similarity_search_with_score("q", k=30))[7] + 1e-6
    kept = [d.page_content for d in ours.similarity_search("q", k=30, score_threshold=threshold)]
    assert kept == [d.page_content for d in theirs.similarity_search("q", k=30, score_threshold=threshold)]
    assert len(kept) == 8


def test_relevance_of_other_distances():
    vectors = [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]
    for distance, expected in [("cosine", [1.0, 0.6, 0.0]), ("inner_product", [1.0, 0.6])]:
        store = FAISS.from_texts(["a", "b", "c"], Table(vectors, [1.0, 0.0]), distance=distance)
        found = store.similarity_search_with_relevance_scores("q", k=len(expected))
        assert [score for _, score in found] == pytest.approx(expected)
    assert store.similarity_search("q", k=3, score_threshold=0.5) == store.similarity_search("q", k=2)
    with pytest.warns(UserWarning, match="between 0 and 1"):
        store.similarity_search_with_relevance_scores("q", k=3)
    store = FAISS.from_texts(["a"], Table([[1.0]], [3.0]), relevance_score_fn=lambda score: score / 8)
    assert store.similarity_search_with_relevance_scores("q") == [(store.similarity_search("q")[0], 0.5)]


def test_euclidean_relevance_never_leaves_the_scale():
    store = FAISS.from_texts(["near", "far"], Table([[0.0, 0.0], [50.0, 0.0]], [0.0, 0.0]))
    assert [score for _, score in store.similarity_search_with_relevance_scores("q")] == [1.0, 0.0]


def test_ties_come_in_the_order_of_adding():
    for distance in DISTANCES:
        store = FAISS.from_texts([str(n) for n in range(9)], Table([[1.0, 2.0]] * 9, [1.0, 1.0]), distance=distance)
        assert [d.page_content for d in store.similarity_search("q", k=9)] == [str(n) for n in range(9)]


def test_names_of_distances():
    assert FAISS(MODEL).distance == "euclidean"
    for theirs, ours in [
        ("EUCLIDEAN_DISTANCE", "euclidean"),
        ("COSINE", "cosine"),
        ("MAX_INNER_PRODUCT", "inner_product"),
    ]:
        assert FAISS(MODEL, distance_strategy=DistanceStrategy[theirs]).distance == ours
        assert FAISS(MODEL, distance_strategy=theirs, distance=ours).distance == ours
    for wrong in (
        {"distance": "manhattan"},
        {"distance_strategy": "JACCARD"},
        {"distance": "cosine", "distance_strategy": "EUCLIDEAN_DISTANCE"},
    ):
        with pytest.raises(ValueError, match="distance must be one of"):
            FAISS(MODEL, **wrong)
    with pytest.raises(TypeError, match="normalize_L2"):
        FAISS.from_texts(["a"], MODEL, normalize_L2=True)


# Filters


@pytest.mark.parametrize("distance", DISTANCES)
@given(data=st.data())
@settings(max_examples=50)
def test_a_filter_is_exact(distance, data):
    count = data.draw(st.integers(1, 60))
    k = data.draw(st.integers(1, 70))
    values = data.draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=count, max_size=count))
    wanted = data.draw(st.sampled_from(["a", "b", "c", "d"]))
    vectors = np.random.default_rng(count).standard_normal((count, 4)).astype(np.float32)
    metadatas = [{} if value is None else {"v": value} for value in values]
    store = FAISS.from_embeddings(
        zip(map(str, range(count)), vectors, strict=True), MODEL, metadatas, map(str, range(count)), distance=distance
    )
    sign = -1 if distance == "inner_product" else 1
    scores = sign * brute_force(distance, vectors, vectors[0])
    expected = [str(n) for n in np.argsort(scores, kind="stable") if values[n] == wanted][:k]
    for filter_ in ({"v": wanted}, lambda metadata: metadata.get("v") == wanted, {"v": [wanted]}):
        assert [d.id for d in store.similarity_search_by_vector(vectors[0], k, filter=filter_, fetch_k=1)] == expected


FILTERS = [
    {"n": 3},
    {"n": 3, "even": False},
    {"n": [1, 2, 30]},
    {"n": list(range(0, 40, 3))},
    {"n": {"$gte": 5, "$lt": 9}},
    {"n": {"$gt": 5}, "even": {"$neq": True}},
    {"n": {"$lte": 2}},
    {"n": {"$in": [2, 4]}},
    {"n": {"$nin": [2, 4]}},
    {"n": {"$eq": 7}},
    {"missing": {"$neq": 1}},
    {"missing": 1},
    {"$and": [{"n": {"$gt": 3}}, {"even": True}]},
    {"$or": [{"n": 3}, {"n": 4}]},
    {"$not": {"even": True}},
    {},
]


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
def test_filters_mean_what_they_mean_in_langchain_community(filter_):
    store = make(20)
    theirs = CommunityFAISS.from_embeddings(
        [(d.page_content, store._index.reconstruct(row).tolist()) for row, d in enumerate(store._documents)],
        MODEL,
        [d.metadata for d in store._documents],
        ids=[d.id for d in store._documents],
    )
    query = MODEL.embed_query("q")
    expected = theirs.similarity_search_with_score_by_vector(query, 20, filter=filter_, fetch_k=20)
    found = store.similarity_search_with_score_by_vector(query, 20, filter=filter_)
    assert [d.id for d, _ in found] == [d.id for d, _ in expected]
    assert store.max_marginal_relevance_search("q", 3, fetch_k=20, filter=filter_) == [
        Document(id=d.id, page_content=d.page_content, metadata=d.metadata)
        for d in theirs.max_marginal_relevance_search("q", 3, fetch_k=20, filter=filter_)
    ]


def test_filters_beyond_langchain_community():
    store = make(20)
    ids = lambda filter_: sorted(int(d.id) for d in store.similarity_search("q", 20, filter=filter_))  # noqa: E731
    assert ids({"even": True, "$or": [{"n": 3}, {"n": 4}]}) == [4]  # there, the first key was forgotten
    assert ids({"missing": {"$gt": 3}}) == []  # there, a TypeError
    assert ids({"tags": {"$eq": ["a", {"deep": 5}]}}) == [5]
    for wrong in ({"n": {"$regex": "a"}}, {"$nor": []}, {"n": {}}, {"n": {"deep": 1}}, {"$eq": 3}):
        with pytest.raises(ValueError, match="operator"):
            store.similarity_search("q", filter=wrong)
    for wrong in ("n", [("n", 3)], 3):
        with pytest.raises(TypeError, match="filter must be"):
            store.similarity_search("q", filter=wrong)
    with pytest.raises(TypeError, match="filtr"):
        store.similarity_search("q", filtr={"n": 3})
    with pytest.raises(TypeError, match="filtr"):
        store.max_marginal_relevance_search("q", filtr={"n": 3})


def test_a_filter_may_call_the_store_and_cannot_change_it():
    store = make(10)

    def accept(metadata):
        metadata["n"] = -1
        store.add_texts(["another"], ids=["another"])
        store.delete(["3"])
        return True

    found = {d.id for d in store.similarity_search("q", 20, filter=accept)}
    assert found == {"0", "1", "2", "4", "5", "6", "7", "8", "9"}
    assert [d.metadata["n"] for d in store.get_by_ids(["1", "2"])] == [1, 2]


# Maximal marginal relevance, retrievers


@pytest.mark.parametrize("distance", DISTANCES)
@given(k=st.integers(1, 12), fetch_k=st.integers(1, 40), diversity=st.floats(0, 1), seed=st.integers(0, 5))
@settings(max_examples=30)
def test_mmr_is_langchain_cores(distance, k, fetch_k, diversity, seed):
    store = make(30, seed=seed, distance=distance)
    query = MODEL.embed_query(str(seed))
    nearest = store.similarity_search_by_vector(query, max(k, fetch_k))
    vectors = store.get_vectors_by_ids([d.id for d in nearest])
    chosen = maximal_marginal_relevance(np.array(query), list(vectors.values()), diversity, k)
    found = store.max_marginal_relevance_search_by_vector(query, k, fetch_k, diversity)
    assert found == [nearest[place] for place in chosen]
    assert found == store.max_marginal_relevance_search(str(seed), k, fetch_k, diversity)


async def test_as_retriever():
    store = make(20)
    query = "text 7"
    for kind, options, count in [
        ("similarity", {"k": 3, "filter": {"even": True}}, 3),
        ("mmr", {"k": 3, "fetch_k": 10, "lambda_mult": 0.3}, 3),
        ("similarity_score_threshold", {"k": 20, "score_threshold": 0.0}, 20),
    ]:
        retriever = store.as_retriever(search_type=kind, search_kwargs=options)
        assert len(retriever.invoke(query)) == count
        assert retriever.invoke(query) == await retriever.ainvoke(query)


# Adding, deleting, reading


def test_upsert_delete_and_order():
    store = make(5)
    assert store.add_texts(["new", "more"], [{"v": 1}, None], ["2", "9"]) == ["2", "9"]
    assert store.texts() == ["text 0", "text 1", "text 3", "text 4", "new", "more"]
    np.testing.assert_array_equal(store.get_vectors_by_ids(["2"])["2"], np.float32(MODEL.embed_query("new")))
    assert [d.page_content for d in store.get_by_ids(["2", "nothing", "0"])] == ["new", "text 0"]
    assert store.delete(["0", "0", "nothing"]) is True
    assert store.delete([]) is True
    assert store.texts() == ["text 1", "text 3", "text 4", "new", "more"]
    for text in store.texts():
        query = store.get_vectors_by_ids([d.id for d in store._documents if d.page_content == text])
        (vector,) = query.values()
        assert store.similarity_search_by_vector(vector, 1)[0].page_content == text
    with pytest.raises(ValueError, match="No ids"):
        store.delete()
    store.delete([d.id for d in store._documents])
    assert store.similarity_search("q") == store.texts() == []
    store.add_embeddings([("other dimension", [1.0, 2.0])])
    assert len(store.similarity_search_by_vector([1.0, 1.0])) == 1


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "delete", "merge"]), st.lists(st.integers(0, 8), max_size=6, unique=True)),
        max_size=8,
    )
)
@settings(max_examples=60)
def test_any_course_of_changes_equals_a_dict(steps):
    store, expected = FAISS(MODEL), {}
    for number, (action, numbers) in enumerate(steps):
        ids = [str(n) for n in numbers]
        texts = [f"{id_} of {number}" for id_ in ids]
        if action == "delete":
            store.delete(ids)
            expected = {id_: text for id_, text in expected.items() if id_ not in ids}
            continue
        if action == "add":
            store.add_texts(texts, ids=ids)
        else:
            store.merge_from(FAISS.from_texts(texts, MODEL, ids=ids))
        expected |= dict(zip(ids, texts, strict=True))
    assert {id_: text for id_, (text, _, _) in content(store).items()} == expected
    for id_, (text, _, vector) in content(store).items():
        np.testing.assert_allclose(vector, MODEL.embed_query(text), rtol=1e-6)
        assert store.similarity_search(text, k=1)[0].id == id_


def test_nothing_is_shared_with_the_caller():
    metadata = {"list": [1], "dict": {"a": {}}}
    vector = np.ones(3, dtype=np.float32)
    store = FAISS.from_embeddings([("a", vector)], MODEL, [metadata], ["a"])
    pristine = content(store)
    metadata["list"].append(2)
    metadata["new"] = 1
    vector[:] = 7
    for document in (
        store.get_by_ids(["a"])[0],
        store.similarity_search_by_vector([1, 1, 1])[0],
        store.max_marginal_relevance_search_by_vector([1, 1, 1])[0],
    ):
        document.metadata["dict"]["a"]["b"] = 1
        document.metadata["list"].append(2)
        document.id = document.page_content = "changed"
    store.get_vectors_by_ids(["a"])["a"][:] = 9
    store.texts().append("b")
    assert content(store) == pristine == {"a": ("a", {"list": [1], "dict": {"a": {}}}, [1, 1, 1])}


def test_merge_leaves_the_other_as_it_is():
    one, other = make(4), make(6, seed=1)
    before = content(other)
    one.merge_from(other)
    assert content(one) == content(other) == before
    one.merge_from(one)
    assert content(one) == before
    one.merge_from(FAISS(MODEL))
    assert content(one) == before
    empty = FAISS(MODEL)
    empty.merge_from(other)
    assert content(empty) == before
    with pytest.raises(ValueError, match="cosine"):
        one.merge_from(make(4, distance="cosine"))
    with pytest.raises(ValueError, match="dimension"):
        one.merge_from(make(4, size=3))


def test_rerankers_read_texts_and_vectors():
    store = make(5)
    assert stored_texts(store) == store.texts()
    assert stored_vectors(store, ["1", "nothing"]).keys() == {"1"}
    assert store.get_vectors_by_ids([]) == FAISS(MODEL).get_vectors_by_ids(["1"]) == {}
    cosine = make(5, distance="cosine")
    np.testing.assert_allclose(
        [np.linalg.norm(v) for v in cosine.get_vectors_by_ids(list("01234")).values()], 1, rtol=1e-6
    )
    model = Table([], store.get_vectors_by_ids(["3"])["3"])
    found = BiEncoderReranker(embeddings=model, store=store).compress_documents(store.get_by_ids(list("01234")), "q")
    assert found[0].id == "3"
    assert not model.calls["documents"]


def test_langchain_cores_indexing():
    records, store = InMemoryRecordManager("test"), FAISS(MODEL)
    records.create_schema()
    documents = [Document(page_content=f"text {n}", metadata={"source": str(n)}) for n in range(4)]
    run = lambda docs: index(docs, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")  # noqa: E731
    assert run(documents)["num_added"] == 4
    assert run(documents[1:]) == {"num_added": 0, "num_updated": 0, "num_skipped": 3, "num_deleted": 1}
    assert sorted(store.texts()) == ["text 1", "text 2", "text 3"]


# Async


async def test_async_awaits_the_embedding_model():
    model = Table([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0])
    documents = [Document(page_content="a", id="a"), Document(page_content="b")]
    store = await FAISS.afrom_documents(documents, model)
    await store.aadd_documents(documents)
    await store.aadd_texts(["c", "d"])
    found = [
        await store.asimilarity_search("q", k=2),
        [d for d, _ in await store.asimilarity_search_with_score("q", k=2)],
        [d for d, _ in await store.asimilarity_search_with_relevance_scores("q", k=2)],
        await store.asimilarity_search_by_vector([1.0, 0.0], k=2),
    ]
    assert all(documents == store.similarity_search_by_vector([1.0, 0.0], 2) for documents in found)
    assert await store.amax_marginal_relevance_search("q") == store.max_marginal_relevance_search_by_vector([1.0, 0.0])
    chosen = await store.amax_marginal_relevance_search_by_vector([1.0, 0.0], k=2)
    assert chosen == store.max_marginal_relevance_search_by_vector([1.0, 0.0], k=2)
    assert model.calls == {"async documents": 3, "async query": 4}


async def test_async_leaves_the_loop_free():
    store = make(20)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    task = asyncio.create_task(tick())
    slow = lambda metadata: time.sleep(0.01) or True  # noqa: E731
    assert len(await store.asimilarity_search("q", k=20, filter=slow)) == 20
    task.cancel()
    assert ticks > 10


# Bad input


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k):
    for store in (make(3), FAISS(MODEL)):
        for search in (
            store.similarity_search,
            store.max_marginal_relevance_search,
            store.similarity_search_with_score,
        ):
            with pytest.raises(ValueError, match="k must be"):
                search("q", k=k)


def test_nothing_in_nothing_out():
    store = FAISS(Table(None))
    assert store.add_texts([]) == store.add_documents([]) == store.add_embeddings([]) == []
    assert FAISS.from_texts([], MODEL).texts() == []
    empty = FAISS(MODEL)
    assert empty.similarity_search("q") == empty.max_marginal_relevance_search("q") == empty.get_by_ids(["a"]) == []
    assert empty.similarity_search("q", filter={"a": 1}) == empty.similarity_search_with_relevance_scores("q") == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0]], "one vector for each of 2"),
        ([[1.0, 2.0]] * 3, "one vector for each of 2"),
        ([], "one vector for each of 2"),
        (None, "not lists of numbers|one vector"),
        ([[], []], "one vector for each of 2"),
        ([1.0, 2.0], "one vector for each of 2"),
        ([[[1.0]], [[2.0]]], "one vector for each of 2"),
        ([[1.0, 2.0], [1.0]], "not lists of numbers"),
        ([[1.0, "x"], [1.0, 2.0]], "not lists of numbers"),
        ([[1.0, 2.0], [1.0, None]], "not lists of numbers|Vector 1"),
        ([[1.0, 2.0], [1.0, float("nan")]], r"Vector 1 \(from 0\)"),
        ([[1.0, float("inf")], [1.0, 2.0]], r"Vector 0 \(from 0\)"),
        ([[1.0, 1e300], [1.0, 2.0]], r"Vector 0 \(from 0\)"),
        ([[1.0, 2.0, 3.0]] * 2, "dimension 3 came to a store of dimension 2"),
    ],
)
@pytest.mark.parametrize("distance", DISTANCES)
def test_unusable_vectors(vectors, message, distance):
    model = Table([[1.0, 0.0]], [1.0, 0.0])
    store = FAISS.from_texts(["there"], model, ids=["there"], distance=distance)
    before = content(store)
    model.vectors = vectors
    with pytest.raises(ValueError, match=message):
        store.add_texts(["a", "there"], ids=["a", "there"])
    assert content(store) == before


@pytest.mark.parametrize("query", [[1.0], [1.0, float("nan")], None, [[1.0, 0.0]], [], "ab"])
def test_unusable_query(query):
    store = FAISS.from_texts(["a"], Table([[1.0, 0.0]], query))
    for search in (store.similarity_search, store.max_marginal_relevance_search):
        with pytest.raises(ValueError, match=r"[Vv]ector"):
            search("q")


def test_bad_lengths_and_ids_are_noticed_before_embedding():
    model = Table([[1.0]])
    for options in (
        {"metadatas": [{}]},
        {"metadatas": []},
        {"ids": ["a"]},
        {"ids": []},
        {"ids": ["a", "a"]},
        {"ids": ["a", "b", "c"]},
    ):
        with pytest.raises(ValueError, match=r"came with|comes twice"):
            FAISS(model).add_texts(["a", "b"], **options)
    assert not model.calls
    store = FAISS(MODEL)
    made = store.add_texts(["a", "b", "c"], ids=[None, "", 3])
    assert made[2] == "3"
    assert len(set(made)) == 3
    assert {d.id for d in store.get_by_ids(made)} == set(made)


@pytest.mark.parametrize("distance", DISTANCES)
def test_extreme_but_legal_vectors(distance):
    tiny, large = np.float32(1e-30), np.float32(1e18)
    store = FAISS.from_texts(list("abc"), Table([[tiny, 0], [0, large], [0, 0]], [tiny, 0]), distance=distance)
    scores = {d.page_content: score for d, score in store.similarity_search_with_score("q")}
    assert len(scores) == 3
    assert np.isfinite(list(scores.values())).all()
    if distance == "cosine":
        assert scores == pytest.approx({"a": 0, "b": 1, "c": 1})


# Saving and loading

text = st.text(st.characters(), max_size=20)  # all of Unicode, surrogates and NUL too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(
    entries=st.dictionaries(text.filter(bool), st.tuples(text, st.dictionaries(text, values, max_size=3)), max_size=6),
    distance=st.sampled_from(DISTANCES),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_round_trip(tmp_path_factory, entries, distance, seed):
    vectors = np.random.default_rng(seed).standard_normal((len(entries), 3)).astype(np.float32)
    store = FAISS.from_embeddings(
        zip([t for t, _ in entries.values()], vectors, strict=True),
        MODEL,
        [m for _, m in entries.values()],
        entries,
        distance=distance,
    )
    folder = tmp_path_factory.mktemp("store")
    store.save_local(folder)
    loaded = FAISS.load_local(folder, MODEL)
    assert content(loaded) == content(store)
    assert repr(content(loaded)) == repr(content(store))  # 1 is not True, nor -0.0 0
    assert loaded.distance == distance
    query = [0.5, -0.5, 0.1]
    found = loaded.similarity_search_with_score_by_vector(query, 3)
    assert found == store.similarity_search_with_score_by_vector(query, 3)
    loaded.add_embeddings([("more", [1, 2, 3])], ids=["a new id, longer than twenty"])
    loaded.save_local(folder)
    assert content(FAISS.load_local(folder, MODEL)) == content(loaded)


def test_files_and_names(tmp_path):
    store = make(3)
    store.save_local(str(tmp_path / "new" / "folder"), index_name="my store-1.0")
    store.save_local(tmp_path / "new" / "folder", index_name="my store-1")
    folder = tmp_path / "new" / "folder"
    assert len(list(folder.iterdir())) == 6
    make(4).save_local(folder, index_name="my store-1")
    make(5).save_local(folder, index_name="my store-1")
    assert len(list(folder.iterdir())) == 6
    assert (
        FAISS.load_local(str(folder), MODEL, "my store-1.0", allow_dangerous_deserialization=True).texts()
        == store.texts()
    )
    assert len(FAISS.load_local(folder, MODEL, index_name="my store-1").texts()) == 5
    lines = next(folder.glob("my store-1.0-*.jsonl")).read_text().splitlines()
    assert json.loads(lines[1]) == {"id": "1", "text": "text 1", "metadata": store.get_by_ids(["1"])[0].metadata}
    for name in ("../index", "a/b", "/etc/passwd"):
        with pytest.raises(ValueError, match="plain name"):
            store.save_local(folder, name)
        with pytest.raises(ValueError, match="plain name"):
            FAISS.load_local(folder, MODEL, name)


def test_options_of_loading(tmp_path):
    make(3, distance="cosine").save_local(tmp_path)
    loaded = FAISS.load_local(
        tmp_path, MODEL, distance_strategy=DistanceStrategy.COSINE, relevance_score_fn=lambda s: 0.25
    )
    assert {score for _, score in loaded.similarity_search_with_relevance_scores("q")} == {0.25}
    with pytest.raises(ValueError, match="distance must be"):
        FAISS.load_local(tmp_path, MODEL, distance_strategy=DistanceStrategy.EUCLIDEAN_DISTANCE)
    other = FAISS.load_local(tmp_path, DeterministicFakeEmbedding(size=7))
    with pytest.raises(ValueError, match="dimension 7 came to a store of dimension 6"):
        other.similarity_search("q")


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        dt.date(2024, 1, 1),
        {1, 2},
        (1, 2),
        b"bytes",
        float("nan"),
        float("-inf"),
        np.float64(1.5),
        np.float32(1.5),
        np.int64(1),
        np.ones(2),
        Path("a"),
        Colour.RED,
        {1: "a"},
        {"a": [{"b": {2}}]},
        [[float("nan")]],
        10**5000,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_not_saved(tmp_path, value):
    store = make(3)
    store.save_local(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store.add_texts(["secret text"], [{"good": 1, "bad key": value}], ["the id"])
    with pytest.raises(TypeError, match="'the id', metadata 'bad key'") as caught:
        store.save_local(tmp_path)
    assert "secret" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(TypeError, match="'the id'"):
        store.save_local(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_metadata_key_that_is_no_string(tmp_path):
    with pytest.raises(TypeError, match="'a', metadata 1: a key that is not a str"):
        FAISS.from_texts(["x"], MODEL, [{1: "x"}], ["a"]).save_local(tmp_path)


@pytest.fixture
def saved(tmp_path):
    make(10).save_local(tmp_path)
    paths = sorted(tmp_path.iterdir(), key=lambda path: path.suffixes)
    return {
        "index": next(p for p in paths if p.suffix == ".faiss"),
        "documents": next(p for p in paths if p.suffix == ".jsonl"),
        "manifest": tmp_path / "index.manifest.json",
    }


def refused(path, *words):
    with pytest.raises(IndexFormatError) as caught:
        FAISS.load_local(path if path.is_dir() else path.parent, MODEL)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["index", "documents", "manifest"])
def test_damage_is_found(saved, name):
    path = saved[name]
    data = path.read_bytes()
    step = max(1, len(data) // 60) if name != "manifest" else 1
    for place in range(0, len(data), step):
        for mask in (1, 0x80, 0xFF):
            path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            refused(path, ".faiss" if name == "index" else ".jsonl" if name == "documents" else "index")
        path.write_bytes(data[:place])
        refused(path)
    path.write_bytes(data + b"\n ")
    if name != "manifest":
        refused(path, path.name)
    path.unlink()
    refused(path, path.name, "missing")
    path.write_bytes(data)
    assert len(FAISS.load_local(path.parent, MODEL).texts()) == 10


def test_swapped_files_are_found(saved, tmp_path):
    other = tmp_path / "other"
    make(10, seed=1).save_local(other)
    kept = saved["index"].read_bytes()
    saved["index"].write_bytes(next(other.glob("*.faiss")).read_bytes())
    refused(saved["index"], saved["index"].name, "damaged")
    saved["index"].write_bytes(saved["documents"].read_bytes())
    refused(saved["index"], saved["index"].name)
    saved["index"].write_bytes(kept)
    shutil.copy(other / "index.manifest.json", saved["manifest"])
    refused(saved["manifest"], "missing")


def forge(saved, **changes):
    """What someone does who may write to the folder: files of any content with a manifest that fits."""
    folder = saved["manifest"].parent
    manifest = json.loads(saved["manifest"].read_bytes())
    for name, suffix in (("documents", "jsonl"), ("index", "faiss")):
        data = changes.pop(name, saved[name].read_bytes())
        manifest[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
        (folder / f"index-{manifest[f'{name}_sha256'][:16]}.{suffix}").write_bytes(data)
    manifest |= changes
    saved["manifest"].write_text(json.dumps({k: v for k, v in manifest.items() if v is not ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": "1"},
        {"version": True},
        {"format": "something-else"},
        {"format": ...},
        {"distance": "cosine"},
        {"distance": "inner_product"},
        {"distance": "manhattan"},
        {"distance": ["euclidean"]},
        {"dimension": 7},
        {"dimension": -6},
        {"dimension": 6.0},
        {"dimension": 2**70},
        {"count": 9},
        {"count": 11},
        {"count": "10"},
        {"count": None},
        {"documents_sha256": "../../../../etc/passwd"},
        {"index_sha256": "/etc/passwd"},
        {"index_sha256": "../" + "0" * 61},
        {"index_sha256": "A" * 64},
        {"index_sha256": "0" * 64},
        {"index_sha256": 7},
        {"index_sha256": ...},
        {"surprise": 1},
    ],
    ids=str,
)
def test_wrong_manifests(saved, changes):
    forge(saved, **changes)
    refused(saved["manifest"], "index")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"1", b'"a"', b"{", b"\xff\xfe", b"{}" * 3, b"[" * 100_000])
def test_manifests_that_are_none(saved, data):
    saved["manifest"].write_bytes(data)
    refused(saved["manifest"], "index.manifest.json")


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[]", b"1", b"null", b"{", b"\xff", b'{"id": "a"}', b"[" * 100_000, b""]
    + [
        json.dumps(entry).encode()
        for entry in (
            {"id": "a", "text": 1, "metadata": {}},
            {"id": [], "text": "", "metadata": {}},
            {"id": "a", "text": "", "metadata": []},
            {"id": None, "text": "", "metadata": {}},
        )
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)
def test_forged_documents(saved, line):
    lines = saved["documents"].read_bytes().splitlines(keepends=True)
    forge(saved, documents=b"".join([*lines[:-1], line + b"\n"]))
    refused(saved["manifest"], ".jsonl", "line 10")


def test_forged_counts(saved):
    lines = saved["documents"].read_bytes().splitlines(keepends=True)
    forge(saved, documents=b"".join(lines[:-1]))
    refused(saved["manifest"], ".jsonl", "10 documents")
    forge(saved, documents=b"".join([*lines[:-1], lines[0]]))
    refused(saved["manifest"], ".jsonl", "different ids")
    forge(saved, documents=b"".join(lines)[:-1])
    refused(saved["manifest"], ".jsonl")


def test_forged_indexes(saved):
    import faiss

    vectors = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
    flat = saved["index"].read_bytes()
    forgeries = [
        b"",
        flat[:4],
        flat[:40],
        flat[:-4],
        flat[:4] + b"\xff" * 60,
        b"\x80\x04" + flat,
        flat.replace(b"IxF2", b"IxFl"),
    ]
    forgeries += [flat[:place] + b"\xff\xff\xff\x7f" + flat[place + 4 :] for place in range(4, 45, 2)]
    wrong = [
        faiss.IndexFlatIP(6),
        faiss.IndexFlatL2(5),
        faiss.IndexFlatL2(6),
        faiss.IndexHNSWFlat(6, 4),
        faiss.IndexLSH(6, 8),
    ]
    for one in wrong[:-3] + wrong[-2:]:
        one.add(np.ascontiguousarray(vectors[:, : one.d]))
    wrong.append(faiss.IndexIDMap2(faiss.IndexFlatL2(6)))
    holes = vectors.copy()
    holes[3, 3] = np.nan
    wrong.append(faiss.IndexFlatL2(6))
    wrong[-1].add(holes)
    for data in forgeries + [faiss.serialize_index(one).tobytes() for one in wrong]:
        forge(saved, index=data)
        try:
            store = FAISS.load_local(saved["manifest"].parent, MODEL)
        except IndexFormatError as error:
            assert ".faiss" in str(error)  # noqa: PT017 - some are harmless
        else:  # a byte that means nothing: it must be the same index
            np.testing.assert_array_equal(store._index.reconstruct_n(0, 10), vectors)


def test_a_folder_of_langchain_community(tmp_path):
    theirs = CommunityFAISS.from_texts(["a", "b"], MODEL, [{"n": 1}, {"n": 2}])
    theirs.save_local(str(tmp_path))
    with pytest.raises(IndexFormatError, match=r"index.pkl.*pickle.*langchain-community.*from_embeddings"):
        FAISS.load_local(tmp_path, MODEL, allow_dangerous_deserialization=True)
    # As the module's docstring says.
    old = CommunityFAISS.load_local(str(tmp_path), MODEL, allow_dangerous_deserialization=True)
    documents = old.get_by_ids(list(old.index_to_docstore_id.values()))
    new = FAISS.from_embeddings(
        zip((document.page_content for document in documents), old.index.reconstruct_n(0, len(documents))),  # noqa: B905
        MODEL,
        metadatas=[document.metadata for document in documents],
        ids=[document.id for document in documents],
    )
    new.save_local(tmp_path)
    loaded = FAISS.load_local(tmp_path, MODEL)
    expected = [(d.id, d.page_content, d.metadata, float(s)) for d, s in theirs.similarity_search_with_score("q")]
    assert [(d.id, d.page_content, d.metadata, s) for d, s in loaded.similarity_search_with_score("q")] == expected
    assert {"index.pkl", "index.faiss"} < {path.name for path in tmp_path.iterdir()}


def test_no_folder_at_all(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(IndexFormatError, match=r"index.manifest.json: missing"):
            FAISS.load_local(folder, MODEL)
    (tmp_path / "file").touch()
    with pytest.raises(IndexFormatError, match=r"index.manifest.json: missing"):
        FAISS.load_local(tmp_path / "file", MODEL)


@pytest.mark.parametrize("fails_at", range(3))
def test_a_failed_save_leaves_the_old_store(tmp_path, monkeypatch, fails_at):
    make(3).save_local(tmp_path)
    before = content(FAISS.load_local(tmp_path, MODEL))
    calls, replace = [], os.replace

    def failing(*args):
        calls.append(args)
        if len(calls) > fails_at:
            raise OSError("disk full")  # noqa: EM101, TRY003
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="disk full"):
            make(5, seed=1).save_local(tmp_path)
    assert content(FAISS.load_local(tmp_path, MODEL)) == before
    assert not list(tmp_path.glob("*.tmp"))
    for count in (6, 7):  # what the failed save left is younger than the manifest: the second save removes it
        make(count).save_local(tmp_path)
        assert len(FAISS.load_local(tmp_path, MODEL).texts()) == count
    assert len(list(tmp_path.iterdir())) == 3


KILLED = """
import os, pathlib, sys
from tests.unit_tests.test_faiss import FAISS, MODEL, make

folder, torn = pathlib.Path(sys.argv[1]), sys.argv[2] == "torn"
make(3).save_local(folder / "0")
for stop in range(1, 100):
    target = folder / str(stop)
    make(3).save_local(target)
    if not (child := os.fork()):
        count = 0

        def step(function):
            def counted(*args, **kwargs):
                global count
                count += 1
                if count == stop:
                    if torn and function is fsync:
                        os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
                    os._exit(9)
                return function(*args, **kwargs)
            return counted

        fsync = os.fsync
        os.fsync, os.replace, pathlib.Path.unlink = step(os.fsync), step(os.replace), step(pathlib.Path.unlink)
        make(5, seed=1).save_local(target)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(stop)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("torn", ["whole", "torn"])
def test_killed_anywhere_the_store_loads_as_before_or_after(tmp_path, torn):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path, torn], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    stops = int(done.stdout)
    assert stops > 8
    before, after = content(make(3)), content(make(5, seed=1))
    states = [content(FAISS.load_local(tmp_path / str(stop), MODEL)) for stop in range(1, stops + 1)]
    changed = states.index(after)
    assert states == [before] * changed + [after] * (stops - changed)
    assert 3 < changed < stops
    for stop in range(1, stops + 1):
        for count in (6, 7):
            make(count).save_local(tmp_path / str(stop))
        assert len(list((tmp_path / str(stop)).iterdir())) == 3


# Threads


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_sixteen_threads_search_while_one_changes(distance):
    size = 8
    base = np.random.default_rng(0).standard_normal((200, size)).astype(np.float32)
    store = FAISS(DeterministicFakeEmbedding(size=size), distance=distance)
    store.add_embeddings([(f"base {n}", v) for n, v in enumerate(base)], ids=[f"base {n}" for n in range(200)])
    stop = threading.Event()

    def search(seed):
        choose, searches = np.random.default_rng(seed), 0
        while not stop.is_set():
            n = int(choose.integers(100))  # the first hundred stay
            (document, score), *_ = store.similarity_search_with_score_by_vector(base[n], 5)
            assert document.id == document.page_content == f"base {n}"
            assert abs(score) < 1e-5
            found = store.similarity_search_by_vector(
                base[n], 3, filter=lambda metadata: metadata.get("round") is not None
            )
            assert all(d.page_content == f"{d.id} of {d.metadata['round']}" for d in found)
            vectors = store.get_vectors_by_ids([f"base {n}", "new 1"])
            expected = base[n] / np.linalg.norm(base[n]) if distance == "cosine" else base[n]
            np.testing.assert_allclose(vectors[f"base {n}"], expected, rtol=1e-5)
            searches += 1
        return searches

    with ThreadPoolExecutor(16) as pool:
        searching = [pool.submit(search, seed) for seed in range(16)]
        for number in range(60):
            ids = [f"new {n}" for n in range(20)]
            texts = [f"{id_} of {number}" for id_ in ids]
            store.add_texts(texts, [{"round": number}] * 20, ids)
            if number % 5 == 0:
                store.delete([f"base {n}" for n in range(100 + number, 105 + number)] + ids[:7])
        stop.set()
        assert all(future.result() > 0 for future in searching)
    assert len(store.texts()) == 200 - 60 + 20


def test_threads_that_save_leave_a_whole_store(tmp_path):
    stores = [make(count) for count in (3, 4, 5, 6)]
    stores[0].save_local(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda store: [store.save_local(tmp_path) for _ in range(5)], stores))
    assert content(FAISS.load_local(tmp_path, MODEL)) in [content(store) for store in stores]


# The module


def test_imports():
    tree = ast.parse(Path(module.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"} & names
    code = (
        "import sys, langchain_rerankkit.vectorstores, langchain_rerankkit.vectorstores.faiss as m;"
        "assert not {'faiss', 'numpy'} & set(sys.modules);"
        "from langchain_rerankkit.vectorstores import FAISS; assert FAISS is m.FAISS"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["faiss", "numpy"])
def test_a_missing_library_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"langchain-rerankkit\[faiss\]"):
        FAISS(MODEL)


def test_one_id_or_text_in_place_of_several_is_refused():
    store = FAISS.from_texts(["a", "b", "c"], DeterministicFakeEmbedding(size=4), ids=["1", "2", "12"])
    for wrong in (lambda: store.delete("12"), lambda: store.get_by_ids("12"), lambda: store.add_texts("hello")):
        with pytest.raises(TypeError, match="Give a list"):
            wrong()
    assert len(store.get_by_ids(["1", "2", "12"])) == 3
