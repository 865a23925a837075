import hashlib
import math
import warnings

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.load.serializable import Serializable
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_rerankkit import FAISS, BiEncoderReranker, ScoreError
from langchain_rerankkit.testing import RerankerTests


class WordEmbeddings(Serializable, Embeddings):
    """A sum of one pseudo-random vector per word."""

    @classmethod
    def is_lc_serializable(cls):
        return True

    def embed_query(self, text):
        total = [0.01] * 16
        for word in text.lower().split():
            total = [a + b / 255 for a, b in zip(total, hashlib.md5(word.encode()).digest(), strict=True)]  # noqa: S324
        return total

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


class TestBiEncoderReranker(RerankerTests):
    required_module = "numpy"
    loadable = (WordEmbeddings,)

    def make_reranker(self, **fields):
        return BiEncoderReranker(embeddings=WordEmbeddings(), **fields)


class CountingEmbeddings(WordEmbeddings):
    embedded: list = []

    def embed_documents(self, texts):
        self.embedded.extend(texts)
        return super().embed_documents(texts)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_scores_are_cosines_and_each_text_is_embedded_once():
    embeddings = CountingEmbeddings()
    texts = ["a river", "b", "a river", "c d"]
    ranked = BiEncoderReranker(embeddings=embeddings).rank("a river b", texts)
    query = embeddings.embed_query("a river b")
    for line in ranked:
        expected = cosine(query, embeddings.embed_query(line.document.page_content))
        assert line.score == pytest.approx(expected, abs=1e-6)
    assert sorted(embeddings.embedded) == ["a river", "b", "c d"]


def stores():
    def in_memory(embeddings, documents):
        store = InMemoryVectorStore(embeddings)
        store.add_documents(documents)
        return store

    def community(embeddings, documents):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package says that it is sunset
            vectorstores = pytest.importorskip("langchain_community.vectorstores")
            return vectorstores.FAISS.from_documents(documents, embeddings)

    return {"ours": lambda e, d: FAISS.from_documents(d, e), "in memory": in_memory, "community": community}


@pytest.mark.parametrize("kind", stores())
def test_vectors_of_a_store_are_reused(kind):
    embeddings = CountingEmbeddings()
    documents = [Document(page_content=text, id=text) for text in ("a river", "b c", "d e f")]
    store = stores()[kind](embeddings, documents)
    embeddings.embedded.clear()
    candidates = [*store.similarity_search("a", k=3), Document(page_content="new"), Document(page_content="n", id="n")]
    reused = BiEncoderReranker(embeddings=embeddings, store=store).rank("a b", candidates)
    assert embeddings.embedded == ["new", "n"]
    fresh = BiEncoderReranker(embeddings=embeddings).rank("a b", candidates)
    assert [line.previous_rank for line in reused] == [line.previous_rank for line in fresh]
    assert [line.score for line in reused] == pytest.approx([line.score for line in fresh], abs=1e-5)


def test_a_text_of_ones_own_is_embedded_and_not_looked_up():
    embeddings = CountingEmbeddings()
    store = InMemoryVectorStore(embeddings)
    documents = [Document(page_content="a", id="1", metadata={"title": "T"})]
    store.add_documents(documents)
    embeddings.embedded.clear()
    BiEncoderReranker(embeddings=embeddings, store=store, document_text=["title"]).rank("q", documents)
    assert embeddings.embedded == ["T\na"]


def test_stores_that_keep_their_vectors_are_refused():
    documents = [Document(page_content="a", id="1")]
    with pytest.raises(TypeError, match="does not give its vectors away"):
        BiEncoderReranker(embeddings=WordEmbeddings(), store=object()).rank("q", documents)


def test_vectors_that_do_not_fit():
    class Short(WordEmbeddings):
        def embed_documents(self, texts):
            return super().embed_documents(texts)[1:]

    class Other(WordEmbeddings):
        def embed_query(self, text):
            return [1.0, 2.0]

        def embed_documents(self, texts):
            return [[1.0]] * len(texts)

    with pytest.raises(ScoreError, match="1 vectors for 2 texts"):
        BiEncoderReranker(embeddings=Short()).rank("q", ["a", "b"])
    with pytest.raises(ScoreError, match="differ in dimension"):
        BiEncoderReranker(embeddings=Other()).rank("q", ["a", "b"])


def test_a_vector_of_zeros_is_similar_to_nothing():
    class Zero(WordEmbeddings):
        def embed_documents(self, texts):
            return [[0.0] * 16] * len(texts)

    assert BiEncoderReranker(embeddings=Zero()).rank("q", ["a"])[0].score == 0
