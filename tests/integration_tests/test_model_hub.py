"""Models of the hub, which need a network: ``RERANKKIT_NETWORK=1 pytest -m network``."""

import pytest

from langchain_rerankkit import CrossEncoderReranker, Dataset, FlashRankReranker, evaluate

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]

TEXTS = ["Bread and cheese.", "The Ganges is a holy river where pilgrims bathe.", "Trains leave every hour."]


def test_a_cross_encoder_of_the_hub():
    ranked = CrossEncoderReranker(model="cross-encoder/ms-marco-MiniLM-L6-v2").rank("Where do pilgrims bathe?", TEXTS)
    assert ranked[0].previous_rank == 2
    assert ranked[0].score > 0.5 > ranked[1].score


def test_a_published_flashrank_model(tmp_path):
    ranked = FlashRankReranker(cache_dir=str(tmp_path)).rank("Where do pilgrims bathe?", TEXTS)
    assert ranked[0].previous_rank == 2


def test_the_published_figure_on_scifact(data_folder):
    systems = {
        "BM25": data_folder / "scifact/runs/bm25.trec",
        "MiniLM-L6": CrossEncoderReranker(model="cross-encoder/ms-marco-MiniLM-L6-v2"),
    }
    report = evaluate(systems, Dataset.load(data_folder / "scifact"), ["ndcg@10"])
    assert report["MiniLM-L6"].scores["ndcg@10"] == pytest.approx(0.688, abs=0.01)
