import math
import statistics
import warnings
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_rerankkit.ranking import (
    best_first,
    fuse,
    fuse_rankings,
    min_max,
    reciprocal_ranks,
    scores_from_order,
    sigmoid,
    z_scores,
)

any_floats = st.lists(st.floats(allow_nan=True, allow_infinity=True))
floats = st.lists(st.floats(-1e6, 1e6), min_size=1)


@given(any_floats)
def test_best_first_is_a_stable_descending_permutation(scores):
    order = best_first(scores)
    assert sorted(order) == list(range(len(scores)))
    finite = [i for i in order if math.isfinite(scores[i])]
    assert finite == order[: len(finite)], "scores that are not finite go last"
    for a, b in pairwise(finite):
        assert (scores[a], -a) > (scores[b], -b)
    assert order[len(finite) :] == sorted(order[len(finite) :])


@given(st.integers(0, 30).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(n)), st.integers(0, n))))
def test_scores_from_order_gives_the_order_back(case):
    count, order, known = case
    scores = scores_from_order(order[:known], count)
    rest = [i for i in range(count) if i not in order[:known]]
    assert best_first(scores) == [*order[:known], *rest]


@pytest.mark.parametrize("order", [[0, 0], [3], [-1]])
def test_scores_from_order_refuses_what_is_no_order(order):
    with pytest.raises(ValueError, match="at most once"):
        scores_from_order(order, 3)


@given(st.floats(allow_nan=False))
def test_sigmoid_is_the_logistic_function(x):
    assert 0 <= sigmoid(x) <= 1
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1)
    if abs(x) < 30:
        assert sigmoid(x) == pytest.approx((1 + math.tanh(x / 2)) / 2, abs=1e-15)


@given(floats)
def test_z_scores_have_mean_0_and_deviation_1(scores):
    values = z_scores(scores)
    assert math.fsum(values) == pytest.approx(0, abs=1e-6)
    if any(values):
        assert math.fsum(v * v for v in values) / len(values) == pytest.approx(1, abs=1e-6)


@given(floats)
def test_min_max_spans_0_to_1(scores):
    values = min_max(scores)
    assert min(values) == 0
    assert max(values) == (1 if max(scores) > min(scores) else 0)


@given(floats)
def test_reciprocal_ranks_follow_the_definition(scores):
    expected = [1 / (60 + 1 + sum(other > score for other in scores)) for score in scores]
    assert reciprocal_ranks(scores) == pytest.approx(expected)


@given(floats, st.sampled_from(["z-score", "min-max", "rrf", "sum"]))
def test_fusing_a_list_with_itself_keeps_its_order(scores, method):
    fused = fuse([scores, scores], method=method)
    normalised = fuse([scores], method=method)
    assert fused == pytest.approx([2 * value for value in normalised])


@given(st.integers(2, 20).flatmap(lambda n: st.lists(st.lists(st.integers(-99, 99), min_size=n, max_size=n))))
def test_fuse_agrees_with_scipy(lists):
    np, stats = pytest.importorskip("numpy"), pytest.importorskip("scipy.stats")
    if not lists:
        assert fuse(lists) == []
        return
    table = np.array(lists, dtype=float)
    spread = table.std(axis=1, keepdims=True)
    z = np.where(spread == 0, 0, (table - table.mean(axis=1, keepdims=True)) / np.where(spread == 0, 1, spread))
    assert fuse(lists, method="z-score") == pytest.approx(z.sum(axis=0), abs=1e-9)
    ranks = stats.rankdata(-table, method="min", axis=1)
    assert fuse(lists, method="rrf") == pytest.approx((1 / (60 + ranks)).sum(axis=0), abs=1e-9)


