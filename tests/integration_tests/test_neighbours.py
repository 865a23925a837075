"""The whole pipeline over the stores and retrievers of others, with real models."""

import asyncio
import warnings

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_rerankkit import (
    FAISS,
    BiEncoderReranker,
    ContextualCompressionRetriever,
    CrossEncoderReranker,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    EnsembleReranker,
    FlashRankReranker,
    FunctionReranker,
    LexicalReranker,
    evaluate,
)
from langchain_rerankkit.demo import load_demo

QUESTION = "Which festival in India is celebrated with lamps?"


def community_faiss(documents, embeddings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package says that it is sunset
        vectorstores = pytest.importorskip("langchain_community.vectorstores")
    return vectorstores.FAISS.from_documents(documents, embeddings)


@pytest.fixture(scope="module", params=["ours", "in memory", "langchain-community"])
def store(request):
    make = {"ours": FAISS.from_documents, "in memory": InMemoryVectorStore.from_documents}
    return make.get(request.param, community_faiss)(list(load_demo().corpus)[:120], EmbeddedEmbeddings())


@pytest.fixture
def rerankers(store, cross_encoder_folder, flashrank_folder):
    lexical = LexicalReranker.from_store(store)
    bi_encoder = BiEncoderReranker(embeddings=EmbeddedEmbeddings(), store=store)
    return [
        bi_encoder,
        lexical,
        EmbeddedReranker.from_store(store),
        EnsembleReranker(rerankers=[bi_encoder, lexical]),
        CrossEncoderReranker(model=str(cross_encoder_folder), device="cpu"),
        FlashRankReranker(model_path=str(flashrank_folder)),
        FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts]),
    ]


@pytest.mark.parametrize("package", ["langchain_rerankkit", "langchain_classic.retrievers"])
def test_every_reranker_over_every_store(store, rerankers, package):
    kind = pytest.importorskip(package).ContextualCompressionRetriever
    base = store.as_retriever(search_kwargs={"k": 10})
    candidates = {document.id for document in base.invoke(QUESTION)}
    for reranker in rerankers:
        retriever = kind(base_compressor=reranker, base_retriever=base)
        found = retriever.invoke(QUESTION)
        assert {document.id for document in found} == candidates
        scores = [document.metadata["relevance_score"] for document in found]
        assert scores == sorted(scores, reverse=True)
        again = asyncio.run(retriever.ainvoke(QUESTION))
        assert [document.id for document in again] == [document.id for document in found]


def test_the_evaluator_compares_them_all(store, rerankers):
    dataset = load_demo()
    known = {document.id for document in dataset.corpus[:120]}
    questions = tuple(q for q in dataset.questions if known & set(q.documents))[:15]
    few = type(dataset)(questions, dataset.corpus[:120], "few")
    base = store.as_retriever(search_kwargs={"k": 10})
    systems = {"store": base, **{f"+ {type(r).__name__}": r for r in rerankers}}
    systems["both"] = ContextualCompressionRetriever(base_compressor=rerankers[2], base_retriever=base)
    report = evaluate(systems, few)
    assert [system.name for system in report.systems] == list(systems)
    assert report["both"].scores == report["+ EmbeddedReranker"].scores
    assert report["+ EmbeddedReranker"].scores["mrr@10"] >= report["store"].scores["mrr@10"] - 0.1


def test_long_and_odd_texts_reach_real_models(rerankers):
    texts = ["river " * 170_000, "lamps and lights", "\ud800\x00", "مهرجان الأضواء", "x" * (1 << 20)]
    for reranker in rerankers:
        ranked = reranker.rank(QUESTION, texts)
        assert sorted(line.previous_rank for line in ranked) == [1, 2, 3, 4, 5]
