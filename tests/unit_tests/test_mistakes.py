"""Seven ways in which a notebook measured nothing and did not notice. Here each cannot happen, or is said aloud."""

import pytest
from langchain_core.documents import Document

from langchain_rerankkit import (
    ContextualCompressionRetriever,
    Dataset,
    DatasetError,
    FunctionReranker,
    Question,
    RetrievalEvaluator,
    evaluate,
)
from langchain_rerankkit.testing import FixedRetriever

CORPUS = (
    Document(id="dunes", page_content="The Indiana Dunes lie on a lake."),
    Document(id="delhi", page_content="Delhi is a city in India."),
    Document(id="ganges", page_content="The Ganges flows through India."),
    Document(id="nile", page_content="The Nile flows through Egypt."),
)
DATASET = Dataset(
    (
        Question("q1", "Which river flows through India?", ("India",), {"ganges": 1}),
        Question("q2", "Which river flows through Egypt?", ("Egypt",), {"nile": 1}),
    ),
    CORPUS,
)


def rivers_first(**fields):
    return FunctionReranker(function=lambda query, texts: [float("flows" in text) for text in texts], **fields)


class Top(FixedRetriever):
    """Returns the first k documents."""

    k: int = 4

    def _get_relevant_documents(self, query, *, run_manager):
        return super()._get_relevant_documents(query, run_manager=run_manager)[: self.k]


def test_1_the_retriever_is_measured_in_place_of_the_reranker():
    """Each loop called retriever.invoke, never compression_retriever.invoke."""
    retriever = Top(documents=list(CORPUS))
    reranked = ContextualCompressionRetriever(base_retriever=retriever, base_compressor=rivers_first())
    report = evaluate({"FAISS": retriever, "reranked": reranked}, DATASET, ["mrr"])
    assert report["reranked"].rankings != report["FAISS"].rankings, "the table's line is what the reranker returned"
    # Whoever gives the retriever under the reranker's name is told.
    mistaken = evaluate({"FAISS": retriever, "reranked": Top(documents=list(CORPUS))}, DATASET, ["mrr"])
    assert "reranked ranks exactly like FAISS on every question." in mistaken.notes


def test_2_one_candidate_leaves_nothing_to_rerank():
    report = evaluate({"FAISS": Top(documents=list(CORPUS), k=1), "reranked": rivers_first()}, DATASET, ["mrr"])
    assert "reranked: the first stage returns 1 document, so there is nothing to rerank." in report.notes
    assert report["reranked"].ceiling == report["reranked"].scores, "and no order can be better"


def test_3_figures_of_an_older_corpus_stand_under_newer_cells(tmp_path):
    """Answers that were kept are used for the same questions of the same corpus alone."""
    systems = {"FAISS": Top(documents=list(CORPUS)), "reranked": rivers_first()}
    evaluate(systems, DATASET, ["mrr"], run_dir=tmp_path)
    newer = Dataset(DATASET.questions, (*CORPUS[:3], Document(id="nile", page_content="The Nile is a river.")))
    with pytest.raises(DatasetError, match="differs in the corpus"):
        evaluate(systems, newer, ["mrr"], run_dir=tmp_path)


def test_4_a_stale_variable_scores_zero():
    """The last loop scored the answer to another question; an evaluator keeps questions and answers together."""
    report = evaluate({"FAISS": Top(documents=list(CORPUS)), "reranked": rivers_first()}, DATASET, ["hit@5"])
    assert report["reranked"].per_question["hit@5"] == {"q1": 1.0, "q2": 1.0}
    # Where a system finds nothing at all, that is not passed over.
    nothing = evaluate({"FAISS": Top(documents=list(CORPUS)), "lost": {"q1": ["x"], "q2": ["y"]}}, DATASET, ["hit@5"])
    assert any(note.startswith("lost found no relevant document at all.") for note in nothing.notes)


def test_5_a_bare_substring_is_a_hit_and_one_question_counts_several_times():
    report = evaluate(Top(documents=list(CORPUS)), DATASET, ["hit@1", "hit@3"], gold="answers")
    assert report.baseline.per_question["hit@1"]["q1"] == 0.0, "Indiana is not India"
    assert report.baseline.per_question["hit@3"]["q1"] == 1.0, "two of three hold the answer, and that is one hit"
    evaluator = RetrievalEvaluator(metrics=["hit@1", "hit@3"])
    row = {"question": "?", "documents": list(CORPUS), "answer": "India"}
    assert evaluator.invoke(row) == {"hit@1": 0.0, "hit@3": 1.0}


def test_6_a_gold_id_points_at_the_wrong_document():
    wrong = (DATASET.questions[0], Question("q2", "Which river flows through Egypt?", ("Egypt",), {"dunes": 1}))
    report = evaluate(Top(documents=list(CORPUS)), Dataset(wrong, CORPUS), ["mrr"])
    assert any("gold id may be wrong: q2" in note for note in report.notes)
    lost = (DATASET.questions[0], Question("q2", "Which river flows through Egypt?", (), {"nowhere": 1}))
    report = evaluate(Top(documents=list(CORPUS)), Dataset(lost, CORPUS), ["mrr"])
    assert any("1 gold id is not in the corpus: nowhere" in note for note in report.notes)
    right = evaluate(Top(documents=list(CORPUS)), DATASET, ["mrr"])
    assert not right.notes, "and a good dataset is not nagged at"


def test_7_splitting_at_line_ends_makes_blank_documents():
    text = "The Nile flows through Egypt.\n\n\t\nDelhi is a city in India."
    corpus = tuple(Document(id=f"{n}", page_content=line) for n, line in enumerate(text.split("\n")))
    gold = Dataset((Question("q", "Which river?", documents={"0": 1}),), corpus)
    report = evaluate({"all": Top(documents=list(corpus)), "reranked": rivers_first()}, gold, ["mrr"])
    assert "2 documents are blank: 1, 2." in report.notes
    assert report["reranked"].rankings["q"] == ["0", "3", "1", "2"], "blank ones go last and are not lost"
