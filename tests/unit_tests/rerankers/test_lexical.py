from langchain_rerankkit import LexicalReranker, TermStatistics
from langchain_rerankkit.testing import RerankerTests


class TestLexicalReranker(RerankerTests):
    required_module = "Stemmer"
    loadable = (TermStatistics,)
    statistics = TermStatistics.from_texts(RerankerTests.texts)

    def make_reranker(self, **fields):
        return LexicalReranker(statistics=self.statistics, **fields)


class TestLexicalRerankerWithoutStatistics(RerankerTests):
    required_module = "Stemmer"

    def make_reranker(self, **fields):
        return LexicalReranker(**fields)
