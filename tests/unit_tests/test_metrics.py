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
    exponential = one(grades, ranking, "ndcg_exp@10", "nDCG(gains={2:3,3:7})@10")
    assert exponential == pytest.approx([0.83545, 0.83545], abs=1e-5)


def test_short_list_example():
    assert one({"a": 1, "b": 1, "c": 1}, ["a", "x"], "precision@10", "recall@10", "ndcg@10", "map") == pytest.approx(
        [0.1, 0.33333, 0.46928, 0.33333], abs=1e-5
    )


def test_average_precision_keeps_all_relevant_documents():
    assert one(dict.fromkeys("abcde", 1), ["a", "b"], "map@2", "map_cap@2") == pytest.approx([0.4, 1.0])
    assert one(dict.fromkeys("abcde", 1), ["a", "x"], "recall@2", "recall_cap@2") == pytest.approx([0.2, 0.5])


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


# A ranking as systems return it: documents twice, documents nobody judged, questions left out.
run = st.dictionaries(st.sampled_from("pqrs"), st.lists(st.sampled_from("abcdefghij"), max_size=15))
qrels = st.dictionaries(
    st.sampled_from("pqrs"), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-1, 4), min_size=1), min_size=1
)
THEIRS = {"hit": "Success", "mrr": "RR", "precision": "P", "recall": "R", "map": "AP", "ndcg": "nDCG"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(qrels, run, st.integers(1, 12), st.integers(1, 3))
def test_agreement_with_ir_measures(qrels, run, k, relevance):
    ir_measures = pytest.importorskip("ir_measures")
    graded = {"ndcg"}
    names = {
        f"{ours}@{k}": f"{theirs}{'' if ours in graded else f'(rel={relevance})'}@{k}"
        for ours, theirs in THEIRS.items()
    }
    names |= {"map": f"AP(rel={relevance})", "mrr": f"RR(rel={relevance})", "ndcg": "nDCG"}
    # Theirs know neither an order without scores nor a document twice.
    scored = {
        question: {
            document if documents.index(document) == place else f"again-{place}": -float(place)
            for place, document in enumerate(documents)
        }
        for question, documents in run.items()
        if documents
    }
    ours = score(qrels, run, names, relevance=relevance)
    for name, theirs in names.items():
        expected = dict.fromkeys(qrels, 0.0)
        if scored:
            for value in ir_measures.iter_calc([ir_measures.parse_measure(theirs)], qrels, scored):
                expected[value.query_id] = value.value
        assert ours[name] == pytest.approx(expected, abs=1e-6), name


@given(qrels, run, st.integers(1, 12))
def test_capped_metrics_are_one_where_all_that_fits_is_relevant(qrels, run, k):
    best = {question: sorted(grades, key=lambda d: -grades[d]) for question, grades in qrels.items()}
    names = [f"{name}@{k}" for name in ("recall_cap", "map_cap", "ndcg", "ndcg_exp", "hit", "mrr")]
    for values in score(qrels, best, names).values():
        assert values == pytest.approx({q: float(any(g > 0 for g in grades.values())) for q, grades in qrels.items()})
    for values in score(qrels, run, names).values():
        assert all(0 <= value <= 1 + 1e-12 for value in values.values())
