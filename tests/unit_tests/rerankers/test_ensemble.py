import asyncio
import math

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_rerankkit import EnsembleReranker, FunctionReranker, LexicalReranker, ScoreError
from langchain_rerankkit.ranking import fuse
from langchain_rerankkit.records import DetailedScores
from langchain_rerankkit.testing import RerankerTests


class TestEnsembleReranker(RerankerTests):
    required_module = "Stemmer"
    loadable = (LexicalReranker,)

    def make_reranker(self, **fields):
        members = [LexicalReranker(), LexicalReranker(language=None, b=0.1)]
        return EnsembleReranker(rerankers=members, weights=[1.0, 0.5], **fields)


def by_length(query, texts):
    return [float(len(text)) for text in texts]


def by_first_letter(query, texts):
    return [-float(ord(text[0])) for text in texts]


LENGTH, LETTER = FunctionReranker(function=by_length), FunctionReranker(function=by_first_letter)
TEXTS = ["ccc", "a", "bb", "dddd"]


def scores(reranker, documents=TEXTS):
    return [line.score for line in sorted(reranker.rank("q", documents), key=lambda line: line.previous_rank)]


@pytest.mark.parametrize("method", ["z-score", "min-max", "rrf"])
def test_scores_are_the_weighted_sum_of_the_members(method):
    ensemble = EnsembleReranker(rerankers=[LENGTH, LETTER], weights=[2.0, 0.5], method=method)
    expected = fuse([by_length("q", TEXTS), by_first_letter("q", TEXTS)], method=method, weights=[2.0, 0.5])
    assert scores(ensemble) == pytest.approx(expected)


def test_the_first_stages_score_takes_part_on_request():
    documents = [
        Document(page_content=t, metadata={"similarity": s}) for t, s in zip(TEXTS, (0.1, 0.9, 0.5, 0.2), strict=True)
    ]
    ensemble = EnsembleReranker(rerankers=[LENGTH], first_stage_weight=3.0, first_stage_key="similarity")
    expected = fuse([by_length("q", TEXTS), [0.1, 0.9, 0.5, 0.2]], weights=[1.0, 3.0])
    assert scores(ensemble, documents) == pytest.approx(expected)
    del documents[1].metadata["similarity"]
    with pytest.raises(ScoreError, match="1 of 4 documents have no finite number in metadata\\['similarity'\\]"):
        scores(ensemble, documents)
    by_rank = EnsembleReranker(rerankers=[LENGTH], first_stage_weight=1.0, method="rrf")
    assert scores(by_rank) == pytest.approx(fuse([by_length("q", TEXTS), [0, -1, -2, -3]], method="rrf"))


def test_members_read_their_own_text():
    seen = []

    def remember(query, texts):
        seen.append(texts)
        return [0.0] * len(texts)

    documents = [Document(page_content="body", metadata={"title": "Title", "short": "S"})]
    plain = FunctionReranker(function=remember)
    own = FunctionReranker(function=remember, document_text=lambda d: d.metadata["short"])
    EnsembleReranker(rerankers=[plain, own], document_text=["title"]).rank("q", documents)
    assert seen == [["Title\nbody"], ["S"]]


def test_what_a_member_cannot_judge_counts_as_its_worst():
    some = FunctionReranker(function=lambda q, texts: [5.0, math.nan, 3.0, 4.0], on_nan="last")
    expected = fuse([[5.0, 3.0, 3.0, 4.0], by_length("q", TEXTS)])
    assert scores(EnsembleReranker(rerankers=[some, LENGTH])) == pytest.approx(expected)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failing_member_fails_its_query_alone(asynchronous):
    def picky(query, texts):
        if query == "bad":
            msg = "no"
            raise RuntimeError(msg)
        return by_length(query, texts)

    ensemble = EnsembleReranker(rerankers=[FunctionReranker(function=picky), LETTER])
    inputs = [{"query": q, "documents": [Document(page_content=t) for t in TEXTS]} for q in ("good", "bad", "good")]
    if asynchronous:
        results = asyncio.run(ensemble.abatch(inputs, return_exceptions=True))
    else:
        results = ensemble.batch(inputs, return_exceptions=True)
    assert [isinstance(result, RuntimeError) for result in results] == [False, True, False]
    assert results[0] == results[2]


def test_members_that_cut_or_hide_errors_are_refused():
    for fields in ({"top_n": 3}, {"min_score": 0.1}, {"on_error": "keep_order"}):
        with pytest.raises(ValidationError, match="on its member"):
            EnsembleReranker(rerankers=[FunctionReranker(function=by_length, **fields)])
    with pytest.raises(ValidationError, match="as many weights"):
        EnsembleReranker(rerankers=[LENGTH], weights=[1.0, 2.0])
    for useless in ([0.0, 0.0], [-1.0, 1.0], [float("nan"), 1.0]):
        with pytest.raises(ValidationError, match="finite and not negative"):
            EnsembleReranker([LENGTH, LETTER], weights=useless)
    with pytest.raises(ValidationError):
        EnsembleReranker(rerankers=[])


def test_its_name_is_the_sum_of_its_members():
    documents = [Document(page_content="a")]
    (result,) = EnsembleReranker(rerankers=[LENGTH, LETTER]).compress_documents(documents, "q")
    assert result.metadata["rerank"]["model"] == "by_length + by_first_letter"


def test_what_members_cost_is_added_up():
    class Paid(FunctionReranker):
        def _score_many(self, requests):
            scores = super()._score_many(requests)
            return [DetailedScores(s, [{"usage": {"requests": 2, "cost": 0.25}} for _ in s]) for s in scores]

    paid = Paid(function=lambda query, texts: [float(len(text)) for text in texts])
    free = FunctionReranker(function=lambda query, texts: [0.0] * len(texts))
    for lines in (
        EnsembleReranker(rerankers=[paid, free, paid]).rank("q", ["a", "bb"]),
        EnsembleReranker(rerankers=[paid, paid]).rank("q", ["a", " "]),
    ):
        assert lines[0].details["usage"] == {"requests": 4, "cost": 0.5}
    assert "usage" not in EnsembleReranker(rerankers=[free, free]).rank("q", ["a"])[0].details


def test_no_document_shares_its_usage_with_another():
    class Paid(FunctionReranker):
        def _score(self, query, texts):
            return DetailedScores(super()._score(query, texts), [{"usage": {"requests": 1}} for _ in texts])

    first, second = EnsembleReranker([Paid(function=by_length)]).rank("q", ["a", "bb"])
    first.details["usage"]["requests"] = 9
    assert second.details["usage"] == {"requests": 1}
