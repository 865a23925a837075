import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_rerankkit import FAISS, EmbeddedEmbeddings, EmbeddedReranker, TermStatistics
from langchain_rerankkit.demo import load_demo
from langchain_rerankkit.inference import shared
from langchain_rerankkit.testing import RerankerTests
from tests.benchmarks import quality


class TestEmbeddedReranker(RerankerTests):
    required_module = "onnxruntime"
    loadable = (TermStatistics,)

    def make_reranker(self, **fields):
        return EmbeddedReranker(**fields)

    @pytest.fixture(autouse=True)
    def _unloaded(self, no_shared_models):
        """Each clause starts as a fresh process would."""


def test_warming_up_loads_the_model(no_shared_models):
    reranker = EmbeddedReranker().warmup()
    assert len(shared._models) == 1
    assert reranker is not None


def test_meaning_and_words_both_count():
    texts = [
        "The Ganges rises in the Himalaya.",
        "A holy stream where pilgrims bathe.",
        "Railway timetables of northern Italy.",
        "Model XJ-900 of the pump.",
    ]
    reranker = EmbeddedReranker()
    assert reranker.rank("sacred river for Hindus", texts)[0].previous_rank in (1, 2)
    assert reranker.rank("XJ-900", texts)[0].previous_rank == 4


def test_a_score_means_the_same_for_every_list():
    reranker = EmbeddedReranker(statistics=TermStatistics.from_texts(["a b", "c d"]))
    alone = reranker.rank("holy river", ["A holy stream."])[0].score
    among = reranker.rank("holy river", ["Trains.", "A holy stream.", "The holy river Ganges."])
    assert next(line.score for line in among if line.previous_rank == 2) == pytest.approx(alone, abs=1e-5)
    assert all(-1 <= line.score <= 1 for line in among)
    assert len(reranker.rank("holy river", ["Trains.", "The holy river."], min_score=0.4)) == 1


@pytest.mark.parametrize("make", [FAISS.from_documents, InMemoryVectorStore.from_documents])
def test_from_store_takes_statistics_and_vectors(make, monkeypatch):
    corpus = list(load_demo().corpus)[:40]
    store = make(corpus, EmbeddedEmbeddings())
    reranker = EmbeddedReranker.from_store(store, top_n=3).warmup()
    expected = TermStatistics.from_texts(document.page_content for document in corpus)
    assert reranker.statistics == expected
    candidates = store.similarity_search("festival of lights", k=10)
    fresh = EmbeddedReranker(statistics=expected, top_n=3).rank("festival of lights", candidates)
    embedded = []
    embed = EmbeddedEmbeddings.embed
    monkeypatch.setattr(EmbeddedEmbeddings, "embed", lambda self, texts: embedded.extend(texts) or embed(self, texts))
    reused = reranker.rank("festival of lights", candidates)
    assert embedded == ["festival of lights"]
    assert [line.document.id for line in reused] == [line.document.id for line in fresh]
    assert [line.score for line in reused] == pytest.approx([line.score for line in fresh], abs=1e-4)


def test_vectors_of_another_model_are_not_used():
    store = InMemoryVectorStore.from_texts(["a river", "b"], DeterministicFakeEmbedding(size=2))
    assert EmbeddedReranker.from_store(store).store is None


def test_a_query_without_known_words_is_ranked_by_meaning_alone():
    ranked = EmbeddedReranker().rank("?!", ["a river", "a train"])
    assert len(ranked) == 2


def test_asynchronous_calls_do_not_block_the_loop():
    async def run():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticker = asyncio.create_task(tick())
        documents = [Document(page_content="river city " * 100) for _ in range(64)]
        documents = [d.model_copy(update={"page_content": f"{n} {d.page_content}"}) for n, d in enumerate(documents)]
        await EmbeddedReranker().warmup().ainvoke({"query": "river", "documents": documents})
        ticker.cancel()
        return ticks

    assert asyncio.run(run()) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noveleval", "anthropic-docs", "hotpotqa-100"])
def test_no_test_set_loses_more_than_a_point(data_folder, name):
    scores = quality.measure(data_folder / name)
    for system in ("EmbeddedReranker", "EmbeddedReranker, statistics of the collection"):
        assert scores[system] > scores["cosine alone"] - 0.01
        assert scores[system] > scores["BM25"]
