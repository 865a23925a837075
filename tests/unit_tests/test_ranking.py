import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.ranking import (
    best_first,
    fuse,
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


@given(floats, st.sampled_from(["z-score", "min-max", "rrf"]))
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
