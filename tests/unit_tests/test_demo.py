import shutil

import pytest

from langchain_rerankkit.demo import load_demo, run_demo
from langchain_rerankkit.evaluation.gold.matching import holds_answer, normalise


def test_the_bundled_documents_and_questions():
    dataset = load_demo()
    documents = {document.id: document for document in dataset.corpus}
    assert len(documents) == len(dataset.corpus) >= 250
    assert len(dataset.questions) >= 60
    texts = {id_: normalise(document.page_content) for id_, document in documents.items()}
    assert len(set(texts.values())) == len(texts)
    for question in dataset.questions:
        answers = [normalise(answer) for answer in question.answers]
        assert answers, question.id
        assert question.documents, question.id
        for id_ in question.documents:
            assert holds_answer(texts[id_], answers), f"{question.id}: no accepted answer in {id_}"


@pytest.fixture
def printed(monkeypatch, tmp_path, flashrank_folder):
    """What the demo prints where a FlashRank model is on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    cache = tmp_path / "rerankkit" / "flashrank"
    shutil.copytree(flashrank_folder, cache / flashrank_folder.name)
    (cache / "broken").mkdir()
    return "\n\n".join(run_demo())


def test_the_demo(printed, flashrank_folder):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    scores = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    assert float(scores["FAISS alone"]["hit@1"]) <= 0.75, "retrieval alone misses at rank 1 on at least a quarter"
    for metric in ("hit@1", "ndcg@10"):
        assert float(scores["+ EmbeddedReranker"][metric]) > float(scores["FAISS alone"][metric]) + 0.02
    assert f"+ FlashRankReranker {flashrank_folder.name}" in scores
    assert "broken" not in printed
    assert "\n  before, FAISS alone\n" in printed
    assert "\n  * 1.  (was " in printed
    assert "Next:" in printed
