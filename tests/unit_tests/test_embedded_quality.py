import pytest

from langchain_rerankkit import EmbeddedEmbeddings
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.datasets.trec import load_run
from langchain_rerankkit.evaluation.metrics import score

PUBLISHED = 0.666  # the original weights in bf16, on the same files


@pytest.mark.slow
def test_scifact_is_ranked_as_well_as_by_the_original_weights(data_folder):
    dataset = Dataset.load(data_folder / "scifact")
    run = {query: found[:100] for query, found in load_run(data_folder / "scifact" / "runs" / "bm25.trec").items()}
    named = {id_ for found in run.values() for id_ in found}
    texts = {document.id: document.page_content for document in dataset.corpus if document.id in named}
    embeddings = EmbeddedEmbeddings()
    vectors = dict(zip(texts, embeddings.embed(list(texts.values())), strict=True))
    queries = embeddings.embed([question.text for question in dataset.questions])
    rankings = {
        question.id: sorted(run[question.id], key=lambda id_, query=query: -float(vectors[id_] @ query))
        for question, query in zip(dataset.questions, queries, strict=True)
    }
    gold = {question.id: question.documents for question in dataset.questions}
    values = score(gold, rankings, ["ndcg@10"])["ndcg@10"].values()
    ndcg = sum(values) / len(values)
    print(f"nDCG@10 over {len(rankings)} questions and {len(texts)} documents: {ndcg:.4f}")
    assert ndcg == pytest.approx(PUBLISHED, abs=0.005)
