import pytest
from langchain_core.cross_encoders import BaseCrossEncoder

from langchain_rerankkit import CrossEncoderReranker
from langchain_rerankkit.testing import RerankerTests


class TestCrossEncoderReranker(RerankerTests):
    required_module = "sentence_transformers"

    @pytest.fixture(autouse=True)
    def _model(self, cross_encoder_folder):
        self.folder = str(cross_encoder_folder)

    def make_reranker(self, **fields):
        return CrossEncoderReranker(model=self.folder, device="cpu", **fields)


class LengthCrossEncoder(BaseCrossEncoder):
    def score(self, text_pairs):
        return [len(set(query) & set(text)) / 30 + len(text) / 1e4 for query, text in text_pairs]


class TestCrossEncoderRerankerWithClient(RerankerTests):
    def make_reranker(self, **fields):
        return CrossEncoderReranker(client=LengthCrossEncoder(), **fields)

    @pytest.mark.skip(reason="a client object is not part of a dump")
    def test_16_dump_and_load(self):
        pass
