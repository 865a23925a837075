"""The 20 clauses on a judge in place of a model; see test_listwise_answers for bad answers, over HTTP."""

from langchain_rerankkit import ListwiseReranker
from langchain_rerankkit.testing import RerankerTests
from tests.judge import Judge


class TestListwiseReranker(RerankerTests):
    loadable = (Judge,)

    def make_reranker(self, **fields):
        return ListwiseReranker(model=Judge(), **fields)


class TestListwiseRerankerInChunks(TestListwiseReranker):
    def make_reranker(self, **fields):
        return super().make_reranker(**{"long_documents": "chunk", "passage_tokens": 8} | fields)