def test_fuse_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="equally long"):
        fuse([[1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="weights"):
        fuse([[1.0]], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="method"):
        fuse([[1.0]], method="median")


methods = st.sampled_from(["rrf", "z-score", "min-max", "sum"])
# Whole numbers, so that scores that differ do so by more than rounding.
found = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(-50, 50), max_size=8).map(
    lambda scores: dict(sorted(scores.items(), key=lambda item: -item[1]))
)
rankings = st.lists(found, min_size=1, max_size=4)


def fused_by_the_book(rankings, method, weights):
    """The definitions, document by document."""
    totals = {}
    for document in {document for ranking in rankings for document in ranking}:
        total = 0.0
        for ranking, weight in zip(rankings, weights, strict=True):
            values = list(ranking.values())
            low, high = min(values, default=0), max(values, default=0)
            if method == "rrf":
                value = 1 / (60 + 1 + list(ranking).index(document)) if document in ranking else 0
            elif not values:
                value = 0
            elif method == "sum":
                value = ranking.get(document, min(0, low))
            elif low == high:
                value = 1 if document in ranking else 0
            elif method == "min-max":
                value = (ranking.get(document, low) - low) / (high - low)
            else:
                value = (ranking.get(document, low) - statistics.fmean(values)) / statistics.pstdev(values)
            total += weight * value
        totals[document] = total
    return totals


@given(rankings, methods, st.lists(st.floats(0, 3), min_size=4, max_size=4))
def test_rankings_are_fused_as_the_definitions_say(rankings, method, weights):
    weights = weights[: len(rankings)]
    assume(not weights or any(weights))
    fused = fuse_rankings(rankings, method=method, weights=weights)
    assert fused == pytest.approx(fused_by_the_book(rankings, method, weights), abs=1e-9)
    assert list(fused.values()) == sorted(fused.values(), reverse=True)
    named = list(dict.fromkeys(document for ranking in rankings for document in ranking))
    for above, below in pairwise(fused):
        assert fused[above] > fused[below] or named.index(above) < named.index(below)


@given(found, found, methods)
def test_a_document_that_a_ranking_has_never_loses_by_it(ranking, other, method):
    fused = fuse_rankings([other, ranking], method=method)
    apart = fuse_rankings([other], method=method)
    there, missing = set(ranking), set(other) - set(ranking)
    for one in there & set(other):
        for two in missing:
            if apart[one] >= apart[two]:
                assert fused[one] >= fused[two] - 1e-9


def test_a_lone_hit_counts_more_than_none():
    broad = {"a": 9.0, "b": 8.0, "c": 7.5, "d": 1.0}
    for method in ("rrf", "z-score", "min-max", "sum"):
        assert next(iter(fuse_rankings([{"c": 0.2}, broad], method=method, weights=[50, 1]))) == "c"


def test_rankings_that_do_not_fit_are_refused():
    assert fuse_rankings([]) == {}
    assert fuse_rankings([{}, {}]) == {}
    with pytest.raises(ValueError, match="as many weights"):
        fuse_rankings([{"a": 1.0}], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="Unknown fusion method 'borda'"):
        fuse_rankings([{"a": 1.0}], method="borda")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_rankings_are_fused_as_ranx_does(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its compiler says
        from ranx import Run
        from ranx.fusion import comb_sum, rrf, wsum
        from ranx.normalization import min_max_norm, zmuv_norm

        random = Random(seed)
        documents = [f"d{number}" for number in range(10, 50)]  # ranx mixes up ids of different lengths
        rankings = []
        for _ in range(random.randint(2, 5)):
            some = random.sample(documents, random.randint(2, 30))
            scores = sorted((abs(random.gauss(12, 5)) for _ in some), reverse=True)
            rankings.append(dict(zip(some, scores, strict=True)))
        weights = [random.uniform(0, 2) for _ in rankings]

        def runs(lists=rankings):
            return [Run({"q": ranking}) for ranking in lists]

        def same(run, **options):
            return dict(run.run["q"]) == pytest.approx(fuse_rankings(rankings, **options), abs=1e-9)

        assert same(rrf(runs(), k=60))
        assert same(rrf(runs(), k=5), k=5)
        assert same(comb_sum(runs()), method="sum")
        assert same(wsum(runs(), weights), method="sum", weights=weights)
        relative = [min_max_norm(run) for run in runs()]
        assert same(comb_sum(relative), method="min-max")
        assert same(wsum(relative, weights), method="min-max", weights=weights)
        # ranx counts a document that a run lacks as its mean; here it counts as its lowest, so the runs are filled up.
        standard = [dict(zmuv_norm(run).run["q"]) for run in runs()]
        union = {document for ranking in rankings for document in ranking}
        filled = [{document: run.get(document, min(run.values())) for document in union} for run in standard]
        assert same(comb_sum(runs(filled)), method="z-score")
        assert same(wsum(runs(filled), weights), method="z-score", weights=weights)
