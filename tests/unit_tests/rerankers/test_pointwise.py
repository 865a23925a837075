from langchain_rerankkit import PointwiseLLMReranker
from langchain_rerankkit.testing import RerankerTests
from tests.judge import Judge


class TestPointwiseLLMReranker(RerankerTests):
    loadable = (Judge,)

    def make_reranker(self, **fields):
        return PointwiseLLMReranker(model=Judge(), **{"style": "graded"} | fields)


class TestPointwiseLLMRerankerInChunks(TestPointwiseLLMReranker):
    def make_reranker(self, **fields):
        return super().make_reranker(**{"long_documents": "chunk", "passage_tokens": 8, "chunk_score": "mean"} | fields)
