from langchain_rerankkit import EnsembleReranker, LexicalReranker
from langchain_rerankkit.testing import RerankerTests


class TestEnsembleReranker(RerankerTests):
    required_module = "Stemmer"
    loadable = (LexicalReranker,)

    def make_reranker(self, **fields):
        members = [LexicalReranker(), LexicalReranker(language=None, b=0.1)]
        return EnsembleReranker(rerankers=members, weights=[1.0, 0.5], **fields)
