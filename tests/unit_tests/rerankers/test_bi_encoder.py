import hashlib

import pytest
from langchain_core.embeddings import Embeddings

from langchain_rerankkit import BiEncoderReranker
from langchain_rerankkit.testing import RerankerTests


class WordEmbeddings(Embeddings):
    """A sum of one pseudo-random vector per word."""

    def embed_query(self, text):
        total = [0.01] * 16
        for word in text.lower().split():
            total = [a + b / 255 for a, b in zip(total, hashlib.md5(word.encode()).digest(), strict=True)]  # noqa: S324
        return total

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


class TestBiEncoderReranker(RerankerTests):
    required_module = "numpy"

    def make_reranker(self, **fields):
        return BiEncoderReranker(embeddings=WordEmbeddings(), **fields)

    @pytest.mark.skip(reason="embeddings of langchain-core have no common serialisation")
    def test_16_dump_and_load(self):
        pass
