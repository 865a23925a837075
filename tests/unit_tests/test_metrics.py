import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics, score


def one(grades, ranking, *metrics, **options):
    return [values["q"] for values in score({"q": grades}, {"q": ranking}, metrics, **options).values()]


def test_graded_example():
    grades, ranking = {"d1": 3, "d2": 2, "d3": 1}, ["d2", "d1", "x", "d3"]
    assert one(grades, ranking, "ndcg@10", "map", "precision@3", "recall@3") == pytest.approx(
        [0.90794, 0.91667, 0.66667, 0.66667], abs=1e-5
    )
    assert one(grades, ranking, "map", relevance=2) == [1.0]
    assert one(grades, ranking, "nDCG(gains={2:3,3:7})@10") == pytest.approx([0.83545], abs=1e-5)


def test_short_list_example():
    assert one({"a": 1, "b": 1, "c": 1}, ["a", "x"], "precision@10", "recall@10", "ndcg@10", "map") == pytest.approx(
        [0.1, 0.33333, 0.46928, 0.33333], abs=1e-5
    )


def test_average_precision_keeps_all_relevant_documents():
    assert one(dict.fromkeys("abcde", 1), ["a", "b"], "map@2") == pytest.approx([0.4])


def test_the_order_given_is_the_truth():
    assert one({"a": 1}, ["z", "a"], "mrr") == [0.5]
    assert one({"z": 1}, ["a", "z"], "mrr") == [0.5]


def test_a_duplicate_counts_once_and_keeps_its_place():
    assert one({"a": 1, "b": 1}, ["a", "a", "b"], "precision@2", "recall@2", "map") == pytest.approx(
        [0.5, 0.5, (1 + 2 / 3) / 2]
    )


def test_missing_and_empty_rankings_count_zero():
    values = score({"q": {"a": 1}, "r": {"a": 1}}, {"q": []}, DEFAULT_METRICS)
    assert all(set(scores.values()) == {0.0} for scores in values.values())


def test_negative_grades_count_as_zero():
    assert one({"a": -1, "b": 1}, ["a", "b"], "mrr", "ndcg@10") == pytest.approx([0.5, 1 / math.log2(3)])


def test_odd_ids():
    assert one({"a b\x00\ud800": 1}, ["other-0", "a b\x00\ud800"], "mrr") == [0.5]


@pytest.mark.parametrize("name", ["hit", "precision", "hit@0", "accuracy@1", "ndcg@", "", "__import__('os')"])
def test_unknown_metrics_are_refused(name):
    with pytest.raises(ValueError, match="metric"):
        parse_metrics([name])
    with pytest.raises(ValueError, match="metric"):
        parse_metrics([])


grades = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), min_size=1)
rankings = st.permutations("abcdefghij").flatmap(lambda p: st.integers(0, 10).map(lambda n: list(p[:n])))


@given(grades, rankings, st.integers(1, 12))
def test_agreement_with_the_definitions(grades, ranking, k):
    relevant = {document for document, grade in grades.items() if grade > 0}
    hits = [document in relevant for document in ranking]
    ideal = sorted(grades.values(), reverse=True)
    dcg = sum(grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(ranking[:k]))
    best = sum(grade / math.log2(i + 2) for i, grade in enumerate(ideal[:k]))
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(min(k, len(hits))) if hits[i]]
    expected = [
        float(any(hits[:k])),
        next((1 / (i + 1) for i, hit in enumerate(hits[:k]) if hit), 0.0),
        sum(hits[:k]) / k,
        sum(hits[:k]) / len(relevant) if relevant else 0.0,
        sum(precisions) / len(relevant) if relevant else 0.0,
        dcg / best if best else 0.0,
    ]
    names = [f"{name}@{k}" for name in ("hit", "mrr", "precision", "recall", "map", "ndcg")]
    assert one(grades, ranking, *names) == pytest.approx(expected, abs=1e-6)
