import pytest

from langchain_rerankkit import FlashRankReranker
from langchain_rerankkit.testing import RerankerTests


class TestFlashRankReranker(RerankerTests):
    required_module = "flashrank"

    @pytest.fixture(autouse=True)
    def _model(self, flashrank_folder):
        self.folder = str(flashrank_folder)

    def make_reranker(self, **fields):
        return FlashRankReranker(model_path=self.folder, **fields)
